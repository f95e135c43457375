"""A storage backend in memory, with faults on demand."""

from __future__ import annotations

import bisect
import hashlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from ..errors import (
    BucketAlreadyOwnedByYou,
    BucketNotEmpty,
    IncompleteBody,
    NoSuchBucket,
    NoSuchKey,
)
from ..interfaces.storage import (
    Body,
    BucketInfo,
    ByteRange,
    Capabilities,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    ObjectPage,
    ObjectReader,
    StorageBackend,
)
from ..services import Clock, SystemClock

#: Called with the arguments of the method, by name.
Hook = Callable[..., Awaitable[None] | None]

_CHUNK = 64 * 1024


@dataclass(kw_only=True, slots=True)
class _Fault:
    error: BaseException
    times: int
    skip: int
    key: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Object:
    info: ObjectInfo
    data: bytes


@dataclass(kw_only=True, slots=True)
class _Bucket:
    created: datetime
    objects: dict[str, _Object] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)  # sorted; code points order as UTF-8 does


class MemoryBackend(StorageBackend):
    """The reference implementation of the ten methods, for tests.

    It holds whole objects in memory, as nothing else may. Commits happen between two
    awaits, so they are atomic for all tasks of one event loop.

    Args:
        clock: Gives creation and modification times.

    Attributes:
        calls: ``(method, bucket, key)`` in the order of the calls; the key is empty for
            methods without one.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self._clock = clock or SystemClock()
        self._buckets: dict[str, _Bucket] = {}
        self._faults: dict[str, list[_Fault]] = {}
        self._before: dict[str, list[Hook]] = {}
        self._after: dict[str, list[Hook]] = {}

    # --- control --------------------------------------------------------------------------

    def fail(
        self,
        method: str,
        error: BaseException,
        *,
        times: int = 1,
        skip: int = 0,
        key: str | None = None,
    ) -> None:
        """Let a method raise ``error``.

        Args:
            method: One of the ten, ``set_object_tags``, or ``read_chunk``: each chunk that a
                reader delivers.
            times: How many calls fail.
            skip: How many matching calls succeed first.
            key: Only calls for this key count.
        """
        self._check_method(method)
        fault = _Fault(error=error, times=times, skip=skip, key=key)
        self._faults.setdefault(method, []).append(fault)

    def before(self, method: str, hook: Hook) -> None:
        """Call ``hook(bucket=..., key=...)``, awaited if it is a coroutine, before each call."""
        self._check_method(method)
        self._before.setdefault(method, []).append(hook)

    def after(self, method: str, hook: Hook) -> None:
        """The same after each call that succeeded."""
        self._check_method(method)
        self._after.setdefault(method, []).append(hook)

    def heal(self) -> None:
        """Forget all faults and hooks."""
        self._faults.clear()
        self._before.clear()
        self._after.clear()

    def keys(self, bucket: str) -> list[str]:
        """All keys, sorted, without a call being recorded."""
        return list(self._bucket(bucket).keys)

    def corrupt(self, bucket: str, key: str, data: bytes) -> None:
        """Replace the bytes of an object and nothing else, as bit rot would."""
        present = self._object(bucket, key)
        self._bucket(bucket).objects[key] = _Object(info=present.info, data=data)

    @staticmethod
    def _check_method(method: str) -> None:
        if method not in StorageBackend.__abstractmethods__ | {"read_chunk", "set_object_tags"}:
            raise ValueError(f"no such method: {method}")

    async def _enter(self, method: str, bucket: str = "", key: str = "") -> None:
        self.calls.append((method, bucket, key))
        await self._run(self._before, method, bucket, key)
        for fault in self._faults.get(method, ()):
            if fault.times == 0 or fault.key not in (None, key):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            fault.times -= 1
            raise fault.error

    async def _leave(self, method: str, bucket: str = "", key: str = "") -> None:
        await self._run(self._after, method, bucket, key)

    @staticmethod
    async def _run(hooks: dict[str, list[Hook]], method: str, bucket: str, key: str) -> None:
        for hook in tuple(hooks.get(method, ())):
            result = hook(bucket=bucket, key=key)
            if inspect.isawaitable(result):
                await result

    def _bucket(self, bucket: str) -> _Bucket:
        try:
            return self._buckets[bucket]
        except KeyError:
            raise NoSuchBucket(fields={"BucketName": bucket}) from None

    def _object(self, bucket: str, key: str) -> _Object:
        try:
            return self._bucket(bucket).objects[key]
        except KeyError:
            raise NoSuchKey(fields={"Key": key}) from None

    # --- the ten --------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            conditional_writes=True,
            conditional_deletes=True,
            listing_metadata=True,
            late_commits=False,
            late_metadata=True,
            object_tags=True,
        )

    async def list_buckets(self) -> Sequence[BucketInfo]:
        await self._enter("list_buckets")
        found = [
            BucketInfo(name=name, created=bucket.created)
            for name, bucket in sorted(self._buckets.items())
        ]
        await self._leave("list_buckets")
        return found

    async def create_bucket(self, bucket: str) -> None:
        await self._enter("create_bucket", bucket)
        if bucket in self._buckets:
            raise BucketAlreadyOwnedByYou(fields={"BucketName": bucket})
        self._buckets[bucket] = _Bucket(created=self._clock.now())
        await self._leave("create_bucket", bucket)

    async def head_bucket(self, bucket: str) -> BucketInfo:
        await self._enter("head_bucket", bucket)
        info = BucketInfo(name=bucket, created=self._bucket(bucket).created)
        await self._leave("head_bucket", bucket)
        return info

    async def delete_bucket(self, bucket: str) -> None:
        await self._enter("delete_bucket", bucket)
        if self._bucket(bucket).objects:
            raise BucketNotEmpty(fields={"BucketName": bucket})
        del self._buckets[bucket]
        await self._leave("delete_bucket", bucket)

    async def put_object(
        self,
        bucket: str,
        key: str,
        body: Body,
        *,
        size: int | None,
        metadata: ObjectMetadata,
        condition: Condition | None = None,
    ) -> ObjectInfo:
        await self._enter("put_object", bucket, key)
        self._bucket(bucket)
        data = bytearray()
        async for chunk in body:
            data += chunk
            if size is not None and len(data) > size:
                raise IncompleteBody()
        if size is not None and len(data) != size:
            raise IncompleteBody()
        info = self._commit(bucket, key, bytes(data), metadata.completed(), condition)
        await self._leave("put_object", bucket, key)
        return info

    def _commit(
        self,
        bucket: str,
        key: str,
        data: bytes,
        metadata: ObjectMetadata,
        condition: Condition | None,
    ) -> ObjectInfo:
        place = self._bucket(bucket)
        present = place.objects.get(key)
        if condition is not None:
            condition.check(None if present is None else present.info)
        info = ObjectInfo(
            key=key,
            size=len(data),
            etag=hashlib.md5(data, usedforsecurity=False).hexdigest(),
            last_modified=self._clock.now(),
            metadata=ObjectMetadata(
                headers=dict(metadata.headers),
                user=dict(metadata.user),
                internal=dict(metadata.internal),
                tags=dict(metadata.tags),
            ),
        )
        if present is None:
            bisect.insort(place.keys, key)
        place.objects[key] = _Object(info=info, data=data)
        return info

    async def get_object(
        self, bucket: str, key: str, *, byte_range: ByteRange | None = None
    ) -> ObjectReader:
        await self._enter("get_object", bucket, key)
        found = self._object(bucket, key)
        start, stop = 0, found.info.size
        if byte_range is not None:
            start, stop = byte_range.resolve(found.info.size)
        chunks = self._chunks(bucket, key, found.data, start, stop)
        await self._leave("get_object", bucket, key)
        return ObjectReader(found.info, chunks, start=start, stop=stop)

    async def _chunks(
        self, bucket: str, key: str, data: bytes, start: int, stop: int
    ) -> AsyncIterator[bytes]:
        for position in range(start, stop, _CHUNK):
            await self._enter("read_chunk", bucket, key)
            yield data[position : min(position + _CHUNK, stop)]
            await self._leave("read_chunk", bucket, key)

    async def head_object(self, bucket: str, key: str) -> ObjectInfo:
        await self._enter("head_object", bucket, key)
        info = self._object(bucket, key).info
        await self._leave("head_object", bucket, key)
        return info

    async def delete_object(
        self, bucket: str, key: str, *, condition: Condition | None = None
    ) -> bool:
        await self._enter("delete_object", bucket, key)
        place = self._bucket(bucket)
        present = place.objects.get(key)
        if condition is not None:
            condition.check(None if present is None else present.info)
        if present is not None:
            del place.objects[key]
            del place.keys[bisect.bisect_left(place.keys, key)]
        await self._leave("delete_object", bucket, key)
        return present is not None

    async def set_object_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> ObjectInfo:
        await self._enter("set_object_tags", bucket, key)
        present = self._object(bucket, key)
        metadata = replace(present.info.metadata or ObjectMetadata(), tags=dict(tags))
        info = replace(present.info, metadata=metadata)
        self._bucket(bucket).objects[key] = replace(present, info=info)
        await self._leave("set_object_tags", bucket, key)
        return info

    async def list_objects(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        start_after: str = "",
        max_keys: int = 1000,
    ) -> ObjectPage:
        await self._enter("list_objects", bucket)
        page = _list(self._bucket(bucket), prefix, delimiter, start_after, max_keys)
        await self._leave("list_objects", bucket)
        return page


def _list(
    bucket: _Bucket, prefix: str, delimiter: str, start_after: str, max_keys: int
) -> ObjectPage:
    objects: list[ObjectInfo] = []
    prefixes: list[str] = []
    last = ""
    index = bisect.bisect_left(bucket.keys, max(prefix, start_after))
    while index < len(bucket.keys) and bucket.keys[index].startswith(prefix):
        key = bucket.keys[index]
        index += 1
        head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        entry = prefix + head + delimiter if found else key
        if entry <= start_after or (prefixes and entry == prefixes[-1]):
            continue
        if len(objects) + len(prefixes) == max_keys:
            return ObjectPage(objects=tuple(objects), prefixes=tuple(prefixes), next_after=last)
        last = entry
        if found:
            prefixes.append(entry)
        else:
            info = bucket.objects[key].info
            objects.append(replace(info, metadata=info.metadata and info.metadata.listed()))
    return ObjectPage(objects=tuple(objects), prefixes=tuple(prefixes))
