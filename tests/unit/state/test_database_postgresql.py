"""What only PostgreSQL can do: go away, come back, and lose a connection at any moment."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Connection, text, update
from sqlalchemy.exc import IntegrityError
from structlog.testing import capture_logs
from support.postgres import PostgresServer
from support.state import OpenDatabase, fact_names, put_fact

from deltaglider_core.errors import ConfigurationError
from deltaglider_core.state import postgresql
from deltaglider_core.state.database import Database
from deltaglider_core.state.errors import StateUnavailable
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.tables import facts


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that the tests of this module start and stop; running between them."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def own_place(own_server: PostgresServer) -> Iterator[DatabasePlace]:
    """An empty database on a server of our own."""
    with psycopg.connect(own_server.url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return DatabasePlace(url=own_server.url)


@pytest.fixture
async def database(postgres_place: DatabasePlace, open_database: OpenDatabase) -> Database:
    return await open_database(postgres_place)


async def test_a_server_that_stops_and_starts_needs_no_hand(
    own_server: PostgresServer, own_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    database = await open_database(own_place)
    await database.write(put_fact("before"))
    await database.read(fact_names)
    with capture_logs() as logs:
        own_server.stop()
        began = time.monotonic()
        for attempt in range(3):
            with pytest.raises(StateUnavailable) as error:
                await database.write(put_fact(f"refused-{attempt}"))
            assert error.value.headers["Retry-After"]
            with pytest.raises(StateUnavailable):
                await database.read(fact_names)
            assert not database.available
        assert time.monotonic() - began < 5
        own_server.start()
    await database.write(put_fact("after"))
    assert database.available
    assert await database.read(fact_names) == {"before", "after"}
    # One line for the outage, not one per request; nothing about it goes to clients.
    assert [entry["event"] for entry in logs] == ["the state database is not available"]
    assert str(own_server.directory) not in str(error.value)


async def test_a_restart_between_two_writes_is_not_noticed(
    own_server: PostgresServer,
    own_place: DatabasePlace,
    open_database: OpenDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postgresql, "IDLE_SECONDS", 0.0)
    database = await open_database(own_place)
    await database.write(put_fact("before"))
    await database.read(fact_names)
    own_server.stop("fast")
    own_server.start()
    assert await database.read(fact_names) == {"before"}
    await database.write(put_fact("after"))


async def test_a_patient_start_connects_and_migrates_later(
    own_server: PostgresServer, own_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    own_server.stop()
    try:
        with capture_logs() as logs:
            database = await open_database(own_place, patient=True)
        assert [entry["log_level"] for entry in logs] == ["error"]
        assert not database.available
        with pytest.raises(StateUnavailable):
            await database.write(put_fact("refused"))
        with pytest.raises(ConfigurationError, match=r"cannot be used: connection.*; start or"):
            await open_database(own_place)
    finally:
        own_server.start()
    assert await database.read(fact_names) == set()
    await database.write(put_fact("a"))
    assert database.available


async def test_a_password_is_never_shown(open_database: OpenDatabase) -> None:
    url = "postgresql://somebody:hidden-word@127.0.0.1:1/db?application_name=x"
    with capture_logs() as logs:
        with pytest.raises(ConfigurationError, match=r"somebody:\*\*\*@127.0.0.1:1/db") as error:
            await open_database(DatabasePlace(url=url))
        database = await open_database(DatabasePlace(url=url), patient=True)
        with pytest.raises(StateUnavailable) as unavailable:
            await database.read(fact_names)
    assert logs
    shown = [str(error.value), str(unavailable.value), str(logs)]
    assert not any("hidden-word" in text for text in shown)
    assert "127.0.0.1" not in str(unavailable.value)


async def test_a_missing_driver_is_named(
    open_database: OpenDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'deltaglider-core\[postgresql\]'"):
        await open_database(DatabasePlace(url="postgresql://host/db"))


async def test_a_wrong_option_is_a_sentence(open_database: OpenDatabase) -> None:
    place = DatabasePlace(url="postgresql://host/db?hidden_option=1")
    with pytest.raises(ConfigurationError, match="state database"):
        await open_database(place)


async def test_a_connection_that_breaks_in_a_write_stores_nothing(database: Database) -> None:
    def lose(connection: Connection) -> None:
        put_fact("lost")(connection)
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(StateUnavailable):
        await database.write(lose)
    await database.write(put_fact("next"))
    assert await database.read(fact_names) == {"next"}


async def test_a_connection_that_breaks_in_a_read_is_replaced_once(database: Database) -> None:
    """As when the server ends a transaction in which this process stood still."""
    await database.write(put_fact("known"))
    runs = 0

    def read(connection: Connection, *, breaks: int) -> set[str]:
        nonlocal runs
        runs += 1
        if runs <= breaks:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return set(fact_names(connection))

    with capture_logs() as logs:
        assert "known" in await database.read(lambda c: read(c, breaks=1))
    assert (runs, logs) == (2, [])
    runs = 0
    with pytest.raises(StateUnavailable):
        await database.read(lambda c: read(c, breaks=9))
    assert runs == 2
    assert "known" in await database.read(fact_names)


async def test_a_connection_that_breaks_in_the_commit_is_unknown_to_all(
    database: Database,
) -> None:
    def arm(connection: Connection) -> None:
        connection.exec_driver_sql(
            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'"
        )
        connection.exec_driver_sql(
            "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON facts DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW WHEN (NEW.name = 'deadly') EXECUTE FUNCTION die()"
        )

    await database.write(arm)
    runs = []

    def deadly(connection: Connection) -> None:
        runs.append(1)
        put_fact("deadly")(connection)

    with pytest.raises(StateUnavailable, match="unknown whether"):
        await database.write(deadly)
    # It may have been stored: carrying it out again could store it twice.
    assert runs == [1]
    await database.write(put_fact("next"))
    assert await database.read(fact_names) == {"next"}


async def test_a_constraint_that_breaks_at_the_commit_fails_alone(database: Database) -> None:
    def defer(connection: Connection) -> None:
        connection.exec_driver_sql(
            "ALTER TABLE facts ADD CONSTRAINT once UNIQUE (value) DEFERRABLE INITIALLY DEFERRED"
        )

    await database.write(defer)
    results = await asyncio.gather(
        *(database.write(put_fact(f"{n}", "same" if n in (3, 7) else f"{n}")) for n in range(10)),
        return_exceptions=True,
    )
    failed = [result for result in results if isinstance(result, BaseException)]
    assert len(failed) == 1
    assert isinstance(failed[0], IntegrityError)
    assert len(await database.read(fact_names)) == 9
    assert database.available


async def test_an_error_that_a_function_hides_is_not_committed(database: Database) -> None:
    """The server would answer the commit of a failed transaction with a rollback."""

    def hide(connection: Connection) -> None:
        put_fact("lost")(connection)
        with pytest.raises(IntegrityError):
            put_fact("lost")(connection)

    with pytest.raises(RuntimeError, match="its error was ignored"):
        await database.write(hide)
    assert await database.read(fact_names) == set()


async def test_a_row_that_somebody_holds_fails_only_who_needs_it(
    database: Database, postgres_place: DatabasePlace
) -> None:
    await database.write(put_fact("held"))

    def touch(connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")
        connection.execute(update(facts).where(facts.c.name == "held").values(value="x"))

    assert postgres_place.url is not None
    with psycopg.connect(postgres_place.url) as other:
        other.execute("UPDATE facts SET value = 'y' WHERE name = 'held'")
        blocked, free = await asyncio.gather(
            database.write(touch), database.write(put_fact("free")), return_exceptions=True
        )
    assert isinstance(blocked, StateUnavailable)
    assert free == "free"
    assert database.available
    await database.write(touch)


@pytest.mark.parametrize(("default", "used"), [("off", "on"), ("remote_apply", "remote_apply")])
async def test_a_session_keeps_what_was_answered(
    own_place: DatabasePlace, open_database: OpenDatabase, default: str, used: str
) -> None:
    def settings(connection: Connection) -> list[str]:
        names = ("synchronous_commit", "statement_timeout", "lock_timeout")
        return [str(connection.exec_driver_sql(f"SHOW {name}").scalar()) for name in names]

    assert own_place.url is not None
    with psycopg.connect(own_place.url, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE postgres SET synchronous_commit = {default}")
        database = await open_database(own_place)
        assert await database.write(settings) == [used, "10s", "3s"]
        connection.execute("ALTER ROLE postgres RESET synchronous_commit")


async def test_a_newer_schema_is_refused_after_a_reconnect(database: Database) -> None:
    await database.write(put_fact("before"))
    await database.write(
        lambda c: c.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'") and None
    )
    with pytest.raises(StateUnavailable):
        await database.write(
            lambda c: c.execute(text("SELECT pg_terminate_backend(pg_backend_pid())")) and None
        )
    assert await database.read(fact_names) == {"before"}  # and it is available again
    with capture_logs() as logs:
        for attempt in range(2):
            with pytest.raises(StateUnavailable) as error:
                await database.write(put_fact(f"refused-{attempt}"))
    assert "has the schema 9999" in logs[0]["error"]
    assert "9999" not in str(error.value)
    assert await database.read(fact_names) == {"before"}
