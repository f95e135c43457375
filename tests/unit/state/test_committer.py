"""Group commit: what shares a transaction, and what one call can do to the others."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis.strategies import lists, sampled_from
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from support.state import OpenDatabase, fact_names, put_fact

from deltaglider_core.errors import AccessDenied, NoSuchKey
from deltaglider_core.state import committer
from deltaglider_core.state import database as state_database
from deltaglider_core.state.database import Database
from deltaglider_core.state.errors import StateUnavailable
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.turnstile import Turnstile

Write = Callable[[Connection], Any]


@asynccontextmanager
async def occupied(database: Database) -> AsyncIterator[None]:
    """The writing thread is busy inside the block, so that what is written there queues."""
    entered, leave = threading.Event(), threading.Event()

    def occupy(connection: Connection) -> None:
        entered.set()
        assert leave.wait(20)

    task = asyncio.create_task(database.write(occupy))
    await asyncio.to_thread(entered.wait, 20)
    try:
        yield
    finally:
        leave.set()
        await task


async def together(database: Database, *functions: Write) -> list[Any]:
    """Write all in one batch; results and exceptions in the same order."""
    async with occupied(database):
        tasks = [asyncio.create_task(database.write(function)) for function in functions]
        await asyncio.sleep(0)
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_calls_that_wait_share_one_transaction(database: Database) -> None:
    transactions = []

    def note(connection: Connection) -> None:
        transactions.append(connection.get_transaction())

    assert await together(database, *[note] * 20) == [None] * 20
    assert len(transactions) == 20
    assert len({id(transaction) for transaction in transactions}) == 1


async def test_a_batch_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "MAX_BATCH", 8)
    transactions = []

    def note(connection: Connection) -> None:
        transactions.append(connection.get_transaction())

    await together(database, *[note] * 20)
    numbers = [id(transaction) for transaction in transactions]
    assert [numbers.count(number) for number in dict.fromkeys(numbers)] == [8, 8, 4]


async def test_a_refusal_before_a_write_leaves_the_batch_alone(database: Database) -> None:
    runs: list[str] = []

    def counted(name: str) -> Write:
        def write(connection: Connection) -> str:
            runs.append(name)
            return put_fact(name)(connection)

        return write

    def refuse(connection: Connection) -> None:
        runs.append("refused")
        fact_names(connection)
        raise AccessDenied("no")

    first, refused, last = await together(database, counted("a"), refuse, counted("b"))
    assert (first, last) == ("a", "b")
    assert isinstance(refused, AccessDenied)
    assert runs == ["a", "refused", "b"]
    assert await database.read(fact_names) == {"a", "b"}


async def test_a_refusal_after_a_write_takes_nothing_along(database: Database) -> None:
    def refuse(connection: Connection) -> None:
        put_fact("half")(connection)
        raise NoSuchKey("too late")

    first, refused, last = await together(database, put_fact("a"), refuse, put_fact("b"))
    assert (first, last) == ("a", "b")
    assert isinstance(refused, NoSuchKey)
    assert await database.read(fact_names) == {"a", "b"}


@pytest.mark.parametrize("error", [LookupError, StopIteration, SystemExit, asyncio.CancelledError])
async def test_a_bug_fails_alone(database: Database, error: type[BaseException]) -> None:
    def fail(connection: Connection) -> None:
        put_fact("half")(connection)
        raise error("a bug")

    results = await together(database, put_fact("a"), fail, put_fact("b"))
    assert results[::2] == ["a", "b"]
    # No coroutine can raise StopIteration, and a thread cannot end the program or cancel.
    assert isinstance(results[1], LookupError if error is LookupError else RuntimeError)
    assert await database.read(fact_names) == {"a", "b"}
    assert database.available


async def test_a_broken_constraint_fails_alone(database: Database) -> None:
    await database.write(put_fact("taken"))
    results = await together(database, put_fact("a"), put_fact("taken"), put_fact("b"))
    assert results[::2] == ["a", "b"]
    assert isinstance(results[1], IntegrityError)
    assert await database.read(fact_names) == {"a", "b", "taken"}
    assert database.available


KINDS = ("stored", "taken", "refused", "refused late", "bug")


@settings(deadline=None, max_examples=20)
@given(batches=lists(lists(sampled_from(KINDS), min_size=1, max_size=6), min_size=1, max_size=4))
def test_any_batch_ends_as_if_each_came_alone(batches: list[list[str]]) -> None:
    def call(name: str, kind: str) -> Write:
        def write(connection: Connection) -> str:
            if kind == "refused":
                raise NoSuchKey
            put_fact("taken" if kind == "taken" else name)(connection)
            if kind == "refused late":
                raise AccessDenied
            if kind == "bug":
                raise LookupError
            return name

        return write

    async def run(path: Path) -> None:
        place = DatabasePlace(path=path)
        database = await state_database.open_database(place, log=structlog.get_logger())
        expected = set()
        for number, kinds in enumerate(batches):
            names = [f"{number}-{place}" for place in range(len(kinds))]
            results = await together(database, *map(call, names, kinds))
            for name, kind, result in zip(names, kinds, results, strict=True):
                if kind == "stored" or (kind == "taken" and "taken" not in expected):
                    assert result == name
                    expected.add(name if kind == "stored" else kind)
                else:
                    errors = {"taken": IntegrityError, "refused": NoSuchKey, "bug": LookupError}
                    assert isinstance(result, errors.get(kind, AccessDenied))
            assert await database.read(fact_names) == expected
        await database.aclose()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(run(Path(directory) / "state.db"))


async def test_a_call_that_was_cancelled_while_it_waited_is_not_carried_out(
    database: Database,
) -> None:
    async with occupied(database):
        task = asyncio.create_task(database.write(put_fact("cancelled")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        other = asyncio.create_task(database.write(put_fact("other")))
        await asyncio.sleep(0)
    assert await other == "other"
    assert await database.read(fact_names) == {"other"}


async def test_a_call_that_is_cancelled_while_it_runs_holds_up_nothing(
    database: Database,
) -> None:
    entered, leave = threading.Event(), threading.Event()

    def write(connection: Connection) -> None:
        entered.set()
        assert leave.wait(20)
        put_fact("late")(connection)

    task = asyncio.create_task(database.write(write))
    await asyncio.to_thread(entered.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    leave.set()
    await database.write(put_fact("next"))
    assert await database.read(fact_names) == {"late", "next"}


async def test_callers_of_other_loops_are_answered(database: Database) -> None:
    def elsewhere(name: str) -> str:
        return asyncio.run(database.write(put_fact(name)))

    def abandoned() -> None:
        async def begin() -> asyncio.Task[str]:
            task = asyncio.create_task(database.write(put_fact("abandoned")))
            await asyncio.sleep(0)
            return task

        loop = asyncio.new_event_loop()
        tasks.append(loop.run_until_complete(begin()))
        loop.close()

    tasks: list[asyncio.Task[str]] = []
    async with occupied(database):
        calls: list[Awaitable[Any]] = [
            asyncio.create_task(asyncio.to_thread(elsewhere, name)) for name in ("a", "b")
        ]
        await asyncio.to_thread(abandoned)
        mine = asyncio.create_task(database.write(put_fact("mine")))
        await asyncio.sleep(0)
    assert await asyncio.gather(*calls, mine) == ["a", "b", "mine"]
    # Its loop is closed and nobody hears the answer; the others did.
    assert await database.read(fact_names) == {"a", "abandoned", "b", "mine"}
    tasks[0]._log_destroy_pending = False  # type: ignore[attr-defined]


async def test_a_writer_that_is_kept_waiting_gives_up(
    embedded_place: Any, open_database: OpenDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when another process was stopped in the middle of a commit."""
    database = await open_database(embedded_place)
    monkeypatch.setattr(committer, "PATIENCE", 0.2)
    stopped = Turnstile(embedded_place.path)
    try:
        with stopped.turn(), pytest.raises(StateUnavailable, match="busy"):
            await database.write(put_fact("given up"))
        monkeypatch.undo()
        await database.write(put_fact("next"))
    finally:
        stopped.close()
    # What was refused does not come true later.
    assert await database.read(fact_names) == {"next"}
