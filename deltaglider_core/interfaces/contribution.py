"""The record that every hook yields."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from ..services import Services

T = TypeVar("T")

Phase = Literal["first", "normal", "last"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """Where a contribution stands among those of its stage.

    Names are contribution names of the same stage. ``before`` and ``after`` a name that is
    absent are ignored; ``requires`` an absent name stops the start.
    """

    phase: Phase = "normal"
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.phase not in ("first", "normal", "last"):
            raise ValueError(f"the phase {self.phase!r} is none of first, normal, last")
        for field_name in ("before", "after", "requires"):
            if isinstance(getattr(self, field_name), str):
                raise ValueError(f"Order.{field_name} is a text; write a tuple: ('name',)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Contribution(Generic[T]):
    """What a hook yields: a name, a way to open the thing, and its place.

    Attributes:
        name: Unique within its stage; lower case letters, digits, ``-`` and ``_``. For types
            chosen in the configuration it equals the value of ``type``.
        summary: One sentence for ``deltaglider_proxy plugins``.
        open: Async context manager that opens the thing; called once per pipeline with
            the settings found at ``mount`` (see below) and the services. Heavy imports
            belong inside it.
        mount: Dotted path of the settings that ``open`` receives, e.g. ``advanced.xdelta3``;
            the empty path is the whole ``Settings`` object. Not used by backend types,
            whose settings are the entry that selected them.
        order: Position in the stage.
    """

    name: str
    summary: str
    open: Callable[[Any, Services], AbstractAsyncContextManager[T]]
    mount: str = ""
    order: Order = field(default_factory=Order)


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingsSection:
    """A pydantic model that a plugin mounts in the configuration.

    Attributes:
        mount: Dotted path below one of ``admission``, ``access``, ``storage``, ``advanced``.
        model: Subclass of ``deltaglider_core.Section``; every field has a description.
        apply: When a change takes effect: at once, with a rebuilt pipeline, or at restart.
    """

    mount: str
    model: type[Any]
    apply: Literal["hot", "rebuild", "restart"] = "rebuild"
