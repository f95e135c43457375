"""Tags in the attribute: replaced alone, whole, durable, and never lost to a concurrent write."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from dataclasses import replace
from typing import Any

import pytest

from deltaglider_backend_fs import tagging, xattrs
from deltaglider_core.errors import (
    AccessDenied,
    InsufficientStorage,
    IntegrityError,
    InternalError,
    NoSuchKey,
)
from deltaglider_core.interfaces.storage import ObjectMetadata

TAGS = {"team": "ü 1", "empty": ""}
LARGE_TAGS = {f"{number}" + "k" * 127: "v" * 256 for number in range(10)}
GIVEN = ObjectMetadata(headers={"content-type": "a/b"}, user={"u": "1"}, internal={"write-id": "1"})
LARGE = ObjectMetadata(user={"k": "v" * 90_000}, internal={"write-id": "1"})
LONG = replace(GIVEN, internal={"write-id": "1", "parts": "1;" + "5," * 100_000})


def attribute(path: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(os.getxattr(path, xattrs.ATTRIBUTE))
    return found


@pytest.mark.parametrize("given", [GIVEN, LARGE, LONG], ids=["attribute", "sidecar", "long"])
async def test_the_file_stays_as_it_is(store: Any, given: ObjectMetadata) -> None:
    before = await store.put("k", b"data", metadata=given)
    await store.put("k/below", b"x")  # the object is now in a folder of its name
    file = store.path / "k" / "%dg-self"
    facts = os.stat(file)
    for tags in (TAGS, LARGE_TAGS, {"a": "1"}, {}):
        info = await store.backend.set_object_tags("bkt", "k", tags)
        assert info == replace(before, metadata=replace(given, tags=tags))
        assert await store.backend.head_object("bkt", "k") == info
        now = os.stat(file)
        assert (now.st_ino, now.st_mtime_ns, now.st_size) == (
            facts.st_ino,
            facts.st_mtime_ns,
            facts.st_size,
        )
        assert len(store.left_over()) == ("sidecar" in attribute(file))
    assert ("tags" in attribute(file)) is False
    await store.backend.delete_object("bkt", "k")
    assert store.left_over() == []


async def test_a_record_without_tags_is_what_it_was(store: Any) -> None:
    """Files of earlier versions stay readable, and theirs is still what is written."""
    await store.put("k", b"x", metadata=GIVEN)
    assert attribute(store.path / "k").keys() == {
        "v",
        "etag",
        "size",
        "mtime_ns",
        "headers",
        "user",
        "internal",
    }


async def test_files_of_others(store: Any) -> None:
    path = store.path / "foreign"
    path.write_bytes(b"data")
    before = await store.backend.head_object("bkt", "foreign")
    info = await store.backend.set_object_tags("bkt", "foreign", TAGS)
    assert info == replace(before, metadata=ObjectMetadata(tags=TAGS))
    # Written to by the other program, it is another object; what clients said of it stays.
    await store.put("k", b"data", metadata=GIVEN)
    (store.path / "k").write_bytes(b"other bytes")
    changed = await store.backend.head_object("bkt", "k")
    info = await store.backend.set_object_tags("bkt", "k", TAGS)
    assert info == replace(changed, metadata=replace(GIVEN, internal={}, tags=TAGS))
    assert info.etag == changed.etag


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
async def test_files_that_others_have_locked(
    store: Any, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Readable, and not to be written to by this process (EPERM: marked as immutable)."""
    (store.path / "foreign").write_bytes(b"data")

    def denied(*arguments: Any) -> None:
        raise OSError(number, "denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "setxattr", denied)
        with pytest.raises(AccessDenied, match="x-amz-tagging"):
            await store.backend.set_object_tags("bkt", "foreign", TAGS)
        # Where the file is ours this is a fault of the storage.
        with pytest.raises(InternalError):
            await store.put("own", b"x", metadata=GIVEN)
    assert (await store.backend.head_object("bkt", "foreign")).metadata == ObjectMetadata()
    assert store.left_over() == []


async def test_damage_stays_visible(store: Any) -> None:
    await store.put("cut", b"data", metadata=GIVEN)
    facts = os.stat(store.path / "cut")
    os.truncate(store.path / "cut", 2)
    os.utime(store.path / "cut", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    await store.put("sidecar", b"data", metadata=LARGE)
    for path in store.left_over():
        path.unlink()
    await store.put("broken", b"data", metadata=GIVEN)
    os.setxattr(store.path / "broken", xattrs.ATTRIBUTE, b"{")
    for key in ("cut", "sidecar", "broken"):
        raw = os.getxattr(store.path / key, xattrs.ATTRIBUTE)
        with pytest.raises(IntegrityError):
            await store.backend.set_object_tags("bkt", key, TAGS)
        assert os.getxattr(store.path / key, xattrs.ATTRIBUTE) == raw


async def test_absent(store: Any) -> None:
    await store.put("dir/k", b"x")
    for key in ("absent", "dir", "dir/absent", "dir/k/below", "no/dir"):
        with pytest.raises(NoSuchKey):
            await store.backend.set_object_tags("bkt", key, TAGS)


async def test_full_disk_leaves_the_old_tags(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.put("k", b"x", metadata=replace(LARGE, tags=TAGS))
    before, descriptors = store.left_over(), store.descriptors()
    real, calls = os.setxattr, []

    def full(*arguments: Any) -> None:
        calls.append(arguments)
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(os, "setxattr", full)
        with pytest.raises(InsufficientStorage):
            await store.backend.set_object_tags("bkt", "k", LARGE_TAGS)
    assert len(calls) == 2  # the whole record, then one that names the metadata file
    assert os.setxattr is real
    assert store.left_over() == before
    assert store.descriptors() == descriptors
    info = await store.backend.head_object("bkt", "k")
    assert info.metadata == replace(LARGE, tags=TAGS)


async def test_on_disk_before_the_answer(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attribute is synced after it was written, and the old metadata file goes after that."""
    await store.put("k", b"x", metadata=LARGE)
    steps: list[str] = []

    def recorded(module: Any, name: str) -> None:
        real = getattr(module, name)

        def call(*arguments: Any, **more: Any) -> Any:
            steps.append(name)
            return real(*arguments, **more)

        monkeypatch.setattr(module, name, call)

    recorded(tagging, "replace_record")
    recorded(tagging, "remove_sidecar")
    recorded(os, "fsync")
    await store.backend.set_object_tags("bkt", "k", TAGS)
    assert steps[0] == "replace_record"
    assert steps[-2:] == ["fsync", "remove_sidecar"]
    assert steps.count("fsync") == 3  # the metadata file, its folder, the object


async def test_tags_never_land_on_another_version(store: Any) -> None:
    """Between the two steps of one writer no other writer comes in."""
    await store.put("k", b"0", metadata=ObjectMetadata(user={"n": "0"}))

    async def write(number: int) -> None:
        metadata = ObjectMetadata(user={"n": str(number)}, internal={"write-id": str(number)})
        await store.put("k", str(number).encode(), metadata=metadata)

    async def tag(number: int) -> None:
        await store.backend.set_object_tags("bkt", "k", {"set": str(number)})

    for first in range(1, 101, 20):
        numbers = range(first, first + 20)
        await asyncio.gather(*(write(n) if n % 2 else tag(n) for n in numbers))
        info = await store.backend.head_object("bkt", "k")
        data = (store.path / "k").read_bytes().decode()
        assert info.metadata.user == {"n": data}
        assert info.metadata.internal in ({"write-id": data}, {})
    assert store.left_over() == []
