"""Files that show which processes of one machine are alive: each holds a lock on its own.

The kernel gives the locks of a process back however it ends, and not a moment before: a death is
known at once, and a process that is only paused is never taken for dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

#: Held while a file is made or removed, so that nobody removes one that is not locked yet.
_GUARD = "guard"


class LivenessFiles:
    """The files of the processes that share one embedded database. All methods block.

    Args:
        directory: Made with mode 0700 if missing.
        process: Id of this process, which becomes the name of its file.
    """

    def __init__(self, directory: Path, process: str) -> None:
        self._directory = directory
        self._process = process
        self._descriptor = -1

    def hold(self) -> None:
        """Make and lock the file of this process; again, if somebody has removed it."""
        path = self._directory / self._process
        if self._descriptor >= 0 and _is_at(path, self._descriptor):
            return
        self._directory.mkdir(mode=0o700, exist_ok=True)
        with self._guarded():
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                # Others hold it for a moment at most, when they look whether we are alive.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except BaseException:
                os.close(descriptor)
                raise
        old, self._descriptor = self._descriptor, descriptor
        if old >= 0:
            os.close(old)

    def dead(self, processes: Iterable[str]) -> set[str]:
        """Those of ``processes`` that have ended."""
        return {process for process in processes if not self._is_alive(process)}

    def sweep(self) -> None:
        """Remove the files of processes that have ended."""
        with self._guarded():
            for entry in self._directory.iterdir():
                if entry.name != _GUARD and not self._is_alive(entry.name):
                    entry.unlink(missing_ok=True)

    def release(self) -> None:
        """Remove the file of this process. Safe to call twice."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError), self._guarded():
                (self._directory / self._process).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def _is_alive(self, process: str) -> bool:
        try:
            descriptor = os.open(self._directory / process, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            # Shared: two processes that look at the same time do not see each other.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        guard = self._directory / _GUARD
        descriptor = os.open(guard, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether a path still names the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


__all__ = ["LivenessFiles"]
