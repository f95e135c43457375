"""Decoding a delta: stored bytes in, checked bytes of the object out."""

from __future__ import annotations

import asyncio
import bisect
import hashlib
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Protocol

from ..errors import CorruptDelta, IntegrityError, InvalidRange, ServiceUnavailable
from ..interfaces.codec import Codec
from ..interfaces.storage import ByteRange, ObjectInfo, ObjectReader, StorageBackend
from ..tasks import cancel_all, run_blocking
from .bodies import ByteReader
from .cache import ReferenceFile
from .container import Head, Window, parse_index
from .engine import Engine
from .forms import missing_codec
from .versions import ChangedError

#: Windows in work at once: one is sent while the next is decoded.
_AT_ONCE = 2

_CACHE_DAMAGED = "A cached file was damaged on the local disk. Please retry."


class Source(Protocol):
    """Where stored bytes come from; offsets count from the end of the head."""

    async def at(self, offset: int, length: int) -> ByteReader:
        """A reader for ``length`` bytes at ``offset``; ends the use of the one before."""


class StreamSource:
    """All stored bytes in one stream, read forwards.

    Args:
        reader: Stands at the end of the head.
        head: Length of the head.
    """

    def __init__(self, reader: ByteReader, head: int) -> None:
        self._reader = reader
        self._head = head

    async def at(self, offset: int, length: int) -> ByteReader:
        await self._reader.skip(self._head + offset - self._reader.position)
        return self._reader


class RangedSource:
    """Ranged reads of one version, which its ETag pins.

    Args:
        info: The version, as the backend reports it.
        start: Its first bytes, already read; at least the head.
        head: Length of the head.
    """

    def __init__(
        self, inner: StorageBackend, bucket: str, info: ObjectInfo, start: bytes, head: int
    ) -> None:
        self._inner = inner
        self._bucket = bucket
        self._info = info
        self._start = start
        self._head = head
        self._open: ObjectReader | None = None

    async def at(self, offset: int, length: int) -> ByteReader:
        """See ``Source``. Raises ``ChangedError`` if another version is there now."""
        first = self._head + offset
        if first + length <= len(self._start):
            return ByteReader(_once(self._start[first : first + length]), start=first)
        await self.aclose()
        span = ByteRange(first=first, last=first + length - 1)
        try:
            reader = await self._inner.get_object(self._bucket, self._info.key, byte_range=span)
        except InvalidRange as error:
            raise ChangedError from error
        self._open = reader
        if reader.info.etag != self._info.etag:
            raise ChangedError
        return ByteReader(aiter(reader), start=first)

    async def aclose(self) -> None:
        """End the read under way."""
        if self._open is not None:
            reader, self._open = self._open, None
            await reader.aclose()


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


@dataclass(frozen=True, kw_only=True, slots=True)
class _Piece:
    """A window as stored, and where it begins in the object."""

    window: Window
    start: int
    data: bytes


class Decoder:
    """Decodes one object.

    Raises:
        IntegrityError: The object is no delta, or its codec is not installed.
    """

    def __init__(self, engine: Engine, inner: StorageBackend, bucket: str, head: Head) -> None:
        if head.record.delta is None or head.record.size is None:
            raise IntegrityError("object is not a delta")
        codec = engine.codecs.get(head.record.delta.codec)
        if codec is None:
            raise missing_codec(head.record.delta.codec)
        self._codec: Codec = codec
        self._delta = head.record.delta
        self._size: int = head.record.size
        self._engine = engine
        self._inner = inner
        self._bucket = bucket
        self._head = head
        self._seconds = 0.0

    async def read(self, source: Source, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes ``[start, stop)`` of the object, every one checked.

        No byte leaves before its window matched its SHA-256. Where all of the object is read
        and its SHA-256 is known, the last window is held back until that matched, too.

        Raises:
            IntegrityError: Something stored is damaged or missing.
            ChangedError: The object was overwritten between two requests, or what was damaged
                is the copy of the reference in the cache, which is gone now.
            ServiceUnavailable: The cache directory has no room for the reference.
        """
        try:
            async with AsyncExitStack() as stack:
                reference = await self._reference(stack)
                try:
                    decoded = self._decoded(reference, source, start, stop)
                    async with aclosing(decoded) as chunks:
                        async for chunk in chunks:
                            yield chunk
                except CorruptDelta as error:
                    if await self._engine.cache.drop_if_damaged(reference):
                        raise ChangedError(_CACHE_DAMAGED) from error
                    raise
        finally:
            self._engine.metrics.decode.observe(self._seconds)

    async def _reference(self, stack: AsyncExitStack) -> ReferenceFile:
        opened = self._engine.reference(self._inner, self._bucket, self._delta.reference)
        try:
            return await stack.enter_async_context(opened)
        except OSError as error:
            raise ServiceUnavailable("There is no room to decode this object. Retry.") from error

    async def _decoded(
        self, reference: ReferenceFile, source: Source, start: int, stop: int
    ) -> AsyncGenerator[bytes, None]:
        known = self._head.record.sha256
        whole = hashlib.sha256() if known is not None and (start, stop) == (0, self._size) else None
        pending: deque[tuple[_Piece, asyncio.Future[tuple[bytes, float]]]] = deque()

        async def finish() -> bytes:
            piece, task = pending[0]
            data, seconds = await task
            pending.popleft()
            self._seconds += seconds
            if whole is not None:
                await run_blocking(whole.update, data)
                if piece.start + len(data) == stop and whole.hexdigest() != known:
                    raise IntegrityError("object does not match its SHA-256")
            if start <= piece.start and piece.start + len(data) <= stop:
                return data
            return data[max(0, start - piece.start) : stop - piece.start]

        try:
            async with aclosing(self._pieces(source, start, stop)) as pieces:
                async for piece in pieces:
                    work = run_blocking(self._decode, reference, piece)
                    pending.append((piece, asyncio.ensure_future(work)))
                    if len(pending) == _AT_ONCE:
                        yield await finish()
            while pending:
                yield await finish()
        finally:
            await cancel_all([task for _, task in pending])

    async def _pieces(self, source: Source, start: int, stop: int) -> AsyncGenerator[_Piece, None]:
        """Read the windows that ``[start, stop)`` touches, in order."""
        groups = self._head.groups
        number = bisect.bisect_right(groups, start, key=lambda group: group.start) - 1
        while number < len(groups) and groups[number].start < stop:
            group = groups[number]
            reader = await source.at(group.offset, group.frame_size)
            index = parse_index(self._head, number, await reader.take(group.frame_size))
            touched: list[tuple[int, Window]] = []
            position = group.start
            for window in index:
                if position < stop and position + window.size > start:
                    touched.append((position, window))
                position += window.size
            first, last = touched[0][1], touched[-1][1]
            length = last.offset + last.stored - first.offset
            reader = await source.at(first.offset, length)
            for position, window in touched:
                yield _Piece(window=window, start=position, data=await reader.take(window.stored))
            number += 1

    def _decode(self, reference: ReferenceFile, piece: _Piece) -> tuple[bytes, float]:
        """Decode and check one window; also return the seconds it took."""
        began = time.perf_counter()
        try:
            data = self._codec.decode_window(reference.data, piece.data, size=piece.window.size)
        except IntegrityError:
            raise
        except Exception as error:
            raise CorruptDelta(f"codec {self._codec.codec_id} failed: {error}") from error
        if len(data) != piece.window.size:
            raise CorruptDelta("window has another length than the index says")
        if hashlib.sha256(data).digest() != piece.window.sha256:
            raise CorruptDelta("window does not match its SHA-256")
        return data, time.perf_counter() - began
