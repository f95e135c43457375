"""From file, environment and flags to plugins and validated settings."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .configfile import EXIT_PARSE, find_config, read_config
from .environment import Override, environment_layer
from .errors import ConfigurationError
from .pipeline import check_pipeline
from .plugins import KNOWN_PROVIDERS, PluginInfo, PluginSet, load_plugins
from .settings import PluginsSettings, Settings
from .settings_assembly import DEFAULT_BACKEND, assemble_settings
from .settings_errors import describe
from .shorthand import write_out
from .state.place import DatabasePlace, database_place


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A configuration that is ready to be opened.

    Attributes:
        settings: Validated.
        plugins: Loaded; those that the settings selected exist.
        path: The file, or None if there is none.
        warnings: Sentences for the operator.
    """

    settings: Settings
    plugins: PluginSet
    path: Path | None
    warnings: tuple[str, ...] = ()

    @property
    def database(self) -> DatabasePlace:
        """Where the state is. Raises ``ConfigurationError``."""
        url = self.settings.advanced.database_url
        return database_place(None if url is None else url.get_secret_value(), self.path)


def load(
    *,
    config: Path | None = None,
    flags: Sequence[Override] = (),
    environ: Mapping[str, str] | None = None,
    plugins: PluginSet | None = None,
    defaults: Sequence[Override] = (),
) -> Loaded:
    """Load everything. Precedence: flags, environment, file, defaults.

    Args:
        config: Value of ``--config``.
        flags: What other flags set.
        environ: The environment of this process unless given.
        plugins: Already loaded ones, for a reload; plugins are loaded once per process.
        defaults: Count where neither flags nor environment nor file say anything.

    Raises:
        ConfigurationError: One sentence per problem; ``exit_code`` 3 if the file cannot be
            read, 4 if something in it is wrong, 6 for a log filter, 1 for a plugin.
    """
    environ = os.environ if environ is None else environ
    path = find_config(config, environ)
    document = _read(path, environ)
    if plugins is None:
        plugins = _load_plugins(document, path)
    model = assemble_settings(plugins)
    from_environment, warnings = environment_layer(model, environ)
    # From the weakest to the strongest; each replaces what lies below it.
    overrides = [*from_environment, *flags]
    for override in overrides:
        document = _replace(document, override)
    for default in defaults:
        if not _present(document, default.path):
            document = _replace(document, default)
    settings = validate(document, model, plugins, overrides, source=path)
    if path is not None:
        warnings.extend(_permissions(path, settings))
    return Loaded(settings=settings, plugins=plugins, path=path, warnings=tuple(warnings))


def lint(path: Path, environ: Mapping[str, str] | None = None) -> Loaded:
    """Check a file as ``load`` would, without the ``DGP_*`` environment and without flags.

    References in the file (``${env:NAME}``) are expanded; a certificate that it names is read.

    Raises:
        ConfigurationError: See ``load``.
    """
    from .tls import check_tls  # brings uvloop, which other commands need not wait for

    environ = os.environ if environ is None else environ
    document = _read(path, environ)
    plugins = _load_plugins(document, path)
    settings = validate(document, assemble_settings(plugins), plugins, source=path)
    warnings = [*_permissions(path, settings), *check_tls(settings)]
    if not settings.access.has_keys and not settings.access.open_to_everybody:
        warnings.append(
            "access: no credentials; the service starts only if the environment has them "
            "(DGP_ACCESS_KEY_ID and DGP_SECRET_ACCESS_KEY)"
        )
    return Loaded(settings=settings, plugins=plugins, path=path, warnings=tuple(warnings))


def load_plugins_for(config: Path | None, environ: Mapping[str, str] | None = None) -> PluginSet:
    """Only the plugins, as the file that ``load`` would read says; the rest is not validated.

    Raises:
        ConfigurationError: See ``load``.
    """
    environ = os.environ if environ is None else environ
    path = find_config(config, environ)
    return _load_plugins(_read(path, environ), path)


def validate(
    document: Mapping[str, Any],
    model: type[Settings],
    plugins: PluginSet,
    overrides: Sequence[Override] = (),
    *,
    source: Path | None = None,
) -> Settings:
    """Validate a merged document.

    Args:
        source: The file, named in front of each problem that lies in it.

    Raises:
        ConfigurationError: All problems, one per line.
    """
    try:
        _check_backend(document, plugins)
        try:
            settings = model.model_validate(document)
        except ValidationError as error:
            raise describe(error, document, model, overrides) from None
        check_pipeline(settings, plugins)
    except ConfigurationError as error:
        raise _located(error, overrides, source) from error.__cause__
    return settings


def _located(
    error: ConfigurationError, overrides: Sequence[Override], source: Path | None
) -> ConfigurationError:
    """The error with the file in front of the lines that no variable or flag is to blame for."""
    if source is None:
        return error
    elsewhere = tuple(f"{override.origin}: " for override in overrides)
    lines = (
        line if line.startswith(elsewhere) else f"{source}: {line}"
        for line in str(error).splitlines()
    )
    return ConfigurationError("\n".join(lines), exit_code=error.exit_code)


def _read(path: Path | None, environ: Mapping[str, str]) -> dict[str, Any]:
    """The file with its short spellings written out; empty without a file."""
    if path is None:
        return {}
    document = read_config(path, environ)
    try:
        return write_out(document)
    except ConfigurationError as error:
        raise _located(error, (), path) from None


def _load_plugins(document: Mapping[str, Any], source: Path | None) -> PluginSet:
    """Load plugins as the file says, which needs one section before all others."""
    advanced = document.get("advanced")
    section = advanced.get("plugins") if isinstance(advanced, Mapping) else None
    try:
        chosen = PluginsSettings.model_validate({} if section is None else section)
    except ValidationError as error:
        found = describe(error, section, PluginsSettings, (), prefix=("advanced", "plugins"))
        raise _located(found, (), source) from None
    rest = dict(document)
    if isinstance(advanced, Mapping):
        rest["advanced"] = {name: value for name, value in advanced.items() if name != "plugins"}
    words = frozenset(_words(rest))

    def mentioned(plugin: PluginInfo) -> bool:
        provided = {name for name, dist in KNOWN_PROVIDERS.items() if dist == plugin.distribution}
        return bool(words & {plugin.name, plugin.distribution, *provided})

    return load_plugins(
        disabled=chosen.disabled, on_load_error=chosen.on_load_error, mentioned=mentioned
    )


def _words(value: Any) -> set[str]:
    """All keys and strings of a document."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, Mapping):
        return {str(key) for key in value}.union(*map(_words, value.values()))
    if isinstance(value, list | tuple):
        return set[str]().union(*map(_words, value))
    return set()


def _check_backend(document: Mapping[str, Any], plugins: PluginSet) -> None:
    """Say which package brings an unknown type, before pydantic says less."""
    storage = document.get("storage")
    backend = storage.get("backend") if isinstance(storage, Mapping) else None
    if backend is None:
        # An explicit null is the pydantic model's to refuse.
        present = isinstance(storage, Mapping) and "backend" in storage
        kind, where = None if present else DEFAULT_BACKEND["type"], "storage.backend (the default)"
    else:
        kind = backend.get("type") if isinstance(backend, Mapping) else None
        where = "storage.backend.type"
    if isinstance(kind, str) and kind not in plugins.stage("storage_backends"):
        reason = plugins.missing("storage backend", kind, "storage_backends")
        raise ConfigurationError(f"{where}: {reason}", exit_code=EXIT_PARSE)


def _replace(document: Mapping[str, Any], override: Override) -> dict[str, Any]:
    """A copy of the document with one path replaced."""

    def put(node: Any, path: tuple[str, ...]) -> Any:
        if not path:
            return override.value
        if node is None:
            node = {}
        if not isinstance(node, Mapping):
            return node  # something else than a section; its validation will say so
        return {**node, path[0]: put(node.get(path[0]), path[1:])}

    result: dict[str, Any] = put(document, override.path)
    return result


def _present(document: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        if not isinstance(document, Mapping) or part not in document:
            return False
        document = document[part]
    return True


def _permissions(path: Path, settings: Settings) -> list[str]:
    """A warning if others can read a file with a secret in it."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return []
    if settings.access.has_keys and mode & (stat.S_IRGRP | stat.S_IROTH):
        who = "everybody" if mode & stat.S_IROTH else "its group"
        return [f"{path} can be read by {who}; run: chmod 600 {path}"]
    return []


__all__ = ["Loaded", "lint", "load", "load_plugins_for", "validate"]
