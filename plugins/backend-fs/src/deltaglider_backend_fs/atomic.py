"""Temporary files and the moment they become objects."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
from datetime import datetime

from deltaglider_core.errors import InternalError, NotImplementedS3
from deltaglider_core.interfaces.storage import ObjectMetadata

from . import linux
from .directories import DIRECTORY, Bucket, settle
from .locks import locked, stripe_of
from .objects import to_ns
from .oserrors import ABSENT
from .paths import LOCKS, META, SELF, TMP, Names
from .xattrs import remove_sidecar, write_record

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

#: What is compared at once with the bytes that come. This costs 35 us per MiB of zeros, and nothing
#: measurable for other bytes.
_ZEROS = bytes(64 * 1024)
#: Bytes at the end of a block that are worth a hole: those of a page.
_MIN_HOLE = 4096

#: Answers of file systems without RENAME_EXCHANGE or hard links.
_CANNOT = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EMLINK})


def random_name() -> str:
    """A name that nobody has used or will use."""
    return secrets.token_hex(16)


class TempFile:
    """A file in ``%dg-tmp`` that becomes an object or goes away.

    Its writer holds a lock on it, so the sweep at the start of a process, which removes what
    the dead have left, spares what the living are writing. Methods block.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self._sidecar = ""
        self._length = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.fd = -1
        try:
            self._tmp = bucket.private(TMP)
            with bucket.vanishing():
                self.name, self.fd = self._create()
        except BaseException:
            bucket.close()
            raise

    def _create(self) -> tuple[str, int]:
        while True:
            name = random_name()
            fd = os.open(name, _CREATE, 0o666, dir_fd=self._tmp)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                if os.fstat(fd).st_nlink:
                    return name, fd
            except BaseException:
                os.close(fd)
                raise
            # A sweep took it between the two calls for an orphan.
            os.close(fd)

    @property
    def closed(self) -> bool:
        """Whether ``discard`` has been called."""
        return self.fd < 0

    def write(self, block: bytes | bytearray) -> None:
        """Append bytes; long runs of zeros, as images of disks have, become holes."""
        self._md5.update(block)
        begin = 0
        for start in range(0, len(block), len(_ZEROS)):
            zeros = _ZEROS[: len(block) - start]
            if len(zeros) >= _MIN_HOLE and block.startswith(zeros, start):
                self._write(memoryview(block)[begin:start])
                begin = start + len(zeros)
                self._length = os.lseek(self.fd, len(zeros), os.SEEK_CUR)
        self._write(memoryview(block)[begin:])

    def _write(self, view: memoryview) -> None:
        while view:
            view = view[os.write(self.fd, view) :]

    def seal(self, metadata: ObjectMetadata, now: datetime, etag: str | None = None) -> str:
        """Record the facts and put file and facts on disk; returns the ETag.

        Args:
            etag: None for the MD5 of what was written.
        """
        etag = self._md5.hexdigest() if etag is None else etag
        if os.fstat(self.fd).st_size < self._length:
            os.ftruncate(self.fd, self._length)  # it ends with a hole
        stamp = to_ns(now)
        os.utime(self.fd, ns=(stamp, stamp))
        meta = self.bucket.private(META)
        settle(self.bucket.fd, meta)
        # Named like the temporary file, so that a sweep of this one finds that one too. Noted
        # before it exists: should the recording fail half-way, ``discard`` looks for it.
        self._sidecar = self.name
        with self.bucket.vanishing():
            self._sidecar = write_record(
                self.fd, meta, etag=etag, metadata=metadata, sidecar=self.name
            )
        os.fsync(self.fd)
        return etag

    def move(self, directory: int, name: bytes) -> None:
        """Make it the object at ``name``. From here on ``discard`` leaves it alone."""
        os.rename(self.name, name, src_dir_fd=self._tmp, dst_dir_fd=directory)
        self.name = self._sidecar = ""

    def discard(self) -> None:
        """Remove what is not committed, close everything. Safe to call twice."""
        if self.closed:
            return
        try:
            if self._sidecar:
                remove_sidecar(self.bucket.private(META), self._sidecar)
            if self.name:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.name, dir_fd=self._tmp)
        finally:
            fd, self.fd = self.fd, -1
            os.close(fd)
            self.bucket.close()


def make_parents(bucket: Bucket, names: Names) -> int:
    """Open the folder at ``names``, made and durable; files in the way become ``%dg-self``.

    Raises:
        FileNotFoundError: A folder was removed on the way; try again.
    """
    fd = os.dup(bucket.fd)
    try:
        for depth, name in enumerate(names, 1):
            child = _enter(bucket, fd, name, names[:depth])
            os.close(fd)
            fd = child
    except BaseException:
        os.close(fd)
        raise
    return fd


def _enter(bucket: Bucket, parent: int, name: bytes, path: Names) -> int:
    while True:
        try:
            child = os.open(name, DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=parent)
            continue
        except OSError as error:
            if error.errno not in ABSENT:
                raise
            make_room(bucket, parent, name, path)
            continue
        try:
            settle(parent, child)
        except BaseException:
            os.close(child)
            raise
        return child


def make_room(bucket: Bucket, parent: int, name: bytes, path: Names) -> None:
    """Turn the object at ``name`` into a folder that contains it as ``%dg-self``.

    The folder gets its content before it takes the place of the file, in one exchange: at no
    moment is the object absent. The lock of the path keeps writers of it away.
    """
    with locked(bucket.private(LOCKS), stripe_of(path)):
        try:
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode):
            return
        if not stat.S_ISREG(mode):
            raise InternalError("A link or a special file stands where a folder is needed.")
        tmp = bucket.private(TMP)
        folder = random_name().encode()
        os.mkdir(folder, dir_fd=tmp)
        inside = os.open(folder, DIRECTORY, dir_fd=tmp)
        try:
            _exchange(tmp, folder, inside, parent, name)
            # Both names mean one file, and this does nothing; unless another program replaced
            # the file in between: then the newer one counts.
            os.rename(folder, SELF, src_dir_fd=tmp, dst_dir_fd=inside)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(folder, dir_fd=tmp)
            os.fsync(inside)
        finally:
            os.close(inside)


def _exchange(tmp: int, folder: bytes, inside: int, parent: int, name: bytes) -> None:
    try:
        os.link(name, SELF, src_dir_fd=parent, dst_dir_fd=inside, follow_symlinks=False)
        os.fsync(inside)
        linux.exchange(tmp, folder, parent, name)
    except OSError as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SELF, dir_fd=inside)
        os.rmdir(folder, dir_fd=tmp)
        if error.errno not in _CANNOT:
            raise
        raise NotImplementedS3(
            "This file system cannot hold both an object and objects below its name."
        ) from error
