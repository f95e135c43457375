"""The embedded database: one file, encrypted by SQLCipher, shared by the processes of a machine.

Source: SQLite, "Write-Ahead Logging"; Zetetic, "SQLCipher API".
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, QueuePool

from ..errors import ConfigurationError
from . import embedded_file, migrate
from .embedded_errors import FULL, describe, explain, primary_code
from .errors import StateUnavailable
from .store import READERS, CommitUnknown, Store
from .turnstile import Turnstile


class EmbeddedStore(Store):
    """The file, its locks and its connections."""

    dialect: ClassVar[str] = "sqlite"

    def __init__(self, path: Path, key_path: Path, *, log: Any) -> None:
        super().__init__()
        self._path = path
        self._key_path = key_path
        self._log = log
        self._prepared = False
        self._preparing = threading.Lock()
        self._connection: Connection | None = None
        self._closing = contextlib.ExitStack()

    # --- opening ------------------------------------------------------------------------

    def prepare(self) -> None:
        if self._prepared:
            return
        with self._preparing, contextlib.ExitStack() as opened:
            if self._prepared:
                return
            try:
                self._open(opened)
            except (OSError, DBAPIError, embedded_file.driver.Error) as error:
                raise ConfigurationError(describe(error, self._path, self._key_path)) from error
            self._closing = opened.pop_all()
            self._prepared = True

    def _open(self, opened: contextlib.ExitStack) -> None:
        if not self._path.parent.is_dir():
            raise ConfigurationError(
                f"the directory {self._path.parent} of the state database is missing; create it, "
                "or set advanced.database_url"
            )
        embedded_file.check_writable(self._path)
        self._turnstile = Turnstile(self._path)
        opened.callback(self._turnstile.close)
        with self._turnstile.turn():
            self._key = embedded_file.unlock(self._path, self._key_path, log=self._log)
            with contextlib.closing(embedded_file.connect(self._path, self._key)) as connection:
                embedded_file.upgrade(connection, self._path, self._key, log=self._log)
        self._identity = embedded_file.identity(self._path)
        opened.enter_context(embedded_file.in_use(self._identity))
        opened.callback(self._close_connections)
        self._writer = self._engine(immediate=True, poolclass=NullPool)
        self._reader = self._engine(
            immediate=False, poolclass=QueuePool, pool_size=READERS, max_overflow=0
        )
        self.count_writes(self._writer)

    def _engine(self, *, immediate: bool, **options: Any) -> Engine:
        engine = create_engine(
            "sqlite://",
            module=embedded_file.driver,
            creator=lambda: self._connect(read_only=not immediate),
            **options,
        )
        begin = "BEGIN IMMEDIATE" if immediate else "BEGIN"

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            # The driver is in autocommit mode: left to itself it begins only at the first write,
            # and a transaction that has read before cannot be made a writing one safely.
            connection.connection.driver_connection.execute(begin)  # type: ignore[union-attr]

        return engine

    def _connect(self, *, read_only: bool) -> Any:
        connection = embedded_file.connect(self._path, self._key)
        try:
            migrate.check_revision(migrate.read_revision_of(connection, self._path))
            if read_only:
                connection.execute("PRAGMA query_only = ON")
            else:
                # A copy that was made with VACUUM INTO has another mode.
                connection.execute("PRAGMA journal_mode = WAL")
        except BaseException:
            connection.close()
            raise
        return connection

    # --- use ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(self._turnstile.turn())
            except OSError as error:
                raise StateUnavailable from error
            yield

    @contextlib.contextmanager
    def transaction(self, scopes: Collection[str]) -> Iterator[Connection]:
        self._check_identity()
        if self._connection is None:
            self._connection = self._writer.connect()
        connection = self._connection
        try:
            transaction = connection.begin()
            yield connection
            self._check_open(connection)
        except BaseException as error:
            self._roll_back(connection, error)
            raise
        try:
            transaction.commit()
        except BaseException as error:
            self._discard()
            if primary_code(error) == FULL:
                # The last page, which makes a transaction valid, is not in the log.
                raise
            raise CommitUnknown from error

    @staticmethod
    def _check_open(connection: Connection) -> None:
        """Refuse to commit what SQLite has rolled back by itself, after an error that the function
        has swallowed: the driver would say nothing."""
        driver: Any = connection.connection.driver_connection
        if not driver.in_transaction:
            raise StateUnavailable

    def _roll_back(self, connection: Connection, error: BaseException) -> None:
        if primary_code(error) is not None:
            # After a failure of the file nothing of the old connection is trusted.
            self._discard()
            return
        try:
            connection.rollback()
        except Exception:
            self._discard()

    def _discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.invalidate()
            with contextlib.suppress(Exception):
                connection.close()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Connection]:
        self._check_identity()
        with self._reader.connect() as connection:
            try:
                with connection.begin():
                    yield connection
            except Exception as error:
                if primary_code(error) is not None:
                    connection.invalidate()
                raise

    def now(self, connection: Connection) -> float:
        return time.time()

    def explain_driver(self, error: BaseException) -> StateUnavailable | None:
        return explain(error)

    def _check_identity(self) -> None:
        """Refuse to go on in a file that is not at its place any more.

        SQLite would, and everything written to it would be lost with the last process.
        """
        try:
            moved = embedded_file.identity(self._path) != self._identity
        except FileNotFoundError:
            moved = True
        except OSError as error:
            raise StateUnavailable from error
        if moved:
            raise StateUnavailable(
                "The file of the state database was removed or replaced while it was in use."
            )

    # --- closing ------------------------------------------------------------------------

    def close(self) -> None:
        self._closing.close()

    def _close_connections(self) -> None:
        # The last connection of all writes the log back into the file and removes it.
        self._discard()
        self._writer.dispose()
        self._reader.dispose()


__all__ = ["EmbeddedStore"]
