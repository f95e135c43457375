"""Loading of plugins: entry points, built-ins, and the records that both register.

Everything that can be wrong with a plugin stops the start with one sentence that names the
plugin, its distribution and what to do.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from types import MappingProxyType
from typing import Any, Literal

import pluggy

from .errors import ConfigurationError
from .hookspecs import HookSpecs
from .interfaces.admission import AdmissionRuleType, GateType
from .interfaces.auth import AuthenticatorType, AuthorizerType, CredentialStoreType
from .interfaces.codec import CodecType
from .interfaces.commands import Command
from .interfaces.contribution import Contribution, SettingsSection
from .interfaces.events import EventSinkType
from .interfaces.routing import RouterType
from .interfaces.storage import StorageBackendType, StorageLayerType

ENTRY_POINT_GROUP = "deltaglider"
CORE_DISTRIBUTION = "deltaglider-core"

#: Built-in features register through the same hooks as everybody else.
DEFAULT_PLUGINS: tuple[str, ...] = ("deltaglider_core.builtin.plugin",)

#: Stage (a hook without its prefix) and the class of its records.
STAGES: Mapping[str, type[Any]] = MappingProxyType(
    {
        "settings": SettingsSection,
        "admission_rules": AdmissionRuleType,
        "gates": GateType,
        "credential_stores": CredentialStoreType,
        "authenticators": AuthenticatorType,
        "authorizers": AuthorizerType,
        "routers": RouterType,
        "storage_layers": StorageLayerType,
        "codecs": CodecType,
        "storage_backends": StorageBackendType,
        "event_sinks": EventSinkType,
        "commands": Command,
    }
)

#: Distribution known to provide something that a configuration can name.
KNOWN_PROVIDERS: Mapping[str, str] = MappingProxyType(
    {
        "filesystem": "deltaglider-backend-fs",
        "s3": "deltaglider-backend-s3",
        "xdelta3": "deltaglider-codec-xdelta3",
        "event_file": "deltaglider-sink-jsonl",
    }
)

#: Commands of the core, which no plugin can replace.
CORE_COMMANDS: tuple[str, ...] = (
    "serve",
    "quickstart",
    "config",
    "plugins",
    "usage",
    "reconcile",
    "events",
    "collect",
)

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginInfo:
    """A plugin and what became of it.

    Attributes:
        name: Name of the entry point.
        distribution: Name of the distribution, e.g. ``deltaglider-backend-fs``.
        version: Of the distribution.
        state: ``loaded``, ``disabled`` or ``failed`` (and skipped).
        builtin: Part of the core.
        error: Why it failed.
    """

    name: str
    distribution: str
    version: str
    state: Literal["loaded", "disabled", "failed"] = "loaded"
    builtin: bool = False
    error: str = ""

    def __str__(self) -> str:
        return f"{self.name!r} ({self.distribution} {self.version})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Registered:
    """A record and the plugin that registered it."""

    record: Any
    plugin: PluginInfo

    @property
    def name(self) -> str:
        """Name of the record; a settings section has its path for a name."""
        if isinstance(self.record, SettingsSection):
            return self.record.mount
        return str(self.record.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginSet:
    """All plugins of this process and what they registered. Frozen.

    Attributes:
        plugins: Also those that were disabled or skipped; built-in first, then by name.
        stages: Records by stage, by name within the stage.
    """

    plugins: tuple[PluginInfo, ...] = ()
    stages: Mapping[str, Mapping[str, Registered]] = field(default_factory=dict)

    def stage(self, stage: str) -> Mapping[str, Registered]:
        """The records of a stage by name, e.g. ``stage("codecs")``."""
        return self.stages.get(stage, {})

    def missing(self, kind: str, name: str, stage: str) -> str:
        """A sentence for a name in the configuration that nothing provides.

        Args:
            kind: For example ``storage backend``.
            name: As written in the configuration.
            stage: Where it was looked for.
        """
        known = ", ".join(sorted(self.stage(stage))) or "none"
        text = f"no {kind} named {name!r} is installed (installed: {known})"
        distribution = KNOWN_PROVIDERS.get(name)
        for plugin in self.plugins:
            if plugin.distribution == distribution and plugin.state == "disabled":
                return f"{text}; it comes with {plugin}, which advanced.plugins.disabled names"
            if plugin.distribution == distribution and plugin.state == "failed":
                return f"{text}; it comes with {plugin}, which failed to load: {plugin.error}"
        if distribution is not None:
            return f"{text}; install it with: pip install {distribution}"
        close = difflib.get_close_matches(name, self.stage(stage), n=1)
        return f"{text}; did you mean {close[0]!r}?" if close else text


def load_plugins(
    *,
    disabled: Sequence[str] = (),
    on_load_error: Literal["fail", "skip"] = "fail",
    mentioned: Callable[[PluginInfo], bool] = lambda plugin: False,
    entry_points: Iterable[metadata.EntryPoint] | None = None,
) -> PluginSet:
    """Load built-in and installed plugins and collect what they register.

    Args:
        disabled: Names of plugins that are not imported at all.
        on_load_error: ``skip`` leaves a plugin out that cannot be imported.
        mentioned: Whether the configuration mentions a plugin, which is then never skipped.
        entry_points: Those of this environment unless given.

    Raises:
        ConfigurationError: Anything is wrong with a plugin.
    """
    manager = pluggy.PluginManager("deltaglider")
    manager.add_hookspecs(HookSpecs)
    loaded: dict[str, PluginInfo] = {}
    others: list[PluginInfo] = []

    for module in DEFAULT_PLUGINS:
        info = PluginInfo(
            name=module.split(".")[-2],
            distribution=CORE_DISTRIBUTION,
            version=core_version(),
            builtin=True,
        )
        _register(manager, importlib.import_module(module), info)
        loaded[info.name] = info

    if entry_points is None:
        entry_points = metadata.entry_points(group=ENTRY_POINT_GROUP)
    found = _inspect(entry_points, taken=loaded)
    _check_disabled(disabled, [*loaded, *(info.name for info, _ in found)])
    for info, entry_point in found:
        if info.name in disabled:
            others.append(_with_state(info, "disabled"))
            continue
        try:
            module_object = entry_point.load()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            if on_load_error == "skip" and not mentioned(info):
                others.append(_with_state(info, "failed", reason))
                continue
            raise ConfigurationError(
                f"plugin {info} failed to load: {reason}; repair or uninstall it, or add it to "
                "advanced.plugins.disabled"
            ) from error
        _register(manager, module_object, info)
        loaded[info.name] = info

    _check_hooks(manager, loaded)
    plugins = sorted((*loaded.values(), *others), key=lambda p: (not p.builtin, p.name))
    return PluginSet(plugins=tuple(plugins), stages=_collect(manager, loaded))


def core_version() -> str:
    """Version of the installed core."""
    try:
        return metadata.version(CORE_DISTRIBUTION)
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "0+unknown"


def _with_state(
    info: PluginInfo, state: Literal["disabled", "failed"], error: str = ""
) -> PluginInfo:
    return PluginInfo(
        name=info.name,
        distribution=info.distribution,
        version=info.version,
        state=state,
        error=error,
    )


def _inspect(
    entry_points: Iterable[metadata.EntryPoint], *, taken: Mapping[str, PluginInfo]
) -> list[tuple[PluginInfo, metadata.EntryPoint]]:
    """Entry points with their provenance, by name; nothing is imported."""
    found: dict[str, tuple[PluginInfo, metadata.EntryPoint]] = {}
    for entry_point in entry_points:
        dist = entry_point.dist
        info = PluginInfo(
            name=entry_point.name,
            distribution=dist.name if dist else "unknown distribution",
            version=dist.version if dist else "?",
        )
        if not _NAME.fullmatch(info.name):
            raise ConfigurationError(
                f"plugin {info} has a name that is not lower case; its author must use lower-case "
                "letters, digits, - and _ only"
            )
        other = taken.get(info.name) or (found[info.name][0] if info.name in found else None)
        if other is not None:
            raise ConfigurationError(
                f"two plugins are named {info.name!r}: one of {other.distribution} "
                f"{other.version} and one of {info.distribution} {info.version}; uninstall one"
            )
        found[info.name] = (info, entry_point)
    return [found[name] for name in sorted(found)]


def _check_disabled(disabled: Sequence[str], names: Sequence[str]) -> None:
    for name in disabled:
        if name in names and name not in _builtin_names():
            continue
        reason = "is built in and cannot be" if name in _builtin_names() else "is not installed"
        installed = ", ".join(sorted(set(names) - _builtin_names())) or "none"
        raise ConfigurationError(
            f"advanced.plugins.disabled names {name!r}, which {reason}"
            f"{' disabled' if name in _builtin_names() else ''} (installed: {installed})",
            exit_code=4,
        )


def _builtin_names() -> set[str]:
    return {module.split(".")[-2] for module in DEFAULT_PLUGINS}


def _register(manager: pluggy.PluginManager, plugin: object, info: PluginInfo) -> None:
    for name in dir(plugin):
        value = getattr(plugin, name, None)
        if name.startswith("dg_") and callable(value) and not hasattr(value, "deltaglider_impl"):
            raise ConfigurationError(
                f"plugin {info} defines {name} without @hookimpl, so it would never be called; "
                "its author must add the decorator"
            )
    try:
        manager.register(plugin, name=info.name)
    except (pluggy.PluginValidationError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"plugin {info} cannot be registered: {reason}") from error


def _check_hooks(manager: pluggy.PluginManager, loaded: Mapping[str, PluginInfo]) -> None:
    """Refuse implementations of hooks that do not exist, as ``check_pending`` does."""
    known = [f"dg_{stage}" for stage in STAGES]
    for info in loaded.values():
        for caller in manager.get_hookcallers(manager.get_plugin(info.name)) or ():
            if caller.name in known:
                continue
            close = difflib.get_close_matches(caller.name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
            raise ConfigurationError(
                f"plugin {info} implements {caller.name}, which is no hook of this version; {hint}"
            )
    manager.check_pending()


def _collect(
    manager: pluggy.PluginManager, loaded: Mapping[str, PluginInfo]
) -> Mapping[str, Mapping[str, Registered]]:
    """Call every implementation of every hook, one by one.

    A generator raises after pluggy has returned; only a loop of our own over the
    implementations lets an error name its plugin.
    """
    stages: dict[str, Mapping[str, Registered]] = {}
    for stage, record_class in STAGES.items():
        records: dict[str, Registered] = {}
        caller = getattr(manager.hook, f"dg_{stage}")
        for implementation in caller.get_hookimpls():
            info = loaded[implementation.plugin_name]
            for record in _call(implementation.function, f"dg_{stage}", info):
                entry = _check_record(record, record_class, f"dg_{stage}", info)
                other = records.get(entry.name)
                if other is not None:
                    what = "mount" if stage == "settings" else "register"
                    raise ConfigurationError(
                        f"two plugins {what} {entry.name!r} in dg_{stage}: {other.plugin} and "
                        f"{info}; disable one in advanced.plugins.disabled"
                    )
                records[entry.name] = entry
        stages[stage] = MappingProxyType(dict(sorted(records.items())))
    return MappingProxyType(stages)


def _call(function: Callable[[], Iterable[Any]], hook: str, info: PluginInfo) -> list[Any]:
    try:
        return list(function())
    except Exception as error:
        raise ConfigurationError(
            f"plugin {info} failed in {hook}: {type(error).__name__}: {error}"
        ) from error


def _check_record(record: Any, expected: type[Any], hook: str, info: PluginInfo) -> Registered:
    if not isinstance(record, expected):
        raise ConfigurationError(
            f"plugin {info} yields {type(record).__name__} in {hook}, which takes "
            f"{expected.__name__}"
        )
    entry = Registered(record=record, plugin=info)
    if isinstance(record, Contribution | Command) and not _NAME.fullmatch(entry.name):
        raise ConfigurationError(
            f"plugin {info} yields {entry.name!r} in {hook}; names are lower-case letters, "
            "digits, - and _"
        )
    if isinstance(record, Command) and entry.name in CORE_COMMANDS:
        raise ConfigurationError(
            f"plugin {info} adds a command {entry.name!r}, which the core has already; add the "
            "plugin to advanced.plugins.disabled"
        )
    return entry


__all__ = [
    "CORE_COMMANDS",
    "DEFAULT_PLUGINS",
    "ENTRY_POINT_GROUP",
    "KNOWN_PROVIDERS",
    "STAGES",
    "PluginInfo",
    "PluginSet",
    "Registered",
    "core_version",
    "load_plugins",
]
