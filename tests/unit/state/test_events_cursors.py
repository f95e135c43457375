"""Cursors, retention, and what is said about readers that are far behind."""

from __future__ import annotations

import asyncio
import time

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from sqlalchemy import create_engine, func, select
from support.events import journal, put_event

from deltaglider_core.state import cursors, event_journal, events
from deltaglider_core.state.database import Database
from deltaglider_core.state.event_journal import EventJournal
from deltaglider_core.state.tables import metadata, undelivered

DAY = 86_400.0


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def reader(database: Database, registry: CollectorRegistry) -> EventJournal:
    return EventJournal(database, log=structlog.get_logger(), metrics=registry)


async def first_and_last(database: Database) -> tuple[int, int]:
    found = await database.read(events.extent)
    return found.first, found.last


async def test_a_cursor_begins_at_either_end(database: Database, reader: EventJournal) -> None:
    assert await reader.cursor("a") is None
    assert await reader.create_cursor("early", at="beginning") == 0
    await journal(database, 3)  # committed, but without ids
    assert await reader.create_cursor("late", at="end") == 3
    assert await reader.create_cursor("first", at="beginning") == 0
    await journal(database, 1)
    assert await reader.create_cursor("late", at="end") == 3
    assert await reader.cursor("late") == 3
    assert [event.id for event in await reader.read(3, 10)] == [4]


async def test_the_beginning_is_the_oldest_event_that_is_kept(
    database: Database, reader: EventJournal
) -> None:
    await journal(database, 5)
    await reader.number()
    assert await reader.prune(max_age=1e12, max_rows=2) == 3
    assert await reader.create_cursor("a", at="beginning") == 3
    assert await reader.prune(max_age=1e12, max_rows=0) == 0
    await reader.advance("a", 5)
    assert await reader.prune(max_age=1e12, max_rows=0) == 2
    assert await first_and_last(database) == (6, 5)
    assert await reader.create_cursor("b", at="beginning") == 5


async def test_a_cursor_only_moves_forward(database: Database, reader: EventJournal) -> None:
    await journal(database, 5)
    await reader.create_cursor("a", at="beginning")
    await reader.number()
    assert await reader.advance("a", 3)
    for place in (3, 2, 0, -1):
        assert not await reader.advance("a", place)
    assert await reader.cursor("a") == 3
    assert await reader.advance("a", 5)
    assert not await reader.advance("absent", 5)
    assert await reader.cursor("absent") is None


async def test_a_cursor_cannot_pass_what_is_not_there(
    database: Database, reader: EventJournal
) -> None:
    await reader.create_cursor("a", at="end")
    await journal(database, 1)
    with pytest.raises(ValueError, match="no event has this id"):
        await reader.advance("a", 1)
    await reader.number()
    assert await reader.advance("a", 1)


async def test_a_cursor_can_be_forgotten(database: Database, reader: EventJournal) -> None:
    await reader.create_cursor("a", at="end")
    assert await reader.forget_cursor("a")
    assert not await reader.forget_cursor("a")
    assert await reader.cursor("a") is None
    assert list(await reader.cursors()) == []


async def test_racing_advances_end_at_the_greatest(
    database: Database, reader: EventJournal
) -> None:
    await reader.create_cursor("a", at="beginning")
    await journal(database, 20)
    await reader.number()
    moved = await asyncio.gather(*(reader.advance("a", place) for place in (5, 20, 1, 13)))
    assert any(moved)
    assert await reader.cursor("a") == 20


async def test_age_and_rows_bound_the_journal(database: Database, reader: EventJournal) -> None:
    now = time.time()
    await journal(database, 3, now=now - 2 * DAY)
    await journal(database, 4, now=now)
    await reader.number()
    assert await reader.prune(max_age=3 * DAY, max_rows=7) == 0
    assert await reader.prune(max_age=DAY, max_rows=100) == 3
    assert await first_and_last(database) == (4, 7)
    assert await reader.prune(max_age=DAY, max_rows=1) == 3
    assert await first_and_last(database) == (7, 7)
    await journal(database, 1)
    await reader.number()
    assert await first_and_last(database) == (7, 8)


async def test_an_event_without_an_id_is_never_pruned(
    database: Database, reader: EventJournal
) -> None:
    await journal(database, 2, now=1.0)
    assert await reader.prune(max_age=0, max_rows=0) == 0
    await reader.number()
    assert [event.id for event in await reader.read(0, 10)] == [1, 2]
    assert await reader.prune(max_age=0, max_rows=0) == 2


async def test_nothing_is_pruned_that_a_cursor_has_not_passed(
    database: Database, reader: EventJournal
) -> None:
    await reader.create_cursor("slow", at="beginning")
    await reader.create_cursor("fast", at="beginning")
    await journal(database, 5, now=1.0)
    await reader.number()
    await reader.advance("fast", 5)
    assert await reader.prune(max_age=0, max_rows=0) == 0
    await reader.advance("slow", 2)
    assert await reader.prune(max_age=0, max_rows=0) == 2
    assert [event.id for event in await reader.read(0, 10)] == [3, 4, 5]
    await reader.forget_cursor("slow")
    assert await reader.prune(max_age=0, max_rows=0) == 3


async def test_pruning_goes_on_in_steps_until_it_is_done(
    database: Database, reader: EventJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_journal, "_PRUNED", 4)
    monkeypatch.setattr(event_journal, "_NUMBERED", 3)
    await journal(database, 18)
    await reader.number()
    assert await first_and_last(database) == (1, 18)
    assert await reader.prune(max_age=1e12, max_rows=5) == 13
    assert await first_and_last(database) == (14, 18)


async def test_what_was_refused_is_kept_for_long_but_not_for_ever(
    database: Database, reader: EventJournal
) -> None:
    await reader.create_cursor("sink:x", at="beginning")
    await journal(database, 2)
    [first, second] = await reader.read(0, 10)
    for _ in range(2):
        await reader.set_aside("x", first, "too large")
    assert await reader.cursor("sink:x") == 1
    old = time.time() - event_journal.KEEP_UNDELIVERED_SECONDS - DAY
    await database.write(
        lambda c: events.set_aside(c, now=old, sink="x", event=second, reason="too old")
    )
    query = select(undelivered.c.sink, undelivered.c.id, undelivered.c.event, undelivered.c.reason)
    kept = ("x", 1, first.as_json(), "too large")
    rows = await database.read(lambda c: [tuple(row) for row in c.execute(query)])
    assert rows == [kept, ("x", 2, second.as_json(), "too old")]
    await reader.prune()
    assert await database.read(lambda c: [tuple(row) for row in c.execute(query)]) == [kept]


async def test_the_lag_is_shown_and_a_long_one_reported_once(
    database: Database,
    reader: EventJournal,
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gauge(name: str) -> float | None:
        return registry.get_sample_value("deltaglider_event_cursor_lag", {"cursor": name})

    for name in ("near", "old", "far"):
        await reader.create_cursor(name, at="beginning")
    await journal(database, 1, now=time.time() - 2 * event_journal.LAG_SECONDS)
    await journal(database, 4, now=time.time())
    await reader.number()
    await reader.advance("near", 4)
    await reader.advance("far", 1)
    monkeypatch.setattr(event_journal, "LAG_EVENTS", 3)
    with structlog.testing.capture_logs() as logs:
        await reader.report_lag()
        await reader.report_lag()
    assert [(entry["cursor"], entry["events"]) for entry in logs] == [("far", 4), ("old", 5)]
    assert all("cursors --forget" in entry["event"] for entry in logs)
    assert [gauge(name) for name in ("near", "old", "far")] == [1, 5, 4]

    await reader.forget_cursor("old")
    await reader.advance("far", 5)
    with structlog.testing.capture_logs() as logs:
        await reader.report_lag()
    assert logs == []
    assert [gauge(name) for name in ("near", "old", "far")] == [1, 0, 0]


async def test_a_cursor_that_lags_again_is_reported_again(
    database: Database, reader: EventJournal
) -> None:
    await reader.create_cursor("a", at="beginning")
    for last in (1, 2):
        await journal(database, 1, now=1.0)
        await reader.number()
        with structlog.testing.capture_logs() as logs:
            await reader.report_lag()
        assert [entry["cursor"] for entry in logs] == ["a"]
        await reader.advance("a", last)
        await reader.report_lag()


@settings(max_examples=100, deadline=None)
@given(
    ages=st.lists(st.integers(0, 10), max_size=12),
    unnumbered=st.integers(0, 3),
    places=st.lists(st.integers(0, 12), max_size=3),
    max_age=st.integers(0, 10),
    keep=st.integers(0, 12),
    most=st.integers(1, 5),
)
def test_pruning_keeps_what_must_stay_and_ends(
    ages: list[int], unnumbered: int, places: list[int], max_age: int, keep: int, most: int
) -> None:
    """Against the definition: an oldest part goes whose every event is old or surplus."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        metadata.create_all(connection)
        for age in ages:
            put_event(connection, now=-float(age))
        events.number_events(connection)
        for _ in range(unnumbered):
            put_event(connection, now=-1e9)
        last = len(ages)
        places = [min(place, last) for place in places]
        for index, place in enumerate(places):
            cursors.create(connection, str(index), at="beginning", now=0.0)
            cursors.advance(connection, str(index), place, now=0.0)
        while events.prune(
            connection,
            upto=cursors.floor(connection),
            occurred_before=-float(max_age),
            keep=keep,
            most=most,
        ):
            pass
        left = [event.id for event in events.read(connection, 0, 100)]
        total = connection.execute(select(func.count()).select_from(events.events)).scalar()
    engine.dispose()
    goes = 0
    while goes < min([last, *places]) and (ages[goes] > max_age or goes + 1 <= last - keep):
        goes += 1
    assert left == list(range(goes + 1, last + 1))
    assert total == len(left) + unnumbered
