"""The snapshot: whole, at most a second old, and refused when it is older than it may be."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from sqlalchemy import Connection, delete, insert, select
from support.state import OpenDatabase

from deltaglider_core.state import snapshot
from deltaglider_core.state.database import Database
from deltaglider_core.state.errors import StateUnavailable
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.snapshot import SnapshotKeeper
from deltaglider_core.state.tables import facts


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    left: str | None
    right: str | None


def value(connection: Connection, name: str) -> str | None:
    return connection.scalar(select(facts.c.value).where(facts.c.name == name))


def load(connection: Connection) -> Rules:
    return Rules(left=value(connection, "left"), right=value(connection, "right"))


def put(text: str, *, quietly: bool = False) -> Callable[[Connection], None]:
    """Change both; ``quietly`` without saying so."""

    def write(connection: Connection) -> None:
        connection.execute(delete(facts).where(facts.c.name.in_(("left", "right"))))
        for name in ("left", "right"):
            connection.execute(insert(facts).values(name=name, value=text))
        if not quietly:
            snapshot.changed(connection)

    return write


class Seconds:
    """A monotonic clock that stands still."""

    def __init__(self) -> None:
        self.value = 1000.0

    def __call__(self) -> float:
        return self.value


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def keeper(database: Database, seconds: Seconds) -> SnapshotKeeper[Rules]:
    return SnapshotKeeper(database, load, monotonic=seconds)


@pytest.fixture
async def other(place: DatabasePlace, database: Database, open_database: OpenDatabase) -> Database:
    """The database of ``database``, opened once more, as by another process."""
    return await open_database(place)


async def test_nothing_is_known_before_the_first_refresh(keeper: SnapshotKeeper[Rules]) -> None:
    with pytest.raises(StateUnavailable) as caught:
        keeper.current()
    assert caught.value.status == 503
    assert int(caught.value.headers["Retry-After"]) > 0
    await keeper.refresh()
    assert keeper.current() == Rules(left=None, right=None)


async def test_a_refresh_shows_what_another_process_has_committed(
    keeper: SnapshotKeeper[Rules], other: Database
) -> None:
    await keeper.refresh()
    for text in ("1", "2", "3"):
        before = keeper.current()
        await other.write(put(text))
        assert keeper.current() is before
        await keeper.refresh()
        assert keeper.current() == Rules(left=text, right=text)


async def test_nothing_is_loaded_while_the_version_stays(
    keeper: SnapshotKeeper[Rules], database: Database
) -> None:
    await database.write(put("1"))
    await keeper.refresh()
    first = keeper.current()
    await database.write(put("2", quietly=True))
    await keeper.refresh()
    assert keeper.current() is first


async def test_a_value_is_replaced_as_a_whole(
    database: Database, other: Database, seconds: Seconds
) -> None:
    """A change that is committed while a value is loaded is in it wholly or not at all."""
    await database.write(put("old"))
    half, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> Rules:
        left = value(connection, "left")
        half.set()
        assert go_on.wait(10)
        return Rules(left=left, right=value(connection, "right"))

    keeper = SnapshotKeeper(database, slow, monotonic=seconds)
    refreshing = asyncio.create_task(keeper.refresh())
    await asyncio.to_thread(half.wait, 10)
    with pytest.raises(StateUnavailable):
        keeper.current()
    await other.write(put("new"))
    go_on.set()
    await refreshing
    assert keeper.current() == Rules(left="old", right="old")
    await keeper.refresh()
    assert keeper.current() == Rules(left="new", right="new")


async def test_an_older_answer_never_replaces_a_newer_one(
    database: Database, other: Database, seconds: Seconds
) -> None:
    """A refresh that was called after a change shows it, though a slow one is under way."""
    loading, go_on = threading.Event(), threading.Event()

    def slow_at_first(connection: Connection) -> str | None:
        found = value(connection, "left")
        if not loading.is_set():
            loading.set()
            assert go_on.wait(10)
        return found

    keeper = SnapshotKeeper(database, slow_at_first, monotonic=seconds)
    first = asyncio.create_task(keeper.refresh())
    await asyncio.to_thread(loading.wait, 10)
    await other.write(put("new"))
    second = asyncio.create_task(keeper.refresh())
    await asyncio.wait([second], timeout=0.3)  # time to overtake, if it can
    go_on.set()
    await asyncio.gather(first, second)
    assert keeper.current() == "new"


async def test_a_value_that_is_too_old_is_refused(
    keeper: SnapshotKeeper[Rules], seconds: Seconds
) -> None:
    await keeper.refresh()
    seconds.value += 10
    keeper.current()
    seconds.value += 0.001
    with pytest.raises(StateUnavailable):
        keeper.current()
    await keeper.refresh()
    keeper.current()


async def test_the_age_counts_from_the_beginning_of_the_check(
    database: Database, seconds: Seconds
) -> None:
    def slow(connection: Connection) -> Rules:
        seconds.value += 8
        return load(connection)

    keeper = SnapshotKeeper(database, slow, monotonic=seconds)
    await keeper.refresh()
    seconds.value += 2.5
    with pytest.raises(StateUnavailable):
        keeper.current()


@pytest.mark.parametrize("error", [StateUnavailable, ZeroDivisionError])
async def test_a_failed_refresh_keeps_the_old_value_for_a_while(
    database: Database, seconds: Seconds, error: type[Exception]
) -> None:
    """Neither an outage nor a row that cannot be understood empties or prolongs it."""
    fail = False

    def fragile(connection: Connection) -> Rules:
        if fail:
            raise error
        return load(connection)

    keeper = SnapshotKeeper(database, fragile, monotonic=seconds)
    await database.write(put("1"))
    await keeper.refresh()
    fail = True
    await database.write(put("2"))
    for _ in range(3):
        with pytest.raises(error):
            await keeper.refresh()
        assert keeper.current() == Rules(left="1", right="1")
        seconds.value += 4
    with pytest.raises(StateUnavailable):
        keeper.current()
    fail = False
    await keeper.refresh()
    assert keeper.current() == Rules(left="2", right="2")


async def test_every_change_makes_another_version(database: Database, other: Database) -> None:
    seen = {await database.read(snapshot.version)}

    async def change(number: int) -> None:
        await (database, other)[number % 2].write(snapshot.changed)

    for _ in range(3):
        await asyncio.gather(*(change(number) for number in range(10)))
        seen.add(await other.read(snapshot.version))
    assert len(seen) == 4
    assert await database.read(snapshot.version) == "30"


async def test_a_database_that_was_put_back_is_another_version(
    keeper: SnapshotKeeper[Rules], database: Database
) -> None:
    """Versions are compared for being equal: a restored backup has a lower one."""
    for text in ("1", "2"):
        await database.write(put(text))
    await keeper.refresh()

    def put_back(connection: Connection) -> None:
        connection.execute(delete(facts).where(facts.c.name != "deployment"))
        put("backup")(connection)

    await database.write(put_back)
    await keeper.refresh()
    assert keeper.current() == Rules(left="backup", right="backup")
