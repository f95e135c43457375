"""A private directory for the temporary and cached files of one process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import ConfigurationError

_LOCK = "lock"


def default_base() -> Path:
    """``deltaglider-<uid>`` below the system's directory for temporary files."""
    return Path(tempfile.gettempdir()) / f"deltaglider-{os.getuid()}"


@contextlib.contextmanager
def work_directory(base: Path | None = None) -> Iterator[Path]:
    """Make a directory that only this process uses, and remove it at the end.

    Directories of processes that died are removed first: each process holds a lock on a file
    in its own, which the kernel releases however the process ends.

    Args:
        base: Created with mode 0700 if missing; default ``default_base()``.

    Raises:
        ConfigurationError: The base belongs to somebody else, or cannot be written.
    """
    base = base or default_base()
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = base.lstat()
        if not stat.S_ISDIR(facts.st_mode):
            raise NotADirectoryError(f"{base} is not a directory")
        if facts.st_uid != os.getuid() or facts.st_mode & stat.S_IWOTH:
            # In a directory that others can write to, files could be planted or exchanged.
            raise PermissionError(f"{base} belongs to another user or is writable by all")
        with _locked(base / _LOCK):
            # Under one lock, so that nobody sweeps a directory that is only half made.
            _sweep(base)
            directory = Path(tempfile.mkdtemp(prefix="process-", dir=base))
            lock = os.open(directory / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        raise ConfigurationError(
            f"Temporary files cannot be kept in {base} ({error}); set advanced.spool_dir or "
            "DGP_SPOOL_DIR to a directory of this user."
        ) from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(base: Path) -> None:
    for directory in base.glob("process-*"):
        try:
            lock = os.open(directory / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            # Its process is just removing it.
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(lock)
