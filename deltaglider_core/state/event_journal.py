"""The journal of events, as readers and housekeeping see it."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection

from . import cursors, events
from .cursors import Cursor
from .event_metrics import EventMetrics

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from ..interfaces.events import ObjectEvent
    from .database import Database

#: An event is kept for so many seconds, and while so many newer ones do not exist; and, whatever
#: its age, until every cursor has passed it.
KEEP_SECONDS = 7 * 86_400.0
KEEP_ROWS = 100_000
#: What a sink refused is kept for so many seconds.
KEEP_UNDELIVERED_SECONDS = 90 * 86_400.0

#: A cursor is reported that leaves so many events behind, or one for so many seconds.
LAG_EVENTS = 10_000
LAG_SECONDS = 3600.0
#: Seconds between two warnings about one cursor.
_WARN_AGAIN_SECONDS = 3600.0

#: Rows that one transaction changes; others wait for it.
_NUMBERED = 5000
_PRUNED = 1000


class EventJournal:
    """Reads, numbers and prunes the journal. Belongs to one event loop.

    Every method raises ``StateUnavailable`` if the database cannot be asked.

    Args:
        database: The state.
        log: A structlog logger.
        metrics: Where the lag of cursors is shown; None for nowhere.
    """

    def __init__(
        self, database: Database, *, log: Any, metrics: CollectorRegistry | None = None
    ) -> None:
        self._database = database
        self._log = log
        self._metrics = None if metrics is None else EventMetrics.of(metrics)
        self._news = asyncio.Event()
        self._warned: dict[str, float] = {}

    @property
    def news(self) -> asyncio.Event:
        """Is set when this process journals something next: take it, read, then wait for it.

        Other processes are not heard of; whoever waits looks again after a while.
        """
        return self._news

    def notify(self) -> None:
        """This process has journaled something."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def number(self) -> None:
        """Give ids to all events that have none."""
        if not await self._database.read(events.unnumbered):
            return
        give = functools.partial(events.number_events, most=_NUMBERED)
        while await self._database.write(give, scope=events.SCOPE) == _NUMBERED:
            pass

    async def read(self, after: int, limit: int) -> Sequence[ObjectEvent]:
        """At most ``limit`` events with ids above ``after``, ascending, all commits included."""

        def look(connection: Connection) -> tuple[Sequence[ObjectEvent], bool]:
            batch = events.read(connection, after, limit)
            return batch, len(batch) < limit and events.unnumbered(connection)

        batch, more = await self._database.read(look)
        if more:
            await self.number()
            batch, _ = await self._database.read(look)
        return batch

    async def cursor(self, name: str) -> int | None:
        """The last id that a reader has dealt with; None if there is no such cursor."""
        return await self._database.read(lambda connection: cursors.get(connection, name))

    async def cursors(self) -> Sequence[Cursor]:
        """All cursors, by name."""
        now = self._database.now
        return await self._database.read(lambda c: cursors.every(c, now=now(c)))

    async def create_cursor(self, name: str, *, at: Literal["beginning", "end"]) -> int:
        """Make a cursor unless there is one; returns where it stands."""
        found = await self.cursor(name)
        if found is not None:
            return found
        now = self._database.now
        return await self._database.write(
            lambda c: cursors.create(c, name, at=at, now=now(c)), scope=events.SCOPE
        )

    async def advance(self, name: str, upto: int) -> bool:
        """Move a cursor forward; False if it is gone or has been there already."""
        now = self._database.now
        return await self._database.write(lambda c: cursors.advance(c, name, upto, now=now(c)))

    async def forget_cursor(self, name: str) -> bool:
        """Remove a cursor; False if there is none."""
        return await self._database.write(lambda connection: cursors.forget(connection, name))

    async def set_aside(self, sink: str, event: ObjectEvent, reason: str) -> None:
        """Keep an event that a sink refused for good, and move the sink's cursor past it."""

        def put(connection: Connection) -> None:
            now = self._database.now(connection)
            events.set_aside(connection, now=now, sink=sink, event=event, reason=reason)
            cursors.advance(connection, cursors.SINK + sink, event.id, now=now)

        # Two that deliver to one sink, since a lease was lost, must not collide here.
        await self._database.write(put, scope=cursors.SINK + sink)

    async def prune(self, *, max_age: float = KEEP_SECONDS, max_rows: int = KEEP_ROWS) -> int:
        """Remove what is old and what all cursors have passed; returns the number of events.

        Args:
            max_age: Seconds.
        """

        def step(connection: Connection) -> int:
            return events.prune(
                connection,
                upto=cursors.floor(connection),
                occurred_before=self._database.now(connection) - max_age,
                keep=max_rows,
                most=_PRUNED,
            )

        def refused(connection: Connection) -> int:
            before = self._database.now(connection) - KEEP_UNDELIVERED_SECONDS
            return events.prune_undelivered(connection, failed_before=before)

        total = 0
        while True:
            removed = await self._database.write(step, scope=events.SCOPE)
            total += removed
            if removed < _PRUNED:
                break
        await self._database.write(refused)
        return total

    async def report_lag(self) -> None:
        """Show how far every cursor is behind, and warn of those that are far."""
        found = await self.cursors()
        if self._metrics is not None:
            self._metrics.show_lag(found)
        present = time.monotonic()
        behind = {c.name for c in found if c.lag > LAG_EVENTS or c.waiting > LAG_SECONDS}
        self._warned = {name: at for name, at in self._warned.items() if name in behind}
        for cursor in found:
            if cursor.name not in behind:
                continue
            if present - self._warned.get(cursor.name, -_WARN_AGAIN_SECONDS) < _WARN_AGAIN_SECONDS:
                continue
            self._warned[cursor.name] = present
            self._log.warning(
                "an event cursor lags: no event that it has not passed can be removed; if nobody "
                "uses it any more, run: deltaglider_proxy events cursors --forget " + cursor.name,
                cursor=cursor.name,
                events=cursor.lag,
                oldest_seconds=round(cursor.waiting),
            )


__all__ = ["KEEP_ROWS", "KEEP_SECONDS", "LAG_EVENTS", "LAG_SECONDS", "EventJournal"]
