"""Transactions on cursors: how far each reader of the journal has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from . import events
from .tables import cursors
from .tables import events as journal

#: In front of the names of sinks.
SINK = "sink:"

_GET = select(cursors.c.last_id).where(cursors.c.name == bindparam("cursor"))
_ADVANCE = (
    update(cursors)
    .where(cursors.c.name == bindparam("cursor"), cursors.c.last_id < bindparam("upto"))
    .values(last_id=bindparam("upto"), updated=bindparam("now"))
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cursor:
    """A reader of the journal.

    Attributes:
        last_id: The last event that it has dealt with.
        updated: When it moved last; Unix time by the clock of the database.
        lag: Number of events that it has not dealt with.
        waiting: Seconds since the first of them occurred; 0 without one.
    """

    name: str
    last_id: int
    updated: float
    lag: int
    waiting: float


def get(connection: Connection, name: str) -> int | None:
    """The last id that this reader has dealt with; None if there is no such cursor."""
    found = connection.execute(_GET, {"cursor": name}).scalar()
    return None if found is None else int(found)


def create(
    connection: Connection, name: str, *, at: Literal["beginning", "end"], now: float
) -> int:
    """Make a cursor unless there is one; needs the scope ``events.SCOPE``.

    Args:
        at: Before the oldest event that is kept, or behind the newest that is committed.

    Returns:
        Where it stands.
    """
    found = get(connection, name)
    if found is not None:
        return found
    # What is committed and has no id yet would otherwise come after the end.
    while at == "end" and events.number_events(connection):
        pass
    extent = events.extent(connection)
    place = extent.last if at == "end" else extent.first - 1
    connection.execute(insert(cursors), {"name": name, "last_id": place, "updated": now})
    return place


def advance(connection: Connection, name: str, upto: int, *, now: float) -> bool:
    """Move a cursor forward; False if it is gone or has been there already.

    Raises:
        ValueError: No event has this id yet.
    """
    if upto > events.last_id(connection):
        raise ValueError(f"cursor {name!r} cannot move to {upto}: no event has this id")
    values = {"cursor": name, "upto": upto, "now": now}
    return connection.execute(_ADVANCE, values).rowcount == 1


def forget(connection: Connection, name: str) -> bool:
    """Remove a cursor; False if there is none."""
    return connection.execute(delete(cursors).where(cursors.c.name == name)).rowcount == 1


def every(connection: Connection, *, now: float) -> list[Cursor]:
    """All cursors, by name."""
    last = events.last_id(connection)
    # Ids have no gaps, so this is the first event that is not dealt with.
    first_unread = cursors.c.last_id + 1
    query = (
        select(cursors, journal.c.occurred)
        .outerjoin(journal, journal.c.id == first_unread)
        .order_by(cursors.c.name)
    )
    return [
        Cursor(
            name=row.name,
            last_id=row.last_id,
            updated=row.updated,
            lag=last - row.last_id,
            waiting=0.0 if row.occurred is None else max(0.0, now - row.occurred),
        )
        for row in connection.execute(query)
    ]


def floor(connection: Connection) -> int:
    """The last id that every cursor has passed; the last of all without a cursor."""
    found = connection.execute(select(func.min(cursors.c.last_id))).scalar()
    return events.last_id(connection) if found is None else int(found)


__all__ = ["SINK", "Cursor", "advance", "create", "every", "floor", "forget", "get"]
