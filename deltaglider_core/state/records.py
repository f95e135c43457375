"""What is said about mutations: their intents, their events, and what they leave at a key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import DeltaGliderError
from ..origin import Signature
from .sums import Facts


class BucketGoneError(DeltaGliderError):
    """The bucket of this id takes no writes (any more): look up which one has the name now."""


class KeyBusyError(DeltaGliderError):
    """Somebody rewrites the key in place: try again in a moment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """What is journaled about a mutation that happened."""

    kind: str
    bucket: str
    source: str
    payload: Mapping[str, Any]

    def dump(self) -> str:
        """As JSON, for an intent."""
        return json.dumps([self.kind, self.bucket, self.source, dict(self.payload)])

    @classmethod
    def load(cls, text: str) -> Event:
        """The opposite of ``dump``."""
        kind, bucket, source, payload = json.loads(text)
        return cls(kind=kind, bucket=bucket, source=source, payload=payload)


@dataclass(frozen=True, kw_only=True, slots=True)
class Intent:
    """A mutation that is to begin.

    Attributes:
        bucket: Number of the bucket in the database.
        kind: ``put``, ``copy``, ``delete``, ``complete``, ``tags``.
        process: Id of this process.
        size: Logical bytes of what is written, which count against the quota at once.
        event: Journaled if it happened although nobody was left to say so; the sizes may be
            missing in it.
        upload: Id of the multipart upload that it completes.
        parts: Fingerprint of the list of parts that is completed.
        quota: Most logical bytes of the bucket; None without a limit.
    """

    write_id: str
    bucket: int
    key: bytes
    kind: str
    process: str
    size: int
    event: Event | None
    upload: str | None = None
    parts: str | None = None
    quota: int | None = None
    signature: Signature | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Present:
    """What is at a key.

    Attributes:
        write_id: Of the write that put it there; None if it was none of ours.
        facts: What counts of it.
        etag, modified: As clients see them; the time in seconds of Unix time.
        stored_as: ``delta`` or ``passthrough``.
        checksum: As its metadata have it; None without one.
    """

    write_id: str | None
    facts: Facts
    etag: str
    modified: float
    stored_as: str
    checksum: str | None = None

    def payload(self) -> dict[str, Any]:
        """What an event says of it."""
        return {
            "content_length": self.facts.size,
            "storage_type": self.stored_as,
            "etag": self.etag,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """How a mutation that happened was settled.

    Attributes:
        waiting: Write id of an intent that waits until somebody has looked at the key, or None.
        acknowledged: False if the caller must not be told that it succeeded.
    """

    waiting: str | None
    acknowledged: bool = True


__all__ = ["BucketGoneError", "Event", "Intent", "KeyBusyError", "Present", "Settled"]
