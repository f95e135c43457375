"""What is on disk when a write is acknowledged, judged by the order of the system calls."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from deltaglider_backend_fs import buckets
from deltaglider_backend_fs.directories import DURABLE
from deltaglider_core.errors import BucketNotEmpty
from deltaglider_core.interfaces.storage import ObjectMetadata

LARGE = ObjectMetadata(user={"k": "v" * 90_000})


class Journal:
    """Records, in order, what is fsynced, renamed, made and removed below the root."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self._root = str(root) + "/"
        self.lines: list[str] = []
        fsync, rename, mkdir, unlink = os.fsync, os.rename, os.mkdir, os.unlink

        def on_fsync(fd: int) -> None:
            fsync(fd)
            self.lines.append("fsync " + self._name(fd))

        def on_rename(source: Any, target: bytes, *, src_dir_fd: int, dst_dir_fd: int) -> None:
            rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            self.lines.append(f"commit {self._name(dst_dir_fd)}/{target.decode()}")

        def on_mkdir(name: bytes, *, dir_fd: int) -> None:
            mkdir(name, dir_fd=dir_fd)
            self.lines.append(f"mkdir {self._name(dir_fd)}/{name.decode()}")

        def on_unlink(name: Any, *, dir_fd: int) -> None:
            unlink(name, dir_fd=dir_fd)
            self.lines.append(f"unlink {self._name(dir_fd)}/{os.fsdecode(name)}")

        patch.setattr(os, "fsync", on_fsync)
        patch.setattr(os, "rename", on_rename)
        patch.setattr(os, "mkdir", on_mkdir)
        patch.setattr(os, "unlink", on_unlink)

    def _name(self, fd: int) -> str:
        return os.readlink(f"/proc/self/fd/{fd}").removeprefix(self._root)

    def take(self) -> list[str]:
        """The lines so far; random names are shown as ``*``."""
        lines, self.lines = self.lines, []
        return ["/".join("*" if len(p) == 32 else p for p in line.split("/")) for line in lines]


@pytest.fixture
async def journal(store: Any, monkeypatch: pytest.MonkeyPatch) -> Journal:
    await store.put("warm", b"", metadata=LARGE)
    return Journal(store.root, monkeypatch)


async def test_file_then_name_then_folder(store: Any, journal: Journal) -> None:
    for key, parts in (("small", [b"x"]), ("large", [bytes(1024 * 1024)] * 3)):
        await store.put(key, *parts)
        assert journal.take() == ["fsync bkt/%dg-tmp/*", f"commit bkt/{key}", "fsync bkt"]


async def test_every_new_folder_is_on_disk_in_its_parent(store: Any, journal: Journal) -> None:
    await store.put("a/b/k", b"x")
    assert journal.take() == [
        "fsync bkt/%dg-tmp/*",
        "mkdir bkt/a",
        "fsync bkt",
        "mkdir bkt/a/b",
        "fsync bkt/a",
        "commit bkt/a/b/k",
        "fsync bkt/a/b",
    ]
    await store.put("a/b/l", b"x")
    assert journal.take() == ["fsync bkt/%dg-tmp/*", "commit bkt/a/b/l", "fsync bkt/a/b"]


async def test_a_folder_that_another_process_has_just_made_is_not_trusted(
    store: Any, journal: Journal
) -> None:
    """It may have died between mkdir and fsync: the entry would be lost with all below it."""
    await store.put("a/k", b"x")
    os.removexattr(store.path / "a", DURABLE)
    os.removexattr(store.path, DURABLE)
    journal.take()
    await store.put("a/l", b"x")
    lines = journal.take()
    assert lines == [
        "fsync bkt/%dg-tmp/*",
        f"fsync {store.root}",
        "fsync bkt",
        "commit bkt/a/l",
        "fsync bkt/a",
    ]


async def test_metadata_file_before_its_object_and_the_old_one_after(
    store: Any, journal: Journal
) -> None:
    await store.put("warm", b"x", metadata=LARGE)
    assert journal.take() == [
        "fsync bkt/%dg-meta/*",
        "fsync bkt/%dg-meta",
        "fsync bkt/%dg-tmp/*",
        "commit bkt/warm",
        "fsync bkt",
        "unlink bkt/%dg-meta/*",
    ]


async def test_a_file_that_becomes_a_folder(store: Any, journal: Journal) -> None:
    await store.put("warm/k", b"x")
    lines = journal.take()
    assert lines[-2:] == ["commit bkt/warm/k", "fsync bkt/warm"]
    # The folder with the old object inside is on disk before, and so is its place.
    assert lines.index("fsync bkt/%dg-tmp/*", 1) < lines.index("fsync bkt") < len(lines) - 2


async def test_delete(store: Any, journal: Journal) -> None:
    await store.put("a/k", b"x")
    journal.take()
    assert await store.backend.delete_object("bkt", "a/k")
    assert journal.take() == ["unlink bkt/a/k", "fsync bkt/a"]
    assert not (store.path / "a").exists()


async def test_buckets(store: Any, journal: Journal) -> None:
    await store.backend.create_bucket("new")
    assert journal.take()[-1] == f"fsync {store.root}"
    await store.backend.delete_bucket("new")
    assert f"fsync {store.root}" in journal.take()


async def test_a_bucket_that_could_not_be_deleted_keeps_its_name(
    store: Any, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit after it trusts that the name is on disk, and must not be lost under another."""
    await store.backend.delete_object("bkt", "warm")
    journal.take()
    monkeypatch.setattr(buckets, "_remove_folders", lambda bucket, folders: False)
    with pytest.raises(BucketNotEmpty):
        await store.backend.delete_bucket("bkt")
    lines = journal.take()
    assert lines[-2:] == [f"commit {store.root}/bkt", f"fsync {store.root}"]
