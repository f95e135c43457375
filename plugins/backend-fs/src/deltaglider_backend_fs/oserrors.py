"""What the kernel says, in the terms of S3."""

from __future__ import annotations

import errno

from deltaglider_core.errors import (
    InsufficientStorage,
    InternalError,
    S3Error,
    ServiceUnavailable,
)

#: The only answers that mean "there is no such file". ELOOP is a symbolic link, which is
#: never followed; ENXIO a socket or a pipe without a peer, which is never an object.
ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_BUSY = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EAGAIN,
        errno.EINTR,
        errno.ETIMEDOUT,
        errno.ESTALE,
        errno.ENOLCK,
    }
)


def translate(error: OSError) -> S3Error:
    """Return the S3 error for a failed system call.

    The text names the kind of failure and no path: clients see it. The path is in the
    ``OSError``, which callers chain, so that the log has it.
    """
    name = errno.errorcode.get(error.errno or 0, "unknown error")
    if error.errno in _FULL:
        return InsufficientStorage()
    if error.errno in _DENIED:
        return InternalError(f"The storage directory does not permit this operation ({name}).")
    if error.errno in _BUSY:
        return ServiceUnavailable(f"The storage is short of resources ({name}). Please retry.")
    return InternalError(f"The storage failed ({name}).")
