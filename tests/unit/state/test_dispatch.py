"""Delivery to sinks: at least once, in order, and no sink in the way of another."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy import select, update
from support.events import RecordingSink, journal, until

from deltaglider_core.interfaces.events import EventSink, ObjectEvent, Permanent, Retry
from deltaglider_core.state.database import Database
from deltaglider_core.state.dispatch import Dispatcher, Pace, _Delivery
from deltaglider_core.state.errors import StateUnavailable
from deltaglider_core.state.event_journal import EventJournal
from deltaglider_core.state.event_metrics import EventMetrics
from deltaglider_core.state.leases import LeaseLost, Leases
from deltaglider_core.state.tables import leases, undelivered

FAST = {"poll": 0.02, "linger": 0.0, "first": 0.01, "longest": 0.05, "lease": 3.0}


class Node:
    """One process, as far as delivery is concerned."""

    def __init__(self, database: Database, owner: str, **pace: Any) -> None:
        self.database = database
        self.registry = CollectorRegistry()
        log = structlog.get_logger()
        self.journal = EventJournal(database, log=log, metrics=self.registry)
        self.dispatcher = Dispatcher(
            self.journal,
            Leases(database, owner),
            metrics=self.registry,
            log=log,
            pace=Pace(**{**FAST, **pace}),
        )

    async def use(self, **sinks: EventSink) -> None:
        await self.dispatcher.use(sinks)

    def counted(self, name: str, sink: str = "sink") -> float:
        labels = {"sink": sink}
        return self.registry.get_sample_value(f"deltaglider_events_{name}_total", labels) or 0.0

    async def cursor_at(self, place: int, sink: str = "sink") -> None:
        """Wait until everything up to an id is dealt with."""
        async with asyncio.timeout(20):
            while await self.journal.cursor(f"sink:{sink}") != place:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def refused(self) -> list[tuple[str, int, str]]:
        columns = (undelivered.c.sink, undelivered.c.id, undelivered.c.reason)
        query = select(*columns).order_by(undelivered.c.id)
        return await self.database.read(
            lambda c: [(row.sink, row.id, row.reason) for row in c.execute(query)]
        )


MakeNode = Callable[..., Node]


@pytest.fixture
async def make_node(database: Database) -> AsyncIterator[MakeNode]:
    """Make processes that are stopped after the test."""
    owners = itertools.count(1)
    async with AsyncExitStack() as stack:

        def make(**pace: Any) -> Node:
            node = Node(database, f"{next(owners):032x}", **pace)
            stack.push_async_callback(node.dispatcher.aclose)
            return node

        yield make


@pytest.fixture
def node(make_node: MakeNode) -> Node:
    return make_node()


async def test_a_sink_receives_everything_from_its_activation_on_in_order(node: Node) -> None:
    await journal(node.database, 3)  # without ids yet
    sink = RecordingSink()
    await node.use(sink=sink)
    for _ in range(5):
        await journal(node.database, 4)
        node.journal.notify()
    await until(lambda: len(sink.accepted) == 20)
    assert sink.accepted == list(range(4, 24))
    await node.cursor_at(23)
    assert node.counted("delivered") == 20
    assert node.counted("failed") == 0


async def test_a_batch_has_so_many_events_at_most(make_node: MakeNode) -> None:
    node = make_node(batch=4)
    sink = RecordingSink()
    await node.use(sink=sink)
    await journal(node.database, 10)
    await until(lambda: len(sink.accepted) == 10)
    assert all(0 < len(batch) <= 4 for batch in sink.batches)


async def test_a_sink_resumes_where_it_was(make_node: MakeNode) -> None:
    first, second = make_node(), make_node()
    sink = RecordingSink()
    await first.use(sink=sink)
    await journal(first.database, 2)
    await first.cursor_at(2)
    await first.use()  # switched off
    await journal(first.database, 2)
    await second.use(sink=sink)  # and on again after a restart
    await second.cursor_at(4)
    assert sink.accepted == [1, 2, 3, 4]


async def test_what_is_journaled_here_is_delivered_at_once(make_node: MakeNode) -> None:
    node = make_node(poll=600.0)
    sink = RecordingSink()
    await node.use(sink=sink)
    await journal(node.database, 1)
    node.journal.notify()
    await until(lambda: sink.accepted == [1])
    # It waits again, or will before it can miss the next.
    await journal(node.database, 1)
    node.journal.notify()
    await until(lambda: sink.accepted == [1, 2])


class FailingSink(RecordingSink):
    """Raises what it is given, one after the other, then accepts."""

    def __init__(self, *errors: BaseException) -> None:
        super().__init__()
        self.errors = list(errors)

    async def answer(self, batch: Sequence[ObjectEvent]) -> None:
        if self.errors:
            raise self.errors.pop(0)


@pytest.mark.parametrize(
    "error",
    [
        Retry("busy"),
        Retry("busy", after=0.0),
        Retry("busy", after=float("nan")),
        Retry("busy", after=-5.0),
        RuntimeError("a bug"),
        OSError(5, "a disk"),
        TimeoutError("its own"),
        StateUnavailable(),
        asyncio.CancelledError("what it waited for was cancelled"),
    ],
    ids=repr,
)
async def test_a_failure_is_repeated_until_it_succeeds(node: Node, error: BaseException) -> None:
    sink = FailingSink(error, error, error)
    await node.use(sink=sink)
    await journal(node.database, 3)
    await node.cursor_at(3)
    assert sink.accepted == [1, 2, 3]
    assert len(sink.batches) == 4
    assert node.counted("failed") == 3
    assert node.counted("delivered") == 3
    assert await node.refused() == []


async def test_a_sink_that_asks_for_time_gets_it(make_node: MakeNode) -> None:
    node = make_node(longest_after=0.2)
    sink = FailingSink(Retry("later", after=1e9))
    times: list[float] = []
    original = sink.answer

    async def answer(batch: Sequence[ObjectEvent]) -> None:
        times.append(asyncio.get_running_loop().time())
        await original(batch)

    sink.answer = answer  # type: ignore[method-assign]
    await node.use(sink=sink)
    await journal(node.database, 1)
    await node.cursor_at(1)
    assert times[1] - times[0] >= 0.2


async def test_a_delivery_that_hangs_is_cancelled_and_repeated(make_node: MakeNode) -> None:
    node = make_node(timeout=0.05)

    class Hanging(RecordingSink):
        cancelled = 0

        async def answer(self, batch: Sequence[ObjectEvent]) -> None:
            if len(self.batches) < 3:
                try:
                    await asyncio.Event().wait()
                finally:
                    self.cancelled += 1

    sink = Hanging()
    await node.use(sink=sink)
    await journal(node.database, 2)
    await node.cursor_at(2)
    assert sink.cancelled == 2
    assert sink.accepted == [1, 2]


async def test_no_sink_waits_for_another(node: Node) -> None:
    class Stuck(RecordingSink):
        async def answer(self, batch: Sequence[ObjectEvent]) -> None:
            await asyncio.Event().wait()

    good = RecordingSink()
    await node.use(stuck=Stuck(), bad=FailingSink(*[Retry("no")] * 10_000), good=good)
    await journal(node.database, 5)
    await node.cursor_at(5, "good")
    assert good.accepted == [1, 2, 3, 4, 5]
    assert await node.journal.cursor("sink:stuck") == 0
    assert await node.journal.cursor("sink:bad") == 0


class PickySink(RecordingSink):
    """Never accepts a batch with certain ids in it."""

    def __init__(self, *refused: int) -> None:
        super().__init__()
        self.refused = set(refused)

    async def answer(self, batch: Sequence[ObjectEvent]) -> None:
        if wrong := self.refused & {event.id for event in batch}:
            raise Permanent(f"not {sorted(wrong)}")


async def test_a_database_that_cancels_does_not_end_the_delivery(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = RecordingSink()
    await node.use(sink=sink)
    read = node.journal.read
    failures = 3

    async def cancelled_at_first(after: int, limit: int) -> Sequence[ObjectEvent]:
        nonlocal failures
        if failures:
            failures -= 1
            raise asyncio.CancelledError
        return await read(after, limit)

    monkeypatch.setattr(node.journal, "read", cancelled_at_first)
    await journal(node.database, 1)
    await node.cursor_at(1)
    assert sink.accepted == [1]
    assert failures == 0


async def test_what_is_refused_for_good_is_set_aside_alone(node: Node) -> None:
    sink = PickySink(2, 6)
    await node.use(sink=sink)
    await journal(node.database, 6, key=b"k")
    await node.cursor_at(6)
    assert sink.accepted == [1, 3, 4, 5]
    assert await node.refused() == [("sink", 2, "not [2]"), ("sink", 6, "not [6]")]
    texts = await node.database.read(
        lambda c: c.execute(select(undelivered.c.event)).scalars().all()
    )
    assert sorted(json.loads(text)["event"]["id"] for text in texts) == [2, 6]
    assert node.counted("failed") == 2
    assert node.counted("delivered") == 4
    await journal(node.database, 1)
    await node.cursor_at(7)
    assert sink.accepted == [1, 3, 4, 5, 7]


async def test_a_failure_while_one_by_one_loses_nothing(node: Node) -> None:
    class Fickle(PickySink):
        failures = 0

        async def answer(self, batch: Sequence[ObjectEvent]) -> None:
            await super().answer(batch)
            if [event.id for event in batch] == [3] and self.failures < 3:
                self.failures += 1
                raise Retry("busy")

    sink = Fickle(2, 4)
    await node.use(sink=sink)
    await journal(node.database, 5)
    await node.cursor_at(5)
    assert sink.accepted == [1, 3, 5]
    assert [event_id for _, event_id, _ in await node.refused()] == [2, 4]


async def test_one_process_at_a_time_delivers(make_node: MakeNode) -> None:
    nodes = [make_node(), make_node(), make_node()]
    active: list[object] = []
    together = 0

    class Watching(RecordingSink):
        async def answer(self, batch: Sequence[ObjectEvent]) -> None:
            nonlocal together
            active.append(self)
            await asyncio.sleep(0.002)
            together = max(together, len(active))
            active.remove(self)

    sinks = [Watching() for _ in nodes]
    for node, sink in zip(nodes, sinks, strict=True):
        await node.use(sink=sink)
    for _ in range(20):
        await journal(nodes[0].database, 2)
    await nodes[0].cursor_at(40)
    assert together == 1
    assert sorted(len(sink.accepted) for sink in sinks) == [0, 0, 40]


async def test_another_process_takes_over_when_one_ends(make_node: MakeNode) -> None:
    first, second = make_node(lease=0.3), make_node(lease=0.3)
    one, two = RecordingSink(), RecordingSink()
    await first.use(sink=one)
    await journal(first.database, 1)
    await first.cursor_at(1)
    await second.use(sink=two)
    await first.dispatcher.aclose()
    await journal(first.database, 2)
    await second.cursor_at(3)
    assert (one.accepted, two.accepted) == ([1], [2, 3])


async def test_a_lost_lease_stops_the_delivery_and_is_taken_again(make_node: MakeNode) -> None:
    """Somebody else delivers for a while; then this process has its turn again."""
    node = make_node(lease=0.3)

    class Hanging(RecordingSink):
        cancelled = 0
        free = False

        async def answer(self, batch: Sequence[ObjectEvent]) -> None:
            try:
                while not self.free:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

    sink = Hanging()
    await node.use(sink=sink)
    await journal(node.database, 3)
    await until(lambda: len(sink.batches) == 1)
    steal = (
        update(leases)
        .where(leases.c.name == "sink:sink")
        .values(owner="f" * 32, epoch=leases.c.epoch + 1)
    )
    await node.database.write(lambda c: c.execute(steal))
    await until(lambda: sink.cancelled > 0)
    assert sink.accepted == []
    sink.free = True
    await node.cursor_at(3)
    assert sink.accepted == [1, 2, 3]


async def test_a_paused_process_delivers_nothing_more(node: Node) -> None:
    """Its task that renews the lease has not run yet, but the time is over."""
    sink = RecordingSink()
    lease = await Leases(node.database, "a" * 32).acquire("sink:sink", 60.0)
    assert lease is not None
    await lease.release()
    assert lease.remaining == 0
    await node.journal.create_cursor("sink:sink", at="end")
    await journal(node.database, 1)
    delivery = _Delivery(
        "sink",
        sink,
        journal=node.journal,
        leases=Leases(node.database, "a" * 32),
        metrics=EventMetrics.of(node.registry),
        log=structlog.get_logger(),
        pace=Pace(**FAST),
    )
    with pytest.raises(LeaseLost):
        await delivery._deliver_under(lease)
    assert sink.batches == []


async def test_other_sinks_replace_those_of_before(node: Node) -> None:
    """As after a reload: what is under way ends before the old sink can be closed."""

    class Hanging(RecordingSink):
        ended = False

        async def answer(self, batch: Sequence[ObjectEvent]) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                self.ended = True

    old, new = Hanging(), RecordingSink()
    await node.use(sink=old)
    await journal(node.database, 2)
    await until(lambda: len(old.batches) == 1)
    await node.use(sink=new)
    assert old.ended
    await node.cursor_at(2)
    assert new.accepted == [1, 2]
    await node.dispatcher.aclose()
    await node.dispatcher.aclose()
    await journal(node.database, 1)
    assert new.accepted == [1, 2]


async def test_a_forgotten_cursor_begins_at_the_end_again(node: Node) -> None:
    node.dispatcher._pace = Pace(**{**FAST, "lease": 0.3})
    failing = FailingSink(*[Retry("no")] * 10_000)
    await node.use(sink=failing)
    await journal(node.database, 2)
    await until(lambda: len(failing.batches) > 0)
    assert await node.journal.forget_cursor("sink:sink")
    await node.cursor_at(2)
    failing.errors.clear()
    await journal(node.database, 1)
    await node.cursor_at(3)
    assert failing.accepted == [3]


async def test_delivery_survives_a_database_that_is_away(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = RecordingSink()
    await node.use(sink=sink)
    await journal(node.database, 1)
    await node.cursor_at(1)
    asked = 0

    async def away(function: Any) -> Any:
        nonlocal asked
        asked += 1
        raise StateUnavailable

    monkeypatch.setattr(node.database, "read", away)
    await until(lambda: asked >= 3)
    monkeypatch.undo()
    await journal(node.database, 1)
    await node.cursor_at(2)
    assert sink.accepted == [1, 2]


async def test_a_sink_is_activated_also_if_the_database_is_away_at_the_start(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def away(function: Any) -> Any:
        nonlocal asked
        asked += 1
        raise StateUnavailable

    sink = RecordingSink()
    monkeypatch.setattr(node.database, "read", away)
    await node.use(sink=sink)
    await until(lambda: asked >= 3)
    monkeypatch.undo()
    await node.cursor_at(0)
    await journal(node.database, 1)
    await node.cursor_at(1)
    assert sink.accepted == [1]


def test_waits_grow_to_a_limit_and_differ() -> None:
    pace = Pace(first=1.0, longest=60.0, longest_after=600.0)
    for failures in (1, 2, 3, 6, 7, 50, 10**6):
        full = min(2.0 ** min(failures - 1, 30), 60.0)
        waits = {pace.delay(failures) for _ in range(50)}
        assert all(full / 2 <= wait <= full for wait in waits)
        assert len(waits) > 10
    assert all(5 <= pace.delay(9, 5.0) <= 6.25 for _ in range(50))
    assert all(600 <= pace.delay(1, 1e12) <= 750 for _ in range(50))
    assert all(0 < pace.delay(1, after) <= 1 for after in (0.0, -1.0, float("nan")))
