"""Bytes out of opened objects."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

from deltaglider_core.errors import IntegrityError, NoSuchKey
from deltaglider_core.interfaces.storage import ByteRange, ObjectInfo, ObjectReader

from .directories import Descriptor, Root
from .objects import open_object
from .paths import key_bytes
from .threads import in_thread

#: Large enough that the hop to a thread (some 50 us) does not count.
BLOCK = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """An object opened for reading; ``data`` is there instead of a file if it is small."""

    info: ObjectInfo
    start: int
    stop: int
    file: Descriptor | None
    data: bytes = b""

    def discard(self) -> None:
        """Close the file of an object that nobody is going to read."""
        if self.file is not None:
            self.file.close()


def open_for_reading(root: Root, bucket: str, key: str, byte_range: ByteRange | None) -> Opened:
    """Open an object and, if it is small, read it: one hop to a thread for most objects.

    Raises:
        NoSuchBucket, NoSuchKey, InvalidRange
    """
    names = root.codec.key_names(key_bytes(key))
    with root.open_bucket(bucket) as opened_bucket:
        found = open_object(opened_bucket, key, names)
    if found is None:
        raise NoSuchKey(fields={"Key": key})
    file, info = Descriptor(found[0]), found[1]
    try:
        start, stop = (0, info.size) if byte_range is None else byte_range.resolve(info.size)
        if stop - start > BLOCK:
            return Opened(info=info, start=start, stop=stop, file=file)
        data = _read(file, start, stop)
        while len(data) < stop - start:
            data += _read(file, start + len(data), stop)
    except BaseException:
        file.close()
        raise
    file.close()
    return Opened(info=info, start=start, stop=stop, file=None, data=data)


def reader(opened: Opened) -> ObjectReader:
    """The reader of an opened object, which now owns the file."""

    async def close() -> None:
        if opened.file is not None and not opened.file.closed:
            await in_thread(opened.discard)

    chunks = _chunks(opened)
    return ObjectReader(opened.info, chunks, start=opened.start, stop=opened.stop, close=close)


async def _chunks(opened: Opened) -> AsyncIterator[bytes]:
    if opened.file is None:
        if opened.data:
            yield opened.data
        return
    try:
        position = opened.start
        while position < opened.stop:
            block = await in_thread(_read, opened.file, position, opened.stop)
            position += len(block)
            yield block
    finally:
        # The descriptor goes back at the end of the bytes, not when somebody comes to close.
        await in_thread(opened.discard)


def _read(file: Descriptor, position: int, stop: int) -> bytes:
    """At most a block; an end before ``stop`` is damage, never a short object."""
    if position == stop:
        return b""
    block = os.pread(file.fd, min(BLOCK, stop - position), position)
    if not block:
        raise IntegrityError("The file of an object became shorter while it was read.")
    return block
