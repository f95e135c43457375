"""The reference cache and the prepared references: verified, pinned, bounded."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from deltaglider_core.delta.cache import Fetch, ReferenceCache
from deltaglider_core.delta.metrics import DeltaMetrics
from deltaglider_core.delta.prepared import MAX_IDLE, PreparedCache
from deltaglider_core.errors import IntegrityError, ServiceUnavailable
from deltaglider_core.testing import body


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Origin:
    """Where references come from; counts and can wait or fail."""

    def __init__(self) -> None:
        self.fetched = 0
        self.started = asyncio.Event()
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None

    def fetch(self, data: bytes) -> Fetch:
        @contextlib.asynccontextmanager
        async def opened() -> AsyncGenerator[AsyncIterator[bytes]]:
            self.fetched += 1
            self.started.set()
            if self.gate is not None:
                await self.gate.wait()
            if self.error is not None:
                raise self.error
            yield body(data)

        return opened


@pytest.fixture
def origin() -> Origin:
    return Origin()


def make_cache(path: Path, max_bytes: int = 1000) -> ReferenceCache:
    return ReferenceCache(path, max_bytes, DeltaMetrics(CollectorRegistry()))


def files(path: Path) -> list[str]:
    return sorted(os.listdir(path))


async def use(cache: ReferenceCache, origin: Origin, data: bytes) -> bytes:
    async with cache.open(sha(data), len(data), origin.fetch(data)) as file:
        assert file.path.read_bytes() == data
        return bytes(file.data)


async def test_a_second_use_needs_no_fetch(tmp_path: Path, origin: Origin) -> None:
    cache = make_cache(tmp_path)
    for _ in range(2):
        assert await use(cache, origin, b"abc") == b"abc"
    assert origin.fetched == 1
    assert files(tmp_path) == [sha(b"abc")]


async def test_files_survive_a_restart_and_are_verified(tmp_path: Path, origin: Origin) -> None:
    for data in (b"one", b"two"):
        await use(make_cache(tmp_path), origin, data)
    (tmp_path / sha(b"two")).write_bytes(b"bad")
    (tmp_path / "foreign").write_bytes(b"stays")
    cache = make_cache(tmp_path)
    assert cache.used_bytes == 6
    assert await use(cache, origin, b"one") == b"one"
    assert origin.fetched == 2
    assert await use(cache, origin, b"two") == b"two"
    assert origin.fetched == 3
    assert "foreign" in files(tmp_path)


async def test_old_temporary_files_are_cleared(tmp_path: Path) -> None:
    (tmp_path / "tmp-old").write_bytes(b"x")
    (tmp_path / "tmp-new").write_bytes(b"x")
    os.utime(tmp_path / "tmp-old", (1, 1))
    make_cache(tmp_path)
    assert files(tmp_path) == ["tmp-new"]


async def test_the_least_recently_used_is_dropped(tmp_path: Path, origin: Origin) -> None:
    cache = make_cache(tmp_path, max_bytes=250)
    one, two, three = (bytes([n]) * 100 for n in range(3))
    for data in (one, two, one, three):
        await use(cache, origin, data)
    assert files(tmp_path) == sorted([sha(one), sha(three)])
    assert cache.used_bytes == 200


async def test_what_is_in_use_stays_whatever_the_budget(tmp_path: Path, origin: Origin) -> None:
    cache = make_cache(tmp_path, max_bytes=0)
    async with cache.open(sha(b"abc"), 3, origin.fetch(b"abc")) as file:
        await use(cache, origin, b"other")
        assert files(tmp_path) == [sha(b"abc")]
        held = file.data
    assert files(tmp_path) == []
    assert bytes(held) == b"abc"  # the map outlives the name


@pytest.mark.parametrize("given", [b"abd", b"ab", b"abcd", b""])
async def test_other_bytes_are_never_cached(tmp_path: Path, origin: Origin, given: bytes) -> None:
    cache = make_cache(tmp_path)
    with pytest.raises(IntegrityError):
        async with cache.open(sha(b"abc"), 3, origin.fetch(given)):
            pass
    assert (files(tmp_path), cache.used_bytes) == ([], 0)
    assert await use(cache, origin, b"abc") == b"abc"


async def test_a_wrong_size_is_refused_also_when_cached(tmp_path: Path, origin: Origin) -> None:
    cache = make_cache(tmp_path)
    await use(cache, origin, b"abc")
    with pytest.raises(IntegrityError):
        async with cache.open(sha(b"abc"), 4, origin.fetch(b"abc")):
            pass
    assert await use(cache, origin, b"abc") == b"abc"


async def test_a_fetch_that_fails_fails_all_who_wait_and_nobody_later(
    tmp_path: Path, origin: Origin
) -> None:
    cache = make_cache(tmp_path)
    origin.error = ServiceUnavailable()
    results = await asyncio.gather(
        *(use(cache, origin, b"abc") for _ in range(5)), return_exceptions=True
    )
    assert [type(result) for result in results] == [ServiceUnavailable] * 5
    assert origin.fetched == 1
    assert files(tmp_path) == []
    origin.error = None
    assert await use(cache, origin, b"abc") == b"abc"


async def test_one_fetch_for_all_even_if_the_first_gives_up(tmp_path: Path, origin: Origin) -> None:
    cache = make_cache(tmp_path)
    origin.gate = asyncio.Event()
    tasks = [asyncio.create_task(use(cache, origin, b"abc")) for _ in range(5)]
    await origin.started.wait()
    tasks[0].cancel()
    origin.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [b"abc"] * 4
    assert origin.fetched == 1


async def test_closing_ends_fetches_and_leaves_nothing_behind(
    tmp_path: Path, origin: Origin
) -> None:
    cache = make_cache(tmp_path)
    origin.gate = asyncio.Event()
    task = asyncio.create_task(use(cache, origin, b"abc"))
    await origin.started.wait()
    await cache.aclose()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files(tmp_path) == []


async def test_two_caches_share_a_directory(tmp_path: Path, origin: Origin) -> None:
    one, two = make_cache(tmp_path), make_cache(tmp_path)
    await use(one, origin, b"abc")
    assert await use(two, origin, b"abc") == b"abc"
    assert origin.fetched == 1
    one.forget(sha(b"abc"))
    async with two.open(sha(b"abc"), 3, origin.fetch(b"abc")) as file:
        assert bytes(file.data) == b"abc"


async def test_a_planted_link_is_not_followed(tmp_path: Path, origin: Origin) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"abc")
    folder = tmp_path / "cache"
    cache = make_cache(folder)
    (folder / sha(b"abc")).symlink_to(elsewhere)
    assert await use(cache, origin, b"abc") == b"abc"
    assert origin.fetched == 1
    assert not (folder / sha(b"abc")).is_symlink()


async def test_counters(tmp_path: Path, origin: Origin) -> None:
    registry = CollectorRegistry()
    cache = ReferenceCache(tmp_path, 1000, DeltaMetrics.of(registry))
    assert DeltaMetrics.of(registry) is DeltaMetrics.of(registry)
    for _ in range(3):
        await use(cache, origin, b"abc")
    value = registry.get_sample_value
    assert value("deltaglider_cache_hits_total") == 2
    assert value("deltaglider_cache_misses_total") == 1
    assert value("deltaglider_cache_size_bytes") == 3
    assert value("deltaglider_cache_max_bytes") == 1000


# --- prepared references --------------------------------------------------------------------


class Prepared:
    def __init__(self, path: Path) -> None:
        self.size = path.stat().st_size
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class CountingCodec:
    """Only prepares."""

    codec_id = "counting"
    window_size = 1

    def __init__(self) -> None:
        self.made: list[Prepared] = []
        self.error: Exception | None = None

    def prepare(self, reference: Path) -> Any:
        if self.error is not None:
            raise self.error
        self.made.append(Prepared(reference))
        return self.made[-1]


async def prepare(prepared: PreparedCache, codec: Any, cache: ReferenceCache, data: bytes) -> None:
    async with (
        cache.open(sha(data), len(data), Origin().fetch(data)) as file,
        prepared.open(codec, file) as found,
    ):
        assert found.size == len(data)
        assert not codec.made[-1].closed


async def test_a_prepared_reference_is_shared_and_closed_once(tmp_path: Path) -> None:
    cache, codec, prepared = make_cache(tmp_path), CountingCodec(), PreparedCache(1000)
    await asyncio.gather(*(prepare(prepared, codec, cache, b"abc") for _ in range(5)))
    await prepare(prepared, codec, cache, b"abc")
    assert len(codec.made) == 1
    assert codec.made[0].closed == 0
    await prepared.aclose()
    assert codec.made[0].closed == 1


async def test_few_are_kept(tmp_path: Path) -> None:
    cache, codec, prepared = make_cache(tmp_path), CountingCodec(), PreparedCache(1000)
    for number in range(MAX_IDLE + 3):
        await prepare(prepared, codec, cache, bytes([number]))
    assert [each.closed for each in codec.made] == [1] * 3 + [0] * MAX_IDLE
    await prepared.aclose()
    assert [each.closed for each in codec.made] == [1] * (MAX_IDLE + 3)


async def test_none_is_kept_beyond_the_budget(tmp_path: Path) -> None:
    cache, codec, prepared = make_cache(tmp_path), CountingCodec(), PreparedCache(0)
    await prepare(prepared, codec, cache, b"abc")
    assert codec.made[0].closed == 1


async def test_what_is_in_use_is_closed_only_afterwards(tmp_path: Path) -> None:
    cache, codec, prepared = make_cache(tmp_path), CountingCodec(), PreparedCache(1000)
    async with cache.open(sha(b"abc"), 3, Origin().fetch(b"abc")) as file:
        async with prepared.open(codec, file):  # type: ignore[arg-type]
            await prepared.aclose()
            assert codec.made[0].closed == 0
        assert codec.made[0].closed == 1


async def test_a_failure_is_not_remembered(tmp_path: Path) -> None:
    cache, codec, prepared = make_cache(tmp_path), CountingCodec(), PreparedCache(1000)
    codec.error = MemoryError()
    with pytest.raises(MemoryError):
        await prepare(prepared, codec, cache, b"abc")
    codec.error = None
    await prepare(prepared, codec, cache, b"abc")
    await prepared.aclose()
