"""The time that an answer may take.

Only the time counts in which the client waits: while it sends the body, its pace is watched
instead (``wire.py``), and once the answer has begun, the pace at which it reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from ..errors import GatewayTimeout
from ..tasks import cancel_all
from .response import S3Response
from .wire import Exchange

#: A body that was received may have to be encoded and stored before there is an answer, which
#: takes time in proportion to it. Bytes per second that the slowest plausible storage takes.
STORED_BYTES_PER_SECOND = 4 * 1024 * 1024
#: Seconds that cancelled work has to end before the client is told. Work in a thread cannot be
#: stopped; the request then keeps its place and its pipeline until that thread has ended.
CANCEL_SECONDS = 1.0


async def answer_in_time(
    work: Coroutine[Any, Any, S3Response], exchange: Exchange, seconds: float
) -> S3Response:
    """Run the work of a request; cancel it if no answer comes in time.

    Args:
        seconds: From the last byte that the client sent; more for a large body.

    Raises:
        GatewayTimeout: No answer came. The work was cancelled, which undoes what it began; it
            ends before ``exchange`` does.
    """
    loop = asyncio.get_running_loop()
    body = exchange.body
    task = asyncio.ensure_future(work)
    started = loop.time()
    try:
        while True:
            allowed = seconds + body.received_bytes / STORED_BYTES_PER_SECOND
            # While the client is waited for, this only looks again later.
            left = max(started, body.last_event) + allowed - loop.time()
            if body.waiting:
                left = max(left, allowed)
            elif left <= 0:
                break
            done, _ = await asyncio.wait({task}, timeout=left)
            if done:
                return task.result()
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=CANCEL_SECONDS)
    except asyncio.CancelledError:
        await cancel_all([task])
        raise
    if done and not task.cancelled():
        return task.result()
    if not done:
        exchange.hold_place()
        exchange.resources.push_async_callback(_ended, task)
    raise GatewayTimeout


async def _ended(task: asyncio.Task[S3Response]) -> None:
    """Wait until late work has ended; nobody gets its answer."""
    await asyncio.wait({task})
    if task.cancelled() or task.exception() is not None:
        return
    stream = task.result().stream
    aclose = getattr(stream, "aclose", None)
    if aclose is not None:
        await aclose()


__all__ = ["answer_in_time"]
