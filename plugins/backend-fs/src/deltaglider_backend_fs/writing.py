"""Bytes into new objects: uploads and copies."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from datetime import datetime

from deltaglider_core.errors import (
    IncompleteBody,
    NoSuchKey,
    PreconditionFailed,
    ServiceUnavailable,
)
from deltaglider_core.interfaces.storage import Body, Condition, ObjectInfo, ObjectMetadata

from . import linux
from .atomic import TempFile
from .commit import commit
from .directories import Descriptor, Root
from .objects import from_ns, open_object
from .paths import Names, key_bytes
from .threads import in_thread

#: Bytes gathered before a hop to a thread; an object below it takes a single one.
BLOCK = 1024 * 1024
#: Bytes copied in one hop, after which a cancelled copy ends.
_COPY_BLOCK = 64 * 1024 * 1024

_NO_KERNEL_COPY = frozenset(
    {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.ETXTBSY}
)


class Upload:
    """One object on its way in.

    Args:
        now: The clock; asked when the body is complete.
    """

    def __init__(
        self,
        root: Root,
        bucket: str,
        key: str,
        *,
        metadata: ObjectMetadata,
        condition: Condition | None,
        now: Callable[[], datetime],
    ) -> None:
        self._root = root
        self._bucket = bucket
        self._key = key
        self._names: Names = root.codec.key_names(key_bytes(key))
        self._metadata = metadata
        self._condition = condition
        self._now = now
        self._temp: TempFile | None = None

    async def store(self, body: Body, size: int | None) -> ObjectInfo:
        """Take the whole body and commit; leaves no trace if anything fails."""
        try:
            pending = bytearray()
            received = 0
            async for chunk in body:
                received += len(chunk)
                if size is not None and received > size:
                    raise IncompleteBody
                pending += chunk
                if len(pending) >= BLOCK:
                    await in_thread(self._write, pending)
                    pending = bytearray()
            if size is not None and received != size:
                raise IncompleteBody
            return await in_thread(self._finish, pending)
        finally:
            if self._temp is not None and not self._temp.closed:
                await in_thread(self._temp.discard)

    def _write(self, block: bytearray) -> TempFile:
        if self._temp is None:
            self._temp = TempFile(self._root.open_bucket(self._bucket))
        self._temp.write(block)
        return self._temp

    def _finish(self, block: bytearray) -> ObjectInfo:
        temp = self._write(block)
        try:
            metadata = self._metadata.completed()
            return finish(temp, self._key, self._names, metadata, self._condition, self._now())
        finally:
            temp.discard()


class Copy:
    """A copy within the root; the bytes do not pass through this process if the kernel can help."""

    def __init__(self, root: Root, source_bucket: str, source_key: str, bucket: str, key: str):
        self._root = root
        self._source_bucket = source_bucket
        self._source_key = source_key
        self._source_names: Names = root.codec.key_names(key_bytes(source_key))
        self._bucket = bucket
        self._key = key
        self._names: Names = root.codec.key_names(key_bytes(key))
        self._source: Descriptor | None = None
        self._temp: TempFile | None = None

    async def run(
        self,
        *,
        source_etag: str | None,
        metadata: ObjectMetadata | None,
        condition: Condition | None,
        now: Callable[[], datetime],
    ) -> ObjectInfo:
        """Copy and commit. The ETag is the source's: the bytes are the same."""
        try:
            info = await in_thread(self._open, source_etag)
            position = await in_thread(self._clone, info.size)
            while position < info.size:
                position += await in_thread(self._copy, position, info.size)
            return await in_thread(self._finish, info, metadata, condition, now)
        finally:
            await in_thread(self._close)

    def _open(self, source_etag: str | None) -> ObjectInfo:
        with self._root.open_bucket(self._source_bucket) as bucket:
            found = open_object(bucket, self._source_key, self._source_names)
        if found is None:
            raise NoSuchKey(fields={"Key": self._source_key})
        self._source = Descriptor(found[0])
        if source_etag is not None and source_etag not in ("*", found[1].etag):
            raise PreconditionFailed(fields={"Condition": "x-amz-copy-source-If-Match"})
        self._temp = TempFile(self._root.open_bucket(self._bucket))
        return found[1]

    def _clone(self, size: int) -> int:
        """Share the blocks, where the file system can; returns the bytes that are done."""
        source, target = self._files()
        return size if linux.clone(source, target) else 0

    def _copy(self, position: int, size: int) -> int:
        source, target = self._files()
        begin, end = linux.next_data(source, position, size)
        if begin > position:
            return begin - position
        count = min(_COPY_BLOCK, end - position)
        try:
            copied = os.copy_file_range(source, target, count, position, position)
        except OSError as error:
            if error.errno not in _NO_KERNEL_COPY:
                raise
            block = os.pread(source, min(BLOCK, count), position)
            copied = os.pwrite(target, block, position)
        if not copied:
            raise ServiceUnavailable("The source became shorter while it was copied.")
        return copied

    def _finish(
        self,
        source: ObjectInfo,
        metadata: ObjectMetadata | None,
        condition: Condition | None,
        now: Callable[[], datetime],
    ) -> ObjectInfo:
        fd, target = self._files()
        facts = os.fstat(fd)
        if (facts.st_size, from_ns(facts.st_mtime_ns)) != (source.size, source.last_modified):
            raise ServiceUnavailable("The source was changed while it was copied.")
        os.ftruncate(target, source.size)  # it may end with a hole
        assert self._temp is not None
        kept = metadata if metadata is not None else source.metadata or ObjectMetadata()
        return finish(self._temp, self._key, self._names, kept, condition, now(), source.etag)

    def _files(self) -> tuple[int, int]:
        assert self._source is not None
        assert self._temp is not None
        return self._source.fd, self._temp.fd

    def _close(self) -> None:
        if self._source is not None:
            self._source.close()
        if self._temp is not None:
            self._temp.discard()


def finish(
    temp: TempFile,
    key: str,
    names: Names,
    metadata: ObjectMetadata,
    condition: Condition | None,
    now: datetime,
    etag: str | None = None,
) -> ObjectInfo:
    """Seal and commit a complete temporary file."""
    etag = temp.seal(metadata, now, etag)
    facts = os.fstat(temp.fd)
    commit(temp, names, condition)
    return ObjectInfo(
        key=key,
        size=facts.st_size,
        etag=etag,
        last_modified=from_ns(facts.st_mtime_ns),
        metadata=metadata,
    )
