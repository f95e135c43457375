"""The state database, as the rest of the program sees it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ..errors import ConfigurationError, DeltaGliderError
from ..services import run_blocking
from .committer import PATIENCE, Committer
from .errors import StateUnavailable, Unreachable
from .place import DatabasePlace
from .readers import Readers
from .store import READERS, Store

T = TypeVar("T")

#: Seconds that ``aclose`` waits for what has begun.
CLOSE_SECONDS = 20.0


class Database:
    """One database that all processes share; any number of them may have it open.

    Opened by ``open_database``. Its methods can be called from any event loop.

    Attributes:
        path: Absolute path of the embedded database; None for PostgreSQL.
    """

    def __init__(self, store: Store, *, log: Any, path: Path | None, available: bool) -> None:
        self.path = path
        self._store = store
        self._log = log
        self._available = available
        self._reporting = threading.Lock()
        self._closed = False
        self._readers = Readers(READERS)
        self._committer = Committer(store, self._report)

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._store.dialect

    @property
    def available(self) -> bool:
        """Whether the last attempt to use the database succeeded."""
        return self._available

    async def write(self, function: Callable[[Connection], T], *, scope: int | str = "") -> T:
        """Run a function in a transaction, together with others that wait, and commit it.

        Args:
            function: Runs in a thread, and more than once if a transaction is rolled back, so it
                touches nothing but the connection. It refuses by raising a ``DeltaGliderError``,
                at best before its first write: after one, all others of the transaction have to
                be carried out again. Whatever it raises, nothing of it is stored.
            scope: Calls with the same scope exclude each other, in all processes, from before
                their first statement until their commit. The embedded database has one writer
                at a time anyway.

        Returns:
            What the function returned, after the commit.

        Raises:
            StateUnavailable: The database failed, or gave no answer for 15 s; the next call tries
                again. It is unknown whether anything is stored: a connection can be lost in the
                commit.

        A call that is cancelled before its function has begun is not carried out; later it may
        be.
        """
        return await self._committer.write(function, str(scope))

    async def read(self, function: Callable[[Connection], T]) -> T:
        """Run a function that only reads, in a thread, on one consistent state.

        It runs a second time if the connection is lost meanwhile, as when the server ends a
        transaction because this process stood still.

        Raises:
            StateUnavailable: The database failed, or gave no answer for 15 s.
        """
        if self._closed:
            raise StateUnavailable("The state database is closed.")
        work = asyncio.wrap_future(self._readers.submit(lambda: self._read(function)))
        try:
            done, _ = await asyncio.wait((work,), timeout=PATIENCE)
            if not done:
                raise StateUnavailable("The state database is busy for too long. Please retry.")
            return work.result()
        finally:
            work.cancel()  # what has begun goes on, and nobody waits for it

    def _read(self, function: Callable[[Connection], T], *, again: bool = True) -> T:
        try:
            self._store.prepare()
            with self._store.snapshot() as connection:
                try:
                    value = function(connection)
                except DeltaGliderError as error:
                    refusal = error
                else:
                    self._report(None)
                    return value
        except Exception as error:
            explained = self._store.explain(error)
            if explained is None:
                raise
            if again and isinstance(error, DBAPIError) and error.connection_invalidated:
                return self._read(function, again=False)
            if self._store.concerns_all(error):
                self._report(error)
            raise StateUnavailable(explained.text) from error
        raise refusal

    def now(self, connection: Connection) -> float:
        """The time by the clock of the database, Unix seconds."""
        return self._store.now(connection)

    async def aclose(self) -> None:
        """Finish what was begun, then close. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        await run_blocking(self._close)

    def _close(self) -> None:
        deadline = time.monotonic() + CLOSE_SECONDS
        written = self._committer.close(CLOSE_SECONDS)
        if self._readers.close(max(0.0, deadline - time.monotonic())) and written:
            self._store.close()
        else:
            # Its connections are in use, and end with this process.
            self._log.error("the state database does not answer and is left as it is")

    def _report(self, error: BaseException | None) -> None:
        """Log when the database goes and when it comes back, once each."""
        available = error is None
        if available == self._available:
            return
        with self._reporting:
            if available == self._available:
                return
            self._available = available
        if available:
            self._log.info("the state database is available again")
        else:
            cause = getattr(error, "detail", None) or getattr(error, "orig", None) or error
            self._log.error("the state database is not available", error=str(cause).strip())


async def open_database(place: DatabasePlace, *, log: Any, patient: bool = False) -> Database:
    """Open the database, and create or migrate it if need be.

    Args:
        place: Where it is.
        log: A structlog logger.
        patient: A PostgreSQL server that cannot be reached is no error: the database begins
            unavailable, and connects and migrates when it can.

    Raises:
        ConfigurationError: It cannot be used; a sentence that says what to do.
    """
    return await run_blocking(_open, place, log, patient)


def _open(place: DatabasePlace, log: Any, patient: bool) -> Database:
    # The drivers are large; only the one that is used is loaded.
    store: Store
    if place.path is not None:
        from .embedded import EmbeddedStore

        store = EmbeddedStore(place.path, place.key_path, log=log)
    else:
        from .postgresql import PostgresqlStore

        assert place.url is not None
        store = PostgresqlStore(place.url, log=log)
    available = True
    try:
        store.prepare()
    except Unreachable as error:
        if not patient:
            store.close()
            raise ConfigurationError(error.detail) from error
        log.error("the state database is not available", error=error.detail)
        available = False
    except BaseException:
        store.close()
        raise
    return Database(store, log=log, path=place.path, available=available)


__all__ = ["Database", "open_database"]
