"""A read that is never answered holds up neither its caller, nor others, nor the end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection
from structlog.testing import capture_logs
from support.state import OpenDatabase, fact_names, put_fact

from deltaglider_core.state import database as module
from deltaglider_core.state.database import Database
from deltaglider_core.state.errors import StateUnavailable
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.readers import Readers
from deltaglider_core.state.store import READERS

Hang = Callable[[Connection], None]


@pytest.fixture
def hang() -> Iterator[Hang]:
    """A function that does not end before the test does."""
    end = threading.Event()

    def function(connection: Connection) -> None:
        end.wait()

    yield function
    end.set()


async def test_it_is_given_up(
    database: Database, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.write(put_fact("there"))
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    began = time.monotonic()
    with pytest.raises(StateUnavailable, match="busy for too long"):
        await database.read(hang)
    assert time.monotonic() - began < 5
    # The other threads go on, and so do writes.
    assert await database.read(fact_names) == {"there"}
    await database.write(put_fact("another"))


async def test_what_has_not_begun_never_does(
    database: Database, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    begun = []
    results = await asyncio.gather(
        *(database.read(hang) for _ in range(READERS)),
        database.read(lambda connection: begun.append(1)),
        return_exceptions=True,
    )
    assert all(isinstance(result, StateUnavailable) for result in results)
    assert begun == []


async def test_a_cancelled_read_does_not_begin(database: Database, hang: Hang) -> None:
    hanging = [asyncio.create_task(database.read(hang)) for _ in range(READERS)]
    begun = []
    late = asyncio.create_task(database.read(lambda connection: begun.append(1)))
    await asyncio.sleep(0)  # all are with the threads now
    for task in (late, *hanging):
        task.cancel()
    results = await asyncio.gather(late, *hanging, return_exceptions=True)
    assert {type(result) for result in results} == {asyncio.CancelledError}
    assert begun == []


async def test_the_end_does_not_wait_for_ever(
    place: DatabasePlace, open_database: OpenDatabase, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.2)
    database = await open_database(place)
    with pytest.raises(StateUnavailable):
        await database.read(hang)
    began = time.monotonic()
    with capture_logs() as logs:
        await database.aclose()
    assert time.monotonic() - began < 5
    assert [entry["log_level"] for entry in logs] == ["error"]


def test_threads_outlive_what_functions_raise() -> None:
    def fail() -> None:
        raise SystemExit

    readers = Readers(1)
    with pytest.raises(SystemExit):
        readers.submit(fail).result(5)
    assert readers.submit(lambda: "value").result(5) == "value"
    assert readers.close(5)


def test_threads_are_no_reason_to_stay(hang: Hang) -> None:
    """The interpreter joins all others at its end."""
    readers = Readers(2)
    assert [
        thread.daemon for thread in threading.enumerate() if "state-reader" in thread.name
    ].count(False) == 0
    assert readers.close(5)
