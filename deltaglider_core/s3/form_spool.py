"""The file of a form, taken in whole before it is stored.

How long it is shows only at its end: the length of the request includes what follows the file.
Quotas and deltas need the size before the first byte, so the file waits in the spool until then.
What fits into one block does not: it waits in memory.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ..delta.bodies import file_chunks
from ..errors import SlowDown
from ..interfaces.storage import Body
from ..services import Spool, run_blocking
from .payload import BLOCK_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeFile:
    """A complete file: its bytes, once, and their number."""

    body: Body
    size: int


@asynccontextmanager
async def whole_file(
    source: AsyncIterator[bytes], spool: Spool | None, *, most: int
) -> AsyncGenerator[WholeFile, None]:
    """Read ``source`` to its end and keep it until the block ends.

    Args:
        most: Bytes that it cannot exceed; so much of the spool is reserved.

    Raises:
        SlowDown: The spool has no room, and nothing else is wrong with the request.
    """
    start = bytearray()
    async for piece in source:
        start += piece
        if len(start) > BLOCK_BYTES:
            break
    else:
        yield WholeFile(body=_one(bytes(start)), size=len(start))
        return
    lease = spool.try_reserve(most) if spool is not None else None
    if lease is None:
        raise _no_room()
    try:
        path = lease.path("file")
        size = await _write(path, start, source)
        yield WholeFile(body=file_chunks(path, size), size=size)
    finally:
        await run_blocking(lease.close)


async def _write(path: Path, start: bytearray, source: AsyncIterator[bytes]) -> int:
    block, size = start, 0

    async def flush() -> None:
        try:
            await run_blocking(_append, path, bytes(block))
        except OSError as error:
            raise _no_room() from error

    async for piece in source:
        block += piece
        if len(block) >= BLOCK_BYTES:
            await flush()
            size += len(block)
            block.clear()
    await flush()
    return size + len(block)


def _append(path: Path, block: bytes) -> None:
    with open(path, "ab", buffering=0) as file:
        view = memoryview(block)
        while view:
            view = view[file.write(view) :]


async def _one(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data


def _no_room() -> SlowDown:
    return SlowDown(
        "There is no room for temporary files (advanced.spool_max_bytes, advanced.spool_dir), "
        "which a form upload of this size needs. Please retry."
    )


__all__ = ["WholeFile", "whole_file"]
