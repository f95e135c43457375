"""Events of objects, and where they are delivered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, runtime_checkable

from ..errors import DeltaGliderError
from .contribution import Contribution

#: Name of the JSON form; another form would get another name.
EVENT_SCHEMA = "deltaglider.event.v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectEvent:
    """Something that happened to an object; equal for every reader.

    Attributes:
        id: From 1, ascending in the one order that all readers share; identifies the event.
        write_id: Of the mutation, 32 hex digits; also stored with the object.
        kind: ``ObjectCreated``, ``ObjectCopied``, ``ObjectDeleted``, ``ReplicationObjectCopied``,
            ``LifecycleExpired`` or ``LifecycleTransitioned``; there may be more one day.
        bucket: As clients name it.
        key: Decoded.
        source: Who did it, e.g. ``s3_api``.
        occurred: By the clock of the state database; aware, UTC. Not ascending with ``id``.
        payload: Values that JSON has; what is in it depends on ``kind``.
    """

    id: int
    write_id: str
    kind: str
    bucket: str
    key: str
    source: str
    occurred: datetime
    payload: Mapping[str, Any]

    def as_json(self) -> str:
        """The JSON form: one line, ASCII, without spaces, without a line end.

        ``{"schema":"deltaglider.event.v1","event":{...}}`` with the attributes of this class;
        ``occurred`` is RFC 3339 with microseconds, and ``occurred_at`` whole seconds of Unix time.
        """
        event = {
            "id": self.id,
            "write_id": self.write_id,
            "kind": self.kind,
            "bucket": self.bucket,
            "key": self.key,
            "source": self.source,
            "occurred_at": int(self.occurred.timestamp()),
            "occurred": self.occurred.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "payload": dict(self.payload),
        }
        # ASCII keeps U+2028 and the like from ending the line for some reader.
        return json.dumps({"schema": EVENT_SCHEMA, "event": event}, separators=(",", ":"))


class Retry(DeltaGliderError):
    """The batch could not be delivered now; it is delivered again, as a whole.

    Args:
        reason: For the log; never contains a secret.
        after: Seconds to wait at least, e.g. from ``Retry-After`` (RFC 9110, section 10.2.3);
            without it, waits grow exponentially.
    """

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class Permanent(DeltaGliderError):
    """The batch will never be accepted.

    A batch of several events is delivered again one by one, to find the one that is refused.
    That one is set aside with ``reason``, and delivery goes on behind it.

    Args:
        reason: Kept with the event; never contains a secret.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@runtime_checkable
class EventSink(Protocol):
    """A place that receives every event, at least once, in the order of the ids."""

    async def deliver(self, batch: Sequence[ObjectEvent]) -> None:
        """Deliver a batch; it counts as delivered when this returns.

        Events can come again, after a crash above all: receivers tell them by their id. Is
        cancelled after a time-out; part of the batch may have been delivered by then.

        Args:
            batch: At least one, ascending ids.

        Raises:
            Retry: Not now. Any other error except ``Permanent`` means the same.
            Permanent: Never.
        """


class EventSinkType(Contribution[EventSink | None]):
    """A sink; ``open`` yields None where the configuration does not ask for it.

    Each sink has a cursor of its own, ``sink:<name>``. It begins with the events from its first
    activation on, and resumes where it was after that, also if it was switched off meanwhile.
    """

    __slots__ = ()


__all__ = [
    "EVENT_SCHEMA",
    "EventSink",
    "EventSinkType",
    "ObjectEvent",
    "Permanent",
    "Retry",
]
