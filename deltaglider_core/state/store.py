"""What the group commit needs of a kind of database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from sqlalchemy import Connection, Engine, event

from ..errors import ConfigurationError
from .errors import StateUnavailable

#: Threads that read, each with a connection; most reads take well below a millisecond.
READERS = 4


class CommitUnknown(StateUnavailable):
    """``COMMIT`` failed in a way that leaves open whether it took effect."""

    message = "It is unknown whether the state database has stored the change. Please retry."


class Store(ABC):
    """One open database. All methods block, and run in threads.

    ``turn`` and ``transaction`` belong to the one thread that writes.
    """

    dialect: ClassVar[str]

    def __init__(self) -> None:
        #: Statements of transactions that were more than a ``SELECT``.
        self.writes = 0

    def count_writes(self, engine: Engine) -> None:
        """Let ``writes`` count the statements of an engine, which one thread uses."""

        @event.listens_for(engine, "after_cursor_execute")
        def _count(
            connection: Connection,
            cursor: Any,
            statement: str,
            parameters: object,
            context: object,
            executemany: bool,
        ) -> None:
            # One that has changed no row spoils nothing.
            if not statement.startswith("SELECT") and cursor.rowcount != 0:
                self.writes += 1

    @abstractmethod
    def prepare(self) -> None:
        """Make the database usable: create it, migrate it. Cheap once that has been done.

        Raises:
            ConfigurationError: It cannot be used until somebody does something.
            StateUnavailable: It cannot be reached now.
        """

    @abstractmethod
    def turn(self) -> AbstractContextManager[None]:
        """Wait until this process may write, as far as that can be known before the work is."""

    @abstractmethod
    def transaction(self, scopes: Collection[str]) -> AbstractContextManager[Connection]:
        """A transaction that is committed at the end of the block, and rolled back by errors.

        Args:
            scopes: Nobody else has a transaction with one of these at the same time.

        Raises:
            CommitUnknown: See there.
        """

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[Connection]:
        """A transaction that only reads, and sees one state of everything. Any thread."""

    @abstractmethod
    def now(self, connection: Connection) -> float:
        """Unix time by the clock of the database, seconds."""

    def explain(self, error: BaseException) -> StateUnavailable | None:
        """What clients are told if the database failed; None if the statement is at fault."""
        if isinstance(error, StateUnavailable):
            return error
        if isinstance(error, ConfigurationError):
            # Found only now, since the database was away at the start: no text for clients.
            return StateUnavailable()
        return self.explain_driver(error)

    @abstractmethod
    def explain_driver(self, error: BaseException) -> StateUnavailable | None:
        """``explain`` for what the driver raises."""

    def concerns_all(self, error: BaseException) -> bool:
        """Whether the database failed in a way that any other transaction would see as well."""
        return self.explain(error) is not None

    @abstractmethod
    def close(self) -> None:
        """Close all connections. No other method may be called any more."""


__all__ = ["READERS", "CommitUnknown", "Store"]
