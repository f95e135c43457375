"""What every model of the configuration is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Apply = Literal["hot", "rebuild", "restart"]


class Section(BaseModel):
    """Base of every model in the configuration: frozen, unknown keys are errors.

    Errors never show the rejected value, since it may be a secret.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )


def setting(
    default: Any = ..., *, description: str, apply: Apply = "rebuild", env: str = "", **more: Any
) -> Any:
    """A pydantic field that also says when it applies and which variable sets it.

    Args:
        default: ``...`` for a field that must be given.
        description: Ends up in the JSON Schema and in the reference.
        apply: ``hot``: at once; ``rebuild``: with a new pipeline, requests in flight finish
            on the old one; ``restart``: at the next start.
        env: Name of the environment variable, e.g. ``DGP_LOG_LEVEL``.
        more: Anything else that ``pydantic.Field`` takes.
    """
    marks: dict[str, Any] = {"x-apply": apply}
    if env:
        marks["x-env"] = env
    return Field(default, description=description, json_schema_extra=marks, **more)


def _usable_path(value: object) -> object:
    if isinstance(value, str | Path):
        if not str(value).strip():
            raise ValueError("the path is empty")
        if "\0" in str(value):
            raise ValueError("a path cannot contain a NUL byte")
    return value


#: The path of a file or a directory, which need not exist.
UsablePath = Annotated[Path, BeforeValidator(_usable_path)]


__all__ = ["Apply", "Section", "UsablePath", "setting"]
