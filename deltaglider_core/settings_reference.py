"""The reference of all settings in Markdown, rendered from the models."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from .environment import ANY_NAME, DATA_DIR
from .plugins import PluginSet, load_plugins
from .settings import BackendSettings, Section
from .settings_assembly import assemble_settings

_HEAD = """\
# Settings

One YAML file with the sections `admission`, `access`, `storage` and `advanced`, each optional.
This page and `deltaglider_proxy config schema` are made from the models of the core and of the
plugins in this repository.

- **Precedence**: command line, `DGP_*` environment, file, defaults. Values of the environment
  never get into the file.
- **Which file**: `--config`, else `DGP_CONFIG`, else `./deltaglider_proxy.yaml`,
  `./deltaglider_proxy.yml`, `/etc/deltaglider_proxy/config.yaml`,
  `/etc/deltaglider_proxy/config.yml`. A file that is named must exist.
- **Unknown keys** are errors.
- **Environment in the file**: `${env:NAME}` and `${env:NAME:-default}` stand for a variable
  inside any value, `$$` for a plain `$`. The value is inserted after parsing: it needs no quotes
  and cannot add keys.
- **Short**: `storage.filesystem: PATH` is `storage.backend: {type: filesystem, path: PATH}`; so
  is the variable `DGP_DATA_DIR`, which replaces all of `storage.backend`.
- **Applies**: *hot* at once after a reload (SIGHUP); *rebuild* likewise, requests in flight
  finish with the old value; *restart* at the next start.
"""

_ROW = "| {} | {} | {} | {} | {} | {} |"
_TABLE = "| setting | type | default | environment | applies | meaning |\n|---|---|---|---|---|---|"

_TYPES: Mapping[Any, str] = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    Path: "path",
    SecretStr: "secret",
}


def render_settings(plugins: PluginSet | None = None) -> str:
    """The whole page, with a final newline.

    Args:
        plugins: Those that are installed unless given.
    """
    model = assemble_settings(load_plugins() if plugins is None else plugins)
    parts = [_HEAD]
    for name, info in model.model_fields.items():
        section = info.annotation
        rows = _rows(cast(type[Section], section), (name,), "rebuild")
        table = "\n".join([_TABLE, *rows]) if rows else "No settings yet."
        parts.append(f"## `{name}`\n\n{info.description}\n\n{table}\n")
    return "\n".join(parts)


def _rows(model: type[BaseModel], path: tuple[str, ...], apply: str) -> list[str]:
    rows: list[str] = []
    for name, info in model.model_fields.items():
        here = (*path, name)
        marks = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        applies = str(marks.get("x-apply", apply))
        members = [m for m in _members(info.annotation) if _is_section(m)]
        kinds = [m for m in members if issubclass(m, BackendSettings)]
        if kinds:
            rows.append(_row(here, info, " or ".join(map(_kind, kinds)), DATA_DIR, applies))
            for kind in kinds:
                rows.extend(_rows(kind, here, applies))
        elif members:
            for member in members:
                rows.extend(_rows(member, here, applies))
        elif _is_section(_item(info.annotation)):
            rows.extend(_rows(_item(info.annotation), (*here, ANY_NAME), applies))
        else:
            type_name = _type_name(info.annotation) + _limits(info)
            rows.append(_row(here, info, type_name, str(marks.get("x-env", "")), applies))
    return rows


def _row(path: tuple[str, ...], info: FieldInfo, type_name: str, env: str, apply: str) -> str:
    cells = (
        f"`{'.'.join(path)}`",
        type_name,
        _default(info),
        f"`{env}`" if env else "",
        apply,
        info.description or "",
    )
    return _ROW.format(*(" ".join(cell.replace("|", "\\|").split()) for cell in cells))


def _members(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, UnionType):
        return tuple(member for part in get_args(annotation) for member in _members(part))
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    return (annotation,)


def _item(annotation: Any) -> Any:
    """What a mapping maps to; None for anything else."""
    return get_args(annotation)[1] if get_origin(annotation) is Mapping else None


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _kind(model: type[BaseModel]) -> str:
    return f"`type: {get_args(model.model_fields['type'].annotation)[0]}`"


def _type_name(annotation: Any) -> str:
    members = [member for member in _members(annotation) if member is not type(None)]
    if len(members) > 1:
        return " or ".join(map(_type_name, members))
    (member,) = members
    origin = get_origin(member)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in get_args(member))
    if origin in (tuple, list, set, frozenset):
        return f"list of {_type_name(get_args(member)[0])}"
    if origin is Mapping:
        return f"mapping to {_type_name(get_args(member)[1])}"
    if isinstance(member, type) and issubclass(member, enum.Enum):
        return " or ".join(f"`{value.value}`" for value in member)
    return _TYPES.get(member, getattr(member, "__name__", str(member)))


def _limits(info: FieldInfo) -> str:
    found = {
        name: getattr(item, name)
        for item in _metadata(info.annotation, info.metadata)
        for name in ("ge", "gt", "le", "lt")
        if getattr(item, name, None) is not None
    }
    low, high = found.get("ge", found.get("gt")), found.get("le", found.get("lt"))
    if low is not None and high is not None:
        above = "above " if "gt" in found else ""
        below = "below " if "lt" in found else ""
        return f", {above}{low} to {below}{high}"
    if low is not None:
        return f", {'at least' if 'ge' in found else 'above'} {low}"
    return f", at most {high}" if high is not None else ""


def _metadata(annotation: Any, known: list[Any]) -> list[Any]:
    """Constraints of a field, also those inside ``Annotated[...] | None``."""
    found = list(known)
    for part in get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ():
        if get_origin(part) is Annotated:
            for item in get_args(part)[1:]:
                found.extend(item.metadata if isinstance(item, FieldInfo) else [item])
    return found


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is None or value in ((), {}, ""):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple | list):
        return " ".join(f"`{item}`" for item in value)
    if isinstance(value, BaseModel):
        shown = ", ".join(f"{name}: {item}" for name, item in value)
        return f"`{{{shown}}}`"
    return f"`{value}`"


__all__ = ["render_settings"]
