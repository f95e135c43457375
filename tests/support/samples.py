"""Data for tests: the same bytes in every run."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

WAIT_SECONDS = 15.0
POLL_SECONDS = 0.02
MIB = 1024**2


@lru_cache(maxsize=16)
def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that no codec can compress."""
    return random.Random(seed).randbytes(size)


def release(number: int, size: int = MIB) -> bytes:
    """Version ``number`` of a file: each keeps almost all of the one before, as archives do.

    Every version replaces four runs of 1 KiB, inserts one and removes one, so nothing behind
    the insertion stays in its place.
    """
    data = bytearray(noise(size, seed=1000))
    for version in range(1, number + 1):
        changes = random.Random(version)
        for _ in range(4):
            at = changes.randrange(len(data) - 2048)
            data[at : at + 1024] = changes.randbytes(1024)
        at = changes.randrange(len(data))
        data[at:at] = changes.randbytes(1536)
        at = changes.randrange(len(data) - 2048)
        del data[at : at + 1024]
    return bytes(data)


def md5_hex(data: bytes) -> str:
    """The ETag of an object that was sent in one piece."""
    return hashlib.md5(data).hexdigest()


def multipart_etag(parts: list[bytes]) -> str:
    """The ETag of an object that was sent in parts."""
    digests = b"".join(hashlib.md5(part).digest() for part in parts)
    return f"{hashlib.md5(digests).hexdigest()}-{len(parts)}"


def files_below(directory: Path) -> set[str]:
    """Relative paths of all files, temporary ones too."""
    found = set()
    for folder, _, names in os.walk(directory):
        for name in names:
            found.add(os.path.relpath(os.path.join(folder, name), directory))
    return found


def contents(directory: Path) -> dict[str, bytes]:
    """What is in all files, by relative path."""
    return {name: (directory / name).read_bytes() for name in files_below(directory)}


def bytes_below(directory: Path) -> int:
    """Bytes of all files."""
    return sum((directory / name).stat().st_size for name in files_below(directory))


def wait_until(condition: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Return as soon as ``condition`` holds; fail with ``what`` if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(POLL_SECONDS)
