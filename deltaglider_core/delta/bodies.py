"""Streams of bytes: looking at the beginning, cutting, reading files."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

from ..errors import IntegrityError
from ..tasks import run_blocking

#: Bytes of a file per read: large enough that the hop to a thread does not matter.
BLOCK = 1024 * 1024


async def no_bytes() -> AsyncIterator[bytes]:
    """The body of an empty object."""
    nothing: tuple[bytes, ...] = ()
    for chunk in nothing:
        yield chunk


async def split_start(body: AsyncIterator[bytes], count: int) -> bytes:
    """Take chunks until they hold ``count`` bytes or the body ends; return them joined.

    At most one chunk more than ``count`` bytes is held.
    """
    start = b""
    async for chunk in body:
        start += chunk
        if len(start) >= count:
            break
    return start


async def chain(start: bytes, body: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield ``start``, then the rest of ``body``, which stays the caller's to close."""
    if start:
        yield start
    async for chunk in body:
        if chunk:
            yield chunk


async def file_chunks(path: Path, size: int) -> AsyncGenerator[bytes, None]:
    """Yield the first ``size`` bytes of a file.

    No descriptor is held between blocks: one that a thread opens for a task that is cancelled
    meanwhile would stay open for ever.

    Raises:
        IntegrityError: The file is shorter.
    """
    for position in range(0, size, BLOCK):
        length = min(BLOCK, size - position)
        block = await run_blocking(read_span, path, position, length)
        if len(block) != length:
            end = position + len(block)
            raise IntegrityError(f"spool file {path.name} ends at {end} of {size} bytes")
        yield block


def read_span(path: Path, offset: int, size: int) -> bytes:
    """Read ``size`` bytes at ``offset``; fewer only at the end of the file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        parts: list[bytes] = []
        while size:
            part = os.pread(handle, size, offset)
            if not part:
                break
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return b"".join(parts)
    finally:
        os.close(handle)


class ByteReader:
    """Exact reads from a stream of chunks of any size.

    Args:
        body: The stream; it is not closed by this class.
        start: Offset of its first byte, for error messages and ``position``.
    """

    def __init__(self, body: AsyncIterator[bytes], *, start: int = 0) -> None:
        self._body = body
        self._rest = memoryview(b"")
        self.position = start

    async def take(self, count: int) -> bytes:
        """The next ``count`` bytes. Raises ``IntegrityError`` if the stream ends before."""
        parts: list[memoryview] = []
        missing = count
        while missing:
            piece = await self._some(missing)
            parts.append(piece)
            missing -= len(piece)
        return parts[0].tobytes() if len(parts) == 1 else b"".join(parts)

    async def skip(self, count: int) -> None:
        """Drop ``count`` bytes. Raises ``IntegrityError`` if the stream ends before."""
        while count:
            count -= len(await self._some(count))

    async def rest(self) -> AsyncGenerator[bytes, None]:
        """Everything that follows."""
        while not await self._at_end():
            piece = await self._some(len(self._rest))
            yield piece.tobytes()

    async def _at_end(self) -> bool:
        while not self._rest:
            try:
                self._rest = memoryview(await anext(self._body))
            except StopAsyncIteration:
                return True
        return False

    async def _some(self, limit: int) -> memoryview:
        if await self._at_end():
            raise IntegrityError(f"stored bytes end at {self.position}, {limit} more are expected")
        piece, self._rest = self._rest[:limit], self._rest[limit:]
        self.position += len(piece)
        return piece
