"""A PostgreSQL server as the state database, for nodes on several machines."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Collection, Iterator
from typing import Any, ClassVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool, QueuePool

from ..errors import ConfigurationError
from . import migrate
from .errors import StateUnavailable, Unreachable
from .store import READERS, CommitUnknown, Store

#: How libpq connects, unless the URL says otherwise. A server that vanished without a word is
#: noticed after 10 + 3 * 5 s.
CONNECT = {
    "application_name": "deltaglider",
    "client_encoding": "utf8",
    "connect_timeout": "5",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}

#: Limits of a session, milliseconds. The last two keep a process that was stopped in the middle of
#: a transaction from holding up the others for so long that they count as dead, too: their
#: heartbeats wait behind what waits for its locks.
_SESSION = (
    "SELECT set_config('statement_timeout', '10000', false),"
    " set_config('lock_timeout', '3000', false),"
    " set_config('idle_in_transaction_session_timeout', '3000', false),"
    # What was answered is kept, whatever the server's default; a stricter one stays.
    " set_config('synchronous_commit', CASE current_setting('synchronous_commit')"
    " WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)"
)
_NO_LIMITS = (
    "SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '600000', true)"
)
# The keys come sorted and are locked in this order, so that no two transactions can wait for each
# other.
_LOCK = "SELECT pg_advisory_xact_lock(key) FROM unnest(%s::bigint[]) AS key"
_NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"

#: Seconds after which an unused connection is tried before a transaction relies on it.
IDLE_SECONDS = 1.0

#: SQLSTATE classes and codes for which the server is to blame (PostgreSQL, Appendix A).
_SERVER_CLASSES = ("08", "28", "3D", "53", "57", "58", "F0", "XX")
_SERVER_CODES = ("25006", "25P03", "40001", "40P01", "42501", "55P03")
#: Those of them that concern one transaction: time ran out, or it stood in another one's way.
_OWN_CODES = ("40001", "40P01", "55P03", "57014")


class PostgresqlStore(Store):
    """The server, and this process's connections to it."""

    dialect: ClassVar[str] = "postgresql"

    def __init__(self, url: str, *, log: Any) -> None:
        super().__init__()
        self._log = log
        self._url = _parse(url)
        self._prepared = False
        self._preparing = threading.Lock()
        self._connection: Connection | None = None
        self._used = 0.0
        self._writer = self._engine("READ COMMITTED", poolclass=NullPool)
        # Every read sees one state of everything, as in the embedded database.
        self._reader = self._engine(
            "REPEATABLE READ",
            poolclass=QueuePool,
            pool_size=READERS,
            max_overflow=0,
            pool_pre_ping=True,
        )
        self.count_writes(self._writer)

    def _engine(self, isolation: str, **options: Any) -> Engine:
        defaults = {name: value for name, value in CONNECT.items() if name not in self._url.query}
        engine = create_engine(
            self._url,
            isolation_level=isolation,
            connect_args=defaults,
            hide_parameters=True,
            **options,
        )

        @event.listens_for(engine, "connect")
        def _connected(connection: Any, record: object) -> None:
            connection.execute(_SESSION)
            connection.commit()
            connection.read_only = isolation == "REPEATABLE READ"

        return engine

    # --- opening ------------------------------------------------------------------------

    def prepare(self) -> None:
        if self._prepared:
            return
        with self._preparing:
            if self._prepared:
                return
            try:
                with self._writer.connect() as connection:
                    self._migrate(connection)
            except DBAPIError as error:
                if self.explain(error) is not None:
                    raise Unreachable(
                        f"the state database {self._name} cannot be used: {_said(error)}; start "
                        "or mend it, or correct advanced.database_url"
                    ) from error
                raise ConfigurationError(
                    f"the state database {self._name} cannot be set up: {_said(error)}"
                ) from error
            self._prepared = True

    def _migrate(self, connection: Connection) -> None:
        with connection.begin():
            if migrate.read_revision(connection) == migrate.HEAD:
                return
        with connection.begin():
            connection.exec_driver_sql(_NO_LIMITS)
            connection.exec_driver_sql(_LOCK, ([_lock_number("migrate", "")],))
            # Another process may have done it while this one waited.
            revision = migrate.read_revision(connection)
            if revision != migrate.HEAD:
                migrate.check_known(revision, self._name)
                if revision is not None:
                    self._log.info("migrating the state database", revision=revision)
                migrate.upgrade(connection)

    @property
    def _name(self) -> str:
        """The URL without the password and the options."""
        plain = self._url.set(drivername="postgresql", query={})
        return plain.render_as_string(hide_password=True)

    # --- use ----------------------------------------------------------------------------

    def turn(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def transaction(self, scopes: Collection[str]) -> Iterator[Connection]:
        connection = self._connect()
        try:
            transaction = connection.begin()
            if scopes:
                numbers = sorted({_lock_number("scope", scope) for scope in scopes})
                connection.exec_driver_sql(_LOCK, (numbers,))
            yield connection
            self._check_unspoilt(connection)
        except BaseException:
            self._roll_back(connection)
            raise
        try:
            transaction.commit()
        except BaseException as error:
            lost = connection.invalidated or connection.closed or _is_lost(error)
            self._discard()
            if lost:
                raise CommitUnknown from error
            raise
        self._used = time.monotonic()

    def _connect(self) -> Connection:
        """The connection that writes; a new one if the server has dropped the old one."""
        connection = self._connection
        if connection is not None and time.monotonic() - self._used > IDLE_SECONDS:
            try:
                connection.exec_driver_sql("SELECT 1")
                connection.rollback()
            except DBAPIError:
                self._discard()
                connection = None
        if connection is None:
            connection = self._writer.connect()
            try:
                # Somebody may have migrated the database while the server was away.
                migrate.check_revision(migrate.read_revision(connection))
                connection.rollback()
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return connection

    @staticmethod
    def _check_unspoilt(connection: Connection) -> None:
        """Refuse to commit after an error that the function has swallowed.

        The server answers such a COMMIT with a ROLLBACK, and the driver says nothing.
        """
        from psycopg.pq import TransactionStatus

        driver: Any = connection.connection.driver_connection
        if driver.info.transaction_status == TransactionStatus.INERROR:
            raise RuntimeError("a statement failed and its error was ignored")

    def _roll_back(self, connection: Connection) -> None:
        try:
            connection.rollback()
        except Exception:
            self._discard()
            return
        if connection.invalidated:
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
        with self._reader.connect() as connection, connection.begin():
            yield connection

    def now(self, connection: Connection) -> float:
        return float(connection.exec_driver_sql(_NOW).scalar_one())

    def explain_driver(self, error: BaseException) -> StateUnavailable | None:
        cause = _psycopg_error(error)
        if cause is None:
            return None
        code = cause.sqlstate
        if code is None:
            lost = _is_lost(error)
        else:
            lost = code.startswith(_SERVER_CLASSES) or code in _SERVER_CODES
        return StateUnavailable() if lost else None

    def concerns_all(self, error: BaseException) -> bool:
        cause = _psycopg_error(error)
        if cause is not None and cause.sqlstate in _OWN_CODES:
            return False
        return super().concerns_all(error)

    def close(self) -> None:
        self._discard()
        self._writer.dispose()
        self._reader.dispose()


def _parse(url: str) -> URL:
    try:
        import psycopg  # noqa: F401  # the question is whether it is there
    except ImportError as error:
        raise ConfigurationError(
            "a PostgreSQL database needs a driver: pip install 'deltaglider-core[postgresql]'"
        ) from error
    try:
        return make_url(url).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError) as error:
        # What SQLAlchemy says repeats the URL, which may hold a password.
        raise ConfigurationError("advanced.database_url is no URL of a database") from error


def _lock_number(kind: str, name: str) -> int:
    """A number for an advisory lock, 64 bits. Two names with one number only wait in vain."""
    digest = hashlib.blake2b(f"deltaglider/{kind}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _psycopg_error(error: BaseException) -> Any:
    """The driver's error in an error of SQLAlchemy, or itself, or None."""
    import psycopg

    cause = getattr(error, "orig", None) or error
    return cause if isinstance(cause, psycopg.Error) else None


def _is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, or was never there."""
    import psycopg

    cause = getattr(error, "orig", None) or error
    return isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )


def _said(error: DBAPIError) -> str:
    """What the driver said, on one line. It never repeats a password."""
    return " ".join(str(error.orig).split())


__all__ = ["CONNECT", "IDLE_SECONDS", "PostgresqlStore"]
