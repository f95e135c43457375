"""Blocking work on worker threads, safe to cancel."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, TypeVar

from .oserrors import translate

T = TypeVar("T")


async def in_thread(
    function: Callable[..., T], /, *args: Any, discard: Callable[[T], object] | None = None
) -> T:
    """Run ``function(*args)`` on a worker thread; an ``OSError`` becomes an S3 error.

    A thread cannot be stopped. A cancelled caller therefore waits until it has ended: only
    then may descriptors be closed, since a number closed too early is reused at once and the
    thread would write into a stranger's file.

    Args:
        discard: Frees a result that nobody will receive, because the caller was cancelled.
    """
    loop = asyncio.get_running_loop()
    future = loop.run_in_executor(None, functools.partial(function, *args))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await _settled(future)
        if discard is not None and not future.cancelled() and future.exception() is None:
            await _settled(loop.run_in_executor(None, discard, future.result()))
        raise
    except OSError as error:
        raise translate(error) from error


async def _settled(future: asyncio.Future[Any]) -> None:
    """Wait for the end of ``future``, however often the waiting task is cancelled."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
