"""The journal: what is appended, the order of the ids, and what readers see."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine
from support.events import journal, number, put_event

from deltaglider_core.interfaces.events import ObjectEvent
from deltaglider_core.state import events
from deltaglider_core.state.database import Database
from deltaglider_core.state.event_journal import EventJournal
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.tables import metadata


async def ids(database: Database, after: int = 0, limit: int = 1000) -> list[int]:
    found = await database.read(lambda c: events.read(c, after, limit))
    return [event.id for event in found]


async def test_an_event_is_read_as_it_was_appended(database: Database) -> None:
    key = "a//b \u00fc\n\0.zip"
    payload = {"content_length": 2**40, "etag": "x", "nested": [None, {"a": 1.5}]}
    [write_id] = await journal(
        database, 1, key=key.encode(), kind="ObjectCopied", source="job", payload=payload
    )
    await number(database)
    [event] = await database.read(lambda c: events.read(c, 0, 10))
    assert event == ObjectEvent(
        id=1,
        write_id=write_id,
        kind="ObjectCopied",
        bucket="releases",
        key=key,
        source="job",
        occurred=datetime(2026, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC),
        payload=payload,
    )
    assert json.loads(event.as_json()) == {
        "schema": "deltaglider.event.v1",
        "event": {
            "id": 1,
            "write_id": write_id,
            "kind": "ObjectCopied",
            "bucket": "releases",
            "key": key,
            "source": "job",
            "occurred_at": 1_767_225_600,
            "occurred": "2026-01-01T00:00:00.250000Z",
            "payload": payload,
        },
    }
    assert event.as_json().isascii()
    assert "\n" not in event.as_json()


async def test_an_event_has_no_id_before_the_ids_are_given(database: Database) -> None:
    await journal(database, 3)
    assert await ids(database) == []
    assert await database.read(events.unnumbered)
    assert await number(database) == 3
    assert await ids(database) == [1, 2, 3]
    assert not await database.read(events.unnumbered)
    assert await number(database) == 0


async def test_ids_go_on_where_they_ended(database: Database) -> None:
    for _ in range(3):
        await journal(database, 2)
        await number(database)
    assert await ids(database) == [1, 2, 3, 4, 5, 6]
    assert await ids(database, after=2, limit=3) == [3, 4, 5]
    assert await ids(database, after=6) == []
    assert await database.read(events.extent) == events.Extent(first=1, last=6)


async def test_one_pass_gives_so_many_ids_in_the_order_of_the_commits(database: Database) -> None:
    first = await journal(database, 3)
    second = await journal(database, 3)
    assert await number(database, 4) == 4
    assert await number(database, 4) == 2
    found = await database.read(lambda c: events.read(c, 0, 10))
    assert [event.write_id for event in found] == first + second


async def test_whether_a_mutation_is_journaled(database: Database) -> None:
    [write_id] = await journal(database, 1)
    for _ in range(2):
        assert await database.read(lambda c: events.has(c, write_id))
        assert not await database.read(lambda c: events.has(c, "f" * 32))
        await number(database)


async def test_what_is_rolled_back_leaves_no_event_and_no_gap(database: Database) -> None:
    def fail(connection: object) -> None:
        put_event(connection)  # type: ignore[arg-type]
        raise RuntimeError("rolled back")

    await journal(database, 1)
    with pytest.raises(RuntimeError, match="rolled back"):
        await database.write(fail)
    await journal(database, 1)
    await number(database)
    assert await ids(database) == [1, 2]


async def test_a_late_commit_gets_a_late_id(
    postgres_place: DatabasePlace, open_database: Callable[..., Awaitable[Database]]
) -> None:
    """A reader that has passed an id never meets a lower one, whoever commits when."""
    database = await open_database(postgres_place)
    url = postgres_place.url
    assert url is not None
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    try:
        with engine.connect() as slow:
            late = put_event(slow)  # has the lower number already, and is not committed
            [early] = await journal(database, 1)
            await number(database)
            assert await ids(database) == [1]
            slow.commit()
        await number(database)
        found = await database.read(lambda c: events.read(c, 0, 10))
        assert [(event.id, event.write_id) for event in found] == [(1, early), (2, late)]
    finally:
        engine.dispose()


async def test_many_writers_and_numberers_leave_no_gap_and_change_no_id(
    place: DatabasePlace, open_database: Callable[..., Awaitable[Database]]
) -> None:
    """Two connections write and number at once, while a reader follows."""
    databases = [await open_database(place), await open_database(place)]
    reader = EventJournal(databases[0], log=structlog.get_logger())
    seen: list[str] = []
    written: list[str] = []

    async def write(database: Database) -> None:
        for _ in range(25):
            written.extend(await journal(database, 2))
            await number(database, 3)

    async def follow() -> None:
        while len(seen) < 200:
            batch = await reader.read(len(seen), 7)
            assert [event.id for event in batch] == [
                len(seen) + offset for offset in range(1, len(batch) + 1)
            ]
            seen.extend(event.write_id for event in batch)

    following = asyncio.ensure_future(follow())
    await asyncio.gather(*(write(database) for database in databases * 2))
    await asyncio.wait_for(following, 30)
    assert sorted(seen) == sorted(written)


async def test_a_reader_gives_the_ids_that_are_missing(database: Database) -> None:
    reader = EventJournal(database, log=structlog.get_logger())
    await journal(database, 3)
    assert [event.id for event in await reader.read(0, 2)] == [1, 2]
    assert [event.id for event in await reader.read(2, 10)] == [3]
    await journal(database, 1)
    assert [event.id for event in await reader.read(3, 10)] == [4]
    assert await reader.read(4, 10) == []


async def test_news_wake_everybody_who_waits(database: Database) -> None:
    reader = EventJournal(database, log=structlog.get_logger())
    waiting = [reader.news, reader.news]
    assert not waiting[0].is_set()
    reader.notify()
    assert all(news.is_set() for news in waiting)
    assert not reader.news.is_set()


@settings(max_examples=60, deadline=None)
@given(
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    payload=st.dictionaries(
        st.text(), st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text())
    ),
)
def test_any_key_and_payload_survive(key: str, payload: dict[str, object]) -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        metadata.create_all(connection)
        put_event(connection, key=key.encode(), payload=payload)
        events.number_events(connection)
        [event] = events.read(connection, 0, 1)
    engine.dispose()
    assert (event.key, event.payload) == (key, payload)
    document = json.loads(event.as_json())["event"]
    assert (document["key"], document["payload"]) == (key, payload)
    assert event.as_json().isascii()
    assert len(event.as_json().splitlines()) == 1
