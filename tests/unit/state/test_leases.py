"""Leases: one owner at a time, and nothing done by one that has lost it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection, insert, select
from support.eventually import eventually
from support.state import OpenDatabase
from support.state_clock import ShiftedClock

from deltaglider_core.state.database import Database
from deltaglider_core.state.errors import StateUnavailable
from deltaglider_core.state.leases import Lease, LeaseLost, Leases
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.tables import facts, leases

TTL = 60.0
JOB = "collect:bucket"


@pytest.fixture
def clock() -> Iterator[ShiftedClock]:
    with ShiftedClock() as clock:
        yield clock


@pytest.fixture
async def other(place: DatabasePlace, database: Database, open_database: OpenDatabase) -> Database:
    """The database of ``database``, opened once more, as by another process."""
    return await open_database(place)


@pytest.fixture
def mine(database: Database) -> Leases:
    return Leases(database, "a" * 32)


@pytest.fixture
def theirs(other: Database) -> Leases:
    return Leases(other, "b" * 32)


async def taken(owner: Leases, ttl: float = TTL) -> Lease:
    lease = await owner.acquire(JOB, ttl)
    assert lease is not None
    return lease


def note(name: str) -> Callable[[Connection], None]:
    def write(connection: Connection) -> None:
        connection.execute(insert(facts).values(name=name, value=""))

    return write


async def noted(database: Database) -> set[str]:
    query = select(facts.c.name).where(facts.c.name != "deployment")
    return set(await database.read(lambda connection: connection.scalars(query).all()))


async def end_of(database: Database) -> float:
    query = select(leases.c.expires).where(leases.c.name == JOB)
    return float(await database.read(lambda connection: connection.execute(query).scalar_one()))


async def test_one_owner_at_a_time(mine: Leases, theirs: Leases) -> None:
    lease = await taken(mine)
    assert await theirs.acquire(JOB, TTL) is None
    assert await mine.acquire(JOB, TTL) is None, "two tasks of one process are two owners"
    assert await theirs.acquire("another", TTL) is not None
    assert 0 < lease.remaining <= TTL
    await lease.release()
    assert lease.remaining == 0
    assert (await taken(theirs)).epoch > lease.epoch


async def test_two_owners_of_one_lease(
    mine: Leases, theirs: Leases, database: Database, clock: ShiftedClock
) -> None:
    """The first is paused beyond its time and does nothing more when it wakes."""
    first = await taken(mine)
    await first.write(note("before"))
    clock.advance(TTL + 1)
    second = await taken(theirs)
    assert second.epoch == first.epoch + 1
    end = await end_of(database)
    with pytest.raises(LeaseLost):
        await first.write(note("by the first"))
    with pytest.raises(LeaseLost):
        await first.renew()
    assert first.remaining == 0
    await first.release()
    assert await end_of(database) == end, "it gave back what is not its own"
    await second.write(note("by the second"))
    await second.renew()
    assert await noted(database) == {"before", "by the second"}


async def test_the_same_owner_is_another_holder(mine: Leases, clock: ShiftedClock) -> None:
    first = await taken(mine)
    clock.advance(TTL + 1)
    second = await taken(mine)
    with pytest.raises(LeaseLost):
        await first.renew()
    await second.renew()


async def test_a_lapsed_lease_is_not_renewed_though_nobody_took_it(
    mine: Leases, database: Database, clock: ShiftedClock
) -> None:
    lease = await taken(mine)
    clock.advance(TTL)
    for _ in range(2):
        with pytest.raises(LeaseLost):
            await lease.renew()
    with pytest.raises(LeaseLost):
        await lease.write(note("late"))
    assert await noted(database) == set()


async def test_a_renewal_counts_from_when_it_is_carried_out(
    mine: Leases, database: Database, clock: ShiftedClock
) -> None:
    """One that waited in the queue until after the end is too late."""
    lease = await taken(mine)
    begun, go_on = threading.Event(), threading.Event()

    def occupy(_: Connection) -> None:
        begun.set()
        assert go_on.wait(10)

    occupied = asyncio.create_task(database.write(occupy))
    await asyncio.to_thread(begun.wait, 10)
    renewal = asyncio.create_task(lease.renew())
    await asyncio.sleep(0)
    clock.advance(TTL + 1)
    go_on.set()
    await occupied
    with pytest.raises(LeaseLost):
        await renewal


async def test_renewals_move_the_end(mine: Leases, theirs: Leases, clock: ShiftedClock) -> None:
    lease = await taken(mine)
    for _ in range(3):
        clock.advance(TTL * 0.9)
        await lease.renew()
    assert await theirs.acquire(JOB, TTL) is None


async def test_a_taker_waits_for_what_the_holder_commits(
    mine: Leases, theirs: Leases, other: Database, clock: ShiftedClock
) -> None:
    """Between the check and the commit of a fenced write nobody becomes the owner."""
    lease = await taken(mine)
    checked, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        checked.set()
        assert go_on.wait(10)
        connection.execute(insert(facts).values(name="under the lease", value=""))

    async def take() -> set[str]:
        await taken(theirs)
        return await noted(other)

    writing = asyncio.create_task(lease.write(slow))
    await asyncio.to_thread(checked.wait, 10)
    clock.advance(TTL + 1)
    taking = asyncio.create_task(take())
    done, _ = await asyncio.wait([taking], timeout=0.3)
    assert not done, "the lease was taken under a write that the fence had let through"
    go_on.set()
    await writing
    assert await taking == {"under the lease"}


async def test_one_of_many_takers(mine: Leases, theirs: Leases, clock: ShiftedClock) -> None:
    for round_ in range(1, 4):
        tries = [owner.acquire(JOB, TTL) for _ in range(10) for owner in (mine, theirs)]
        found = [lease for lease in await asyncio.gather(*tries) if lease is not None]
        assert [lease.epoch for lease in found] == [round_]
        clock.advance(TTL + 1)


async def test_a_rest_after_the_work(mine: Leases, theirs: Leases, clock: ShiftedClock) -> None:
    await (await taken(mine)).release(rest=100)
    assert await theirs.acquire(JOB, TTL) is None
    assert await mine.acquire(JOB, TTL) is None
    clock.advance(101)
    assert await theirs.acquire(JOB, TTL) is not None


async def test_a_refused_write_under_a_lease_stores_nothing(
    mine: Leases, database: Database
) -> None:
    lease = await taken(mine)

    def refuse(connection: Connection) -> None:
        connection.execute(insert(facts).values(name="half", value=""))
        raise StateUnavailable

    with pytest.raises(StateUnavailable):
        await lease.write(refuse)
    assert await noted(database) == set()
    await lease.write(note("whole"))
    assert await noted(database) == {"whole"}


# --- keep ---------------------------------------------------------------------------------


class Outage:
    """Lets the writes of a database fail while ``on``."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on = False
        self.failures = 0
        write = database.write

        async def fail_or_write(*args: object, **options: object) -> object:
            if self.on:
                self.failures += 1
                raise StateUnavailable
            return await write(*args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(database, "write", fail_or_write)


@pytest.fixture
def outage(database: Database, monkeypatch: pytest.MonkeyPatch) -> Outage:
    return Outage(database, monkeypatch)


async def work(log: list[str]) -> None:
    log.append("begun")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        log.append("ended")


async def test_keeping_renews_until_the_work_is_done(mine: Leases, database: Database) -> None:
    lease = await taken(mine, 3)

    async def until_renewed_twice() -> str:
        ends = {await end_of(database)}
        while len(ends) < 3:
            await asyncio.sleep(0.02)
            ends.add(await end_of(database))
        return "done"

    assert await lease.keep(until_renewed_twice()) == "done"
    await lease.write(note("still held"))


async def test_keeping_passes_errors_on(mine: Leases) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    lease = await taken(mine)
    with pytest.raises(ZeroDivisionError):
        await lease.keep(fail())
    await lease.renew()


async def test_work_under_a_lost_lease_is_cancelled(
    mine: Leases, theirs: Leases, clock: ShiftedClock
) -> None:
    lease, log = await taken(mine, 1.5), []
    keeping = asyncio.create_task(lease.keep(work(log)))
    clock.advance(60)
    await taken(theirs)
    with pytest.raises(LeaseLost):
        await keeping
    assert log == ["begun", "ended"]


async def test_work_is_cancelled_when_the_database_is_away_for_too_long(
    mine: Leases, outage: Outage
) -> None:
    lease, log = await taken(mine, 0.5), []
    outage.on = True
    with pytest.raises(LeaseLost):
        await lease.keep(work(log))
    assert log == ["begun", "ended"]
    assert outage.failures > 1


async def test_a_short_outage_is_survived(mine: Leases, outage: Outage, database: Database) -> None:
    lease = await taken(mine, 6)
    before = await end_of(database)
    outage.on = True

    async def renewed() -> bool:
        return await end_of(database) > before

    async def work() -> None:
        await eventually(lambda: outage.failures > 0, "a renewal has failed")
        outage.on = False
        await eventually(renewed, "one has succeeded")

    await lease.keep(work())
    assert lease.remaining > 0


async def test_a_hanging_database_loses_the_lease(
    mine: Leases, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, log = await taken(mine, 0.5), []

    async def hang(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(database, "write", hang)
    with pytest.raises(LeaseLost):
        await lease.keep(work(log))
    assert log == ["begun", "ended"]


async def test_cancelling_the_keeper_ends_the_work_first(mine: Leases) -> None:
    lease, log = await taken(mine), []
    keeping = asyncio.create_task(lease.keep(work(log)))
    await eventually(lambda: log == ["begun"], "it has begun")
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert log == ["begun", "ended"]
    await lease.renew()


# --- a real process, really paused --------------------------------------------------------

HOLDER = """
import asyncio, sys
from pathlib import Path
import structlog
from sqlalchemy import insert
from deltaglider_core.state.database import open_database
from deltaglider_core.state.leases import LeaseLost, Leases
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.tables import facts

def note(connection):
    connection.execute(insert(facts).values(name="by the first", value=""))

async def main():
    where = sys.argv[1]
    place = DatabasePlace(url=where) if "://" in where else DatabasePlace(path=Path(where))
    database = await open_database(place, log=structlog.get_logger())
    lease = await Leases(database, "f" * 32).acquire("collect:bucket", 1.0)
    print(lease.epoch, flush=True)
    sys.stdin.readline()
    for attempt in (lambda: lease.write(note), lease.renew):
        try:
            await attempt()
            print("done", flush=True)
        except LeaseLost:
            print("lost", flush=True)
    await lease.release()
    await database.aclose()

asyncio.run(main())
"""


async def test_a_paused_process_does_nothing_more(
    place: DatabasePlace, database: Database, mine: Leases
) -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLDER, place.url or str(place.path)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        assert await child.stdout.readline() == b"1\n"
        os.kill(child.pid, signal.SIGSTOP)
        lease = None

        async def take() -> bool:
            nonlocal lease
            lease = await mine.acquire(JOB, TTL)
            return lease is not None

        await eventually(take, "the lease of the paused process has ended")
        assert lease is not None
        assert lease.epoch == 2
        os.kill(child.pid, signal.SIGCONT)
        out, _ = await asyncio.wait_for(child.communicate(b"\n"), 20)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert out.split() == [b"lost", b"lost"]
    assert child.returncode == 0
    assert await noted(database) == set()
    await lease.renew()
