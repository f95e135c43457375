"""Which processes are alive: hardly a living one is taken for dead, and a dead one soon."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, select
from support.eventually import eventually
from support.state import OpenDatabase
from support.state_clock import ShiftedClock

from deltaglider_core.state.database import Database
from deltaglider_core.state.errors import StateUnavailable
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.processes import TTL_SECONDS, Processes, open_processes
from deltaglider_core.state.tables import intents, processes

STRANGER = "f" * 32


def files_of(database: Database) -> Path | None:
    path = database.path
    return None if path is None else path.with_name(f"{path.name}.processes")


def entered(database: Database, **options: Any) -> Any:
    return open_processes(database, files=files_of(database), **options)


async def rows(database: Database) -> dict[str, Any]:
    found = await database.read(lambda connection: connection.execute(select(processes)).all())
    return {row.id: row for row in found}


def file_names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {"guard"}


async def add_intent(database: Database, owner: str, number: int = 1) -> None:
    def write(connection: Connection) -> None:
        row = {"write_id": f"{number:032}", "bucket": 1, "key": b"k", "kind": "put"}
        row |= {"process": owner, "started": database.now(connection), "state": "open"}
        row |= {"size": 1, "contended": False, "exclusive": False, "disturbed": 0}
        connection.execute(insert(intents).values(row))

    await database.write(write)


@pytest.fixture
async def other(place: DatabasePlace, database: Database, open_database: OpenDatabase) -> Database:
    """The database of ``database``, opened once more, as by another process."""
    return await open_database(place)


async def test_a_process_enters_and_leaves(database: Database) -> None:
    async with entered(database) as mine:
        assert len(mine.id) == 32
        assert int(mine.id, 16) >= 0
        row = (await rows(database))[mine.id]
        assert (row.host, row.pid) == (socket.gethostname(), os.getpid())
        now = await database.read(database.now)
        assert now - 10 < row.started <= now
        assert row.expires == pytest.approx(row.started + TTL_SECONDS)
        if (files := files_of(database)) is not None:
            assert file_names(files) == {mine.id}
            assert files.stat().st_mode & 0o777 == 0o700
    assert await rows(database) == {}
    if files is not None:
        assert file_names(files) == set()


async def test_the_living_are_not_dead(database: Database, other: Database) -> None:
    async with entered(database) as mine, entered(other) as theirs:
        assert mine.id != theirs.id
        await add_intent(database, mine.id, 1)
        await add_intent(database, theirs.id, 2)
        for one in (mine, theirs):
            await one.heartbeat()
            assert await one.dead() == set()
            assert await one.forget_dead() == 0
        assert set(await rows(database)) == {mine.id, theirs.id}


async def test_what_a_process_leaves_behind_is_owned_by_a_dead_one(
    database: Database, other: Database
) -> None:
    async with entered(database) as mine:
        async with entered(other) as theirs:
            await add_intent(other, theirs.id)
        with ShiftedClock() as clock:
            clock.advance(TTL_SECONDS + 1)
            await mine.heartbeat()
            assert await mine.dead() == {theirs.id}


async def test_an_owner_that_nobody_knows_is_dead_in_the_end(database: Database) -> None:
    """As after the database was restored, or when the row was never made."""
    async with entered(database) as mine:
        await add_intent(database, STRANGER)
        # With files death is certain at once; without, the intent itself is a sign of life.
        assert await mine.dead() == ({STRANGER} if files_of(database) else set())
        with ShiftedClock() as clock:
            clock.advance(TTL_SECONDS + 1)
            assert await mine.dead() == {STRANGER}


async def test_rows_of_the_dead_stay_as_long_as_their_intents(database: Database) -> None:
    dead = {f"{number:032}" for number in range(1200)}
    some = [{"id": name, "host": "h", "pid": 1, "started": 0.0, "expires": 1.0} for name in dead]
    owner = min(dead)
    async with entered(database) as mine:
        await database.write(lambda connection: connection.execute(insert(processes), some).close())
        await add_intent(database, owner)
        with ShiftedClock() as clock:
            clock.advance(TTL_SECONDS + 1)
            await mine.heartbeat()
            assert await mine.dead() == dead
            assert await mine.forget_dead() == len(dead) - 1
            assert await mine.dead() == {owner}
        assert set(await rows(database)) == {mine.id, owner}


async def test_a_row_that_was_removed_is_made_again(database: Database, other: Database) -> None:
    async with entered(database) as mine, entered(other) as theirs:
        await database.write(lambda connection: connection.execute(delete(processes)).close())
        await mine.heartbeat()
        await theirs.heartbeat()
        assert set(await rows(database)) == {mine.id, theirs.id}
        assert await mine.dead() == set()


# --- without files: the row has to be renewed ---------------------------------------------


async def test_a_row_that_is_not_renewed_is_that_of_a_dead_process(
    postgres_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    first, second = await open_database(postgres_place), await open_database(postgres_place)
    with ShiftedClock() as clock:
        async with entered(first) as mine, entered(second) as paused:
            clock.advance(TTL_SECONDS - 1)
            assert await mine.dead() == set()
            await mine.heartbeat()
            clock.advance(1.1)
            assert await mine.dead() == {paused.id}
            await paused.heartbeat()
            assert await mine.dead() == set(), "it was only paused"
            clock.advance(TTL_SECONDS - 1)
            assert await paused.dead() == {mine.id}
            assert mine.id not in await mine.dead(), "nobody is dead to itself"


async def test_a_row_that_was_renewed_meanwhile_is_kept(
    postgres_place: DatabasePlace,
    open_database: OpenDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = await open_database(postgres_place), await open_database(postgres_place)
    async with entered(first) as mine, entered(second) as theirs:

        async def taken_for_dead() -> set[str]:
            return {theirs.id}

        monkeypatch.setattr(mine, "dead", taken_for_dead)
        assert await mine.forget_dead() == 0
        assert theirs.id in await rows(first)


# --- with files: the kernel says who is alive ---------------------------------------------

MEMBER = """
import asyncio, sys
from pathlib import Path
import structlog
from deltaglider_core.state.database import open_database
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.processes import open_processes

async def main():
    path = Path(sys.argv[1])
    database = await open_database(DatabasePlace(path=path), log=structlog.get_logger())
    async with open_processes(database, files=Path(sys.argv[2])) as processes:
        print(processes.id, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
async def embedded(embedded_place: DatabasePlace, open_database: OpenDatabase) -> Database:
    return await open_database(embedded_place)


@asynccontextmanager
async def member(database: Database) -> AsyncIterator[tuple[int, str]]:
    """A real process beside this one; its process id, and its id in the database."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MEMBER, str(database.path), str(files_of(database))),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        yield child.pid, (await child.stdout.readline()).decode().strip()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def test_a_kill_is_seen_at_once_and_a_pause_never(embedded: Database) -> None:
    directory = files_of(embedded)
    assert directory is not None
    async with entered(embedded) as mine, member(embedded) as (pid, name):
        assert set(await rows(embedded)) == {mine.id, name}
        os.kill(pid, signal.SIGSTOP)
        with ShiftedClock() as clock:
            clock.advance(100 * TTL_SECONDS)
            assert await mine.dead() == set()
            assert await mine.forget_dead() == 0
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: died(mine, name), "its death is seen")
        assert await mine.forget_dead() == 1
        assert set(await rows(embedded)) == {mine.id}
        assert file_names(directory) == {mine.id}


async def died(mine: Processes, name: str) -> bool:
    return await mine.dead() == {name}


async def test_two_that_look_at_once_do_not_hide_a_death(embedded: Database) -> None:
    directory = files_of(embedded)
    assert directory is not None
    async with entered(embedded) as mine, member(embedded) as (pid, name):
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: died(mine, name), "its death is seen")
        with (directory / name).open("rb") as looked_at:
            fcntl.flock(looked_at, fcntl.LOCK_SH | fcntl.LOCK_NB)  # as another process does
            assert await mine.dead() == {name}


async def test_files_that_somebody_removes_are_made_again(
    embedded: Database, embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    directory = files_of(embedded)
    assert directory is not None
    second = await open_database(embedded_place)
    async with entered(embedded) as mine, entered(second) as theirs:
        shutil.rmtree(directory)
        await theirs.heartbeat()
        await mine.heartbeat()
        assert file_names(directory) == {mine.id, theirs.id}
        assert await mine.dead() == await theirs.dead() == set()


async def test_what_cannot_be_looked_at_is_not_dead(embedded: Database) -> None:
    directory = files_of(embedded)
    assert directory is not None
    async with entered(embedded) as mine:
        await add_intent(embedded, STRANGER)
        (directory / STRANGER).symlink_to(STRANGER)  # a loop: opening it fails
        with pytest.raises(StateUnavailable) as caught:
            await mine.dead()
        assert str(directory) not in caught.value.text


async def test_a_place_that_cannot_hold_files_stops_the_start(embedded: Database) -> None:
    directory = files_of(embedded)
    assert directory is not None
    directory.write_bytes(b"")
    with pytest.raises(StateUnavailable):
        async with entered(embedded):
            pass
    assert await rows(embedded) == {}


async def test_an_idle_process_does_not_write(
    embedded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with entered(embedded) as mine:
        with monkeypatch.context() as patch:
            patch.setattr(embedded, "write", None)
            await mine.heartbeat()


# --- a database that cannot be asked ------------------------------------------------------


def take_away(database: Database, patch: pytest.MonkeyPatch) -> None:
    """Let the writes of a database fail."""

    async def fail(*_: object, **__: object) -> None:
        raise StateUnavailable

    patch.setattr(database, "write", fail)


async def test_an_impatient_start_fails(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        take_away(database, patch)
        with pytest.raises(StateUnavailable):
            async with entered(database):
                pass
    if (files := files_of(database)) is not None:
        assert file_names(files) == set()


async def test_a_patient_start_makes_the_row_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        take_away(database, patch)
        stack = entered(database, patient=True)
        mine = await stack.__aenter__()
        with pytest.raises(StateUnavailable):
            await mine.heartbeat()
    assert await rows(database) == {}
    await mine.heartbeat()
    assert set(await rows(database)) == {mine.id}
    await stack.__aexit__(None, None, None)
    assert await rows(database) == {}


async def test_leaving_does_not_need_the_database(
    database: Database, other: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with entered(other) as mine:
        async with entered(database) as theirs:
            take_away(database, monkeypatch)
        with ShiftedClock() as clock:
            clock.advance(TTL_SECONDS + 1)
            assert await mine.dead() == {theirs.id}
