"""``DGP_*`` variables: a layer of its own above the file, never written to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .errors import ConfigurationError
from .settings import Section, Settings

#: Replaces the whole of ``storage.backend``, so it is no twin of a single field.
DATA_DIR = "DGP_DATA_DIR"

#: Read elsewhere: by ``find_config``, and by the worker processes of ``serve``.
OTHER_VARIABLES: tuple[str, ...] = ("DGP_CONFIG",)

#: Stands in a path for a key that the operator chooses, such as the name of a bucket.
ANY_NAME = "<name>"

Path = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Override:
    """A value for one path of the configuration, from outside of the file.

    Attributes:
        path: For example ``("advanced", "log_level")``.
        value: Replaces whatever the file has there.
        origin: For errors: the variable or the flag.
    """

    path: Path
    value: Any
    origin: str


def walk(model: type[BaseModel], path: Path = ()) -> Iterator[tuple[Path, FieldInfo]]:
    """Every field below a model, depth first, as ``(path, field)``; sections included."""
    for name, info in model.model_fields.items():
        here = (*path, name)
        yield here, info
        for suffix, section in _sections(info.annotation):
            yield from walk(section, (*here, *suffix))


def _sections(annotation: Any) -> Iterator[tuple[Path, type[BaseModel]]]:
    """The models that a field can hold, and what stands between its path and theirs."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield (), annotation
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _sections(member)
    elif get_origin(annotation) is Mapping:
        for suffix, section in _sections(get_args(annotation)[1]):
            yield (ANY_NAME, *suffix), section


def variables(model: type[Settings]) -> Mapping[str, Path]:
    """The variable of each field that has one, e.g. ``DGP_LOG_LEVEL: (advanced, log_level)``."""
    found: dict[str, Path] = {}
    for path, info in walk(model):
        extra = info.json_schema_extra
        name = extra.get("x-env") if isinstance(extra, dict) else None
        if isinstance(name, str) and ANY_NAME not in path:
            found[name] = path
    return found


def environment_layer(
    model: type[Settings], environ: Mapping[str, str]
) -> tuple[list[Override], list[str]]:
    """What the environment sets.

    An empty value counts as unset, as in compose files that pass a variable through.

    Returns:
        The overrides, and warnings about variables of ours that mean nothing.

    Raises:
        ConfigurationError: ``DGP_DATA_DIR`` cannot be a path.
    """
    known = variables(model)
    overrides = [
        Override(path=path, value=environ[name], origin=name)
        for name, path in known.items()
        if environ.get(name)
    ]
    if data_dir := environ.get(DATA_DIR):
        if "\0" in data_dir:
            raise ConfigurationError(f"{DATA_DIR}: a path cannot contain a NUL byte", exit_code=4)
        backend = {"type": "filesystem", "path": data_dir}
        overrides.append(Override(path=("storage", "backend"), value=backend, origin=DATA_DIR))
    expected = {*known, DATA_DIR, *OTHER_VARIABLES}
    warnings = [
        f"the environment variable {name} is none of this version and was ignored"
        for name in sorted(environ)
        if name.startswith("DGP_") and name not in expected
    ]
    return overrides, warnings


__all__ = ["ANY_NAME", "DATA_DIR", "Override", "environment_layer", "variables", "walk"]
