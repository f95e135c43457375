"""A lock between processes that none of them can keep for itself."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class Turnstile:
    """Exclusion by two lock files: a gate before the room.

    Whoever wants the room takes the gate, waits there for the room, and opens the gate behind
    itself. So when the room becomes free, somebody is at the gate already, and whoever just left
    has to queue. With one lock alone the process that releases it is running and takes it
    again at once, and others wait for seconds (measured: one of four writers 4 s).

    The kernel releases the locks of a process however it ends. Every holder needs a turnstile of
    its own; one object must not be used by two threads at a time.
    """

    def __init__(self, database: Path) -> None:
        """Open, and create if missing, the lock files beside a database. Raises ``OSError``."""
        with contextlib.ExitStack() as opened:
            self._gate = _open(database.with_name(database.name + ".gate"))
            opened.callback(os.close, self._gate)
            self._room = _open(database.with_name(database.name + ".lock"))
            opened.callback(os.close, self._room)
            self._files = opened.pop_all()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the lock, and hold it inside the block."""
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the files. They stay: removing a lock file makes two locks of one."""
        self._files.close()


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


__all__ = ["Turnstile"]
