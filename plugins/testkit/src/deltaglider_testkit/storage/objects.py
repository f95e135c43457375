"""Objects: what was put comes back, and facts agree wherever they are shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from deltaglider_core.errors import NoSuchKey
from deltaglider_core.interfaces.storage import ObjectMetadata, StorageBackend
from deltaglider_core.testing import read

from .._bytes import check_same
from ._base import MIB, StorageTestBase, get, list_keys, put, random_bytes


async def odd_chunks(data: bytes) -> AsyncIterator[bytes]:
    """Chunks of 1, 2, 4, ... bytes, with empty ones between."""
    position, length = 0, 1
    while position < len(data):
        yield b""
        yield data[position : position + length]
        position += length
        length *= 2
    yield b""


class ObjectTests(StorageTestBase):
    """Round trips, overwriting, deleting."""

    @pytest.mark.parametrize("size", [0, 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1])
    async def test_round_trip(self, backend: StorageBackend, bucket: str, size: int) -> None:
        data = random_bytes(size)
        info = await put(backend, bucket, "dir/object.bin", data)
        assert (info.key, info.size) == ("dir/object.bin", size)
        check_same(await get(backend, bucket, "dir/object.bin"), data)

    async def test_unknown_size(self, backend: StorageBackend, bucket: str) -> None:
        data = random_bytes(100_001)
        info = await backend.put_object(
            bucket, "k", odd_chunks(data), size=None, metadata=ObjectMetadata()
        )
        assert info.size == len(data)
        check_same(await get(backend, bucket, "k"), data)

    async def test_odd_chunks(self, backend: StorageBackend, bucket: str) -> None:
        data = random_bytes(300_007)
        await backend.put_object(
            bucket, "k", odd_chunks(data), size=len(data), metadata=ObjectMetadata()
        )
        check_same(await get(backend, bucket, "k"), data)

    async def test_facts_agree(self, backend: StorageBackend, bucket: str) -> None:
        """PUT, HEAD, GET and listing show the same size, ETag and date."""
        stored = await put(backend, bucket, "k", b"content")
        head = await backend.head_object(bucket, "k")
        reader = await backend.get_object(bucket, "k")
        await reader.aclose()
        (listed,) = (await backend.list_objects(bucket)).objects
        expected = ("k", 7, stored.etag, head.last_modified)
        for info in (stored, head, reader.info, listed):
            assert (info.key, info.size, info.etag, info.last_modified) == expected
        assert head.last_modified.utcoffset() == timedelta(0), "times are aware and UTC"

    async def test_etag(self, backend: StorageBackend, bucket: str) -> None:
        """An ETag is there, has no quotes, and tells contents apart."""
        one = await put(backend, bucket, "k", b"one")
        two = await put(backend, bucket, "k", b"two")
        assert one.etag != two.etag
        for etag in (one.etag, two.etag):
            assert etag.strip('" '), "an ETag is never empty"
            assert '"' not in etag

    async def test_overwrite(self, backend: StorageBackend, bucket: str) -> None:
        await put(backend, bucket, "k", random_bytes(200_000))
        await put(backend, bucket, "k", b"short")
        assert await get(backend, bucket, "k") == b"short"
        assert (await backend.head_object(bucket, "k")).size == 5
        assert await list_keys(backend, bucket) == ["k"]

    async def test_reader_keeps_its_version(self, backend: StorageBackend, bucket: str) -> None:
        old, new = random_bytes(3 * MIB, 1), random_bytes(3 * MIB, 2)
        stored = await put(backend, bucket, "k", old)
        unread = await backend.get_object(bucket, "k")
        started = await backend.get_object(bucket, "k")
        chunks = aiter(started)
        first = await anext(chunks)
        await put(backend, bucket, "k", new)
        check_same(first + b"".join([chunk async for chunk in chunks]), old)
        await started.aclose()
        assert unread.info.etag == stored.etag
        check_same(await read(unread), old)
        check_same(await get(backend, bucket, "k"), new)

    async def test_reader_survives_deletion(self, backend: StorageBackend, bucket: str) -> None:
        data = random_bytes(MIB)
        await put(backend, bucket, "k", data)
        reader = await backend.get_object(bucket, "k")
        await backend.delete_object(bucket, "k")
        check_same(await read(reader), data)

    async def test_reader_closed_early(self, backend: StorageBackend, bucket: str) -> None:
        await put(backend, bucket, "k", random_bytes(MIB))
        unread = await backend.get_object(bucket, "k")
        await unread.aclose()
        await unread.aclose()
        started = await backend.get_object(bucket, "k")
        assert await anext(aiter(started))
        await started.aclose()
        assert await backend.delete_object(bucket, "k") is True

    async def test_many_readers(self, backend: StorageBackend, bucket: str) -> None:
        data = random_bytes(MIB)
        await put(backend, bucket, "k", data)
        answers = await asyncio.gather(*(get(backend, bucket, "k") for _ in range(8)))
        for answer in answers:
            check_same(answer, data)

    async def test_delete(self, backend: StorageBackend, bucket: str) -> None:
        await put(backend, bucket, "k")
        await put(backend, bucket, "kk")
        assert await backend.delete_object(bucket, "k") is True
        with pytest.raises(NoSuchKey):
            await backend.head_object(bucket, "k")
        assert await list_keys(backend, bucket) == ["kk"]

    async def test_delete_absent(self, backend: StorageBackend, bucket: str) -> None:
        assert await backend.delete_object(bucket, "never/there") is False
        await put(backend, bucket, "k")
        await backend.delete_object(bucket, "k")
        assert await backend.delete_object(bucket, "k") is False

    async def test_absent_key(self, backend: StorageBackend, bucket: str) -> None:
        await put(backend, bucket, "a/b/c")
        for key in ("absent", "a", "a/", "a/b", "a/b/", "a/b/c/", "a/b/c/d"):
            with pytest.raises(NoSuchKey):
                await backend.head_object(bucket, key)
            with pytest.raises(NoSuchKey):
                await backend.get_object(bucket, key)
