"""Writes that fail: nothing becomes visible before its last byte, nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from deltaglider_core.errors import IncompleteBody, NoSuchKey
from deltaglider_core.interfaces.storage import ObjectMetadata, StorageBackend
from deltaglider_core.testing import body, broken_body

from .._bytes import check_same
from ._base import MIB, StorageTestBase, get, list_keys, put, random_bytes

OLD = b"the version before"


class BodyError(Exception):
    """What a body raises when the client goes away."""


class PausedBody:
    """A body that stops in the middle until told to go on."""

    def __init__(self, data: bytes) -> None:
        self.reached = asyncio.Event()
        self.proceed = asyncio.Event()
        self._data = data

    async def chunks(self) -> AsyncIterator[bytes]:
        """Half of the data, the pause, the other half."""
        half = len(self._data) // 2
        yield self._data[:half]
        self.reached.set()
        await self.proceed.wait()
        yield self._data[half:]


class WriteTests(StorageTestBase):
    """Each test runs on an absent key and on one that has a version already."""

    @staticmethod
    async def prepare(backend: StorageBackend, bucket: str, present: bool) -> None:
        """Store the old version, if there is to be one."""
        if present:
            await put(backend, bucket, "dir/k", OLD, metadata=ObjectMetadata(user={"v": "old"}))

    @staticmethod
    async def check_untouched(backend: StorageBackend, bucket: str, present: bool) -> None:
        """All is as ``prepare`` left it."""
        if present:
            assert await get(backend, bucket, "dir/k") == OLD
            info = await backend.head_object(bucket, "dir/k")
            assert info.metadata is not None
            assert dict(info.metadata.user) == {"v": "old"}
        else:
            with pytest.raises(NoSuchKey):
                await backend.head_object(bucket, "dir/k")
        assert await list_keys(backend, bucket) == (["dir/k"] if present else [])

    @pytest.mark.parametrize("present", [False, True])
    @pytest.mark.parametrize("sent", [0, 1, 99_999])
    async def test_short_body(
        self, backend: StorageBackend, bucket: str, sent: int, present: bool
    ) -> None:
        await self.prepare(backend, bucket, present)
        with pytest.raises(IncompleteBody):
            await backend.put_object(
                bucket, "dir/k", body(b"x" * sent), size=100_000, metadata=ObjectMetadata()
            )
        await self.check_untouched(backend, bucket, present)

    @pytest.mark.parametrize("present", [False, True])
    @pytest.mark.parametrize("size", [0, 1, 99_999])
    async def test_long_body(
        self, backend: StorageBackend, bucket: str, size: int, present: bool
    ) -> None:
        await self.prepare(backend, bucket, present)
        with pytest.raises(IncompleteBody):
            await backend.put_object(
                bucket, "dir/k", body(b"x" * 100_000), size=size, metadata=ObjectMetadata()
            )
        await self.check_untouched(backend, bucket, present)

    @pytest.mark.parametrize("present", [False, True])
    @pytest.mark.parametrize("sent", [0, 10, 3 * MIB])
    async def test_failing_body(
        self, backend: StorageBackend, bucket: str, sent: int, present: bool
    ) -> None:
        """The very exception of the body arrives, also when all bytes were there already."""
        await self.prepare(backend, bucket, present)
        for size in (None, sent, sent + 5):
            error = BodyError("the client went away")
            with pytest.raises(BodyError) as caught:
                await backend.put_object(
                    bucket,
                    "dir/k",
                    broken_body(b"x" * sent, error),
                    size=size,
                    metadata=ObjectMetadata(),
                )
            assert caught.value is error
            await self.check_untouched(backend, bucket, present)

    @pytest.mark.parametrize("present", [False, True])
    async def test_invisible_until_complete(
        self, backend: StorageBackend, bucket: str, present: bool
    ) -> None:
        await self.prepare(backend, bucket, present)
        data = random_bytes(2 * MIB)
        paused = PausedBody(data)
        task = asyncio.create_task(
            backend.put_object(
                bucket, "dir/k", paused.chunks(), size=len(data), metadata=ObjectMetadata()
            )
        )
        await paused.reached.wait()
        await self.check_untouched(backend, bucket, present)
        paused.proceed.set()
        await task
        check_same(await get(backend, bucket, "dir/k"), data)

    @pytest.mark.parametrize("present", [False, True])
    async def test_cancellation(self, backend: StorageBackend, bucket: str, present: bool) -> None:
        await self.prepare(backend, bucket, present)
        data = random_bytes(2 * MIB)
        paused = PausedBody(data)
        task = asyncio.create_task(
            backend.put_object(
                bucket, "dir/k", paused.chunks(), size=len(data), metadata=ObjectMetadata()
            )
        )
        await paused.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await self.check_untouched(backend, bucket, present)
        await put(backend, bucket, "dir/k", b"the next one")
        assert await get(backend, bucket, "dir/k") == b"the next one"

    async def test_cancellation_at_any_moment(self, backend: StorageBackend, bucket: str) -> None:
        """After a cancelled PUT there is the old version or the new one, and it is whole."""
        versions = [random_bytes(100_000, seed) for seed in range(2)]
        await put(backend, bucket, "dir/k", versions[0])
        for steps in range(30):
            task = asyncio.create_task(put(backend, bucket, "dir/k", versions[1]))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert await get(backend, bucket, "dir/k") in versions
            assert await list_keys(backend, bucket) == ["dir/k"]

    async def test_bucket_is_empty_after_failures(
        self, backend: StorageBackend, bucket: str
    ) -> None:
        """What a failed PUT leaves, temporary files for instance, does not hold a bucket."""
        with pytest.raises(BodyError):
            await backend.put_object(
                bucket,
                "deep/dir/k",
                broken_body(b"x", BodyError()),
                size=None,
                metadata=ObjectMetadata(),
            )
        await backend.delete_bucket(bucket)

    async def test_concurrent_writes(self, backend: StorageBackend, bucket: str) -> None:
        """The last of many writers wins, bytes and metadata of one PUT together."""
        contents = [random_bytes(200_000, number) for number in range(12)]
        await asyncio.gather(
            *(
                put(
                    backend,
                    bucket,
                    "dir/k",
                    data,
                    metadata=ObjectMetadata(user={"number": str(number)}),
                )
                for number, data in enumerate(contents)
            )
        )
        async with await backend.get_object(bucket, "dir/k") as reader:
            data = b"".join([chunk async for chunk in reader])
        assert reader.info.metadata is not None
        check_same(data, contents[int(reader.info.metadata.user["number"])])
