"""Locks that hold between threads and between processes: flock(2) on files of the bucket."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from .paths import Names

#: Two writers wait for each other needlessly once in so many pairs of keys.
STRIPES = 256
#: Held shared by every commit and delete, exclusively by the deletion of the bucket.
BUCKET_LOCK = b"bucket"


def stripe_of(names: Names) -> bytes:
    """Name of the lock file that guards a path; equal in every process."""
    digest = hashlib.blake2b(b"/".join(names), digest_size=4).digest()
    return b"%03d" % (int.from_bytes(digest, "big") % STRIPES)


@contextmanager
def locked(directory: int, name: bytes, operation: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock file of ``directory``; blocks until it is free.

    Each use opens the file anew: flock belongs to the open file, so two threads of one process
    exclude each other as two processes do. The kernel frees it when its holder dies. A holder
    takes no second stripe and ends within the same call, so waiting always ends.

    Raises:
        BlockingIOError: If ``operation`` has ``LOCK_NB`` and another holds the lock.
    """
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666, dir_fd=directory)
    try:
        fcntl.flock(fd, operation)
        yield
    finally:
        os.close(fd)
