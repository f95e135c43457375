"""Writing, reading, copying and deleting objects."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from deltaglider_backend_fs import writing
from deltaglider_core.errors import (
    IncompleteBody,
    IntegrityError,
    InvalidRange,
    NoSuchBucket,
    NoSuchKey,
    PreconditionFailed,
)
from deltaglider_core.interfaces.storage import ByteRange, ObjectMetadata

MIB = 1024 * 1024


HOSTILE = [
    "a",
    "a/b",
    "a/",
    "a//",
    "a/b/c",
    "/",
    "//",
    ".",
    "..",
    "../../etc/passwd",
    "a/../b",
    "%dg-self",
    "a/%dg-self",
    "%dg-tmp/x",
    "%dg-locks",
    "x" * 1024,
    "x" * 255,
    "x" * 256 + "/y",
    "é" * 512,
    "/" * 1024,
    "\n\t\x7f",
    "name with  spaces ",
    "A",
    "e\u0301",
    "\u00e9",
    ".deltaglider/id",
]


async def test_any_key_round_trips_beside_all_others(store: Any) -> None:
    for key in HOSTILE:
        await store.put(key, b"of ", key.encode())
    for key in HOSTILE:
        assert await store.get(key) == b"of " + key.encode()
    assert await store.keys() == sorted(HOSTILE, key=str.encode)
    assert sorted(os.listdir(store.root)) == ["bkt"]
    for key in HOSTILE:
        assert await store.backend.delete_object("bkt", key)
        with pytest.raises(NoSuchKey):
            await store.get(key)
    # Every folder has gone with its last object.
    assert sorted(os.listdir(store.path)) == ["%dg-locks", "%dg-meta", "%dg-tmp"]
    assert store.left_over() == []


@pytest.mark.parametrize("length", [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB + 17])
async def test_sizes_and_ranges(store: Any, length: int) -> None:
    data = os.urandom(length)
    parts = [data[at : at + 70_001] for at in range(0, length, 70_001)]
    before = store.descriptors()
    info = await store.put("k", *parts, size=length)
    assert (info.size, info.etag) == (length, hashlib.md5(data).hexdigest())
    assert await store.backend.head_object("bkt", "k") == info
    assert await store.get("k") == data
    for first, last in [(0, 0), (1, None), (None, 3), (length // 2, length), (0, 10 * MIB)]:
        wanted = ByteRange(first=first, last=last)
        try:
            start, stop = wanted.resolve(length)
        except InvalidRange:
            with pytest.raises(InvalidRange) as caught:
                await store.backend.get_object("bkt", "k", byte_range=wanted)
            assert caught.value.size == length
            continue
        async with await store.backend.get_object("bkt", "k", byte_range=wanted) as reader:
            assert (reader.start, reader.stop) == (start, stop)
            assert b"".join([c async for c in reader]) == data[start:stop]
    assert store.descriptors() == before


@pytest.mark.parametrize("length", [10, 3 * MIB])
@pytest.mark.parametrize("error", [-1, 1])
async def test_wrong_size_stores_nothing(store: Any, length: int, error: int) -> None:
    await store.put("k", b"old")
    before = store.descriptors()
    with pytest.raises(IncompleteBody):
        await store.put("k", *[bytes(length // 10)] * 10, size=length // 10 * 10 + error)
    assert await store.get("k") == b"old"
    assert store.left_over() == []
    assert store.descriptors() == before


async def test_error_of_the_body_propagates_and_stores_nothing(store: Any) -> None:
    class Broken(Exception):
        pass

    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(MIB)
        raise Broken

    before = store.descriptors()
    with pytest.raises(Broken):
        await store.backend.put_object("bkt", "k", body(), size=None, metadata=ObjectMetadata())
    assert await store.keys() == []
    assert store.left_over() == []
    assert store.descriptors() == before


async def test_cancelled_upload_stores_nothing(store: Any) -> None:
    waiting = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(MIB)
        waiting.set()
        await asyncio.Event().wait()

    before = store.descriptors()
    task = asyncio.create_task(
        store.backend.put_object("bkt", "k", body(), size=None, metadata=ObjectMetadata())
    )
    await waiting.wait()
    assert len(store.left_over()) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.keys() == []
    assert store.left_over() == []
    assert store.descriptors() == before


async def test_cancellation_at_any_moment_leaks_nothing(store: Any) -> None:
    """Cancel puts and gets after every possible number of steps of the event loop."""
    await store.put("big", *[bytes(MIB)] * 3)
    before = store.descriptors()
    for steps in range(40):
        for call in (store.put("k", *[bytes(MIB)] * 2), store.get("big")):
            task = asyncio.create_task(call)
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
    assert store.descriptors() == before
    assert store.left_over() == []
    for key in await store.keys():
        assert len(await store.get(key)) in (2 * MIB, 3 * MIB)


async def test_abandoned_reader_closes_its_file(store: Any) -> None:
    await store.put("k", *[bytes(MIB)] * 4)
    before = store.descriptors()
    reader = await store.backend.get_object("bkt", "k")
    assert store.descriptors() == before + 1
    async for _ in reader:
        break
    await reader.aclose()
    await reader.aclose()
    assert store.descriptors() == before
    unread = await store.backend.get_object("bkt", "k")
    await unread.aclose()
    assert store.descriptors() == before


async def test_a_reader_keeps_its_version(store: Any) -> None:
    old = os.urandom(3 * MIB)
    await store.put("k", old, metadata=ObjectMetadata(user={"v": "1"}))
    reader = await store.backend.get_object("bkt", "k")
    await store.put("k", b"new", metadata=ObjectMetadata(user={"v": "2"}))
    assert b"".join([c async for c in reader]) == old
    assert reader.info.metadata.user == {"v": "1"}
    await reader.aclose()
    await store.backend.delete_object("bkt", "k")


async def test_file_cut_while_it_is_read_is_damage_not_the_end(store: Any) -> None:
    await store.put("k", bytes(4 * MIB))
    reader = await store.backend.get_object("bkt", "k")
    os.truncate(store.path / "k", 2 * MIB)
    with pytest.raises(IntegrityError):
        _ = [c async for c in reader]
    await reader.aclose()


async def test_conditions(store: Any) -> None:
    with pytest.raises(NoSuchKey):
        await store.put("k", b"", if_match="*")
    first = await store.put("k", b"1", if_none_match="*")
    with pytest.raises(PreconditionFailed):
        await store.put("k", b"2", if_none_match="*")
    with pytest.raises(PreconditionFailed):
        await store.put("k", b"2", if_match="0" * 32)
    with pytest.raises(PreconditionFailed):
        await store.put("k", b"2", if_none_match=first.etag)
    await store.put("k", b"2", if_match=first.etag)
    assert await store.get("k") == b"2"
    # A folder is no object, so a key that only has keys below it is absent.
    await store.put("d/e", b"")
    await store.put("d", b"", if_none_match="*")
    with pytest.raises(PreconditionFailed):
        await store.put("d", b"", if_none_match="*")
    assert store.left_over() == []


async def test_conditional_delete(store: Any) -> None:
    from deltaglider_core.interfaces.storage import Condition

    info = await store.put("a/k", b"1")
    delete = store.backend.delete_object
    with pytest.raises(PreconditionFailed):
        await delete("bkt", "a/k", condition=Condition(if_match="0" * 32))
    assert await store.get("a/k") == b"1"
    assert await delete("bkt", "a/k", condition=Condition(if_match=info.etag))
    assert not await delete("bkt", "a/k")
    with pytest.raises(NoSuchKey):
        await delete("bkt", "a/k", condition=Condition(if_match=info.etag))


@pytest.mark.parametrize("with_clone", [True, False])
@pytest.mark.parametrize("with_kernel", [True, False])
async def test_copy(
    store: Any, monkeypatch: pytest.MonkeyPatch, with_clone: bool, with_kernel: bool
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(95, "not here")

    if not with_clone:
        monkeypatch.setattr(writing.linux, "clone", lambda *_: False)
    if not with_kernel:
        monkeypatch.setattr(os, "copy_file_range", refuse)
    data = os.urandom(2 * MIB + 5)
    meta = ObjectMetadata(headers={"content-type": "x/y"}, user={"a": "b"}, internal={"w": "1"})
    source = await store.put("s/k", data, metadata=meta)
    copy = store.backend.copy_object
    info = await copy("bkt", "s/k", "bkt", "t/k", source_etag=source.etag)
    assert (info.etag, info.metadata, info.size) == (source.etag, meta, len(data))
    assert await store.get("t/k") == data
    replaced = await copy("bkt", "t/k", "bkt", "t/k", metadata=ObjectMetadata(user={"n": "1"}))
    assert replaced.metadata == ObjectMetadata(user={"n": "1"})
    assert await store.backend.head_object("bkt", "t/k") == replaced
    assert await store.get("t/k") == data
    with pytest.raises(PreconditionFailed):
        await copy("bkt", "s/k", "bkt", "u", source_etag="0" * 32)
    with pytest.raises(NoSuchKey):
        await copy("bkt", "absent", "bkt", "u")
    with pytest.raises(NoSuchBucket):
        await copy("bkt", "s/k", "absent", "u")
    assert store.left_over() == []


async def test_absent_bucket_is_not_an_absent_key(store: Any) -> None:
    backend = store.backend
    for call in (
        backend.head_object("nope", "k"),
        backend.get_object("nope", "k"),
        backend.delete_object("nope", "k"),
        backend.list_objects("nope"),
        backend.head_bucket("nope"),
        backend.delete_bucket("nope"),
        backend.head_object("../root", "k"),
        backend.head_object(".", "k"),
        backend.head_object("", "k"),
    ):
        with pytest.raises(NoSuchBucket):
            await call
