"""How the engine runs threads and tasks; see ``deltaglider_core.tasks`` for why it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from ..tasks import cancel_all
from ..tasks import run_blocking as run_owned

T = TypeVar("T")
R = TypeVar("R")


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


__all__ = ["bounded_map", "cancel_all", "run_owned"]
