"""The key of the embedded database: a file of 64 hex digits that only its owner can read."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path

from ..errors import ConfigurationError

#: 256 bits, the key length of AES-256.
KEY_BYTES = 32

_DIGITS = re.compile(rb"[0-9a-fA-F]{%d}" % (2 * KEY_BYTES))
_MAX_FILE = 4096


def read_key(path: Path) -> bytes | None:
    """Read a key.

    Returns:
        32 bytes, or None if there is no such file.

    Raises:
        ConfigurationError: The file is no key, or others can read it.
    """
    try:
        # Opening a pipe would wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            facts = os.fstat(descriptor)
            text = os.read(descriptor, _MAX_FILE) if stat.S_ISREG(facts.st_mode) else b""
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(
            f"the database key {path} cannot be read: {error.strerror}"
        ) from error
    if not stat.S_ISREG(facts.st_mode):
        raise ConfigurationError(f"the database key {path} is not a file")
    if stat.S_IMODE(facts.st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError(
            f"the database key {path} is open to others; run: chmod 600 {path}"
        )
    text = text.strip()
    if not _DIGITS.fullmatch(text):
        raise ConfigurationError(
            f"the database key {path} is damaged: it must hold {2 * KEY_BYTES} hex digits; "
            "restore it from a backup"
        )
    return bytes.fromhex(text.decode("ascii"))


def create_key(path: Path) -> bytes:
    """Make a random key and store it, durably, where no file is.

    Raises:
        ConfigurationError: It cannot be stored, or the file exists.
    """
    key = secrets.token_bytes(KEY_BYTES)
    try:
        # O_EXCL also refuses a dangling symbolic link that somebody has put there.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"the database key {path} cannot be created: {error.strerror}"
        ) from error
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask takes away
            file.write(key.hex().encode("ascii") + b"\n")
            file.flush()
            os.fsync(descriptor)
        # A key that a power cut takes away would lock the database for ever.
        sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise ConfigurationError(
            f"the database key {path} cannot be written: {error.strerror}"
        ) from error
    return key


def sync_directory(path: Path) -> None:
    """Make what was created, renamed or removed in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["KEY_BYTES", "create_key", "read_key", "sync_directory"]
