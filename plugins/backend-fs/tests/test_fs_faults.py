"""What the kernel can say, and what the client then sees."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deltaglider_backend_fs import linux
from deltaglider_backend_fs.oserrors import translate
from deltaglider_core.errors import (
    InsufficientStorage,
    InternalError,
    NotImplementedS3,
    S3Error,
    ServiceUnavailable,
)
from deltaglider_core.interfaces.storage import ObjectMetadata

MIB = 1024 * 1024
HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, InsufficientStorage),
        (errno.EDQUOT, InsufficientStorage),
        (errno.EFBIG, InsufficientStorage),
        (errno.EROFS, InternalError),
        (errno.EACCES, InternalError),
        (errno.EIO, InternalError),
        (errno.EMFILE, ServiceUnavailable),
        (errno.ENFILE, ServiceUnavailable),
        (errno.ESTALE, ServiceUnavailable),
        (None, InternalError),
    ],
)
def test_translation(code: int | None, kind: type[S3Error]) -> None:
    error = translate(OSError(code, "text", "/secret/path"))
    assert type(error) is kind
    assert "secret" not in str(error)


def failing(code: int, after: int = 0) -> Any:
    calls = [0]

    def fail(*_: object, **__: object) -> Any:
        calls[0] += 1
        if calls[0] > after:
            raise OSError(code, os.strerror(code))
        return real(*_, **__)

    real = os.write
    return fail


@pytest.mark.parametrize("after", [0, 2])
async def test_full_disk(store: Any, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    await store.put("k", b"old")
    before = store.descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing(errno.ENOSPC, after))
        with pytest.raises(InsufficientStorage):
            await store.put("k", *[b"x" * MIB] * 4)
    assert await store.get("k") == b"old"
    assert store.left_over() == []
    assert store.descriptors() == before
    await store.put("k", b"new")
    assert await store.get("k") == b"new"


@pytest.mark.parametrize(
    ("call", "code", "kind"),
    [
        ("fsync", errno.EIO, InternalError),
        ("fsync", errno.ENOSPC, InsufficientStorage),
        ("rename", errno.EROFS, InternalError),
        ("setxattr", errno.ENOSPC, InsufficientStorage),
        ("utime", errno.EPERM, InternalError),
    ],
)
async def test_failures_before_the_commit_store_nothing(
    store: Any, monkeypatch: pytest.MonkeyPatch, call: str, code: int, kind: type[S3Error]
) -> None:
    await store.put("k", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(code))
        with pytest.raises(kind):
            await store.put("k", b"new", metadata=ObjectMetadata(user={"k": "v" * 90_000}))
    assert await store.get("k") == b"old"
    assert store.left_over() == []


def test_a_file_beyond_the_limit_of_the_system(tmp_path: Path) -> None:
    """A real limit (RLIMIT_FSIZE) in a process of its own."""
    result = subprocess.run(
        [sys.executable, str(HERE / "fs_worker.py"), "limit", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(result.stdout) == {
        "error": "InsufficientStorage",
        "keys": ["small"],
        "left": [],
    }


async def test_unknown_is_never_absent(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.put("a/k", b"x")
    real = os.open

    def breaking(name: bytes) -> Any:
        def fail(path: Any, *args: Any, **kwargs: Any) -> int:
            if path == name:
                raise OSError(errno.EIO, "I/O error")
            return real(path, *args, **kwargs)

        return fail

    for name in (b"a", b"k", b"bkt"):
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", breaking(name))
            for call in (
                store.backend.head_object("bkt", "a/k"),
                store.backend.get_object("bkt", "a/k"),
                store.backend.delete_object("bkt", "a/k"),
                store.backend.list_objects("bkt"),
            ):
                with pytest.raises(InternalError):
                    await call
    assert await store.get("a/k") == b"x"


async def test_out_of_descriptors(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing(errno.EMFILE))
        with pytest.raises(ServiceUnavailable):
            await store.get("k")
        with pytest.raises(ServiceUnavailable):
            await store.put("k", b"x")


@pytest.mark.parametrize("missing", ["exchange", "link"])
async def test_file_system_without_exchange_or_links(
    store: Any, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    await store.put("a", b"x")
    with monkeypatch.context() as patch:
        patch.setattr(linux if missing == "exchange" else os, missing, failing(errno.EINVAL))
        with pytest.raises(NotImplementedS3):
            await store.put("a/b", b"y")
    assert await store.keys() == ["a"]
    assert store.left_over() == []
    # The other way round needs neither.
    await store.put("c/d", b"")
    await store.put("c", b"")
    assert await store.keys() == ["a", "c", "c/d"]


def test_exchange_says_what_the_kernel_says(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(FileNotFoundError):
            linux.exchange(fd, b"a", fd, b"b")
        (tmp_path / "a").touch()
        (tmp_path / "b").mkdir()
        linux.exchange(fd, b"a", fd, b"b")
        assert (tmp_path / "a").is_dir()
    finally:
        os.close(fd)


def test_birth_time_is_before_the_last_change(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        born = linux.birth_time_ns(fd)
        assert born is None or 0 < born <= os.fstat(fd).st_ctime_ns
    finally:
        os.close(fd)
