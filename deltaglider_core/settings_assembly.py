"""One ``Settings`` class out of the core's models and those of the installed plugins."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import Field, SerializeAsAny, create_model

from .errors import ConfigurationError
from .plugins import PluginInfo, PluginSet
from .settings import BackendSettings, Section, Settings, StorageSettings, setting
from .settings_base import Apply

#: The backend of a configuration that names none.
DEFAULT_BACKEND: Mapping[str, Any] = {"type": "filesystem", "path": "./data"}

#: Roots of the configuration; nothing can be mounted beside them.
ROOTS = ("admission", "access", "storage", "advanced")


def assemble_settings(plugins: PluginSet) -> type[Settings]:
    """Build the class that validates the configuration of this process.

    Raises:
        ConfigurationError: A plugin mounts something impossible.
    """
    tree: dict[str, Any] = {}
    for entry in plugins.stage("settings").values():
        section = entry.record
        _check_model(section.model, section.mount, entry.plugin)
        _plant(tree, section.mount, section.model, section.apply, entry.plugin)
    overrides = {"storage": {"backend": _backend_field(plugins)}}
    return _extend(Settings, tree, overrides, path="")


def _check_model(model: Any, what: str, plugin: PluginInfo) -> None:
    if not (isinstance(model, type) and issubclass(model, Section)):
        raise ConfigurationError(
            f"plugin {plugin} uses a model for {what!r} that is no subclass of Section"
        )
    for name, info in model.model_fields.items():
        if not info.description:
            raise ConfigurationError(
                f"plugin {plugin}: the setting {what}.{name} has no description"
            )


def _plant(tree: dict[str, Any], mount: str, model: Any, apply: Apply, plugin: PluginInfo) -> None:
    """Put a model at its dotted path; inner nodes are dictionaries, leaves are fields."""
    *parents, leaf = mount.split(".")
    if not parents or parents[0] not in ROOTS or not all([*parents, leaf]):
        raise ConfigurationError(
            f"plugin {plugin} mounts settings at {mount!r}; the path must lie below "
            f"{', '.join(ROOTS)}"
        )
    static: Any = Settings
    for parent in parents:
        tree = tree.setdefault(parent, {})
        info = static.model_fields.get(parent) if static else None
        static = info.annotation if info is not None else None
        if not isinstance(tree, dict) or (info is not None and not _is_section(static)):
            raise ConfigurationError(
                f"plugin {plugin} mounts settings at {mount!r}, but {parent!r} in it is taken"
            )
    if leaf in tree or (static is not None and leaf in static.model_fields):
        raise ConfigurationError(
            f"plugin {plugin} mounts settings at {mount!r}, which is taken already"
        )
    summary = (model.__doc__ or "").strip().split("\n")[0] or f"Settings of plugin {plugin.name}."
    if _has_required(model):
        tree[leaf] = (model | None, setting(None, description=summary, apply=apply))
    else:
        tree[leaf] = (model, setting(default_factory=model, description=summary, apply=apply))


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _has_required(model: type[Section]) -> bool:
    return any(info.is_required() for info in model.model_fields.values())


def _backend_field(plugins: PluginSet) -> tuple[Any, Any]:
    """``storage.backend`` as the union of the installed types, told apart by ``type``."""
    description = StorageSettings.model_fields["backend"].description or ""
    models: list[Any] = []
    default_model: type[BackendSettings] | None = None
    for name, entry in plugins.stage("storage_backends").items():
        model = entry.record.settings
        _check_model(model, f"storage.backend ({name})", entry.plugin)
        kind = model.model_fields.get("type")
        if (
            not issubclass(model, BackendSettings)
            or kind is None
            or get_args(kind.annotation) != (name,)
            or not kind.is_required()
        ):
            raise ConfigurationError(
                f"plugin {entry.plugin}: the settings of storage backend {name!r} must be a "
                f"BackendSettings with `type: Literal[{name!r}]` and no default for it"
            )
        models.append(model)
        if name == DEFAULT_BACKEND["type"]:
            default_model = model
    if not models:
        # Nothing can be configured here; naming a type says which package to install.
        return SerializeAsAny[BackendSettings], setting(description=description)
    union: Any = functools.reduce(operator.or_, models)
    annotation: Any = Annotated[union, Field(discriminator="type")]
    if default_model is None:
        return annotation, setting(description=description)
    model = default_model
    return annotation, setting(
        default_factory=lambda: model.model_validate(DEFAULT_BACKEND), description=description
    )


def _extend(
    base: type[Any], tree: Mapping[str, Any], overrides: Mapping[str, Any], path: str
) -> type[Any]:
    """A subclass of ``base`` with the planted fields, its sections extended likewise."""
    fields: dict[str, Any] = {}
    for name in {**tree, **overrides}:
        below, replaced = tree.get(name, {}), overrides.get(name, {})
        if isinstance(below, tuple) or isinstance(replaced, tuple):
            fields[name] = replaced or below
            continue
        inner = base.model_fields.get(name)
        dotted = f"{path}.{name}".lstrip(".")
        parent = inner.annotation if inner is not None else Section
        model = _extend(parent, below, replaced, dotted)
        description = inner.description if inner is not None else f"Settings below {dotted}."
        # A section with something required (no installed backend to default to) has no default.
        factory: dict[str, Any] = {} if _has_required(model) else {"default_factory": model}
        fields[name] = (model, Field(description=description, **factory))
    return create_model(
        base.__name__, __base__=base, __doc__=base.__doc__, __module__=base.__module__, **fields
    )


def config_schema(plugins: PluginSet) -> dict[str, Any]:
    """JSON Schema (2020-12) of the configuration file, for the installed plugins.

    Besides JSON Schema it says ``x-apply`` (hot, rebuild or restart) and ``x-env`` (the
    variable) of a setting.
    """
    schema = assemble_settings(plugins).model_json_schema()
    if DEFAULT_BACKEND["type"] in plugins.stage("storage_backends"):
        schema["$defs"]["StorageSettings"]["properties"]["filesystem"] = {
            "type": "string",
            "description": "Short for a backend of type filesystem with this path.",
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Configuration of DeltaGlider",
    }


__all__ = ["DEFAULT_BACKEND", "ROOTS", "assemble_settings", "config_schema"]
