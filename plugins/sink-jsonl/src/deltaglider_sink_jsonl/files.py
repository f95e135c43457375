"""A file that several processes append whole lines to."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Not blocking: opening a pipe that nobody reads must not hang.
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_MODE = 0o640


class BusyError(Exception):
    """Somebody else is writing; try again in a moment."""


def append(path: Path, data: bytes, *, fsync: bool) -> bool:
    """Append lines to a file, all of them or none; create the file if it is missing.

    The file is opened anew each time, so one that was renamed is left alone from then on.

    Args:
        data: Ends with a line end.
        fsync: Return only when the data, and the name of a new file, are on disk.

    Returns:
        Whether the last line before was cut and had to be ended first.

    Raises:
        BusyError: Another writer holds the lock; nothing was written.
        OSError: Nothing is left of what was written, as far as the disk allows.
    """
    with _locked(path) as file:
        size = os.fstat(file).st_size
        cut = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        try:
            _write(file, b"\n" + data if cut else data)
            if fsync:
                os.fsync(file)
        except BaseException:
            # A half batch is not an error for the reader, but half a line is.
            with suppress(OSError):
                os.ftruncate(file, size)
            raise
    if size == 0 and fsync:
        # The name may be as new as the content.
        _sync_directory(path)
    return cut


def check(path: Path) -> None:
    """Raise an ``OSError`` unless the file can be appended to; create it if it is missing."""
    os.close(_open(path))


def _write(file: int, data: bytes) -> None:
    # One call, as a rule: the kernel stops early only if the disk is full or a signal comes.
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file that has the name now, locked."""
    while True:
        file = _open(path)
        try:
            try:
                # The kernel frees it when its holder dies, or closes the file.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BusyError from error
            if _is_at(path, file):
                yield file
                return
        finally:
            os.close(file)


def _open(path: Path) -> int:
    file = os.open(path, _FLAGS, _MODE)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return file


def _is_at(path: Path, file: int) -> bool:
    """Whether the file was not renamed or removed between its opening and its lock."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False


def _sync_directory(path: Path) -> None:
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
