"""Opening the root: whether it can hold objects at all is found out before the first request."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path

from deltaglider_core.errors import ConfigurationError

from .atomic import random_name
from .buckets import sweep
from .directories import BUCKET, DIRECTORY, Root
from .paths import KeyCodec
from .xattrs import ATTRIBUTE

_PROBE = b".dg-probe-"
#: Older traces of a probe were left by a process that died in it.
_PROBE_SECONDS = 3600

_UPPER = b"CASE"
_LOWER = b"case"
_COMPOSED = "caf\u00e9".encode()
_DECOMPOSED = "cafe\u0301".encode()


def open_root(path: Path) -> Root:
    """Create, probe and sweep the root directory.

    Raises:
        ConfigurationError: One sentence with the path, the cause and what to do.
    """
    path = path.absolute()
    root = Root(_open(path), KeyCodec(), path)
    try:
        root.codec = _probe(path, root.fd)
        sweep(root)
    except OSError as error:
        root.close()
        raise ConfigurationError(
            f"Cannot look through the storage directory {path} ({_reason(error)}): make "
            "everything in it accessible to the user that runs this process."
        ) from error
    except BaseException:
        root.close()
        raise
    return root


def _open(path: Path) -> int:
    try:
        _make(path)
        fd = os.open(path, BUCKET)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigurationError(
            f"The storage path {path} is not a directory, or lies below a file: "
            "name a directory in the settings of the backend."
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"Cannot open the storage directory {path} ({_reason(error)}): create it and give "
            "the user that runs this process permission to read and write it."
        ) from error
    return fd


def _make(path: Path) -> None:
    """Make the directory and those above it; what is in them must not vanish with their names."""
    if path.is_dir():
        return
    _make(path.parent)
    path.mkdir(exist_ok=True)
    parent = os.open(path.parent, DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _probe(path: Path, root: int) -> KeyCodec:
    _remove_old_probes(root)
    name = _PROBE + random_name().encode()
    try:
        os.mkdir(name, dir_fd=root)
    except OSError as error:
        raise ConfigurationError(
            f"The storage directory {path} is not writable ({_reason(error)}): give the user "
            "that runs this process permission to write there, or choose another path."
        ) from error
    try:
        probe = os.open(name, DIRECTORY, dir_fd=root)
        try:
            return _try_out(path, probe)
        finally:
            os.close(probe)
    finally:
        _remove_probe(root, name)


def _try_out(path: Path, probe: int) -> KeyCodec:
    try:
        file = os.open(_UPPER, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, dir_fd=probe)
        try:
            _try_attributes(path, file)
            os.write(file, b"x")
            os.fsync(file)
        finally:
            os.close(file)
        os.fsync(probe)
        composed = os.open(_COMPOSED, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, dir_fd=probe)
        os.close(composed)
        name_max = min(255, os.fstatvfs(probe).f_namemax)
    except OSError as error:
        raise ConfigurationError(
            f"The storage directory {path} does not store files durably ({_reason(error)}): "
            "check its disk, or choose another path."
        ) from error
    folding = _exists(probe, _LOWER) or _exists(probe, _DECOMPOSED)
    return KeyCodec(folding=folding, name_max=name_max)


def _try_attributes(path: Path, file: int) -> None:
    try:
        os.setxattr(file, ATTRIBUTE, b"x")
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EPERM):
            raise
        raise ConfigurationError(
            f"The file system of the storage directory {path} has no user extended attributes "
            f"({_reason(error)}): choose a path on ext4, XFS, Btrfs or ZFS, or mount it with "
            "user_xattr."
        ) from error


def _exists(directory: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True


def _remove_probe(root: int, name: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        probe = os.open(name, DIRECTORY, dir_fd=root)
        try:
            for entry in os.listdir(probe):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.fsencode(entry), dir_fd=probe)
        finally:
            os.close(probe)
        os.rmdir(name, dir_fd=root)


def _remove_old_probes(root: int) -> None:
    for entry in os.listdir(root):
        name = os.fsencode(entry)
        if name.startswith(_PROBE):
            with contextlib.suppress(OSError):
                age = time.time() - os.stat(name, dir_fd=root).st_mtime
                if age > _PROBE_SECONDS:
                    _remove_probe(root, name)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
