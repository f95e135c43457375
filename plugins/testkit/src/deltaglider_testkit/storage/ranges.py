"""Ranges: RFC 9110 section 14.1.2, one range per request."""

from __future__ import annotations

import pytest

from deltaglider_core.errors import InvalidRange, NoSuchKey
from deltaglider_core.interfaces.storage import ByteRange, StorageBackend

from .._bytes import check_same
from ._base import StorageTestBase, get, put, random_bytes

SIZE = 300_000
DATA = random_bytes(SIZE)

#: first, last and the bytes that must come.
RANGES = [
    (0, 0, (0, 1)),
    (0, None, (0, SIZE)),
    (0, SIZE - 1, (0, SIZE)),
    (0, SIZE, (0, SIZE)),
    (1, 5, (1, 6)),
    (65_535, 65_536, (65_535, 65_537)),
    (100_000, 250_000, (100_000, 250_001)),
    (123_456, None, (123_456, SIZE)),
    (SIZE - 1, None, (SIZE - 1, SIZE)),
    (SIZE - 1, SIZE - 1, (SIZE - 1, SIZE)),
    (SIZE - 10, 10 * SIZE, (SIZE - 10, SIZE)),
    (None, 1, (SIZE - 1, SIZE)),
    (None, 70_000, (SIZE - 70_000, SIZE)),
    (None, SIZE, (0, SIZE)),
    (None, 10 * SIZE, (0, SIZE)),
]


class RangeTests(StorageTestBase):
    """Every form of a range, and those that touch no byte."""

    @pytest.mark.parametrize(("first", "last", "expected"), RANGES)
    async def test_range(
        self,
        backend: StorageBackend,
        bucket: str,
        first: int | None,
        last: int | None,
        expected: tuple[int, int],
    ) -> None:
        await put(backend, bucket, "k", DATA)
        wanted = ByteRange(first=first, last=last)
        async with await backend.get_object(bucket, "k", byte_range=wanted) as reader:
            data = b"".join([chunk async for chunk in reader])
        start, stop = expected
        assert len(data) == stop - start
        check_same(data, DATA[start:stop])
        assert (reader.start, reader.stop) == expected
        assert reader.info.size == SIZE, "the facts are those of the whole object"

    @pytest.mark.parametrize(
        ("first", "last"), [(SIZE, None), (SIZE, SIZE + 5), (10 * SIZE, None), (None, 0)]
    )
    async def test_range_outside(
        self, backend: StorageBackend, bucket: str, first: int | None, last: int | None
    ) -> None:
        await put(backend, bucket, "k", DATA)
        with pytest.raises(InvalidRange) as caught:
            await backend.get_object(bucket, "k", byte_range=ByteRange(first=first, last=last))
        assert caught.value.size == SIZE

    async def test_range_of_nothing(self, backend: StorageBackend, bucket: str) -> None:
        await put(backend, bucket, "empty", b"")
        for wanted in (ByteRange(first=0, last=None), ByteRange(first=None, last=5)):
            with pytest.raises(InvalidRange) as caught:
                await backend.get_object(bucket, "empty", byte_range=wanted)
            assert caught.value.size == 0

    async def test_range_of_absent_key(self, backend: StorageBackend, bucket: str) -> None:
        with pytest.raises(NoSuchKey):
            await get(backend, bucket, "absent", ByteRange(first=0, last=0))
