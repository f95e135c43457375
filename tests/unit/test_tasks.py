"""Threads end before what they use goes away, also when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from deltaglider_core.tasks import cancel_all, run_blocking
from deltaglider_core.testing import services_for_tests


class Work:
    """Something that blocks until it is told to end."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun, self.finish, self.ended = (threading.Event() for _ in range(3))
        self._error = error

    def __call__(self) -> str:
        self.begun.set()
        assert self.finish.wait(10)
        self.ended.set()
        if self._error is not None:
            raise self._error
        return "done"


async def test_results_errors_and_arguments_pass_through() -> None:
    assert await run_blocking(int, "11", base=2) == 3
    with pytest.raises(ZeroDivisionError):
        await run_blocking(divmod, 1, 0)


@pytest.mark.parametrize("error", [None, ZeroDivisionError()])
async def test_a_cancelled_caller_waits_for_the_thread(error: Exception | None) -> None:
    work = Work(error)
    task = asyncio.create_task(run_blocking(work))
    await asyncio.to_thread(work.begun.wait, 10)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    work.finish.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended.is_set()


async def test_a_timeout_waits_for_the_thread() -> None:
    work = Work()

    async def limited() -> None:
        async with asyncio.timeout(0.01):
            await run_blocking(work)

    task = asyncio.create_task(limited())
    await asyncio.to_thread(work.begun.wait, 10)
    done, _ = await asyncio.wait([task], timeout=0.1)
    assert not done
    work.finish.set()
    with pytest.raises(TimeoutError):
        await task
    assert work.ended.is_set()


async def test_what_plugins_are_given_waits_as_well(tmp_path: Path) -> None:
    work = Work()
    task = asyncio.create_task(services_for_tests(tmp_path).run_blocking(work))
    await asyncio.to_thread(work.begun.wait, 10)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=0.05)
    assert not done
    work.finish.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended.is_set()


async def test_cancelling_all_waits_for_all() -> None:
    cleaned: list[int] = []

    async def work(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(number)
            if number == 1:
                raise ZeroDivisionError

    tasks = [asyncio.create_task(work(number)) for number in range(3)]
    await asyncio.sleep(0)
    await cancel_all(tasks)
    assert sorted(cleaned) == [0, 1, 2]
    await cancel_all([])
