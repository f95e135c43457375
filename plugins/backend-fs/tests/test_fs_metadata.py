"""Attributes, their overflow, and files that others put into the directory."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import tracemalloc
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from deltaglider_backend_fs import objects
from deltaglider_backend_fs.xattrs import ATTRIBUTE
from deltaglider_core.errors import IntegrityError, NoSuchKey
from deltaglider_core.interfaces.storage import ObjectMetadata

SMALL = ObjectMetadata(
    headers={"content-type": "text/plain"}, user={"ünï": "cödé \ud83d"}, internal={"write-id": "1"}
)
TABLE = "1;5242880*9999,1;sha256:" + "x" * 420_000
LONG = replace(SMALL, internal={"write-id": "1", "parts": TABLE, "etag": "e"}, tags={"a": "1"})
SHORT = replace(LONG, internal={"write-id": "1", "etag": "e"})
LARGE = ObjectMetadata(user={"k": "v" * 90_000}, internal={"write-id": "1"})


@pytest.mark.parametrize("metadata", [SMALL, LARGE], ids=["attribute", "sidecar"])
async def test_round_trip(store: Any, metadata: ObjectMetadata) -> None:
    info = await store.put("a/k", b"x", metadata=metadata)
    assert (await store.backend.head_object("bkt", "a/k")).metadata == metadata
    page = await store.backend.list_objects("bkt")
    assert page.objects == [info]
    assert len(store.left_over()) == (metadata is LARGE)


async def test_long_internal_values_are_not_listed(store: Any) -> None:
    """Nor read for a listing: they are in the second line of the metadata file."""
    info = await store.put("k", b"x", metadata=LONG)
    assert info.metadata == LONG
    (path,) = store.left_over()
    first, second = path.read_bytes().split(b"\n")
    assert len(first) < 400
    assert json.loads(first)["long"] == ["parts"]
    assert json.loads(second) == {"internal": {"parts": TABLE}}
    assert (await store.backend.head_object("bkt", "k")).metadata == LONG
    async with await store.backend.get_object("bkt", "k") as reader:
        assert reader.info.metadata == LONG
    (listed,) = (await store.backend.list_objects("bkt")).objects
    assert listed == replace(info, metadata=SHORT)
    copied = await store.backend.copy_object("bkt", "k", "bkt", "copy")
    assert copied.metadata == LONG
    # Also where the file system has room for them in the attribute.
    limit = replace(SMALL, internal={"at": "x" * 4096})
    await store.put("k", b"x", metadata=replace(SMALL, internal={"above": "x" * 4097}))
    assert len(store.left_over()) == 2
    await store.put("k", b"x", metadata=limit)
    (listed,) = (await store.backend.list_objects("bkt", prefix="k")).objects
    assert listed.metadata == limit


async def test_metadata_files_of_earlier_versions(store: Any) -> None:
    """All in one line; still read, and listed alike."""
    info = await store.put("k", b"x", metadata=LONG)
    (path,) = store.left_over()
    fields = {"headers": LONG.headers, "user": LONG.user, "internal": LONG.internal}
    path.write_text(json.dumps({"v": 1, **fields, "tags": LONG.tags}))
    assert await store.backend.head_object("bkt", "k") == info
    (listed,) = (await store.backend.list_objects("bkt")).objects
    assert listed.metadata == SHORT


@pytest.mark.parametrize(
    "second",
    [
        None,
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"internal":{}}',
        b'{"internal":{"parts":1}}',
        b'{"internal":{"parts":"x","more":"x"}}',
    ],
)
async def test_damaged_long_values_are_an_error(store: Any, second: bytes | None) -> None:
    await store.put("k", b"x", metadata=LONG)
    (path,) = store.left_over()
    first = path.read_bytes().split(b"\n")[0]
    path.write_bytes(first if second is None else first + b"\n" + second)
    with pytest.raises(IntegrityError):
        await store.backend.head_object("bkt", "k")
    (listed,) = (await store.backend.list_objects("bkt")).objects
    assert listed.metadata == SHORT


async def test_a_listing_of_large_tables_is_small(store: Any) -> None:
    """200 objects with tables of 420 KB each, 80 MB in all."""
    for number in range(200):
        await store.put(f"{number:03}", b"x", metadata=LONG)
    before = _bytes_read()
    tracemalloc.start()
    try:
        page = await store.backend.list_objects("bkt")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    read = _bytes_read() - before
    assert [info.metadata for info in page.objects] == [SHORT] * 200
    assert peak < 4 * 1024**2
    assert read < 8 * 1024**2


def _bytes_read() -> int:
    """By this process, from files and caches alike."""
    return int(Path("/proc/self/io").read_text().split()[1])


async def test_sidecar_goes_with_its_object(store: Any) -> None:
    for key in ("a", "a/b", "c"):
        await store.put(key, b"x", metadata=LARGE)
        await store.put(key, b"y", metadata=LARGE)
    await store.backend.copy_object("bkt", "c", "bkt", "d")
    assert len(store.left_over()) == 4
    await store.put("c", b"z")
    assert (await store.backend.head_object("bkt", "d")).metadata == LARGE
    for key in ("a", "a/b", "c", "d"):
        await store.backend.delete_object("bkt", key)
    assert store.left_over() == []


async def test_sidecar_of_a_failed_write_goes(store: Any) -> None:
    from deltaglider_core.errors import PreconditionFailed

    await store.put("k", b"x")
    with pytest.raises(PreconditionFailed):
        await store.put("k", b"y", metadata=LARGE, if_none_match="*")
    assert store.left_over() == []


async def test_reader_that_loses_the_sidecar_to_an_overwrite_reads_the_new_version(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("k", b"old", metadata=LARGE)
    new = await store.put("other", b"newer", metadata=LARGE)
    real = objects.read_metadata
    calls = []

    def overwritten_in_between(record: Any, bucket: int) -> ObjectMetadata:
        calls.append(record.sidecar)
        if len(calls) == 1:
            os.unlink(store.path / "%dg-meta" / record.sidecar)
            os.rename(store.path / "other", store.path / "k")
        return real(record, bucket)

    monkeypatch.setattr(objects, "read_metadata", overwritten_in_between)
    info = await store.backend.head_object("bkt", "k")
    assert (info.size, info.etag, info.metadata) == (5, new.etag, LARGE)
    assert len(calls) == 2


async def test_missing_sidecar_is_damage(store: Any) -> None:
    await store.put("k", b"x", metadata=LARGE)
    for path in store.left_over():
        path.unlink()
    with pytest.raises(IntegrityError):
        await store.get("k")
    (shown,) = (await store.backend.list_objects("bkt")).objects
    assert (shown.key, shown.size, shown.metadata) == ("k", 1, None)


@pytest.mark.parametrize(
    "attribute",
    [
        b"",
        b"{",
        b"[]",
        b'{"v":2}',
        b'{"v":1}',
        b'{"v":1,"etag":1,"size":1,"mtime_ns":1,"headers":{},"user":{},"internal":{}}',
        b'{"v":1,"etag":"e","size":1,"mtime_ns":1,"headers":{},"user":{"a":1},"internal":{}}',
        b'{"v":1,"etag":"e","size":1,"mtime_ns":1,"sidecar":"../../secret"}',
        b'{"v":1,"etag":"e","size":1,"mtime_ns":1,"sidecar":"a\\u0000b"}',
        b'{"v":1,"etag":"e","size":1,"mtime_ns":1,"sidecar":"\\ud800"}',
        b'{"v":1,"etag":"e","size":1,"mtime_ns":1,"sidecar":"' + b"a" * 300 + b'"}',
        b"[" * 3900,
    ],
)
async def test_damaged_attribute_is_an_error_and_no_guess(store: Any, attribute: bytes) -> None:
    await store.put("k", b"x")
    os.setxattr(store.path / "k", ATTRIBUTE, attribute)
    with pytest.raises(IntegrityError):
        await store.get("k")
    with pytest.raises(IntegrityError):
        await store.backend.head_object("bkt", "k")
    with pytest.raises(IntegrityError):
        await store.put("k", b"y", if_match="0" * 32)
    (shown,) = (await store.backend.list_objects("bkt")).objects
    assert (shown.size, shown.metadata) == (1, None)
    await store.put("k", b"y")
    assert await store.get("k") == b"y"


@pytest.mark.parametrize("year", [-(10**9), 0, 10_000, 10**9])
def test_times_that_no_calendar_has(year: int) -> None:
    """Some file systems store any 64 bits of seconds, and any program may set them."""
    moment = objects.from_ns((year - 1970) * 366 * 86_400 * 10**9)
    assert moment.isoformat() in ("0001-01-01T00:00:00+00:00", "9999-01-01T00:00:00+00:00")
    assert moment.astimezone(UTC) == moment


async def test_files_of_others_are_objects(store: Any) -> None:
    (store.path / "dir").mkdir()
    (store.path / "dir" / "f.txt").write_bytes(b"hello")
    (store.path / "empty").touch()
    info = await store.backend.head_object("bkt", "dir/f.txt")
    assert await store.get("dir/f.txt") == b"hello"
    assert info.metadata == ObjectMetadata()
    # Not the form of an MD5: clients would compare it with one.
    assert info.etag.endswith("-1")
    empty = await store.backend.head_object("bkt", "empty")
    assert empty.etag == hashlib.md5(b"").hexdigest()
    assert (await store.backend.list_objects("bkt")).objects == [info, empty]
    await store.put("dir/f.txt", b"ours", if_match=info.etag)
    await store.put("empty/below", b"")
    assert await store.keys() == ["dir/f.txt", "empty", "empty/below"]


@pytest.mark.parametrize("metadata", [SMALL, LARGE], ids=["attribute", "sidecar"])
async def test_a_file_changed_by_others_has_another_etag_and_the_clients_metadata(
    store: Any, metadata: ObjectMetadata
) -> None:
    """What the layers above noted about the bytes (an ETag, a form) is about other bytes."""
    info = await store.put("k", b"hello", metadata=metadata)
    (store.path / "k").write_bytes(b"hello!")
    changed = await store.backend.head_object("bkt", "k")
    assert changed.etag != info.etag
    assert (changed.size, changed.metadata) == (6, replace(metadata, internal={}))
    assert (await store.backend.list_objects("bkt")).objects == [changed]
    os.utime(store.path / "k", ns=(1, 5_000_000_000))
    assert (await store.backend.head_object("bkt", "k")).etag not in (info.etag, changed.etag)


async def test_links_and_special_files_are_absent(store: Any, tmp_path: Any) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "f").write_bytes(b"secret")
    (store.path / "link").symlink_to(secret / "f")
    (store.path / "folder").symlink_to(secret)
    os.mkfifo(store.path / "pipe")
    os.mkdir(store.path / "bare")
    (store.path / "%dg-foreign").touch()
    (store.path / os.fsdecode(b"\xff")).touch()
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(store.path)
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
    for key in ("link", "folder/f", "folder", "pipe", "socket", "bare"):
        with pytest.raises(NoSuchKey):
            await store.get(key)
        with pytest.raises(NoSuchKey):
            await store.backend.head_object("bkt", key)
        assert not await store.backend.delete_object("bkt", key)
    page = await store.backend.list_objects("bkt", delimiter="/")
    assert (page.objects, page.prefixes) == ([], [])
    await store.put("link", b"new")
    assert (secret / "f").read_bytes() == b"secret"
