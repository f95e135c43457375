"""Buckets: create, list, head, delete, and calls for buckets that do not exist."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from deltaglider_core.errors import (
    BucketAlreadyOwnedByYou,
    BucketNotEmpty,
    NoSuchBucket,
)
from deltaglider_core.interfaces.storage import (
    CompletedPart,
    Condition,
    ObjectMetadata,
    StorageBackend,
)
from deltaglider_core.testing import body

from ._base import StorageTestBase, put

Call = Callable[[StorageBackend, str], Awaitable[object]]

_UPLOAD_ID = "0123456789abcdef" * 2

#: Every method that names a bucket.
CALLS: dict[str, Call] = {
    "head_bucket": lambda b, name: b.head_bucket(name),
    "delete_bucket": lambda b, name: b.delete_bucket(name),
    "put_object": lambda b, name: put(b, name, "k"),
    "put_object_if_match": lambda b, name: put(b, name, "k", condition=Condition(if_match="*")),
    "get_object": lambda b, name: b.get_object(name, "k"),
    "head_object": lambda b, name: b.head_object(name, "k"),
    "delete_object": lambda b, name: b.delete_object(name, "k"),
    "list_objects": lambda b, name: b.list_objects(name),
    "copy_object": lambda b, name: b.copy_object(name, "k", name, "l"),
    "create_multipart_upload": lambda b, name: b.create_multipart_upload(
        name, "k", metadata=ObjectMetadata()
    ),
    "upload_part": lambda b, name: b.upload_part(name, "k", _UPLOAD_ID, 1, body(b"x"), size=1),
    "list_parts": lambda b, name: b.list_parts(name, "k", _UPLOAD_ID, max_parts=1),
    "list_multipart_uploads": lambda b, name: b.list_multipart_uploads(name),
    "complete_multipart_upload": lambda b, name: b.complete_multipart_upload(
        name, "k", _UPLOAD_ID, [CompletedPart(part_number=1, etag="0" * 32)]
    ),
    "abort_multipart_upload": lambda b, name: b.abort_multipart_upload(name, "k", _UPLOAD_ID),
}


class BucketTests(StorageTestBase):
    """Buckets are sorted, unique and deleted only when empty."""

    async def test_buckets(self, backend: StorageBackend) -> None:
        names = ["testkit-c", "testkit-a", "testkit.b", "testkit-b"]
        for name in names:
            await backend.create_bucket(name)
        found = [info for info in await backend.list_buckets() if info.name in names]
        assert [info.name for info in found] == sorted(names)
        for info in found:
            assert info.created.utcoffset() == timedelta(0), "times are aware and UTC"
            assert await backend.head_bucket(info.name) == info
        await backend.delete_bucket("testkit-b")
        assert "testkit-b" not in [info.name for info in await backend.list_buckets()]

    async def test_bucket_exists(self, backend: StorageBackend, bucket: str) -> None:
        await put(backend, bucket, "k")
        with pytest.raises(BucketAlreadyOwnedByYou):
            await backend.create_bucket(bucket)
        assert await backend.head_object(bucket, "k")

    async def test_bucket_not_empty(self, backend: StorageBackend, bucket: str) -> None:
        await put(backend, bucket, "deep/below/k")
        with pytest.raises(BucketNotEmpty):
            await backend.delete_bucket(bucket)
        await backend.delete_object(bucket, "deep/below/k")
        await backend.delete_bucket(bucket)
        with pytest.raises(NoSuchBucket):
            await backend.head_bucket(bucket)

    async def test_bucket_born_again_is_empty(self, backend: StorageBackend, bucket: str) -> None:
        await put(backend, bucket, "a/b")
        await backend.delete_object(bucket, "a/b")
        await backend.delete_bucket(bucket)
        await backend.create_bucket(bucket)
        assert list((await backend.list_objects(bucket)).objects) == []

    @pytest.mark.parametrize("method", CALLS)
    async def test_absent_bucket(self, backend: StorageBackend, method: str) -> None:
        with pytest.raises(NoSuchBucket):
            await CALLS[method](backend, "testkit-absent")

    async def test_buckets_are_apart(self, backend: StorageBackend, bucket: str) -> None:
        await backend.create_bucket("testkit-two")
        await put(backend, bucket, "k", b"one")
        await put(backend, "testkit-two", "k", b"two")
        await backend.delete_object(bucket, "k")
        async with await backend.get_object("testkit-two", "k") as reader:
            assert [chunk async for chunk in reader] == [b"two"]

    async def test_probe(self, backend: StorageBackend) -> None:
        await backend.probe()
