"""The contract of ``Database``, on both kinds."""

from __future__ import annotations

import asyncio
import random
import threading
import time

import pytest
from sqlalchemy import Connection, select, update
from support.state import OpenDatabase, fact_names, put_fact

from deltaglider_core.errors import NoSuchKey
from deltaglider_core.state.database import Database
from deltaglider_core.state.errors import RETRY_AFTER, StateUnavailable
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.tables import facts


def value_of(name: str, connection: Connection) -> str | None:
    found: str | None = connection.scalar(select(facts.c.value).where(facts.c.name == name))
    return found


async def test_a_write_is_read_back_by_everybody(
    database: Database, place: DatabasePlace, open_database: OpenDatabase
) -> None:
    other = await open_database(place)
    assert await database.write(put_fact("a", "1")) == "a"
    for reader in (database, other):
        assert await reader.read(lambda connection: value_of("a", connection)) == "1"
        assert reader.available


async def test_what_a_function_raises_is_passed_on_and_nothing_of_it_is_stored(
    database: Database,
) -> None:
    def refuse(connection: Connection) -> None:
        put_fact("refused")(connection)
        raise NoSuchKey("after a write")

    def fail(connection: Connection) -> None:
        put_fact("failed")(connection)
        raise LookupError("a bug")

    with pytest.raises(NoSuchKey, match="after a write"):
        await database.write(refuse)
    with pytest.raises(LookupError, match="a bug"):
        await database.write(fail)
    with pytest.raises(NoSuchKey, match="not there"):
        await database.read(lambda _: _raise(NoSuchKey("not there")))
    assert await database.read(fact_names) == set()
    # Neither says anything about the database.
    assert database.available


def _raise(error: Exception) -> None:
    raise error


async def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(StateUnavailable):
        await database.read(put_fact("a"))
    assert await database.read(fact_names) == set()
    await database.write(put_fact("b"))
    assert await database.read(fact_names) == {"b"}


async def test_a_read_sees_one_state_of_everything(database: Database) -> None:
    first, written = threading.Event(), threading.Event()

    def read_twice(connection: Connection) -> tuple[set[str], set[str]]:
        before = fact_names(connection)
        first.set()
        assert written.wait(20)
        return before, fact_names(connection)

    await database.write(put_fact("old"))
    reading = asyncio.create_task(database.read(read_twice))
    await asyncio.to_thread(first.wait, 20)
    await database.write(put_fact("new"))
    written.set()
    assert await reading == ({"old"}, {"old"})
    assert await database.read(fact_names) == {"old", "new"}


async def test_scopes_exclude_each_other_between_processes(
    database: Database, place: DatabasePlace, open_database: OpenDatabase
) -> None:
    """Two writers read, wait and write; without exclusion increments would be lost."""
    other = await open_database(place)
    await database.write(put_fact("counter", "0"))

    def increment(connection: Connection) -> None:
        value = int(value_of("counter", connection) or 0)
        time.sleep(random.random() * 0.002)
        connection.execute(
            update(facts).where(facts.c.name == "counter").values(value=str(value + 1))
        )

    await asyncio.gather(
        *(writer.write(increment, scope=7) for writer in (database, other) for _ in range(30))
    )
    assert await database.read(lambda connection: value_of("counter", connection)) == "60"


async def test_a_held_scope_keeps_out_only_itself(
    database: Database, place: DatabasePlace, open_database: OpenDatabase
) -> None:
    other = await open_database(place)
    entered, leave = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        entered.set()
        assert leave.wait(20)
        put_fact("first")(connection)

    holding = asyncio.create_task(database.write(hold, scope="bucket"))
    await asyncio.to_thread(entered.wait, 20)
    if database.dialect == "postgresql":
        await other.write(put_fact("free"), scope="another")
    waiting = asyncio.create_task(other.write(fact_names, scope="bucket"))
    done, _ = await asyncio.wait({waiting}, timeout=0.2)
    assert not done
    leave.set()
    await holding
    # What was committed before the scope was free is seen by the first statement.
    assert "first" in await waiting


async def test_scopes_in_any_order_do_not_deadlock(
    database: Database, place: DatabasePlace, open_database: OpenDatabase
) -> None:
    writers = [database, await open_database(place)]
    order = random.Random(3)
    calls = []
    for writer in writers:
        scopes = [scope for scope in range(8) for _ in range(6)]
        order.shuffle(scopes)
        calls += [writer.write(fact_names, scope=scope) for scope in scopes]
    began = time.monotonic()
    assert await asyncio.gather(*calls) == [set()] * 96
    # The server looks for deadlocks after a second.
    assert time.monotonic() - began < 10
    assert all(writer.available for writer in writers)


async def test_the_clock_of_the_database_moves_on(database: Database) -> None:
    def times(connection: Connection) -> tuple[float, float]:
        first = database.now(connection)
        time.sleep(0.01)
        return first, database.now(connection)

    for found in (await database.write(times), await database.read(times)):
        first, second = found
        assert abs(first - time.time()) < 60
        assert 0.01 <= second - first < 10


async def test_closing_finishes_what_was_begun(
    place: DatabasePlace, open_database: OpenDatabase
) -> None:
    database = await open_database(place)
    writes = [asyncio.create_task(database.write(put_fact(f"{n}"))) for n in range(300)]
    await asyncio.sleep(0)
    await database.aclose()
    assert await asyncio.gather(*writes) == [f"{n}" for n in range(300)]
    for attempt in (database.write(fact_names), database.read(fact_names)):
        with pytest.raises(StateUnavailable, match="closed"):
            await attempt
    await database.aclose()
    again = await open_database(place)
    assert len(await again.read(fact_names)) == 300


async def test_text_survives(database: Database) -> None:
    text = "Zürich \U0001f600 'quoted' %s :name"
    await database.write(put_fact("text", text))
    assert await database.read(lambda connection: value_of("text", connection)) == text


def test_the_error_tells_clients_when_to_come_back() -> None:
    error = StateUnavailable()
    assert (error.status, error.code) == (503, "ServiceUnavailable")
    assert error.headers == {"Retry-After": str(RETRY_AFTER)}
