"""Where a mutation comes from: who asked for it, and what its event says.

Set once per request (or per item of a job) and read by the layer that records mutations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """A verified signature that may be used once for a mutation.

    Attributes:
        digest: 16 bytes that stand for the signature.
        call: Tells calls of one client apart that have the same signature; empty if nothing does.
        request_id: Of the request that brings it; it may mutate more than one key.
        window: Seconds for which it is remembered.
        returnable: Whether a failure frees it. Not where one request changes many keys: what it
            did to the others could be repeated.
    """

    digest: bytes = field(repr=False)
    call: str
    request_id: str
    window: float
    returnable: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Why something is written.

    Attributes:
        source: Of the event, e.g. ``s3_api``.
        bucket: Name of the bucket as the caller knows it; None where it is the real one.
        kind: Replaces the kind of event that the method would have.
        payload: Added to the event's.
        signature: None where there is none, or where it may be repeated.
    """

    source: str = "s3_api"
    bucket: str | None = None
    kind: str | None = None
    payload: Mapping[str, str | int | None] = field(default_factory=dict)
    signature: Signature | None = None


current_origin: ContextVar[Origin] = ContextVar("current_origin", default=Origin())  # noqa: B039


@contextmanager
def origin(**changes: object) -> Iterator[Origin]:
    """Change fields of the present task's origin inside the block."""
    changed = replace(current_origin.get(), **changes)  # type: ignore[arg-type]
    token = current_origin.set(changed)
    try:
        yield changed
    finally:
        current_origin.reset(token)


__all__ = ["Origin", "Signature", "current_origin", "origin"]
