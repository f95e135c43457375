"""Threads and tasks end before what they use goes away."""

from __future__ import annotations

import asyncio
import threading

import pytest

from deltaglider_core.tasks import bounded_map, cancel_all, run_blocking


async def test_a_result_and_an_error_come_back() -> None:
    assert await run_blocking(max, 1, 2) == 2
    with pytest.raises(ZeroDivisionError):
        await run_blocking(divmod, 1, 0)


async def test_a_cancelled_wait_ends_after_the_thread() -> None:
    started, finish, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        finish.wait(10)
        ended.set()

    task = asyncio.create_task(run_blocking(work))
    await asyncio.to_thread(started.wait, 10)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    finish.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_an_error_of_a_cancelled_thread_is_dropped() -> None:
    started, finish = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        finish.wait(10)
        raise ZeroDivisionError

    task = asyncio.create_task(run_blocking(work))
    await asyncio.to_thread(started.wait, 10)
    task.cancel()
    finish.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelling_all_waits_for_all() -> None:
    cleaned: list[int] = []

    async def work(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(number)

    tasks = [asyncio.create_task(work(number)) for number in range(3)]
    await asyncio.sleep(0)
    await cancel_all(tasks)
    assert sorted(cleaned) == [0, 1, 2]
    await cancel_all([])


async def test_a_map_keeps_order_and_its_limit() -> None:
    running = most = 0

    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return number * 2

    assert await bounded_map(work, range(20), limit=3) == [number * 2 for number in range(20)]
    assert most == 3
    assert await bounded_map(work, [], limit=3) == []


async def test_the_first_error_ends_a_map() -> None:
    ended: list[int] = []

    async def work(number: int) -> None:
        try:
            if number == 1:
                raise ZeroDivisionError
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    with pytest.raises(ZeroDivisionError):
        await bounded_map(work, range(3), limit=3)
    assert sorted(ended) == [0, 1, 2]
