"""Waiting for a condition inside an event loop."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

from .samples import POLL_SECONDS, WAIT_SECONDS


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]], what: str, seconds: float = WAIT_SECONDS
) -> None:
    """Return as soon as ``condition`` holds; fail with ``what`` if it never does."""
    deadline = time.monotonic() + seconds
    while True:
        holds = condition()
        if inspect.isawaitable(holds):
            holds = await holds
        if holds:
            return
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(POLL_SECONDS)
