"""Opening objects: whatever the stored form, the caller reads the object."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack

from ..errors import IntegrityError, InvalidRange
from ..interfaces.storage import ByteRange, ObjectReader, StorageBackend
from .bodies import ByteReader, chain, split_start
from .container import (
    PEEK,
    has_magic,
    head_length,
    index_frame_size,
    parse_head,
)
from .decoder import Decoder, RangedSource, Source, StreamSource
from .engine import Engine
from .forms import Stored, check_head, describe, describe_head, describe_verbatim, form_of
from .versions import ATTEMPTS, ChangedError, Versions

#: Bytes read behind the head with the head of a ranged read: the first group's index, and all
#: of a small delta.
_READ_AHEAD = index_frame_size(1024) + 4096

_PLAIN = ("verbatim", "assembled", "reference")


class ObjectOpener:
    """Reads of one backend."""

    def __init__(self, inner: StorageBackend, engine: Engine, versions: Versions) -> None:
        self._inner = inner
        self._engine = engine
        self._versions = versions

    async def open(
        self, bucket: str, key: str, byte_range: ByteRange | None = None
    ) -> ObjectReader:
        """Open an object; its first bytes have been checked when this returns.

        Raises:
            NoSuchBucket, NoSuchKey, InvalidRange
            ChangedError: It was overwritten again and again meanwhile.
            IntegrityError: What is stored cannot be trusted.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with AsyncExitStack() as stack:
                    if byte_range is None:
                        return await self._whole(stack, bucket, key)
                    return await self._range(stack, bucket, key, byte_range)
            except ChangedError:
                if attempt == ATTEMPTS:
                    raise
            except IntegrityError as error:
                self._report(bucket, key, error)
                raise
        raise AssertionError("unreachable")

    async def _whole(self, stack: AsyncExitStack, bucket: str, key: str) -> ObjectReader:
        physical = await self._inner.get_object(bucket, key)
        stack.push_async_callback(physical.aclose)
        chunks = aiter(physical)
        start = await split_start(chunks, PEEK)
        stored = describe(physical.info) if form_of(physical.info) is not None else None
        if stored is None and not has_magic(start):
            stored = describe_verbatim(physical.info)
        if stored is not None and stored.form in _PLAIN:
            _refuse_magic(stored, start)
            return _reader(stack, stored, chain(start, chunks), 0, stored.logical.size)
        data = ByteReader(chain(start, chunks))
        prefix = await data.take(PEEK)
        head = parse_head(prefix + await data.take(head_length(prefix) - PEEK))
        if stored is None:
            stored = describe_head(physical.info, head)
        else:
            check_head(stored, head)
        size = stored.logical.size
        if stored.form == "wrapped":
            return _reader(stack, stored, data.rest(), 0, size)
        decoder = Decoder(self._engine, self._inner, bucket, head)
        source = StreamSource(data, head.length)
        return await self._decoding(stack, bucket, stored, decoder, source, 0, size)

    async def _range(
        self, stack: AsyncExitStack, bucket: str, key: str, byte_range: ByteRange
    ) -> ObjectReader:
        """Ask for the range as it is first: that one request suffices for a verbatim object."""
        try:
            physical = await self._inner.get_object(bucket, key, byte_range=byte_range)
        except InvalidRange:
            stored = await self._versions.head(bucket, key)
            start, stop = byte_range.resolve(stored.logical.size)
            if stored.form in _PLAIN:
                raise ChangedError from None
            return await self._stored_range(stack, bucket, stored, start, stop)
        async with AsyncExitStack() as first:
            first.push_async_callback(physical.aclose)
            chunks: AsyncIterator[bytes] = aiter(physical)
            if form_of(physical.info) is not None:
                stored = describe(physical.info)
            elif physical.info.size < PEEK:
                stored = describe_verbatim(physical.info)
            else:
                stored = await self._versions.peek(bucket, key)
                if stored.physical.etag != physical.info.etag:
                    raise ChangedError
            if stored.form in _PLAIN:
                if physical.start == 0:
                    begin = await split_start(chunks, PEEK)
                    _refuse_magic(stored, begin)
                    chunks = chain(begin, chunks)
                stack.push_async_callback(first.pop_all().aclose)
                return _reader(stack, stored, chunks, physical.start, physical.stop)
        start, stop = byte_range.resolve(stored.logical.size)
        return await self._stored_range(stack, bucket, stored, start, stop)

    async def _stored_range(
        self, stack: AsyncExitStack, bucket: str, stored: Stored, start: int, stop: int
    ) -> ObjectReader:
        """A range of a delta or of wrapped bytes."""
        key, pinned = stored.physical.key, stored.physical.etag
        wanted = stored.head + (_READ_AHEAD if stored.form == "delta" else 0)
        try:
            info, begin = await self._versions.start_of(bucket, key, wanted)
        except InvalidRange as error:
            raise ChangedError from error
        if info.etag != pinned:
            raise ChangedError
        head = await self._versions.read_head(bucket, info, begin)
        check_head(stored, head)
        source = RangedSource(self._inner, bucket, info, begin, head.length)
        stack.push_async_callback(source.aclose)
        if stored.form == "wrapped":
            data = await source.at(start, stop - start)
            return _reader(stack, stored, data.rest(), start, stop)
        decoder = Decoder(self._engine, self._inner, bucket, head)
        return await self._decoding(stack, bucket, stored, decoder, source, start, stop)

    async def _decoding(
        self,
        stack: AsyncExitStack,
        bucket: str,
        stored: Stored,
        decoder: Decoder,
        source: Source,
        start: int,
        stop: int,
    ) -> ObjectReader:
        """Decode the first window before anything is promised to the client."""
        decoded = decoder.read(source, start, stop)
        stack.push_async_callback(decoded.aclose)
        first = await anext(decoded)
        chunks = self._watched(bucket, stored.physical.key, chain(first, decoded))
        return _reader(stack, stored, chunks, start, stop)

    async def _watched(
        self, bucket: str, key: str, chunks: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in chunks:
                yield chunk
        except IntegrityError as error:
            self._report(bucket, key, error)
            raise

    def _report(self, bucket: str, key: str, error: IntegrityError) -> None:
        self._engine.log.error("object_unreadable", bucket=bucket, key=key, reason=error.text)


def _refuse_magic(stored: Stored, start: bytes) -> None:
    # A reference is never a client's object here, but a copy of one by hand may be.
    if stored.form == "verbatim" and has_magic(start):
        raise IntegrityError("metadata says verbatim, but the bytes begin with our magic")


def _reader(
    stack: AsyncExitStack, stored: Stored, chunks: AsyncIterator[bytes], start: int, stop: int
) -> ObjectReader:
    """A reader that closes what ``stack`` holds; without it, ``stack`` closes it itself."""
    held = stack.pop_all()
    return ObjectReader(stored.logical, chunks, start=start, stop=stop, close=held.aclose)
