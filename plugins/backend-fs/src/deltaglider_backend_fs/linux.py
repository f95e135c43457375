"""System calls that Python does not offer: renameat2, statx, FICLONE.

Sources: the Linux manual pages renameat2(2), statx(2), ioctl_ficlone(2).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct

_libc = ctypes.CDLL(None, use_errno=True)

_RENAME_EXCHANGE = 2
#: For C libraries without the function; the numbers are those of the kernel's tables.
_SYS_RENAMEAT2 = {"x86_64": 316, "aarch64": 276, "riscv64": 276, "ppc64le": 357, "s390x": 347}

_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800
_STATX_SIZE = 256
#: ``stx_mask`` stands first, ``stx_btime`` (seconds, nanoseconds) at byte 80.
_STATX_MASK = struct.Struct("=I")
_STATX_TIME = struct.Struct("=qI")
_STATX_BTIME_OFFSET = 80

_FICLONE = 0x40049409
_NO_HOLES = frozenset({errno.EINVAL, errno.EOPNOTSUPP})


def exchange(first_dir: int, first: bytes, second_dir: int, second: bytes) -> None:
    """Swap two names atomically, whatever their types.

    Raises:
        OSError: ENOSYS or EINVAL where the kernel or the file system cannot do this.
    """
    args = (
        ctypes.c_int(first_dir),
        ctypes.c_char_p(first),
        ctypes.c_int(second_dir),
        ctypes.c_char_p(second),
        ctypes.c_uint(_RENAME_EXCHANGE),
    )
    if hasattr(_libc, "renameat2"):
        result = _libc.renameat2(*args)
    elif platform.machine() in _SYS_RENAMEAT2:
        result = _libc.syscall(ctypes.c_long(_SYS_RENAMEAT2[platform.machine()]), *args)
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), first)
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), first, None, second)


def birth_time_ns(fd: int) -> int | None:
    """Creation time in nanoseconds since the epoch, or None where it is not recorded."""
    if not hasattr(_libc, "statx"):
        return None
    buffer = ctypes.create_string_buffer(_STATX_SIZE)
    if _libc.statx(fd, b"", _AT_EMPTY_PATH, _STATX_BTIME, buffer) != 0:
        return None
    if not _STATX_MASK.unpack_from(buffer.raw)[0] & _STATX_BTIME:
        return None
    seconds, nanoseconds = _STATX_TIME.unpack_from(buffer.raw, _STATX_BTIME_OFFSET)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def clone(source: int, target: int) -> bool:
    """Share the blocks of ``source`` with the empty file ``target``; False if impossible."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS):
            return False
        raise
    return True


def next_data(fd: int, position: int, size: int) -> tuple[int, int]:
    """The next run of data at or behind ``position``, ``(begin, end)``, holes left out.

    ``(size, size)`` if only a hole follows. Where holes are not known, everything is data.
    Source: the Linux manual page lseek(2).
    """
    try:
        begin = os.lseek(fd, position, os.SEEK_DATA)
        return min(begin, size), min(os.lseek(fd, begin, os.SEEK_HOLE), size)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size, size
        if error.errno in _NO_HOLES:
            return position, size
        raise
