"""What ``deltaglider_proxy plugins`` prints: every stage in its order, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .pipeline import ORDERED_STAGES, check_pipeline, order_stage
from .plugins import PluginInfo, PluginSet
from .settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class StageEntry:
    """One line of the table.

    Attributes:
        stage: For example ``storage_layers``.
        position: From 1 in the stage's order; 0 for what is not active.
        reason: Why it is there, or why not.
    """

    stage: str
    position: int
    name: str
    distribution: str
    version: str
    reason: str


def resolve(settings: Settings, plugins: PluginSet) -> list[StageEntry]:
    """All stages in their resolved order; nothing is opened.

    Raises:
        ConfigurationError: The pipeline would not open.
    """
    check_pipeline(settings, plugins)
    lines: list[StageEntry] = []
    for stage in ORDERED_STAGES:
        overridden = stage in settings.advanced.pipeline
        entries = order_stage(stage, settings, plugins)
        if not entries:
            lines.append(
                StageEntry(
                    stage=stage, position=0, name="-", distribution="-", version="-", reason="empty"
                )
            )
        for position, entry in enumerate(entries, 1):
            reason = _origin(entry.plugin)
            if stage == "codecs" and entry.name == settings.advanced.codec:
                reason = "configured as advanced.codec"
            if overridden:
                reason += f", order from advanced.pipeline.{stage}"
            lines.append(_line(stage, position, entry.name, entry.plugin, reason))
    for name, entry in plugins.stage("storage_backends").items():
        chosen = name == settings.storage.backend.type
        reason = "configured as storage.backend" if chosen else "installed, not configured"
        lines.append(_line("storage_backends", int(chosen), name, entry.plugin, reason))
    for stage in ("event_sinks", "settings", "commands"):
        for position, (name, entry) in enumerate(plugins.stage(stage).items(), 1):
            lines.append(_line(stage, position, name, entry.plugin, _origin(entry.plugin)))
    lines.extend(_inactive(plugins.plugins))
    return lines


def _origin(plugin: PluginInfo) -> str:
    return "built-in" if plugin.builtin else "installed"


def _line(stage: str, position: int, name: str, plugin: PluginInfo, reason: str) -> StageEntry:
    return StageEntry(
        stage=stage,
        position=position,
        name=name,
        distribution=plugin.distribution,
        version=plugin.version,
        reason=reason,
    )


def _inactive(plugins: Iterable[PluginInfo]) -> Iterable[StageEntry]:
    for plugin in plugins:
        if plugin.state == "disabled":
            yield _line("-", 0, plugin.name, plugin, "disabled by advanced.plugins.disabled")
        elif plugin.state == "failed":
            yield _line("-", 0, plugin.name, plugin, f"skipped, failed to load: {plugin.error}")


def render_table(entries: Iterable[StageEntry]) -> str:
    """The entries as an aligned table with a heading, one line each."""
    rows = [("STAGE", "ORDER", "NAME", "DISTRIBUTION", "VERSION", "REASON")]
    rows.extend(
        (e.stage, str(e.position or "-"), e.name, e.distribution, e.version, e.reason)
        for e in entries
    )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    )


__all__ = ["StageEntry", "render_table", "resolve"]
