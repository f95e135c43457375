"""The two moments that change what a key holds: commit and delete.

Both hold the bucket's lock shared and the lock of the path, decide the condition, and act.
Folders come and go at any time without a lock (another key is written or deleted); whoever
loses such a race begins again, which never takes long and is bounded all the same.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from typing import TypeVar

from deltaglider_core.errors import IntegrityError, ServiceUnavailable
from deltaglider_core.interfaces.storage import Condition, ObjectInfo

from .atomic import TempFile, make_parents
from .directories import Bucket, descend, open_directory, settle
from .locks import locked, stripe_of
from .objects import Current, read_current
from .oserrors import ABSENT
from .paths import LOCKS, META, SELF, Names
from .xattrs import remove_sidecar

T = TypeVar("T")

_ATTEMPTS = 200
_RACE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


def commit(temp: TempFile, names: Names, condition: Condition | None) -> None:
    """Make a sealed file the object at ``names``; on return it survives a power cut.

    Raises:
        NoSuchBucket, PreconditionFailed, NoSuchKey
    """
    bucket = temp.bucket
    with bucket.held(fcntl.LOCK_SH):
        settle(bucket.root.fd, bucket.fd)
        replaced, directory = _until_settled(lambda: _commit_once(temp, names, condition))
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        _drop_sidecar(bucket, replaced)


def _commit_once(
    temp: TempFile, names: Names, condition: Condition | None
) -> tuple[Current | None, int]:
    """One attempt; returns what was replaced and the folder to fsync."""
    bucket = temp.bucket
    parent = make_parents(bucket, names[:-1])
    try:
        with locked(bucket.private(LOCKS), stripe_of(names)):
            current = read_current(parent, names[-1])
            check(condition, current)
            folder = open_directory(parent, names[-1])
            if folder is None:
                temp.move(parent, names[-1])
                return current, os.dup(parent)
            try:
                settle(parent, folder)
                temp.move(folder, SELF)
            except BaseException:
                os.close(folder)
                raise
            return current, folder
    finally:
        os.close(parent)


def delete(bucket: Bucket, names: Names, condition: Condition | None) -> bool:
    """Delete the object at ``names``; True if there was one.

    Raises:
        NoSuchBucket, PreconditionFailed, NoSuchKey
    """
    with bucket.held(fcntl.LOCK_SH):
        removed = _until_settled(lambda: _delete_once(bucket, names, condition))
        if removed is None:
            return False
        _prune(bucket, names)
        _drop_sidecar(bucket, removed)
        return True


def _delete_once(bucket: Bucket, names: Names, condition: Condition | None) -> Current | None:
    parent = descend(bucket.fd, names[:-1])
    if parent is None:
        check(condition, None)
        return None
    try:
        with locked(bucket.private(LOCKS), stripe_of(names)):
            current = read_current(parent, names[-1])
            check(condition, current)
            if current is None:
                return None
            folder = open_directory(parent, names[-1])
            if folder is None:
                os.unlink(names[-1], dir_fd=parent)
                os.fsync(parent)
                return current
            try:
                os.unlink(SELF, dir_fd=folder)
                os.fsync(folder)
            finally:
                os.close(folder)
            return current
    finally:
        os.close(parent)


def check(condition: Condition | None, current: Current | None) -> None:
    """Raise unless ``condition`` holds of the object in place."""
    if condition is None:
        return
    present: ObjectInfo | None = None
    if current is not None:
        etag = current.etag
        if etag is None:
            if {condition.if_match, condition.if_none_match} - {None, "*"}:
                raise IntegrityError("The ETag of the present object is not readable.")
            etag = ""
        present = ObjectInfo(
            key="", size=current.size, etag=etag, last_modified=current.last_modified
        )
    condition.check(present)


def _until_settled(attempt: Callable[[], T]) -> T:
    for _ in range(_ATTEMPTS):
        try:
            return attempt()
        except _RACE:
            continue
    raise ServiceUnavailable("Too many changes at once below one folder. Please retry.")


def _prune(bucket: Bucket, names: Names) -> None:
    """Remove the folders that a deletion left empty; the bucket itself stays.

    ``names`` may itself be such a folder, where the object was a ``%dg-self``.
    """
    for depth in range(len(names), 0, -1):
        parent = descend(bucket.fd, names[: depth - 1])
        if parent is None:
            continue
        try:
            os.rmdir(names[depth - 1], dir_fd=parent)
        except OSError as error:
            # Not empty, as a rule; and whatever else it is, the object has been deleted.
            if error.errno not in ABSENT:
                return
        finally:
            os.close(parent)


def _drop_sidecar(bucket: Bucket, replaced: Current | None) -> None:
    # Only after the fsync: after a power cut the old object must not stand without it.
    if replaced is not None and replaced.sidecar:
        remove_sidecar(bucket.private(META), replaced.sidecar)
