"""Runs of zeros take no room, and nobody can tell from the bytes."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import pytest

from deltaglider_backend_fs import writing

MIB = 1024 * 1024
RUN = 64 * 1024

#: Bytes, and the most that they may take on disk.
CONTENTS = {
    "only zeros": (bytes(8 * MIB), RUN),
    "begins with zeros": (bytes(4 * MIB) + b"x" * 100, RUN),
    "ends with zeros": (b"x" * 100 + bytes(4 * MIB), 2 * RUN),
    "zeros between": (b"a" * MIB + bytes(6 * MIB) + b"b" * MIB, 2 * MIB + 2 * RUN),
    "a run too short": (b"a" + bytes(4000) + b"b", RUN),
    "unaligned": (b"abc" + bytes(3 * MIB) + b"d" + bytes(3 * MIB + 5), 4 * RUN),
}


@pytest.mark.parametrize("name", CONTENTS)
async def test_zeros_become_holes_and_stay_what_they_are(store: Any, name: str) -> None:
    data, most = CONTENTS[name]
    pieces = [data[start : start + 300_000] for start in range(0, len(data), 300_000)]
    info = await store.put("key", *pieces)
    assert (info.size, info.etag) == (len(data), hashlib.md5(data).hexdigest())
    assert await store.get("key") == data
    assert os.stat(store.path / "key").st_blocks * 512 <= most


@pytest.mark.parametrize("name", CONTENTS)
async def test_a_copy_keeps_the_holes(
    store: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing.linux, "clone", lambda source, target: False)
    data, most = CONTENTS[name]
    await store.put("key", data)
    info = await store.backend.copy_object("bkt", "key", "bkt", "copy")
    assert info.size == len(data)
    assert await store.get("copy") == data
    assert os.stat(store.path / "copy").st_blocks * 512 <= most


async def test_a_file_system_without_holes_copies_everything(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"a" * MIB + bytes(2 * MIB) + b"b"
    await store.put("key", data)

    def refuse(fd: int, position: int, whence: int) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(writing.linux, "clone", lambda source, target: False)
    monkeypatch.setattr(writing.linux.os, "lseek", refuse)
    await store.backend.copy_object("bkt", "key", "bkt", "copy")
    monkeypatch.undo()
    assert await store.get("copy") == data
