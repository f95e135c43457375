"""Buckets: making, showing, deleting, and the races of deletion."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deltaglider_backend_fs import buckets, writing
from deltaglider_core.errors import (
    BucketAlreadyExists,
    BucketAlreadyOwnedByYou,
    BucketNotEmpty,
    InvalidBucketName,
    NoSuchBucket,
    ServiceUnavailable,
)
from deltaglider_core.interfaces.storage import ObjectMetadata


async def test_create_head_list_delete(store: Any) -> None:
    backend = store.backend
    await backend.create_bucket("other")
    with pytest.raises(BucketAlreadyOwnedByYou):
        await backend.create_bucket("other")
    names = [info.name for info in await backend.list_buckets()]
    assert names == ["bkt", "other"]
    created = (await backend.head_bucket("other")).created
    assert abs(datetime.now(UTC) - created) < timedelta(minutes=1)
    await backend.delete_bucket("other")
    with pytest.raises(NoSuchBucket):
        await backend.head_bucket("other")
    assert os.listdir(store.root) == ["bkt"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "x\0", "x" * 256, "%dg-x", "\ud800"]
)
async def test_bad_names(store: Any, name: str) -> None:
    with pytest.raises(InvalidBucketName):
        await store.backend.create_bucket(name)
    assert os.listdir(store.root) == ["bkt"]


async def test_folders_of_others_are_buckets(store: Any, tmp_path: Any) -> None:
    (store.root / "plain").mkdir()
    (store.root / ".hidden").mkdir()
    (store.root / "lost+found").mkdir()
    (store.root / "file").touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (store.root / "linked").symlink_to(elsewhere)
    names = [info.name for info in await store.backend.list_buckets()]
    assert names == ["bkt", "linked", "plain"]
    with pytest.raises(BucketAlreadyExists):
        await store.backend.create_bucket("file")
    age = datetime.now(UTC) - (await store.backend.head_bucket("plain")).created
    assert age < timedelta(minutes=1)

    async def body() -> Any:
        yield b"x"

    put = store.backend.put_object
    await put("linked", "k", body(), size=1, metadata=ObjectMetadata())
    assert (elsewhere / "k").read_bytes() == b"x"
    with pytest.raises(BucketNotEmpty):
        await store.backend.delete_bucket("linked")
    await store.backend.delete_object("linked", "k")
    await store.backend.delete_bucket("linked")
    assert elsewhere.is_dir()
    assert sorted(os.listdir(store.root)) == [".hidden", "bkt", "file", "lost+found", "plain"]


@pytest.mark.parametrize("key", ["k", "a/b/c", ".deltaglider/id", "dir/"])
async def test_only_empty_buckets_go(store: Any, key: str) -> None:
    (store.path / "bare" / "bare").mkdir(parents=True)
    await store.put(key, b"")
    with pytest.raises(BucketNotEmpty):
        await store.backend.delete_bucket("bkt")
    assert await store.get(key) == b""
    await store.backend.delete_object("bkt", key)
    await store.backend.delete_bucket("bkt")
    assert os.listdir(store.root) == []


async def test_files_that_are_no_objects_are_not_destroyed(store: Any) -> None:
    (store.path / "sub").mkdir()
    (store.path / "sub" / os.fsdecode(b"\xff")).touch()
    assert await store.keys() == []
    with pytest.raises(BucketNotEmpty):
        await store.backend.delete_bucket("bkt")
    assert len(os.listdir(store.path / "sub")) == 1


async def test_a_file_that_comes_during_deletion_brings_the_bucket_back(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store.path / "sub").mkdir()
    real = buckets._empty_folders

    def then_a_file(bucket: int) -> Any:
        folders = real(bucket)
        (store.path / "sub" / "late").touch()
        return folders

    monkeypatch.setattr(buckets, "_empty_folders", then_a_file)
    with pytest.raises(BucketNotEmpty):
        await store.backend.delete_bucket("bkt")
    assert await store.keys() == ["sub/late"]


@pytest.mark.parametrize("used", [True, False])
async def test_a_bucket_that_comes_back_meets_a_new_one_of_its_name(
    store: Any, monkeypatch: pytest.MonkeyPatch, used: bool
) -> None:
    """An empty one gives way; one with content is never harmed."""

    def meanwhile(bucket: int, folders: Any) -> Any:
        store.path.mkdir()
        if used:
            (store.path / "new").touch()
        (store.root / next(n for n in os.listdir(store.root) if n[0] == ".") / "late").touch()
        return False

    monkeypatch.setattr(buckets, "_remove_folders", meanwhile)
    with pytest.raises(BucketNotEmpty):
        await store.backend.delete_bucket("bkt")
    assert await store.keys() == (["new"] if used else ["late"])


async def test_upload_into_a_bucket_deleted_meanwhile(store: Any) -> None:
    """Whether the name exists again or not: the upload belongs to the bucket it began in."""
    for again in (False, True):
        started, go_on = asyncio.Event(), asyncio.Event()

        async def body(started: asyncio.Event = started, go_on: asyncio.Event = go_on) -> Any:
            yield bytes(2 * 1024 * 1024)
            started.set()
            await go_on.wait()
            yield b"end"

        task = asyncio.create_task(
            store.backend.put_object(
                "bkt", "k", body(), size=None, metadata=ObjectMetadata(user={"k": "v" * 90_000})
            )
        )
        await started.wait()
        await store.backend.delete_bucket("bkt")
        if again:
            await store.backend.create_bucket("bkt")
        go_on.set()
        with pytest.raises(NoSuchBucket):
            await task
        if not again:
            await store.backend.create_bucket("bkt")
        assert await store.keys() == []


@pytest.mark.parametrize("again", [False, True])
async def test_bucket_deleted_right_before_the_commit(
    store: Any, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    real = writing.commit

    def late(*args: Any) -> None:
        buckets.delete_bucket(store.backend._root, "bkt")
        if again:
            buckets.create_bucket(store.backend._root, "bkt", 0)
        real(*args)

    monkeypatch.setattr(writing, "commit", late)
    with pytest.raises(NoSuchBucket):
        await store.put("k", b"x")
    assert [p for p in store.root.rglob("*") if p.is_file()] == []


async def test_linked_bucket_replaced_right_before_the_commit(
    store: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder outlives its deletion as a bucket, but what is written there is no object."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    await store.backend.delete_bucket("bkt")
    store.path.symlink_to(elsewhere)
    real = writing.commit

    def late(*args: Any) -> None:
        buckets.delete_bucket(store.backend._root, "bkt")
        buckets.create_bucket(store.backend._root, "bkt", 0)
        real(*args)

    monkeypatch.setattr(writing, "commit", late)
    with pytest.raises(NoSuchBucket):
        await store.put("k", b"x")
    assert not (elsewhere / "k").exists()
    assert await store.keys() == []


async def test_deletion_never_loses_an_acknowledged_write(store: Any) -> None:
    kept = refused = 0
    for number in range(60):
        put = asyncio.create_task(store.put(f"d{number}/k", b"x"))
        delete = asyncio.create_task(store.backend.delete_bucket("bkt"))
        await asyncio.wait([put, delete])
        if put.exception() is None:
            kept += 1
            assert isinstance(delete.exception(), BucketNotEmpty)
            assert await store.get(f"d{number}/k") == b"x"
            await store.backend.delete_object("bkt", f"d{number}/k")
        else:
            refused += 1
            assert isinstance(put.exception(), NoSuchBucket)
            assert delete.exception() is None
            await store.backend.create_bucket("bkt")
    assert kept + refused == 60


async def test_interrupted_deletion_is_finished_at_the_next_start(store: Any, reopen: Any) -> None:
    os.rename(store.path, store.root / ".dg-deleted-1")
    keep = store.root / ".dg-deleted-2"
    keep.mkdir()
    (keep / "file").touch()
    await (await reopen()).aclose()
    assert os.listdir(store.root) == [".dg-deleted-2"]


async def test_a_removed_root_is_not_an_empty_one(store: Any) -> None:
    await store.backend.delete_bucket("bkt")
    store.root.rmdir()
    store.root.mkdir()
    for call in (
        store.backend.list_buckets(),
        store.backend.head_object("bkt", "k"),
        store.backend.create_bucket("bkt"),
        store.backend.probe(),
    ):
        with pytest.raises(ServiceUnavailable):
            await call


async def test_a_root_that_was_moved_away_is_not_ready(store: Any) -> None:
    await store.backend.probe()
    moved = store.root.rename(store.root.with_name("moved"))
    with pytest.raises(ServiceUnavailable, match="not there"):
        await store.backend.probe()
    store.root.mkdir()
    with pytest.raises(ServiceUnavailable, match="another directory"):
        await store.backend.probe()
    store.root.rmdir()
    moved.rename(store.root)
    await store.backend.probe()


@pytest.mark.parametrize("created", [b"", b"x", b"9" * 40, b"-" + b"9" * 40, b"\xff"])
async def test_a_damaged_creation_time_does_not_spoil_the_list(store: Any, created: bytes) -> None:
    os.setxattr(store.path, buckets.CREATED, created)
    (info,) = await store.backend.list_buckets()
    assert info.name == "bkt"
    assert info.created.tzinfo is not None


async def test_lists_at_the_same_time_are_whole(store: Any) -> None:
    """A descriptor has one position: two that read through the same one share the names."""
    names = [f"bucket-{number:02}" for number in range(40)]
    for name in names:
        await store.backend.create_bucket(name)
    lists = await asyncio.gather(*(store.backend.list_buckets() for _ in range(40)))
    for found in lists:
        assert [info.name for info in found] == ["bkt", *names]
