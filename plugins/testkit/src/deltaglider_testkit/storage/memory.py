"""Memory: the size of an object must not show in the size of the process."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deltaglider_core.interfaces.storage import CompletedPart, ObjectMetadata, StorageBackend

from ._base import MIB, StorageTestBase

#: What one operation may add to the resident memory of the process.
CEILING = 32 * MIB
_CHUNK = os.urandom(256 * 1024)


def resident_bytes() -> int:
    """Resident memory of this process (proc(5), ``statm``)."""
    if sys.platform != "linux":
        raise NotImplementedError("the memory tests need /proc; set stores_in_memory")
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def memory_below(ceiling: int) -> Iterator[None]:
    """Fail if resident memory rises by more than ``ceiling`` bytes at any moment within."""
    gc.collect()
    before = peak = resident_bytes()
    stop = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.005):
            peak = max(peak, resident_bytes())

    watcher = threading.Thread(target=watch, name="memory-watcher")
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
    peak = max(peak, resident_bytes())
    assert peak - before < ceiling, f"{(peak - before) / MIB:.0f} MiB more than before"


async def large_body(size: int) -> AsyncIterator[bytes]:
    """``size`` bytes out of one buffer; chunks differ, so that nothing can share them."""
    for position in range(0, size, len(_CHUNK)):
        head = position.to_bytes(8, "big")
        yield (head + _CHUNK[8:])[: size - position]


async def check_large(backend: StorageBackend, bucket: str, key: str, size: int) -> None:
    """Read what ``large_body`` made and compare it on the way."""
    expected = large_body(size)
    pending = memoryview(b"")
    total = 0
    async with await backend.get_object(bucket, key) as reader:
        async for chunk in reader:
            view = memoryview(chunk)
            total += len(view)
            while view:
                if not pending:
                    pending = memoryview(await anext(expected))
                length = min(len(view), len(pending))
                assert view[:length] == pending[:length]
                view, pending = view[length:], pending[length:]
    assert total == size


class MemoryTests(StorageTestBase):
    """Left out where ``stores_in_memory`` is set. ``--dg-large`` makes the objects 1 GiB."""

    @pytest.mark.dg_memory
    async def test_memory_of_put_and_get(
        self, backend: StorageBackend, bucket: str, dg_large_size: int
    ) -> None:
        await self._warm_up(backend, bucket)
        with memory_below(CEILING):
            await backend.put_object(
                bucket,
                "large.bin",
                large_body(dg_large_size),
                size=dg_large_size,
                metadata=ObjectMetadata(),
            )
            await check_large(backend, bucket, "large.bin", dg_large_size)

    @pytest.mark.dg_memory
    async def test_memory_of_multipart_and_copy(
        self, backend: StorageBackend, bucket: str, dg_large_size: int
    ) -> None:
        await self._warm_up(backend, bucket)
        with memory_below(CEILING):
            upload_id = await backend.create_multipart_upload(
                bucket, "large.bin", metadata=ObjectMetadata()
            )
            part = await backend.upload_part(
                bucket, "large.bin", upload_id, 1, large_body(dg_large_size), size=None
            )
            await backend.complete_multipart_upload(
                bucket,
                "large.bin",
                upload_id,
                [CompletedPart(part_number=1, etag=part.etag)],
            )
            await backend.copy_object(bucket, "large.bin", bucket, "copy.bin")
            await backend.delete_object(bucket, "large.bin")
            await check_large(backend, bucket, "copy.bin", dg_large_size)

    @staticmethod
    async def _warm_up(backend: StorageBackend, bucket: str) -> None:
        """What is imported, started or cached once is not counted."""
        await backend.put_object(
            bucket, "small.bin", large_body(4 * MIB), size=4 * MIB, metadata=ObjectMetadata()
        )
        await check_large(backend, bucket, "small.bin", 4 * MIB)
