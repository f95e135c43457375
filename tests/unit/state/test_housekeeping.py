"""Duties: each in its own time, none kept from its turn by another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
from sqlalchemy import Connection, select
from structlog.testing import CapturingLogger
from support.eventually import eventually
from support.state import OpenDatabase
from support.state_clock import ShiftedClock

from deltaglider_core.state import tables
from deltaglider_core.state.database import Database
from deltaglider_core.state.errors import StateUnavailable
from deltaglider_core.state.housekeeping import LEASE_SECONDS, Duty, housekeeping
from deltaglider_core.state.leases import Lease, Leases
from deltaglider_core.state.place import DatabasePlace

Run = Callable[[], Coroutine[Any, Any, object]]


@pytest.fixture
def leases(database: Database) -> Leases:
    return Leases(database, "a" * 32)


@pytest.fixture
def log() -> CapturingLogger:
    return CapturingLogger()


class Counter:
    """A duty that counts its runs, and fails in those of ``failing``."""

    def __init__(self, *failing: int, error: BaseException | None = None) -> None:
        self.runs = 0
        self._failing = failing
        self._error = error or StateUnavailable("away")

    async def __call__(self) -> None:
        self.runs += 1
        if self.runs in self._failing:
            raise self._error


def duty(name: str, run: Run, *, every: float = 0.01, lease: bool = False) -> Duty:
    return Duty(name=name, every_seconds=every, run=run, lease=lease)


async def test_duties_run_at_once_and_again(leases: Leases, log: CapturingLogger) -> None:
    often, seldom = Counter(), Counter()
    duties = [duty("often", often), duty("seldom", seldom, every=3600)]
    async with housekeeping(duties, leases=leases, log=log):
        await eventually(lambda: often.runs >= 5, "five runs")
    assert seldom.runs == 1
    runs = often.runs
    await asyncio.sleep(0.05)
    assert often.runs == runs, "it goes on after the end"
    assert log.calls == []


@pytest.mark.parametrize(
    "error",
    [StateUnavailable("away"), ZeroDivisionError(), asyncio.CancelledError(), TimeoutError()],
    ids=lambda error: type(error).__name__,
)
async def test_a_failure_is_logged_and_repeated(
    leases: Leases, log: CapturingLogger, error: BaseException
) -> None:
    """A cancellation too, if it is not that of the end: of a future that it waited for."""
    fragile, steady = Counter(1, 2, error=error), Counter()
    async with housekeeping(
        [duty("fragile", fragile), duty("steady", steady)], leases=leases, log=log
    ):
        await eventually(lambda: fragile.runs >= 4, "it is repeated")
        await eventually(lambda: steady.runs >= 4, "the other one is not disturbed")
    failed, again, recovered = log.calls
    expected = "warning" if isinstance(error, StateUnavailable) else "error"
    assert failed.method_name == again.method_name == expected
    assert [call.kwargs["duty"] for call in log.calls] == ["fragile"] * 3
    assert (again.kwargs["failures"], recovered.kwargs["failures"]) == (2, 2)
    assert recovered.method_name == "info"


async def test_a_long_outage_is_few_lines(leases: Leases, log: CapturingLogger) -> None:
    broken = Counter(*range(1, 10_000))
    async with housekeeping([duty("broken", broken, every=0.001)], leases=leases, log=log):
        await eventually(lambda: broken.runs > 40, "many failures")
    assert [call.kwargs["failures"] for call in log.calls][:6] == [1, 2, 4, 8, 16, 32]
    assert len(log.calls) < 12


async def test_a_failure_waits_longer_each_time_but_never_longer_than_ever(
    leases: Leases, log: CapturingLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    real = asyncio.sleep

    async def record(seconds: float) -> None:
        pauses.append(seconds)
        await real(0)

    monkeypatch.setattr("deltaglider_core.state.housekeeping.asyncio.sleep", record)
    monkeypatch.setattr("deltaglider_core.state.housekeeping.random.uniform", lambda _, high: high)
    run = Counter(*range(1, 8))
    async with housekeeping([duty("slow", run, every=20)], leases=leases, log=log):
        for _ in range(200):
            await real(0)
    assert pauses[:9] == [0.5, 1, 2, 4, 8, 16, 20, 20, 20]


async def test_the_end_waits_for_what_is_being_done(leases: Leases, log: CapturingLogger) -> None:
    begun, ended = asyncio.Event(), False

    async def slow() -> None:
        nonlocal ended
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended = True

    async with housekeeping([duty("slow", slow)], leases=leases, log=log):
        await begun.wait()
    assert ended
    assert log.calls == []


async def test_an_error_of_the_block_ends_the_duties(leases: Leases, log: CapturingLogger) -> None:
    run = Counter()
    with pytest.raises(ZeroDivisionError):
        async with housekeeping([duty("often", run)], leases=leases, log=log):
            raise ZeroDivisionError
    runs = run.runs
    await asyncio.sleep(0.03)
    assert run.runs == runs


async def test_names_are_unique(leases: Leases, log: CapturingLogger) -> None:
    twice = [duty("same", Counter()), duty("same", Counter())]
    with pytest.raises(ValueError, match="same"):
        async with housekeeping(twice, leases=leases, log=log):
            pass


class Shared:
    """A duty of several processes: counts how many do it at once."""

    def __init__(self) -> None:
        self.now = self.most = self.runs = 0

    async def __call__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.runs += 1
        await asyncio.sleep(0.01)
        self.now -= 1


async def test_a_leased_duty_runs_in_one_process_at_a_time(
    place: DatabasePlace, open_database: OpenDatabase, log: CapturingLogger
) -> None:
    shared = Shared()
    async with AsyncExitStack() as stack:
        for number in range(3):
            leases = Leases(await open_database(place), str(number) * 32)
            duties = [duty("shared", shared, every=0.05, lease=True)]
            await stack.enter_async_context(housekeeping(duties, leases=leases, log=log))
        await eventually(lambda: shared.runs >= 6, "six runs")
    assert shared.most == 1
    assert log.calls == []


class AskedLeases(Leases):
    """Leases that note whether they were given."""

    def __init__(self, database: Database, owner: str) -> None:
        super().__init__(database, owner)
        self.given: list[bool] = []

    async def acquire(self, name: str, ttl: float) -> Lease | None:
        lease = await super().acquire(name, ttl)
        self.given.append(lease is not None)
        return lease


async def test_all_processes_together_keep_the_period(
    place: DatabasePlace, open_database: OpenDatabase, log: CapturingLogger
) -> None:
    shared = Shared()
    database = await open_database(place)
    owners = [AskedLeases(await open_database(place), str(number) * 32) for number in range(3)]

    async def is_at_rest() -> bool:
        """The duty is done and its lease given back, for nobody to take before it is time."""

        def read(connection: Connection) -> bool:
            query = select(tables.leases.c.expires).where(tables.leases.c.name == "duty:shared")
            expires = connection.execute(query).scalar()
            return expires is not None and expires > database.now(connection) + LEASE_SECONDS

        return await database.read(read)

    with ShiftedClock() as clock:
        for round_ in range(1, 4):
            for number, leases in enumerate(owners):
                duties = [duty("shared", shared, every=3600, lease=True)]
                async with housekeeping(duties, leases=leases, log=log):
                    await eventually(lambda k=leases, r=round_: len(k.given) == r, "it has asked")
                    assert leases.given[-1] == (number == 0), "the next one to come did it again"
                    await eventually(is_at_rest, "it is done")
            assert shared.runs == round_
            clock.advance(3600)
    assert log.calls == []


async def test_a_failed_leased_duty_is_left_to_others_at_once(
    place: DatabasePlace, open_database: OpenDatabase, log: CapturingLogger
) -> None:
    broken, works = Counter(1), Counter()
    first = Leases(await open_database(place), "a" * 32)
    second = Leases(await open_database(place), "b" * 32)
    async with housekeeping(
        [duty("shared", broken, every=3600, lease=True)], leases=first, log=log
    ):
        await eventually(lambda: len(log.calls) == 1, "it has failed")
    async with housekeeping(
        [duty("shared", works, every=3600, lease=True)], leases=second, log=log
    ):
        await eventually(lambda: works.runs == 1, "the other process does it")


async def test_a_duty_whose_lease_is_lost_is_cancelled(
    place: DatabasePlace,
    open_database: OpenDatabase,
    log: CapturingLogger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deltaglider_core.state.housekeeping.LEASE_SECONDS", 1.0)
    mine = Leases(await open_database(place), "a" * 32)
    theirs = Leases(await open_database(place), "b" * 32)
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with ShiftedClock() as clock:
        async with housekeeping(
            [duty("endless", endless, every=60, lease=True)], leases=mine, log=log
        ):
            await begun.wait()
            clock.advance(100)
            assert await theirs.acquire("duty:endless", 60) is not None
            async with asyncio.timeout(10):
                await cancelled.wait()
            await eventually(lambda: bool(log.calls), "it is logged")
    assert log.calls[0].method_name == "info"
    assert "taken over" in log.calls[0].kwargs["error"]
