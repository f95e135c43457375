"""DeleteBucket where a bucket without visible objects still holds references.

A PUT that found its reference may commit a delta at any moment, in any process, so references
can only be deleted when no such PUT can succeed any more. Both sides first announce, then look
(as in Dekker's algorithm):

    DeleteBucket   put a notice; list: nothing visible?; delete references; delete the notice
    PUT            put the delta; list: a notice?; reference still there?; answer

On a backend whose listings show every completed write, which S3 and a file system promise, at
least one of the two sees the other: if the notice came first, the PUT finds it or, once it is
gone, misses its reference, and stores the object verbatim before it answers; else DeleteBucket
finds the object and deletes nothing. What remains: a deleter that stands still between its
look and its deletions for longer than ``_NOTICE_LIFE``, while such a PUT runs. It checks its own
time before every deletion and stops after ``_DELETE_SECONDS``, so only a single request that hangs
in the network for the rest of that time could do harm.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from datetime import timedelta

from ..errors import BucketNotEmpty, ServiceUnavailable
from ..interfaces.storage import RESERVED_PREFIX, ObjectMetadata, StorageBackend
from ..services import Clock
from .concurrency import bounded_map
from .hidden import any_visible

NOTICES_PREFIX = f"{RESERVED_PREFIX}deleting/"

#: A notice older than this was left by a process that died.
_NOTICE_LIFE = timedelta(minutes=15)

#: How long one DeleteBucket may delete; the client repeats it to go on.
_DELETE_SECONDS = 60.0


class BucketDeletion:
    """Deletion of buckets on one backend, and what a PUT asks about it."""

    def __init__(self, inner: StorageBackend, clock: Clock) -> None:
        self._inner = inner
        self._clock = clock

    async def announced(self, bucket: str) -> bool:
        """Whether somebody is deleting the bucket. An error is never "no"."""
        oldest = self._clock.now() - _NOTICE_LIFE
        after: str | None = ""
        while after is not None:
            page = await self._inner.list_objects(bucket, prefix=NOTICES_PREFIX, start_after=after)
            if any(info.last_modified > oldest for info in page.objects):
                return True
            after = page.next_after
        return False

    async def delete(self, bucket: str) -> None:
        """Delete a bucket without visible objects.

        Raises:
            NoSuchBucket
            BucketNotEmpty: There are visible objects, perhaps since a moment ago.
            ServiceUnavailable: Another request deletes it, too, or there was more to delete
                than one request may; repeat it.
        """
        if await any_visible(self._inner, bucket):
            raise BucketNotEmpty(fields={"BucketName": bucket})
        if await self._has_internal(bucket):
            await self._delete_internal(bucket)
            if await self.announced(bucket):
                raise ServiceUnavailable("The bucket is being deleted. Please retry.")
        await self._inner.delete_bucket(bucket)

    async def _has_internal(self, bucket: str) -> bool:
        page = await self._inner.list_objects(bucket, prefix=RESERVED_PREFIX, max_keys=1)
        return bool(page.objects)

    async def _delete_internal(self, bucket: str) -> None:
        deadline = time.monotonic() + _DELETE_SECONDS
        notice = f"{NOTICES_PREFIX}{secrets.token_hex(16)}"
        await self._inner.put_object(bucket, notice, _no_bytes(), size=0, metadata=ObjectMetadata())
        try:
            if await any_visible(self._inner, bucket):
                raise BucketNotEmpty(fields={"BucketName": bucket})
            await self._delete_pages(bucket, notice, deadline)
        except BaseException:
            # If this fails too, the notice only costs deltas until it is too old.
            with contextlib.suppress(Exception):
                await self._inner.delete_object(bucket, notice)
            raise
        await self._inner.delete_object(bucket, notice)

    async def _delete_pages(self, bucket: str, notice: str, deadline: float) -> None:
        oldest = self._clock.now() - _NOTICE_LIFE

        async def delete(key: str) -> None:
            if time.monotonic() > deadline:
                raise ServiceUnavailable("The bucket holds many references. Please retry.")
            await self._inner.delete_object(bucket, key)

        after: str | None = ""
        while after is not None:
            page = await self._inner.list_objects(bucket, prefix=RESERVED_PREFIX, start_after=after)
            keys = [
                info.key
                for info in page.objects
                if info.key != notice
                # The live notice of another deleter protects its deletions.
                and not (info.key.startswith(NOTICES_PREFIX) and info.last_modified > oldest)
            ]
            await bounded_map(delete, keys, limit=8)
            after = page.next_after


async def _no_bytes() -> AsyncIterator[bytes]:
    nothing: tuple[bytes, ...] = ()
    for chunk in nothing:
        yield chunk
