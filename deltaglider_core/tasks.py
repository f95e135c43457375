"""Threads and tasks that never outlive what they use.

A cancelled ``await`` of a thread leaves the thread running. Where that thread reads a map, a
codec's index or a descriptor that the cancelled request frees next, the process dies or, worse,
writes into a file that reused the descriptor. So whoever is cancelled waits for its threads and
tasks to end before it passes the cancellation on.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def run_blocking(function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Run a blocking function on the worker threads and return its result.

    A thread cannot be stopped: a cancelled caller waits until the function has ended, and only
    then sees its ``CancelledError``. What the function returns or raises is dropped in that case.
    """
    call = functools.partial(function, *args, **kwargs)
    work = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await _ended([work])
        raise


async def cancel_all(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait until every one has ended; their results are dropped."""
    pending = list(tasks)
    for task in pending:
        task.cancel()
    await _ended(pending)


async def bounded_map(
    function: Callable[[T], Awaitable[R]], items: Iterable[T], *, limit: int
) -> list[R]:
    """Apply ``function`` to all items, ``limit`` at a time; results in order.

    The first error ends the rest and propagates as it is.
    """
    gate = asyncio.Semaphore(limit)

    async def one(item: T) -> R:
        async with gate:
            return await function(item)

    tasks = [asyncio.ensure_future(one(item)) for item in items]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await cancel_all(tasks)


async def _ended(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Wait for tasks to end whatever happens to the waiter; re-raise its cancellation last."""
    cancelled: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            cancelled = error
    for task in tasks:
        if not task.cancelled():
            task.exception()  # marks it as retrieved
    if cancelled is not None:
        raise cancelled


__all__ = ["bounded_map", "cancel_all", "run_blocking"]
