"""The file of a form, taken in whole before it is stored.

How long it is shows only at its end: the length of the request includes what follows the file.
Quotas and deltas need the size before the first byte, so the file waits in the spool until then.
What fits into one block does not: it waits in memory.

Room in the spool is taken as the file comes in. Its length is only a claim until then, which
would keep others out for nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ..delta.bodies import file_chunks
from ..errors import SlowDown
from ..interfaces.storage import Body
from ..services import Spool, SpoolLease, run_blocking
from .payload import BLOCK_BYTES

#: Most bytes that are reserved ahead of what has come.
STEP_BYTES = 64 * 1024 * 1024


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
        most: Bytes that it cannot exceed.

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
    if spool is None or most > spool.max_bytes:
        raise _no_room()
    lease = spool.try_reserve(0)
    if lease is None:
        raise _no_room()
    try:
        path = lease.path("file")
        size = await _write(lease, path, start, source, most)
        yield WholeFile(body=file_chunks(path, size), size=size)
    finally:
        await run_blocking(lease.close)


async def _write(
    lease: SpoolLease, path: Path, start: bytearray, source: AsyncIterator[bytes], most: int
) -> int:
    """Write ``start`` and the rest of ``source``; the size of both."""
    block, size = start, 0

    async def flush() -> None:
        nonlocal size
        size += len(block)
        try:
            await run_blocking(_append, lease, path, bytes(block), size, most)
        except OSError as error:
            raise _no_room() from error
        block.clear()

    async for piece in source:
        block += piece
        if len(block) >= BLOCK_BYTES:
            await flush()
    await flush()
    return size


def _append(lease: SpoolLease, path: Path, block: bytes, size: int, most: int) -> None:
    """Append a block, with which the file has ``size`` bytes of at most ``most``."""
    if size > lease.size:
        # In steps, of which a large file needs few, and a small one none that is far too large.
        wanted = max(size, min(size + min(size, STEP_BYTES), most))
        if not lease.try_extend(wanted - lease.size):
            raise _no_room()
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
