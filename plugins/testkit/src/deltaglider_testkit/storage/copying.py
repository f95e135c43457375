"""Copies within one backend."""

from __future__ import annotations

import pytest

from deltaglider_core.errors import NoSuchBucket, NoSuchKey, PreconditionFailed
from deltaglider_core.interfaces.storage import Condition, ObjectMetadata, StorageBackend

from .._bytes import check_same
from ._base import MIB, StorageTestBase, get, list_keys, put, random_bytes

GIVEN = ObjectMetadata(headers={"content-type": "text/x-test"}, user={"a": "1"})


class CopyTests(StorageTestBase):
    """Bytes and metadata of one version of the source."""

    @pytest.mark.parametrize("size", [0, 1, 3 * MIB])
    async def test_copy(self, backend: StorageBackend, bucket: str, size: int) -> None:
        await backend.create_bucket("testkit-two")
        data = random_bytes(size)
        await put(backend, bucket, "dir/source", data, metadata=GIVEN)
        info = await backend.copy_object(bucket, "dir/source", "testkit-two", "new dir/copy")
        assert (info.key, info.size) == ("new dir/copy", size)
        check_same(await get(backend, "testkit-two", "new dir/copy"), data)
        head = await backend.head_object("testkit-two", "new dir/copy")
        assert head.etag == info.etag
        assert head.metadata is not None
        assert dict(head.metadata.headers) == dict(GIVEN.headers)
        assert dict(head.metadata.user) == dict(GIVEN.user)
        check_same(await get(backend, bucket, "dir/source"), data)

    async def test_copy_with_other_metadata(self, backend: StorageBackend, bucket: str) -> None:
        await put(backend, bucket, "source", b"content", metadata=GIVEN)
        other = ObjectMetadata(user={"b": "2"})
        await backend.copy_object(bucket, "source", bucket, "copy", metadata=other)
        head = await backend.head_object(bucket, "copy")
        assert head.metadata is not None
        assert dict(head.metadata.headers) == {}
        assert dict(head.metadata.user) == {"b": "2"}

    async def test_copy_onto_itself(self, backend: StorageBackend, bucket: str) -> None:
        data = random_bytes(3 * MIB)
        await put(backend, bucket, "k", data, metadata=GIVEN)
        other = ObjectMetadata(user={"b": "2"})
        await backend.copy_object(bucket, "k", bucket, "k", metadata=other)
        check_same(await get(backend, bucket, "k"), data)
        head = await backend.head_object(bucket, "k")
        assert head.metadata is not None
        assert dict(head.metadata.user) == {"b": "2"}

    async def test_copy_of_one_version(self, backend: StorageBackend, bucket: str) -> None:
        old = await put(backend, bucket, "source", b"old")
        new = await put(backend, bucket, "source", b"new")
        with pytest.raises(PreconditionFailed):
            await backend.copy_object(bucket, "source", bucket, "copy", source_etag=old.etag)
        assert await list_keys(backend, bucket) == ["source"]
        await backend.copy_object(bucket, "source", bucket, "copy", source_etag=new.etag)
        assert await get(backend, bucket, "copy") == b"new"

    async def test_copy_with_condition(self, backend: StorageBackend, bucket: str) -> None:
        await put(backend, bucket, "source", b"source")
        await put(backend, bucket, "copy", b"present")
        with pytest.raises(PreconditionFailed):
            await backend.copy_object(
                bucket, "source", bucket, "copy", condition=Condition(if_none_match="*")
            )
        assert await get(backend, bucket, "copy") == b"present"

    async def test_copy_of_nothing(self, backend: StorageBackend, bucket: str) -> None:
        with pytest.raises(NoSuchKey):
            await backend.copy_object(bucket, "absent", bucket, "copy")
        with pytest.raises(NoSuchBucket):
            await backend.copy_object("testkit-absent", "k", bucket, "copy")
        await put(backend, bucket, "k")
        with pytest.raises(NoSuchBucket):
            await backend.copy_object(bucket, "k", "testkit-absent", "copy")
        assert await list_keys(backend, bucket) == ["k"]
