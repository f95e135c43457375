"""What every request needs to know, read from the database in advance.

A snapshot is one immutable value. Whoever changes what it shows counts the version up in the same
transaction; every process compares versions twice a second and loads anew when they differ. So a
request never waits for a query, and sees what was committed a second ago. A process that could not
compare for ten seconds no longer answers from its snapshot: rights may have been taken away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from sqlalchemy import Connection, select, text

from .errors import StateUnavailable
from .tables import facts

if TYPE_CHECKING:
    from .database import Database

T = TypeVar("T")

#: Seconds between two comparisons of the version.
REFRESH_SECONDS = 0.5

#: Seconds after the last comparison for which the value may be used.
LIMIT_SECONDS = 10.0

_COUNT_UP = text(
    "INSERT INTO facts (name, value) VALUES ('snapshot', '1') ON CONFLICT (name) DO UPDATE"
    " SET value = CAST(CAST(facts.value AS BIGINT) + 1 AS VARCHAR(20))"
)


def changed(connection: Connection) -> None:
    """Say that what snapshots show has changed; in the transaction that changes it."""
    connection.execute(_COUNT_UP)


def version(connection: Connection) -> str:
    """The version of what snapshots show; only good for comparing."""
    query = select(facts.c.value).where(facts.c.name == "snapshot")
    return str(connection.execute(query).scalar_one_or_none() or "0")


class SnapshotKeeper(Generic[T]):
    """Keeps a snapshot that is never older than it may be. One per process and loader.

    Something has to call ``refresh`` every ``REFRESH_SECONDS``; see ``housekeeping``.

    Args:
        database: What is asked.
        load: Reads the value; it must be immutable, since all requests share it.
        limit_seconds: How old the last comparison may be.
        monotonic: Seconds of a clock that never goes back; replaceable in tests.
    """

    def __init__(
        self,
        database: Database,
        load: Callable[[Connection], T],
        *,
        limit_seconds: float = LIMIT_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._load = load
        self._limit = limit_seconds
        self._monotonic = monotonic
        self._loaded: tuple[str, T] | None = None
        self._checked = 0.0
        self._one_at_a_time = asyncio.Lock()

    def current(self) -> T:
        """The value. No I/O.

        Raises:
            StateUnavailable: There is none yet, or the last comparison is too long ago.
        """
        if self._loaded is None or self._monotonic() - self._checked > self._limit:
            raise StateUnavailable("What the state database says is not known at present.")
        return self._loaded[1]

    async def refresh(self) -> None:
        """Compare the version and load anew if it differs.

        After it has returned, ``current`` shows everything that was committed before the call.

        Raises:
            StateUnavailable: The database cannot be asked; the value grows older.
        """
        # One after the other: an older answer must never replace a newer one.
        async with self._one_at_a_time:
            began = self._monotonic()
            loaded = await self._database.read(self._newer)
            if loaded is not None:
                self._loaded = loaded
            self._checked = began

    def _newer(self, connection: Connection) -> tuple[str, T] | None:
        """The value with its version, or None if the one at hand is still right."""
        found = version(connection)
        if self._loaded is not None and self._loaded[0] == found:
            return None
        # A reading transaction sees one state of everything, so the two belong together.
        return found, self._load(connection)


__all__ = ["LIMIT_SECONDS", "REFRESH_SECONDS", "SnapshotKeeper", "changed", "version"]
