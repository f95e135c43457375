"""The file of a form waits until it is whole: in memory if small, else in the spool."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deltaglider_core.errors import IncompleteBody, SlowDown
from deltaglider_core.s3 import form_spool
from deltaglider_core.s3.form_spool import whole_file
from deltaglider_core.s3.payload import BLOCK_BYTES
from deltaglider_core.services import Spool
from deltaglider_core.testing.builders import body, broken_body

DATA = bytes(range(251)) * 12_345  # three blocks and a bit


def files(spool: Spool) -> list[Path]:
    return [path for path in spool.directory.rglob("*") if path.is_file()]


async def take(source: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in source])


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", 4 * len(DATA))


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES])
async def test_a_small_file_needs_no_room(size: int) -> None:
    async with whole_file(body(DATA[:size]), None, most=size) as file:
        assert file.size == size
        assert await take(file.body) == DATA[:size]


@pytest.mark.parametrize("chunk_size", [50_000, 65_536, BLOCK_BYTES, len(DATA)])
@pytest.mark.parametrize("size", [BLOCK_BYTES + 1, 2 * BLOCK_BYTES, len(DATA)])
async def test_a_large_file(spool: Spool, chunk_size: int, size: int) -> None:
    source = body(DATA[:size], chunk_size=chunk_size)
    async with whole_file(source, spool, most=size) as file:
        assert file.size == size
        assert await take(source) == b"", "it was read to its end before"
        (path,) = files(spool)
        assert path.stat().st_size == size
        assert spool.used_bytes == size, "and nobody who claimed more gets it"
        assert await take(file.body) == DATA[:size]
    assert files(spool) == []
    assert spool.used_bytes == 0


async def test_what_is_reserved_follows_what_has_come(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A length costs nothing to claim, so it must not keep others out."""
    monkeypatch.setattr(form_spool, "STEP_BYTES", 2 * BLOCK_BYTES)
    claimed = spool.max_bytes
    came, reserved = 0, []

    async def source() -> AsyncIterator[bytes]:
        nonlocal came
        async for piece in body(DATA, chunk_size=100_000):
            reserved.append((came, spool.used_bytes))
            came += len(piece)
            yield piece

    async with whole_file(source(), spool, most=claimed) as file:
        assert await take(file.body) == DATA
    assert reserved[-1][1] > BLOCK_BYTES
    for size, held in reserved:
        assert held <= size + min(2 * BLOCK_BYTES, max(size, BLOCK_BYTES))
        # What is on disk is within it.
        assert held >= size // BLOCK_BYTES * BLOCK_BYTES - BLOCK_BYTES
    assert spool.used_bytes == 0


async def test_room_that_another_takes_meanwhile(spool: Spool) -> None:
    taken = []

    async def source() -> AsyncIterator[bytes]:
        async for piece in body(DATA, chunk_size=100_000):
            yield piece
            if spool.used_bytes and not taken:
                taken.append(spool.try_reserve(spool.max_bytes - spool.used_bytes))
                assert taken[0] is not None

    with pytest.raises(SlowDown, match="spool_max_bytes"):
        async with whole_file(source(), spool, most=len(DATA) + 1000):
            raise AssertionError("there is no room")
    assert files(spool) == []
    (lease,) = taken
    assert lease is not None
    assert spool.used_bytes == lease.size


async def test_nothing_is_left_of_a_broken_one(spool: Spool) -> None:
    with pytest.raises(IncompleteBody):
        async with whole_file(broken_body(DATA, IncompleteBody()), spool, most=len(DATA)):
            raise AssertionError("it is not whole")
    with pytest.raises(ZeroDivisionError):
        async with whole_file(body(DATA), spool, most=len(DATA)):
            raise ZeroDivisionError
    assert files(spool) == []
    assert spool.used_bytes == 0


async def test_no_room(spool: Spool) -> None:
    for where in (None, spool):
        with pytest.raises(SlowDown, match="spool_max_bytes"):
            async with whole_file(body(DATA), where, most=5 * len(DATA)):
                raise AssertionError("there is no room")


async def test_a_disk_that_takes_no_more(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    real = open

    def full(path: Path, *arguments: object, **options: object) -> object:
        if Path(path).name == "file" and Path(path).exists():
            raise OSError(28, "No space left on device")
        return real(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(SlowDown):
        async with whole_file(body(DATA), spool, most=len(DATA)):
            raise AssertionError("it does not fit")
    assert files(spool) == []
