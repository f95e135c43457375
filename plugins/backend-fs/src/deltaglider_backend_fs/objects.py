"""Finding an object and its facts: one descriptor, so facts and bytes are one version."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from deltaglider_core.errors import IntegrityError
from deltaglider_core.interfaces.storage import ObjectInfo, ObjectMetadata

from .directories import Bucket, descend, open_directory
from .oserrors import ABSENT
from .paths import SELF, Names
from .xattrs import (
    Record,
    SidecarGone,
    read_listed_metadata,
    read_metadata,
    read_record,
    substitute_etag,
)

#: O_NONBLOCK: a pipe that somebody put here must not block a thread for ever.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

#: Overwrites that a reader may meet one after the other between file and metadata file.
_ATTEMPTS = 16

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Years that every client can read; some file systems hold times beyond them.
_FIRST, _LAST = (
    (datetime(year, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1) * 1000
    for year in (1, 9999)
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Current:
    """What a commit needs to know about the object in place.

    Attributes:
        etag: As this backend reports it; None if the attribute is damaged.
        sidecar: Metadata file to remove with the object, or empty.
        size: In bytes.
        last_modified: Aware, UTC.
    """

    etag: str | None
    sidecar: str
    size: int
    last_modified: datetime


def from_ns(nanoseconds: int) -> datetime:
    """Aware, UTC, truncated to microseconds; from the beginning of year 1 to that of 9999.

    Other programs set times as they like. One that no calendar has must not make an object,
    or the listing that it is in, unreadable.
    """
    return _EPOCH + timedelta(microseconds=min(max(nanoseconds, _FIRST), _LAST) // 1000)


def to_ns(moment: datetime) -> int:
    """Nanoseconds since the epoch of an aware time."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def open_file(parent: int, name: bytes) -> tuple[int, os.stat_result] | None:
    """Open the object at a name: a regular file, or ``%dg-self`` in the folder of that name."""
    opened = _open(parent, name)
    if opened is not None and stat.S_ISDIR(opened[1].st_mode):
        try:
            inner = _open(opened[0], SELF)
        finally:
            os.close(opened[0])
        opened = inner
    if opened is not None and not stat.S_ISREG(opened[1].st_mode):
        os.close(opened[0])
        return None
    return opened


def _open(parent: int, name: bytes) -> tuple[int, os.stat_result] | None:
    if b"\0" in name:
        return None
    try:
        fd = os.open(name, _FILE, dir_fd=parent)
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise
    try:
        return fd, os.fstat(fd)
    except BaseException:
        os.close(fd)
        raise


def open_object(bucket: Bucket, key: str, names: Names) -> tuple[int, ObjectInfo] | None:
    """Open an object, or return None if it is absent; the caller closes the descriptor.

    Raises:
        IntegrityError: Its metadata is damaged.
    """
    for _ in range(_ATTEMPTS):
        parent = descend(bucket.fd, names[:-1])
        if parent is None:
            return None
        try:
            found = open_file(parent, names[-1])
        finally:
            os.close(parent)
        if found is None:
            return None
        fd, facts = found
        try:
            return fd, info_of(bucket, key, facts, read_record(fd))
        except SidecarGone:
            os.close(fd)
        except BaseException:
            os.close(fd)
            raise
    raise IntegrityError("The metadata file of an object is missing.")


def read_info(bucket: Bucket, key: str, names: Names) -> ObjectInfo | None:
    """The facts of an object, or None if it is absent."""
    opened = open_object(bucket, key, names)
    if opened is None:
        return None
    os.close(opened[0])
    return opened[1]


def read_listed(bucket: Bucket, key: str, parent: int, name: bytes) -> ObjectInfo | None:
    """The facts of an entry of a listing, without internal values too long for one.

    An object whose metadata is damaged, or that this process may not open, does not spoil the
    listing: it is shown by size and date, without metadata.
    """
    for _ in range(_ATTEMPTS):
        try:
            found = open_file(parent, name)
        except PermissionError:
            return _listed_closed(key, parent, name)
        if found is None:
            return None
        fd, facts = found
        try:
            return info_of(bucket, key, facts, read_record(fd), listed=True)
        except SidecarGone:
            continue
        except IntegrityError:
            break
        finally:
            os.close(fd)
    return _plain(key, facts)


def is_object(parent: int, name: bytes) -> bool:
    """Whether there is an object at a name; cheaper than its facts."""
    directory = open_directory(parent, name)
    if directory is None:
        return _regular(parent, name) is not None
    try:
        return _regular(directory, SELF) is not None
    finally:
        os.close(directory)


def read_current(parent: int, name: bytes) -> Current | None:
    """The object that a commit is about to replace or delete; call it under the path's lock."""
    found = open_file(parent, name)
    if found is None:
        return None
    fd, facts = found
    etag: str | None = None
    sidecar = ""
    try:
        record = read_record(fd)
        etag, sidecar = _etag(facts, record), record.sidecar if record else ""
    except IntegrityError:
        pass  # to be replaced or deleted without a condition it need not be readable
    finally:
        os.close(fd)
    return Current(
        etag=etag,
        sidecar=sidecar,
        size=facts.st_size,
        last_modified=from_ns(facts.st_mtime_ns),
    )


def _etag(facts: os.stat_result, record: Record | None) -> str:
    if record is not None and record.describes(facts):
        return record.etag
    return substitute_etag(facts)


def info_of(
    bucket: Bucket,
    key: str,
    facts: os.stat_result,
    record: Record | None,
    *,
    listed: bool = False,
) -> ObjectInfo:
    """The facts of an object from those of its file and its attribute.

    Args:
        listed: For a listing, which has no long internal values.

    Raises:
        SidecarGone
        IntegrityError: They contradict each other, or the metadata file is damaged.
    """
    if record is not None and record.is_cut(facts):
        raise IntegrityError("An object has another length than it was stored with.")
    return ObjectInfo(
        key=key,
        size=facts.st_size,
        etag=_etag(facts, record),
        last_modified=from_ns(facts.st_mtime_ns),
        metadata=_metadata(bucket, facts, record, listed),
    )


def _metadata(
    bucket: Bucket, facts: os.stat_result, record: Record | None, listed: bool
) -> ObjectMetadata:
    if record is None:
        return ObjectMetadata()
    read = read_listed_metadata if listed else read_metadata
    metadata = read(record, bucket.fd)
    # The internal fields (an ETag, a form, a digest) describe the bytes that are gone.
    return metadata if record.describes(facts) else replace(metadata, internal={})


def _plain(key: str, facts: os.stat_result) -> ObjectInfo:
    return ObjectInfo(
        key=key,
        size=facts.st_size,
        etag=substitute_etag(facts),
        last_modified=from_ns(facts.st_mtime_ns),
    )


def _regular(parent: int, name: bytes) -> os.stat_result | None:
    if b"\0" in name:
        return None
    try:
        facts = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise
    return facts if stat.S_ISREG(facts.st_mode) else None


def _listed_closed(key: str, parent: int, name: bytes) -> ObjectInfo | None:
    facts = _regular(parent, name)
    return None if facts is None else _plain(key, facts)
