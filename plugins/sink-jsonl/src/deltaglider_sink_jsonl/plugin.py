"""Registers the event sink ``jsonl`` and its settings; imports nothing heavy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from deltaglider_core.hookspecs import hookimpl
from deltaglider_core.interfaces.contribution import SettingsSection
from deltaglider_core.interfaces.events import EventSink, EventSinkType

from .settings import EventFileSettings

if TYPE_CHECKING:
    from deltaglider_core.services import Services

MOUNT = "advanced.event_file"


@asynccontextmanager
async def open_sink(
    settings: EventFileSettings, services: Services
) -> AsyncIterator[EventSink | None]:
    """Yield the sink, or None without a path.

    Raises:
        ConfigurationError: The file cannot be appended to.
    """
    if settings.path is None:
        yield None
        return
    from .sink import JsonLinesSink

    sink = JsonLinesSink(settings.path, fsync=settings.fsync, services=services)
    await sink.check()
    yield sink


@hookimpl
def dg_settings() -> Iterable[SettingsSection]:
    """Yield the one section of this package."""
    yield SettingsSection(mount=MOUNT, model=EventFileSettings, apply="rebuild")


@hookimpl
def dg_event_sinks() -> Iterable[EventSinkType]:
    """Yield the one sink of this package."""
    yield EventSinkType(
        name="jsonl",
        summary="One line of JSON per event, appended to a file.",
        mount=MOUNT,
        open=open_sink,
    )
