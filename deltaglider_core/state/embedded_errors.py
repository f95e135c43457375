"""What the errors of the embedded database mean, for operators and for clients.

Source: SQLite, "Result and Error Codes".
"""

from __future__ import annotations

import errno
from pathlib import Path

from sqlcipher3 import dbapi2 as driver

from .errors import StateUnavailable

#: Primary result codes for which the file or the machine is to blame, not the statement.
BUSY, LOCKED, NOMEM, READONLY, IOERR, CORRUPT = 5, 6, 7, 8, 10, 11
FULL, CANTOPEN, PROTOCOL, NOTADB, PERM = 13, 14, 15, 26, 3

_FOR_CLIENTS = {
    BUSY: "The state database is locked by another program.",
    LOCKED: "The state database is locked by another program.",
    NOMEM: "There is no memory left for the state database.",
    PERM: "The state database cannot be written.",
    READONLY: "The state database cannot be written.",
    IOERR: "The state database cannot be read or written.",
    CORRUPT: "The state database is damaged.",
    NOTADB: "The state database is damaged.",
    FULL: "There is no room left for the state database.",
    CANTOPEN: "The state database cannot be opened.",
    PROTOCOL: "The state database is locked by another program.",
}

_BUSY = "is locked by another program; stop it, and do not open the file while the service runs"
_FOR_OPERATORS = {
    BUSY: _BUSY,
    LOCKED: _BUSY,
    PROTOCOL: _BUSY,
    PERM: "cannot be written; check its owner, its mode and that of its directory",
    READONLY: "cannot be written; check its owner, its mode and that of its directory",
    CORRUPT: "is damaged or truncated; restore it from a backup",
    FULL: "cannot be written: its file system is full",
    CANTOPEN: "cannot be opened; check that the directory and the file belong to this user",
}


def primary_code(error: BaseException) -> int | None:
    """The result code if the file or the machine is to blame, else None.

    Args:
        error: What the driver raised, bare or wrapped by SQLAlchemy.
    """
    cause = getattr(error, "orig", None) or error
    if not isinstance(cause, driver.Error):
        return None
    code = getattr(cause, "sqlite_errorcode", None)
    if code is None:
        return None
    primary = int(code) & 0xFF  # extended codes carry the primary one in their last byte
    return primary if primary in _FOR_CLIENTS else None


def explain(error: BaseException) -> StateUnavailable | None:
    """The error for clients, or None if the statement is at fault."""
    code = primary_code(error)
    return None if code is None else StateUnavailable(_FOR_CLIENTS[code])


def describe(error: BaseException, path: Path, key_path: Path) -> str:
    """A sentence for the operator that says what to do."""
    if isinstance(error, OSError):
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"the state database {path} {_FOR_OPERATORS[READONLY]}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"the state database {path} {_FOR_OPERATORS[FULL]}"
        return f"the state database {path} cannot be opened: {error.strerror or error}"
    code = primary_code(error)
    if code == NOTADB:
        return (
            f"the state database {path} is locked: the key in {key_path} does not open it; put "
            "the right key there, or restore both from one backup. Nothing was changed"
        )
    if code in _FOR_OPERATORS:
        return f"the state database {path} {_FOR_OPERATORS[code]}"
    cause = getattr(error, "orig", None) or error
    return f"the state database {path} cannot be used: {cause}"


__all__ = ["FULL", "describe", "explain", "primary_code"]
