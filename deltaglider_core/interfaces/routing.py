"""From the bucket a client names to the place where it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .contribution import Contribution


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """Name of the backend in the configuration, and the bucket's real name there."""

    backend: str
    bucket: str


@runtime_checkable
class Router(Protocol):
    """Pure, total, no I/O."""

    def resolve(self, bucket: str) -> Route | None:
        """None: not mine."""


class RouterType(Contribution[Router]):
    """Asked in order; the first route counts. No route at all is ``NoSuchBucket``."""

    __slots__ = ()
