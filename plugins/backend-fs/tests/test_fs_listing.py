"""Listing, held against a model that sorts all keys and cuts pages."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaglider_backend_fs import listing, snapshots
from deltaglider_backend_fs.backend import FsBackend
from deltaglider_backend_fs.directories import Root
from deltaglider_backend_fs.paths import KeyCodec
from deltaglider_backend_fs.snapshots import Snapshots
from deltaglider_core.interfaces.storage import ObjectMetadata
from deltaglider_core.services import SystemClock

LONG = "x" * 256

keys = (
    st.lists(
        st.sampled_from(["a", "b", "", "a-", "a0", "%dg-self", ".", "é", "A", LONG, LONG + "-b"]),
        min_size=1,
        max_size=4,
    )
    .map("/".join)
    .filter(lambda key: 0 < len(key.encode()) <= 1024)
)
key_sets = st.sets(keys, max_size=14)
delimiters = st.sampled_from(["", "/", "-", "a", "/a", "//"])


def model(
    all_keys: set[str], prefix: str, delimiter: str, after: str, limit: int
) -> tuple[list[str], list[str], str | None]:
    entries: dict[bytes, bool] = {}
    for key in all_keys:
        if not key.startswith(prefix):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        entry = key if cut < 0 else key[: cut + len(delimiter)]
        if entry.encode() > after.encode():
            entries[entry.encode()] = cut < 0
    ordered = sorted(entries)
    page = ordered[:limit]
    following = page[-1].decode() if len(ordered) > limit else None
    found = [entry.decode() for entry in page if entries[entry]]
    rolled = [entry.decode() for entry in page if not entries[entry]]
    return found, rolled, following


async def compare(backend: FsBackend, data: Any, all_keys: set[str]) -> None:
    for _ in range(4):
        prefix = data.draw(
            st.one_of(st.just(""), keys, st.sampled_from(["a", "a/", "x", "/", "\0"]))
        )
        delimiter = data.draw(delimiters)
        after = data.draw(
            st.one_of(st.just(""), keys, st.sampled_from(["a/", "a/\0", "\0/b", "z"]))
        )
        limit = data.draw(st.sampled_from([1, 2, 7, 1000]))
        while True:
            page = await backend.list_objects(
                "bkt", prefix=prefix, delimiter=delimiter, start_after=after, max_keys=limit
            )
            shown = [info.key for info in page.objects], list(page.prefixes), page.next_after
            assert shown == model(all_keys, prefix, delimiter, after, limit)
            assert all(info.size == len(info.key) for info in page.objects)
            if page.next_after is None:
                break
            after = page.next_after


@pytest.mark.parametrize(
    ("codec", "budget", "open_folders"),
    [(KeyCodec(), 1000, 32), (KeyCodec(folding=True), 1000, 32), (KeyCodec(), 2, 1)],
    ids=["plain", "folding", "bounded"],
)
@given(all_keys=key_sets, data=st.data())
@settings(max_examples=40, deadline=None)
def test_pages_equal_the_model(
    codec: KeyCodec, budget: int, open_folders: int, all_keys: set[str], data: Any
) -> None:
    async def run(path: Path) -> None:
        root = Root(os.open(path, os.O_RDONLY), codec, path)
        backend = FsBackend(root, SystemClock())
        backend._snapshots = Snapshots(codec, budget=budget, window=2)
        await backend.create_bucket("bkt")

        async def body(key: str) -> Any:
            yield b"x" * len(key)

        for key in all_keys:
            await backend.put_object("bkt", key, body(key), size=None, metadata=ObjectMetadata())
        await compare(backend, data, all_keys)
        for key in sorted(all_keys):
            await backend.delete_object("bkt", key)
        # No folder has remained in the way of a deletion.
        await backend.delete_bucket("bkt")
        await backend.aclose()

    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(listing, "_MAX_OPEN", open_folders)
        asyncio.run(run(Path(directory)))


async def test_empty_folders_are_no_prefixes(store: Any) -> None:
    (store.path / "empty" / "deeper").mkdir(parents=True)
    await store.put("full/deeper/k", b"")
    page = await store.backend.list_objects("bkt", delimiter="/")
    assert (page.objects, page.prefixes) == ([], ["full/"])


async def test_deep_keys_need_few_descriptors(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "/".join("d" * 500)
    await store.put(key, b"x")
    opened = []
    real = listing.open_directory

    def counting(parent: int, name: bytes) -> int | None:
        opened.append(store.descriptors())
        return real(parent, name)

    monkeypatch.setattr(listing, "open_directory", counting)
    before = store.descriptors()
    assert await store.keys() == [key]
    assert len(opened) >= 499
    assert max(opened) <= before + listing._MAX_OPEN + 8
    assert store.descriptors() == before


async def test_entries_that_vanish_are_left_out_and_the_page_is_full(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        await store.put(f"k{number}", b"")
    real = listing.read_listed

    def vanishing(bucket: Any, key: str, parent: int, name: bytes) -> Any:
        if key in ("k1", "k2"):
            os.unlink(name, dir_fd=parent)
        return real(bucket, key, parent, name)

    monkeypatch.setattr(listing, "read_listed", vanishing)
    page = await store.backend.list_objects("bkt", max_keys=3)
    assert [info.key for info in page.objects] == ["k0", "k3", "k4"]
    assert page.next_after == "k4"


def age(path: Path, seconds: float = 10) -> None:
    then = time.time_ns() - int(seconds * 1e9)
    os.utime(path, ns=(then, then))


async def test_a_snapshot_serves_only_while_the_directory_is_unchanged(store: Any) -> None:
    await store.put("a", b"")
    await store.put(LONG, b"")
    inner = store.path / ("%dg-p" + "x" * 250)
    assert inner.is_dir()
    for path in (store.path, inner):
        age(path)
    cache = store.backend._snapshots
    assert await store.keys() == ["a", LONG]
    assert len(cache._cache) == 1
    # Added beside, inside a folder of long names, and under a time stamp put back.
    await store.put("b", b"")
    age(store.path)
    assert await store.keys() == ["a", "b", LONG]
    await store.put(LONG + "y", b"")
    age(inner)
    assert await store.keys() == ["a", "b", LONG, LONG + "y"]


async def test_a_fresh_directory_is_read_again(store: Any) -> None:
    await store.put("a", b"")
    await store.keys()
    assert store.backend._snapshots._cache == {}


async def test_snapshots_stay_within_their_budget(store: Any) -> None:
    for folder in range(8):
        for number in range(5):
            await store.put(f"{folder}/{number}", b"")
        age(store.path / str(folder))
    cache = store.backend._snapshots = Snapshots(KeyCodec(), budget=12)
    for folder in (0, 1, 2, 1, 3):
        assert len(await store.keys(prefix=f"{folder}/")) == 5
    assert cache._held == sum(len(held.items) for held in cache._cache.values()) == 10


async def test_many_names_are_read_once_and_pages_stay_cheap(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000 names: a later page costs about what a page over 1,000 names costs."""

    def fill(folder: str, count: int) -> None:
        path = store.path / folder
        path.mkdir()
        at = os.open(path, os.O_RDONLY)
        for number in range(count):
            os.mknod(f"{number:06}", dir_fd=at)
        os.close(at)
        age(path)

    scans: list[int] = []
    real = snapshots._Scan

    def counting(directory: int, codec: KeyCodec) -> Any:
        scans.append(directory)
        return real(directory, codec)

    monkeypatch.setattr(snapshots, "_Scan", counting)
    await asyncio.to_thread(fill, "small", 1_001)
    await asyncio.to_thread(fill, "large", 100_000)

    async def page(folder: str, after: str) -> tuple[float, Any]:
        began = time.perf_counter()
        result = await store.backend.list_objects(
            "bkt", prefix=folder + "/", start_after=after, max_keys=1000
        )
        return time.perf_counter() - began, result

    _, first = await page("large", "")
    _, _ = await page("small", "")
    small = min([(await page("small", ""))[0] for _ in range(5)])
    times = []
    seen = [info.key for info in first.objects]
    after = first.next_after
    while after is not None:
        seconds, result = await page("large", after)
        times.append(seconds)
        seen += [info.key for info in result.objects]
        after = result.next_after
    assert seen == [f"large/{number:06}" for number in range(100_000)]
    assert len(scans) == 2
    assert sorted(times)[len(times) // 2] < 4 * small
