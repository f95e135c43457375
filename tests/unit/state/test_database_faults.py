"""The embedded database fails while it is in use, and comes back without anybody's hand."""

# ruff: noqa: ASYNC240  # nothing else runs on the loops of these tests

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert
from structlog.testing import capture_logs
from support.state import OpenDatabase, fact_names, put_fact

from deltaglider_core.errors import ConfigurationError
from deltaglider_core.state import embedded_file
from deltaglider_core.state.errors import StateUnavailable
from deltaglider_core.state.keyfile import read_key
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.tables import facts


@pytest.fixture
def path(embedded_place: DatabasePlace) -> Path:
    assert embedded_place.path is not None
    return embedded_place.path


@contextlib.contextmanager
def other_program(path: Path, *statements: str) -> Iterator[None]:
    """Somebody holds the file locked."""
    key = read_key(path.with_suffix(".key"))
    assert key is not None
    with contextlib.closing(embedded_file.connect(path, key)) as connection:
        for statement in statements or ("BEGIN EXCLUSIVE",):
            connection.execute(statement)
        yield


@contextlib.contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Files of this process cannot grow beyond a size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def put_many(connection: Connection) -> None:
    rows = [{"name": f"many-{n}", "value": os.urandom(500).hex()} for n in range(1000)]
    connection.execute(insert(facts), rows)


async def test_a_lock_of_another_program_passes(
    path: Path,
    embedded_place: DatabasePlace,
    open_database: OpenDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedded_file, "BUSY_SECONDS", 0.2)
    database = await open_database(embedded_place)
    await database.write(put_fact("before"))
    with capture_logs() as logs:
        with other_program(path):
            results = await asyncio.gather(
                *(database.write(put_fact(f"refused-{n}")) for n in range(5)),
                return_exceptions=True,
            )
            assert not database.available
            # The log ahead lets readers in.
            assert await database.read(fact_names) == {"before"}
        await database.write(put_fact("after"))
    for result in results:
        assert isinstance(result, StateUnavailable)
        assert str(result) == "The state database is locked by another program."
    # Each has its own, since raising one changes it.
    assert len({id(result) for result in results}) == 5
    assert await database.read(fact_names) == {"before", "after"}
    events = [entry["event"] for entry in logs if "available" in entry["event"]]
    assert events[0] == "the state database is not available"
    assert events[-1] == "the state database is available again"


async def test_a_lock_of_another_program_is_named_at_the_start(
    path: Path,
    embedded_place: DatabasePlace,
    open_database: OpenDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = await open_database(embedded_place)
    await database.aclose()
    monkeypatch.setattr(embedded_file, "BUSY_SECONDS", 0.2)
    # In this mode not even reading is possible beside it.
    alone = "PRAGMA locking_mode = EXCLUSIVE"
    locked = pytest.raises(ConfigurationError, match="is locked by another program; stop it")
    with other_program(path, alone, "BEGIN EXCLUSIVE"), locked:
        await open_database(embedded_place)
    await open_database(embedded_place)


async def test_a_full_disk_stores_nothing_by_half(
    path: Path, embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    database = await open_database(embedded_place)
    await database.write(put_fact("before"))
    log = path.with_name(path.name + "-wal").stat().st_size

    def half(connection: Connection) -> None:
        put_fact("half")(connection)
        put_many(connection)

    with no_file_beyond(log + 64 * 1024):
        for _ in range(2):
            with pytest.raises(StateUnavailable, match=r"cannot be read|no room|unknown"):
                await database.write(half)
            assert not database.available
            assert await database.read(fact_names) == {"before"}
    await database.write(put_fact("after"))
    assert database.available
    assert await database.read(fact_names) == {"before", "after"}


async def test_what_does_not_fit_is_refused_with_its_batch(
    embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    database = await open_database(embedded_place)

    def limit_and_fill(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # at most what is there already
        put_many(connection)

    with pytest.raises(StateUnavailable, match="no room left"):
        await database.write(limit_and_fill)
    # The limit belonged to the connection, which is not used any more.
    await database.write(put_many)
    assert len(await database.read(fact_names)) == 1000


async def test_an_error_that_a_function_hides_is_not_committed(
    embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    """SQLite rolls back by itself when the disk is full; what follows would stand alone."""
    database = await open_database(embedded_place)

    def hide(connection: Connection) -> None:
        put_fact("lost")(connection)
        connection.connection.driver_connection.rollback()  # type: ignore[union-attr]

    with pytest.raises(StateUnavailable):
        await database.write(hide)
    await database.write(put_fact("next"))
    assert await database.read(fact_names) == {"next"}


async def test_a_start_on_a_full_disk_leaves_nothing_in_the_way(
    path: Path, embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    with no_file_beyond(32 * 1024), pytest.raises(ConfigurationError, match="state database"):
        await open_database(embedded_place)
    assert not path.exists()
    assert not [name for name in os.listdir(path.parent) if ".new" in name]
    database = await open_database(embedded_place)
    await database.write(put_fact("a"))


async def test_a_file_that_is_taken_away_is_not_written_any_more(
    path: Path, embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    database = await open_database(embedded_place)
    await database.write(put_fact("before"))
    aside = path.with_name("aside")
    path.rename(aside)
    for attempt in range(2):
        with pytest.raises(StateUnavailable, match="removed or replaced"):
            await database.write(put_fact(f"lost-{attempt}"))
        with pytest.raises(StateUnavailable, match="removed or replaced"):
            await database.read(fact_names)
    assert not path.exists()
    path.write_bytes(aside.read_bytes())
    with pytest.raises(StateUnavailable, match="removed or replaced"):
        await database.write(put_fact("lost"))
    aside.rename(path)
    await database.write(put_fact("after"))
    assert await database.read(fact_names) == {"before", "after"}
