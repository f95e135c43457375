"""Directories as descriptors: the root, a bucket, and the way down a path.

Everything is opened relative to a descriptor, one name at a time and without following
symbolic links: no key leaves its bucket, and no path is too long for the kernel.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from deltaglider_core.errors import NoSuchBucket, ServiceUnavailable

from .locks import BUCKET_LOCK, locked
from .oserrors import ABSENT
from .paths import LOCKS, KeyCodec, Names

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: A bucket itself may be a symbolic link, e.g. to another disk.
BUCKET = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

#: Set on a folder once the entry that names it is on disk. A folder without it may have been
#: made a moment ago by another process that has not come to its fsync, or died before it.
DURABLE = b"user.dg.durable"


class Descriptor:
    """A file descriptor that is closed once, at the latest with its last reference."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self.fd < 0

    def close(self) -> None:
        """Close it. Safe to call twice."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class Root(Descriptor):
    """The root directory, pinned: should its file system vanish, so does no bucket silently."""

    def __init__(self, fd: int, codec: KeyCodec, path: Path) -> None:
        super().__init__(fd)
        self.codec = codec
        self._path = path

    def check_place(self) -> None:
        """Raise ``ServiceUnavailable`` if the path leads to another directory by now.

        Objects would still be safe in the pinned one; but whoever moved it away, or mounted
        something over it, does not expect new ones there.
        """
        here = os.fstat(self.fd)
        try:
            there = self._path.stat()
        except OSError as error:
            raise ServiceUnavailable(f"The storage directory is not there: {error}.") from error
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            raise ServiceUnavailable(
                f"{self._path} is another directory than the one that was opened; restart."
            )

    def check(self) -> None:
        """Raise ``ServiceUnavailable`` if the root directory has been deleted."""
        if os.fstat(self.fd).st_nlink == 0:
            raise ServiceUnavailable("The storage directory no longer exists.")

    @contextlib.contextmanager
    def entries(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        """What is in the directory. Raises ``ServiceUnavailable`` if it has been deleted."""
        # Opened anew: a descriptor and its copies have one position, so of two threads that read
        # through ours each would see a part of the names.
        try:
            fd = os.open(b".", DIRECTORY, dir_fd=self.fd)
        except FileNotFoundError:
            self.check()
            raise
        try:
            self.check()
            with os.scandir(fd) as entries:
                yield entries
        finally:
            os.close(fd)

    def accepts(self, bucket: str) -> bool:
        """Whether a folder of this name can be a bucket."""
        if not bucket or bucket.startswith(".") or "/" in bucket or "\0" in bucket:
            return False
        if bucket == "lost+found":  # belongs to the file system
            return False
        try:
            raw = bucket.encode()
        except UnicodeEncodeError:
            return False
        return self.codec.segment_names(raw) == (raw,)

    def open_bucket(self, name: str) -> Bucket:
        """Open a bucket. Raises ``NoSuchBucket``."""
        if not self.accepts(name):
            raise NoSuchBucket(fields={"BucketName": name})
        try:
            fd = os.open(name.encode(), BUCKET, dir_fd=self.fd)
        except OSError as error:
            if error.errno not in ABSENT:
                raise
            self.check()
            raise NoSuchBucket(fields={"BucketName": name}) from None
        return Bucket(self, name, fd)


class Bucket(Descriptor):
    """An opened bucket directory and its private folders; used by one operation at a time."""

    def __init__(self, root: Root, name: str, fd: int) -> None:
        super().__init__(fd)
        self.root = root
        self.name = name
        self._private: dict[bytes, Descriptor] = {}

    @property
    def codec(self) -> KeyCodec:
        return self.root.codec

    def private(self, name: bytes) -> int:
        """Descriptor of a private folder, made if it is missing."""
        held = self._private.get(name)
        if held is None:
            with self.vanishing():
                held = self._private[name] = Descriptor(open_or_make(self.fd, name))
        return held.fd

    @contextlib.contextmanager
    def vanishing(self) -> Iterator[None]:
        """Where a private folder is missing, the bucket has been deleted since it was opened."""
        try:
            yield
        except FileNotFoundError:
            raise NoSuchBucket(fields={"BucketName": self.name}) from None

    @contextlib.contextmanager
    def held(self, operation: int) -> Iterator[None]:
        """Hold the bucket's lock, shared or exclusive, on a bucket that is still in place.

        Raises:
            NoSuchBucket: It was deleted since it was opened, whatever has its name now.
        """
        with contextlib.ExitStack() as stack:
            directory = self.private(LOCKS)
            with self.vanishing():
                stack.enter_context(locked(directory, BUCKET_LOCK, operation))
                present = os.stat(self.name.encode(), dir_fd=self.root.fd)
            if not os.path.samestat(present, os.fstat(self.fd)):
                raise NoSuchBucket(fields={"BucketName": self.name})
            yield

    def close(self) -> None:
        for held in self._private.values():
            held.close()
        super().close()

    def __enter__(self) -> Bucket:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def open_or_make(parent: int, name: bytes) -> int:
    """Open a folder, made if it is missing.

    Raises:
        FileNotFoundError: ``parent`` itself has been removed.
        NotADirectoryError: The name is taken by something else.
    """
    while True:
        try:
            return os.open(name, DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=parent)


def open_directory(parent: int, name: bytes) -> int | None:
    """Open a folder, or None if there is no folder of that name."""
    if b"\0" in name:
        return None
    try:
        return os.open(name, DIRECTORY, dir_fd=parent)
    except OSError as error:
        # A name longer than the file system allows cannot be there.
        if error.errno in ABSENT or error.errno == errno.ENAMETOOLONG:
            return None
        raise


def descend(start: int, names: Names) -> int | None:
    """Open the folder at ``names`` below ``start``, or None; the caller closes it."""
    fd: int | None = os.dup(start)
    for name in names:
        assert fd is not None
        try:
            child = open_directory(fd, name)
        finally:
            os.close(fd)
        fd = child
        if fd is None:
            return None
    return fd


def settle(parent: int, child: int) -> None:
    """Make sure that the entry for the folder ``child`` in ``parent`` survives a power cut."""
    try:
        os.getxattr(child, DURABLE)
    except OSError:
        os.fsync(parent)
        # Without the mark the next writer repeats the fsync: slower, no less safe.
        with contextlib.suppress(OSError):
            os.setxattr(child, DURABLE, b"1")
