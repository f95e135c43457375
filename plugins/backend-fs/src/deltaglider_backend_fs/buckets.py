"""Buckets: folders of the root."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat

from deltaglider_core.errors import (
    BucketAlreadyExists,
    BucketAlreadyOwnedByYou,
    BucketNotEmpty,
    InvalidBucketName,
    NoSuchBucket,
)
from deltaglider_core.interfaces.storage import BucketInfo

from . import linux
from .atomic import random_name
from .directories import Bucket, Root, descend, open_directory, settle
from .objects import from_ns
from .paths import META, PRIVATE, SELF, TMP, Names

#: Creation time in nanoseconds since the epoch, as text. Unlike the birth time that the file
#: system keeps, it survives a copy and a restore.
CREATED = b"user.dg.created"

#: A bucket on its way out is called so; the leading dot makes it no bucket.
_GRAVE = b".dg-deleted-"

#: A rename of a folder fails so where something other than an empty folder has the name.
_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR})


def list_buckets(root: Root) -> list[BucketInfo]:
    """All buckets, sorted by the bytes of their names."""
    names = []
    with root.entries() as entries:
        for entry in entries:
            raw = os.fsencode(entry.name)
            with contextlib.suppress(UnicodeDecodeError):
                name = raw.decode()
                if root.accepts(name) and entry.is_dir():
                    names.append(name)
    found = []
    for name in sorted(names, key=str.encode):
        with contextlib.suppress(NoSuchBucket):  # deleted since the names were read
            found.append(head_bucket(root, name))
    return found


def head_bucket(root: Root, name: str) -> BucketInfo:
    """Raises ``NoSuchBucket``."""
    with root.open_bucket(name) as bucket:
        return BucketInfo(name=name, created=from_ns(_created_ns(bucket.fd)))


def create_bucket(root: Root, name: str, now_ns: int) -> None:
    """Raises ``BucketAlreadyOwnedByYou``, ``InvalidBucketName``."""
    root.check()
    if not root.accepts(name):
        raise InvalidBucketName(fields={"BucketName": name})
    try:
        os.mkdir(name.encode(), dir_fd=root.fd)
    except FileExistsError:
        try:
            root.open_bucket(name).close()
        except NoSuchBucket:
            raise BucketAlreadyExists("A file has the name of this bucket.") from None
        raise BucketAlreadyOwnedByYou(fields={"BucketName": name}) from None
    with root.open_bucket(name) as bucket:
        os.setxattr(bucket.fd, CREATED, str(now_ns).encode())
        os.fsync(bucket.fd)
        settle(root.fd, bucket.fd)


def delete_bucket(root: Root, name: str) -> None:
    """Delete a bucket without objects.

    Commits hold the bucket's lock shared, so none is under way while this decides; one that
    comes later finds the bucket gone. Files that are no objects (put there by other programs,
    with names that are no keys) are never destroyed: with them the bucket is not empty.

    Raises:
        NoSuchBucket, BucketNotEmpty
    """
    grave = _GRAVE + random_name().encode()
    raw = name.encode()
    with root.open_bucket(name) as bucket, bucket.held(fcntl.LOCK_EX):
        folders = _empty_folders(bucket.fd)
        if folders is None:
            raise BucketNotEmpty(fields={"BucketName": name})
        os.rename(raw, grave, src_dir_fd=root.fd, dst_dir_fd=root.fd)
        if not _remove_folders(bucket.fd, folders):
            _bring_back(root, grave, raw)
            raise BucketNotEmpty(fields={"BucketName": name})
        os.fsync(root.fd)
        # The bucket is gone. An upload that has not noticed may still be writing temporary
        # files; what cannot be removed now, the next start removes.
        with contextlib.suppress(OSError):
            _remove_private(bucket.fd)
            _remove_grave(root, grave)


def sweep(root: Root) -> None:
    """Remove what dead processes have left: temporary files, buckets half deleted."""
    for info in list_buckets(root):
        with contextlib.suppress(NoSuchBucket), root.open_bucket(info.name) as bucket:
            _sweep_bucket(bucket)
    with root.entries() as entries:
        names = [os.fsencode(entry.name) for entry in entries]
    for name in names:
        if name.startswith(_GRAVE):
            _finish_deletion(root, name)


def _created_ns(bucket: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(os.getxattr(bucket, CREATED))
    born = linux.birth_time_ns(bucket)
    return os.fstat(bucket).st_mtime_ns if born is None else born


def _empty_folders(bucket: int) -> list[Names] | None:
    """Paths of all folders below a bucket, each after its parent; None if there is any file."""
    folders: list[Names] = [()]
    for path in folders:
        fd = descend(bucket, path)
        if fd is None:
            continue
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    if not path and name in PRIVATE:
                        continue
                    if not entry.is_dir(follow_symlinks=False):
                        return None
                    folders.append((*path, name))
        finally:
            os.close(fd)
    return folders[1:]


def _remove_folders(bucket: int, folders: list[Names]) -> bool:
    """Remove folders found empty, the deepest first; False if one has got content since."""
    for path in reversed(folders):
        parent = descend(bucket, path[:-1])
        if parent is None:
            continue
        try:
            os.rmdir(path[-1], dir_fd=parent)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return False
        finally:
            os.close(parent)
    return True


def _bring_back(root: Root, grave: bytes, name: bytes) -> None:
    """Give a bucket its name again, unless a new one with content has it by now."""
    try:
        os.rename(grave, name, src_dir_fd=root.fd, dst_dir_fd=root.fd)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
    # Its mark says that its name is on disk, and the next commit believes that.
    os.fsync(root.fd)


def _remove_private(bucket: int) -> None:
    for private in PRIVATE:
        fd = open_directory(bucket, private)
        if fd is None:
            continue
        try:
            for name in os.listdir(fd):
                _remove_temporary(fd, os.fsencode(name))
        finally:
            os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(private, dir_fd=bucket)


def _remove_temporary(directory: int, name: bytes) -> None:
    """Remove a temporary file, or a folder that was to become an object's."""
    with contextlib.suppress(FileNotFoundError):
        inside = open_directory(directory, name)
        if inside is None:
            os.unlink(name, dir_fd=directory)
            return
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(SELF, dir_fd=inside)
        finally:
            os.close(inside)
        os.rmdir(name, dir_fd=directory)


def _remove_grave(root: Root, grave: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISLNK(os.stat(grave, dir_fd=root.fd, follow_symlinks=False).st_mode):
            os.unlink(grave, dir_fd=root.fd)  # the folder elsewhere is not ours
        else:
            os.rmdir(grave, dir_fd=root.fd)


def _finish_deletion(root: Root, grave: bytes) -> None:
    bucket = open_directory(root.fd, grave)
    if bucket is not None:
        try:
            folders = _empty_folders(bucket)
            if folders is None or not _remove_folders(bucket, folders):
                return
            _remove_private(bucket)
        except OSError:
            return  # another process finishes the same deletion
        finally:
            os.close(bucket)
    with contextlib.suppress(OSError):
        _remove_grave(root, grave)


def _sweep_bucket(bucket: Bucket) -> None:
    tmp = open_directory(bucket.fd, TMP)
    if tmp is None:
        return
    try:
        folders = []
        for name in os.listdir(tmp):
            raw = os.fsencode(name)
            facts = None
            with contextlib.suppress(FileNotFoundError):
                facts = os.stat(raw, dir_fd=tmp, follow_symlinks=False)
            if facts is None:
                continue
            if stat.S_ISDIR(facts.st_mode):
                folders.append(raw)
            else:
                _sweep_file(bucket, tmp, raw)
        if folders:
            # Folders are made and exchanged under the bucket's lock: whoever has it alone
            # sees only those of the dead.
            with contextlib.suppress(BlockingIOError), bucket.held(fcntl.LOCK_EX | fcntl.LOCK_NB):
                for raw in folders:
                    _remove_temporary(tmp, raw)
    finally:
        os.close(tmp)


def _sweep_file(bucket: Bucket, tmp: int, name: bytes) -> None:
    """Remove a temporary file unless its writer lives, and the metadata file of that name."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=tmp)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Committed between open and flock: the name is gone, and the metadata file in use.
        os.stat(name, dir_fd=tmp, follow_symlinks=False)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(META + b"/" + name, dir_fd=bucket.fd)
        os.unlink(name, dir_fd=tmp)
    except (BlockingIOError, FileNotFoundError):
        return
    finally:
        os.close(fd)
