"""Transactions on the journal of events.

An event is appended in the transaction that settles its mutation, without an id. Ids are given
after the commit: one that is given inside a transaction can become visible after a higher one, and
a reader that has gone past would never see it. Whoever gives ids or moves the ends of the journal
excludes others by the scope ``SCOPE``.

The ids that exist are ``first`` to ``last`` without a gap: they are given one after the other,
and events are removed from the beginning only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from ..interfaces.events import ObjectEvent
from .prepared import Prepared
from .tables import events, facts, undelivered

#: Scope of ``Database.write`` for ``number_events``, ``prune`` and what creates a cursor.
SCOPE = "events"

_LAST = "events"

_APPEND = Prepared(
    insert(events).values(
        {
            name: bindparam(name)
            for name in ("write_id", "kind", "bucket", "key", "source", "occurred", "payload")
        }
    )
)
_HAS = select(events.c.number).where(events.c.write_id == bindparam("w")).limit(1)
_READ = (
    select(events)
    .where(events.c.id > bindparam("after"))
    .order_by(events.c.id)
    .limit(bindparam("most"))
)
_WAITING = select(events.c.number).where(events.c.id.is_(None)).limit(1)
_RANKED = (
    select(
        events.c.number,
        func.row_number().over(order_by=events.c.number).label("rank"),
    )
    .where(events.c.id.is_(None))
    .order_by(events.c.number)
    .limit(bindparam("most"))
    .subquery()
)
_NUMBER = (
    update(events)
    .where(events.c.number == _RANKED.c.number)
    .values(id=bindparam("base") + _RANKED.c.rank)
)
_GET_LAST = select(facts.c.value).where(facts.c.name == _LAST)
_SET_LAST = update(facts).where(facts.c.name == _LAST).values(value=bindparam("last"))
_GET_FIRST = select(func.min(events.c.id))


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """Ids of the journal: ``first`` is ``last + 1`` while no event with an id is kept."""

    first: int
    last: int


def append(
    connection: Connection,
    *,
    now: float,
    write_id: str,
    kind: str,
    bucket: str,
    key: bytes,
    source: str,
    payload: Mapping[str, Any],
) -> None:
    """Journal an event.

    Args:
        now: When it occurred: Unix time by the clock of the database.
        key: UTF-8.
        payload: What JSON can hold.
    """
    _APPEND.run(
        connection,
        {
            "write_id": write_id,
            "kind": kind,
            "bucket": bucket,
            "key": key,
            "source": source,
            "occurred": now,
            "payload": json.dumps(dict(payload), separators=(",", ":")),
        },
    )


def has(connection: Connection, write_id: str) -> bool:
    """Whether an event of this mutation is journaled, with an id or without.

    Looks through the whole journal; only what follows a crash asks.
    """
    return connection.execute(_HAS, {"w": write_id}).first() is not None


def number_events(connection: Connection, most: int = 10_000) -> int:
    """Give ids to events that have none; needs the scope ``SCOPE``.

    Returns:
        How many were given; less than ``most`` if all events have one now.
    """
    last = last_id(connection)
    given = connection.execute(_NUMBER, {"base": last, "most": most}).rowcount
    if given:
        value = {"last": str(last + given)}
        if connection.execute(_SET_LAST, value).rowcount != 1:
            connection.execute(insert(facts), {"name": _LAST, "value": value["last"]})
    return given


def unnumbered(connection: Connection) -> bool:
    """Whether there is an event without an id."""
    return connection.execute(_WAITING).first() is not None


def last_id(connection: Connection) -> int:
    """The last id that was given; 0 if none was."""
    return int(connection.execute(_GET_LAST).scalar() or 0)


def extent(connection: Connection) -> Extent:
    """The ids that are kept."""
    last = last_id(connection)
    first = connection.execute(_GET_FIRST).scalar()
    return Extent(first=last + 1 if first is None else first, last=last)


def read(connection: Connection, after: int, limit: int) -> list[ObjectEvent]:
    """At most ``limit`` events with ids above ``after``, ascending."""
    return [_event(row) for row in connection.execute(_READ, {"after": after, "most": limit})]


def _event(row: Row[Any]) -> ObjectEvent:
    return ObjectEvent(
        id=row.id,
        write_id=row.write_id,
        kind=row.kind,
        bucket=row.bucket,
        key=row.key.decode(),
        source=row.source,
        occurred=datetime.fromtimestamp(row.occurred, UTC),
        payload=json.loads(row.payload),
    )


def prune(
    connection: Connection, *, upto: int, occurred_before: float, keep: int, most: int = 1000
) -> int:
    """Remove old events from the beginning of the journal; needs the scope ``SCOPE``.

    An event goes if it occurred before ``occurred_before``, or if ``keep`` newer ones exist; the
    first that may stay ends the search. Events without an id stay.

    Args:
        upto: The last id that may be removed.
        occurred_before: Unix time.
        most: Bounds the work of one call.

    Returns:
        How many were removed; less than ``most`` if there are no more.
    """
    surplus = last_id(connection) - keep
    oldest = (
        select(events.c.id, events.c.occurred)
        .where(events.c.id <= upto)
        .order_by(events.c.id)
        .limit(most)
    )
    end = count = 0
    for event_id, occurred in connection.execute(oldest):
        if event_id > surplus and occurred >= occurred_before:
            break
        end, count = event_id, count + 1
    if count:
        connection.execute(delete(events).where(events.c.id <= end))
    return count


def set_aside(
    connection: Connection, *, now: float, sink: str, event: ObjectEvent, reason: str
) -> None:
    """Keep an event that a sink refused for good; again is no error."""
    key = (undelivered.c.sink == sink, undelivered.c.id == event.id)
    if connection.execute(select(undelivered.c.id).where(*key)).first() is None:
        values = {"sink": sink, "id": event.id, "event": event.as_json()}
        connection.execute(insert(undelivered), {**values, "reason": reason, "failed": now})


def prune_undelivered(connection: Connection, *, failed_before: float) -> int:
    """Remove what sinks refused before ``failed_before`` (Unix time); returns how many."""
    return connection.execute(
        delete(undelivered).where(undelivered.c.failed < failed_before)
    ).rowcount


__all__ = [
    "SCOPE",
    "Extent",
    "append",
    "extent",
    "has",
    "last_id",
    "number_events",
    "prune",
    "prune_undelivered",
    "read",
    "set_aside",
    "unnumbered",
]
