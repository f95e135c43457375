"""An upload on its way into a spool file, hashed as it arrives."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import IncompleteBody
from ..tasks import run_blocking
from .bodies import BLOCK, file_chunks
from .container import PEEK


@dataclass(frozen=True, kw_only=True, slots=True)
class Spooled:
    """A complete body in a file. Digests in hex; ``start`` is its first ``PEEK`` bytes."""

    path: Path
    size: int
    sha256: str
    md5: str
    start: bytes

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes."""
        return file_chunks(self.path, self.size)


class SpoolFullError(Exception):
    """The disk took no more; ``rest`` yields the whole body, from the file and onwards."""

    def __init__(self, rest: AsyncIterator[bytes]) -> None:
        self.rest = rest
        super().__init__("the spool is full")


class _Writer:
    """Appends blocks to a file and hashes them; runs on worker threads, one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.start = b""
        self.sha256 = hashlib.sha256()
        self.md5 = hashlib.md5(usedforsecurity=False)

    def append(self, block: bytes) -> None:
        """Append it whole, or raise ``OSError`` with ``size`` as before."""
        with open(self.path, "ab", buffering=0) as file:
            view = memoryview(block)
            while view:
                view = view[file.write(view) :]
        self.sha256.update(block)
        self.md5.update(block)
        if len(self.start) < PEEK:
            self.start = (self.start + block[:PEEK])[:PEEK]
        self.size += len(block)


async def spool_body(body: AsyncIterator[bytes], path: Path, size: int) -> Spooled:
    """Write a body of ``size`` bytes to a new file.

    Raises:
        IncompleteBody: It has another length. Errors of ``body`` propagate.
        SpoolFullError: The file system refused a block; nothing of the body is lost.
    """
    writer = _Writer(path)
    block = bytearray()
    received = 0

    async def flush() -> None:
        try:
            await run_blocking(writer.append, bytes(block))
        except OSError as error:
            rest = _continued(path, writer.size, bytes(block), body)
            raise SpoolFullError(rest) from error
        block.clear()

    # An OSError of the body itself (a lost connection) must stay what it is.
    async for chunk in body:
        received += len(chunk)
        if received > size:
            raise IncompleteBody()
        block += chunk
        if len(block) >= BLOCK:
            await flush()
    if received != size:
        raise IncompleteBody()
    await flush()
    return Spooled(
        path=path,
        size=size,
        sha256=writer.sha256.hexdigest(),
        md5=writer.md5.hexdigest(),
        start=writer.start,
    )


async def _continued(
    path: Path, written: int, block: bytes, body: AsyncIterator[bytes]
) -> AsyncGenerator[bytes, None]:
    if written:
        async for chunk in file_chunks(path, written):
            yield chunk
    if block:
        yield block
    async for chunk in body:
        yield chunk
