"""Backends and layers with one defect each, and the kit on them; run by ``test_broken_fakes``.

The name of each test class is the name of its defect. Of a parametrised test one case runs,
unless ``all_cases_of`` names the test.
"""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from deltaglider_core.errors import (
    IncompleteBody,
    NoSuchBucket,
    NoSuchKey,
    PreconditionFailed,
    ServiceUnavailable,
)
from deltaglider_core.interfaces.storage import (
    RESERVED_PREFIX,
    Body,
    ByteRange,
    Capabilities,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    ObjectPage,
    ObjectReader,
    StorageBackend,
    StorageLayer,
)
from deltaglider_core.testing import MemoryBackend, body, read
from deltaglider_testkit import LayerConformance, StorageConformance
from deltaglider_testkit.layer import Wrap


class BrokenTests(StorageConformance):
    """Runs the kit on ``broken``."""

    stores_in_memory = True
    all_cases_of: ClassVar[tuple[str, ...]] = ()
    broken: type[MemoryBackend]

    @pytest.fixture
    def backend(self) -> StorageBackend:
        return self.broken()


async def collect(chunks: Body) -> bytes:
    return b"".join([chunk async for chunk in chunks])


class TestSoundBackend(BrokenTests):
    """The control: nothing is broken, and nothing fails."""

    broken = MemoryBackend


class TestLateMetadataLost(BrokenTests):
    class broken(MemoryBackend):
        """Declares what it does not do."""

        async def put_object(self, bucket: str, key: str, body: Body, **options: Any) -> ObjectInfo:
            options["metadata"] = replace(options["metadata"], late=None)
            return await super().put_object(bucket, key, body, **options)


class TestLateMetadataEarly(BrokenTests):
    class broken(MemoryBackend):
        """Asks before the body has ended."""

        async def put_object(self, bucket: str, key: str, body: Body, **options: Any) -> ObjectInfo:
            options["metadata"] = options["metadata"].completed()
            return await super().put_object(bucket, key, body, **options)


class TestRangeIgnored(BrokenTests):
    class broken(MemoryBackend):
        async def get_object(
            self, bucket: str, key: str, *, byte_range: ByteRange | None = None
        ) -> ObjectReader:
            return await super().get_object(bucket, key)


class TestRangeOffByOne(BrokenTests):
    all_cases_of = ("test_range",)

    class broken(MemoryBackend):
        async def get_object(
            self, bucket: str, key: str, *, byte_range: ByteRange | None = None
        ) -> ObjectReader:
            if byte_range and byte_range.last and byte_range.first is not None:
                byte_range = replace(byte_range, last=byte_range.last - 1)
            return await super().get_object(bucket, key, byte_range=byte_range)


class TestListUnsorted(BrokenTests):
    all_cases_of = ("test_key_beside_its_folder",)

    class broken(MemoryBackend):
        async def list_objects(self, bucket: str, **query: Any) -> ObjectPage:
            page = await super().list_objects(bucket, **query)
            return replace(page, objects=page.objects[::-1])


class TestListMarkIsSkipped(BrokenTests):
    class broken(MemoryBackend):
        """The next page begins after the key that follows the mark."""

        async def list_objects(self, bucket: str, **query: Any) -> ObjectPage:
            page = await super().list_objects(bucket, **query)
            if page.next_after is None:
                return page
            following = await super().list_objects(
                bucket, **{**query, "start_after": page.next_after, "max_keys": 1}
            )
            entries = [*(info.key for info in following.objects), *following.prefixes]
            return replace(page, next_after=entries[0])


class TestListNeverSaysEnd(BrokenTests):
    class broken(MemoryBackend):
        """A full page claims that more follows."""

        async def list_objects(self, bucket: str, **query: Any) -> ObjectPage:
            page = await super().list_objects(bucket, **query)
            entries = sorted([*(info.key for info in page.objects), *page.prefixes])
            full = len(entries) == query.get("max_keys", 1000)
            return replace(page, next_after=entries[-1]) if full else page


class TestShortBodyAccepted(BrokenTests):
    class broken(MemoryBackend):
        async def put_object(
            self, bucket: str, key: str, body: Body, *, size: int | None, **rest: Any
        ) -> ObjectInfo:
            data = await collect(body)
            if size is not None and len(data) > size:
                raise IncompleteBody()
            return await super().put_object(bucket, key, one(data), size=None, **rest)


class TestLongBodyCut(BrokenTests):
    class broken(MemoryBackend):
        async def put_object(
            self, bucket: str, key: str, body: Body, *, size: int | None, **rest: Any
        ) -> ObjectInfo:
            data = await collect(body)
            return await super().put_object(bucket, key, one(data[:size]), size=size, **rest)


class TestFailingBodyStored(BrokenTests):
    class broken(MemoryBackend):
        """What arrived before the failure becomes an object."""

        async def put_object(
            self, bucket: str, key: str, body: Body, *, size: int | None, **rest: Any
        ) -> ObjectInfo:
            data = b""
            try:
                async for chunk in body:
                    data += chunk
            except Exception:
                await super().put_object(bucket, key, one(data), size=None, **rest)
                raise
            return await super().put_object(bucket, key, one(data), size=size, **rest)


class TestCancelledBodyStored(BrokenTests):
    class broken(MemoryBackend):
        async def put_object(
            self, bucket: str, key: str, body: Body, *, size: int | None, **rest: Any
        ) -> ObjectInfo:
            data = b""
            try:
                async for chunk in body:
                    data += chunk
            except asyncio.CancelledError:
                await super().put_object(bucket, key, one(data), size=None, **rest)
                raise
            return await super().put_object(bucket, key, one(data), size=size, **rest)


class TestVisibleTooEarly(BrokenTests):
    class broken(MemoryBackend):
        """Truncates at the beginning of a PUT, as ``open(path, "wb")`` does; cleans up well."""

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
            old = None
            try:
                old = await super().get_object(bucket, key)
            except NoSuchKey:
                if condition is not None and condition.if_match is not None:
                    raise
            await super().put_object(
                bucket, key, one(b""), size=0, metadata=metadata, condition=condition
            )
            try:
                return await super().put_object(bucket, key, body, size=size, metadata=metadata)
            except BaseException:
                if old is None:
                    await super().delete_object(bucket, key)
                else:
                    assert old.info.metadata is not None
                    before = await read(old)
                    await super().put_object(
                        bucket, key, one(before), size=len(before), metadata=old.info.metadata
                    )
                raise


class TestMetadataLost(BrokenTests):
    class broken(MemoryBackend):
        """Names with a dash are dropped, as by a server that takes them for its own."""

        async def put_object(
            self, bucket: str, key: str, body: Body, *, metadata: ObjectMetadata, **rest: Any
        ) -> ObjectInfo:
            kept = {name: value for name, value in metadata.user.items() if "-" not in name}
            metadata = replace(metadata, user=kept)
            return await super().put_object(bucket, key, body, metadata=metadata, **rest)


class TestLongMetadataCut(BrokenTests):
    class broken(MemoryBackend):
        """Tells of an object only what a listing does."""

        async def head_object(self, bucket: str, key: str) -> ObjectInfo:
            info = await super().head_object(bucket, key)
            return replace(info, metadata=info.metadata and info.metadata.listed())


class TestMetadataMerged(BrokenTests):
    class broken(MemoryBackend):
        """An overwrite keeps the old names."""

        async def put_object(
            self, bucket: str, key: str, body: Body, *, metadata: ObjectMetadata, **rest: Any
        ) -> ObjectInfo:
            try:
                old = (await super().head_object(bucket, key)).metadata
            except NoSuchKey:
                old = None
            if old is not None:
                metadata = replace(metadata, user={**old.user, **metadata.user})
            return await super().put_object(bucket, key, body, metadata=metadata, **rest)


class TestIfNoneMatchIgnored(BrokenTests):
    class broken(MemoryBackend):
        async def put_object(
            self, bucket: str, key: str, body: Body, *, condition: Any = None, **rest: Any
        ) -> ObjectInfo:
            if condition is not None:
                condition = replace(condition, if_none_match=None)
            return await super().put_object(bucket, key, body, condition=condition, **rest)


class TestIfMatchIgnored(BrokenTests):
    class broken(MemoryBackend):
        async def put_object(
            self, bucket: str, key: str, body: Body, *, condition: Any = None, **rest: Any
        ) -> ObjectInfo:
            if condition is not None:
                condition = replace(condition, if_match=None)
            return await super().put_object(bucket, key, body, condition=condition, **rest)


class TestDeleteConditionIgnored(BrokenTests):
    class broken(MemoryBackend):
        """Knows the ETag and nothing else."""

        async def delete_object(self, bucket: str, key: str, *, condition: Any = None) -> bool:
            if condition is not None:
                condition = replace(condition, size=None, last_modified=None)
            return await super().delete_object(bucket, key, condition=condition)


class TestConditionNotAtomic(BrokenTests):
    class broken(MemoryBackend):
        """Declares atomic conditions, but looks first and writes later."""

        async def put_object(
            self, bucket: str, key: str, body: Body, *, condition: Any = None, **rest: Any
        ) -> ObjectInfo:
            if condition is not None:
                try:
                    present = (await super().head_object(bucket, key)).etag
                except NoSuchKey:
                    if condition.if_match is not None:
                        raise
                else:
                    if condition.if_match not in (None, "*", present):
                        raise PreconditionFailed()
                    if condition.if_none_match is not None:
                        raise PreconditionFailed()
                await asyncio.sleep(0)
            return await super().put_object(bucket, key, body, **rest)


class TestEtagMissing(BrokenTests):
    class broken(MemoryBackend):
        """Entries of listings have no ETag."""

        async def list_objects(self, bucket: str, **query: Any) -> ObjectPage:
            page = await super().list_objects(bucket, **query)
            if query.get("prefix", "").startswith(RESERVED_PREFIX):
                return page  # parts keep theirs, else every Complete would fail
            return replace(page, objects=[replace(info, etag="") for info in page.objects])


class TestEtagQuoted(BrokenTests):
    class broken(MemoryBackend):
        """HEAD shows the header as it came."""

        async def head_object(self, bucket: str, key: str) -> ObjectInfo:
            info = await super().head_object(bucket, key)
            return replace(info, etag=f'"{info.etag}"')


class TestDeleteRaisesOnAbsent(BrokenTests):
    class broken(MemoryBackend):
        async def delete_object(self, bucket: str, key: str, **rest: Any) -> bool:
            if not await super().delete_object(bucket, key, **rest):
                raise NoSuchKey()
            return True


class TestBucketErrorIsAbsence(BrokenTests):
    all_cases_of = ("test_absent_bucket",)

    class broken(MemoryBackend):
        """Whatever goes wrong in a read is taken for a missing key."""

        async def head_object(self, bucket: str, key: str) -> ObjectInfo:
            try:
                return await super().head_object(bucket, key)
            except NoSuchBucket:
                raise NoSuchKey() from None


class TestReaderMixesVersions(BrokenTests):
    class broken(MemoryBackend):
        """Each chunk is read from what the key holds at that moment."""

        async def get_object(
            self, bucket: str, key: str, *, byte_range: ByteRange | None = None
        ) -> ObjectReader:
            opened = await super().get_object(bucket, key, byte_range=byte_range)

            async def chunks() -> AsyncIterator[bytes]:
                for start in range(opened.start, opened.stop, 65536):
                    last = min(start + 65536, opened.stop) - 1
                    part = ByteRange(first=start, last=last)
                    yield await read(
                        await super(type(self), self).get_object(bucket, key, byte_range=part)
                    )

            return ObjectReader(opened.info, chunks(), start=opened.start, stop=opened.stop)


class TestKeyNormalised(BrokenTests):
    all_cases_of = ("test_hostile_key",)

    class broken(MemoryBackend):
        """Joins the key to a path and lets the path be tidied up."""

        async def put_object(self, bucket: str, key: str, *args: Any, **rest: Any) -> ObjectInfo:
            return await super().put_object(bucket, self._tidy(key), *args, **rest)

        async def get_object(self, bucket: str, key: str, **rest: Any) -> ObjectReader:
            return await super().get_object(bucket, self._tidy(key), **rest)

        async def head_object(self, bucket: str, key: str) -> ObjectInfo:
            return await super().head_object(bucket, self._tidy(key))

        async def delete_object(self, bucket: str, key: str, **rest: Any) -> bool:
            return await super().delete_object(bucket, self._tidy(key), **rest)

        @staticmethod
        def _tidy(key: str) -> str:
            return posixpath.normpath(f"/{key}")[1:] if ".." in key else key


class TestObjectsInMemory(BrokenTests):
    """Declares that it does not hold objects in memory."""

    stores_in_memory = False
    broken = MemoryBackend

    @pytest.fixture
    def dg_large_size(self) -> int:
        return 64 * 1024 * 1024


class TestBucketDeletedWithContent(BrokenTests):
    class broken(MemoryBackend):
        async def delete_bucket(self, bucket: str) -> None:
            for key in self.keys(bucket):
                await self.delete_object(bucket, key)
            await super().delete_bucket(bucket)


class TestAbortForgetsNothing(BrokenTests):
    class broken(MemoryBackend):
        async def abort_multipart_upload(self, bucket: str, key: str, upload_id: str) -> None:
            await self.list_parts(bucket, key, upload_id, max_parts=1)


class TestTagsNotDeclared(BrokenTests):
    class broken(MemoryBackend):
        """Another control: it does nothing with tags, and says so."""

        @property
        def capabilities(self) -> Capabilities:
            return replace(super().capabilities, object_tags=False)

        async def put_object(self, *args: Any, metadata: ObjectMetadata, **rest: Any) -> ObjectInfo:
            return await super().put_object(*args, metadata=replace(metadata, tags={}), **rest)

        set_object_tags = StorageBackend.set_object_tags


class TestTagsForgotten(BrokenTests):
    class broken(MemoryBackend):
        async def put_object(self, *args: Any, metadata: ObjectMetadata, **rest: Any) -> ObjectInfo:
            return await super().put_object(*args, metadata=replace(metadata, tags={}), **rest)


class TestTagsByRewriting(BrokenTests):
    class broken(MemoryBackend):
        """Stores the same bytes again, so the object gets another date."""

        async def set_object_tags(
            self, bucket: str, key: str, tags: Mapping[str, str]
        ) -> ObjectInfo:
            present = self._object(bucket, key)
            metadata = replace(present.info.metadata or ObjectMetadata(), tags=dict(tags))
            return self._commit(bucket, key, present.data, metadata, None)


class TestTagsOfAnotherVersion(BrokenTests):
    class broken(MemoryBackend):
        """Writes back what it has read, whatever is there by now."""

        async def set_object_tags(
            self, bucket: str, key: str, tags: Mapping[str, str]
        ) -> ObjectInfo:
            before = self._object(bucket, key)
            await asyncio.sleep(0)
            await super().set_object_tags(bucket, key, tags)
            info = self._object(bucket, key).info
            metadata = replace(before.info.metadata or ObjectMetadata(), tags=dict(tags))
            stale = replace(before, info=replace(before.info, metadata=metadata))
            self._bucket(bucket).objects[key] = stale
            return info


class TestTagsNotDone(BrokenTests):
    class broken(MemoryBackend):
        """Declares what it does not do."""

        async def set_object_tags(
            self, bucket: str, key: str, tags: Mapping[str, str]
        ) -> ObjectInfo:
            return await StorageBackend.set_object_tags(self, bucket, key, tags)


class TestLeakyLayer(LayerConformance):
    all_cases_of = ("test_forwards",)

    @pytest.fixture
    def wrap(self) -> Wrap:
        class Leaky(StorageLayer):
            copy_object = StorageBackend.copy_object

        return Leaky


class TestSwallowingLayer(LayerConformance):
    @pytest.fixture
    def wrap(self) -> Wrap:
        class Swallowing(StorageLayer):
            async def head_object(self, bucket: str, key: str) -> ObjectInfo:
                try:
                    return await self.inner.head_object(bucket, key)
                except ServiceUnavailable as error:
                    raise NoSuchKey() from error

        return Swallowing


def one(data: bytes) -> Body:
    return body(data, chunk_size=1 << 30)
