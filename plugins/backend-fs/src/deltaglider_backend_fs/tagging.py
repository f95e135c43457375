"""Changing the tags of an object that stays what it is."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from dataclasses import replace

from deltaglider_core.errors import AccessDenied, IntegrityError, NoSuchKey
from deltaglider_core.interfaces.storage import ObjectInfo, ObjectMetadata

from .atomic import random_name
from .directories import Bucket, descend, settle
from .locks import locked, stripe_of
from .objects import info_of, open_file
from .paths import LOCKS, META, Names
from .xattrs import (
    AttributeDenied,
    Record,
    SidecarGone,
    read_metadata,
    read_record,
    remove_sidecar,
    replace_record,
    substitute_etag,
)


def set_tags(bucket: Bucket, key: str, names: Names, tags: Mapping[str, str]) -> ObjectInfo:
    """Replace the tags in the attribute of an object; on return they survive a power cut.

    The lock of the path keeps commits and deletes away between reading and writing, in all
    processes. The bytes of the file and its modification time are not touched.

    Raises:
        NoSuchBucket, NoSuchKey
        AccessDenied: A file of another program, which this process may not write to.
        IntegrityError: What is stored beside the object is damaged.
    """
    with bucket.held(fcntl.LOCK_SH):
        parent = descend(bucket.fd, names[:-1])
        if parent is None:
            raise NoSuchKey(fields={"Key": key})
        try:
            with locked(bucket.private(LOCKS), stripe_of(names)):
                return _set_tags(bucket, key, parent, names[-1], tags)
        finally:
            os.close(parent)


def _set_tags(
    bucket: Bucket, key: str, parent: int, name: bytes, tags: Mapping[str, str]
) -> ObjectInfo:
    found = open_file(parent, name)
    if found is None:
        raise NoSuchKey(fields={"Key": key})
    file, facts = found
    try:
        record = read_record(file) or _of_foreign(facts)
        info_of(bucket, key, facts, record)  # damage must stay visible as damage
        metadata = replace(read_metadata(record, bucket.fd), tags=dict(tags))
        _write(bucket, file, record, metadata)
        info = info_of(bucket, key, facts, read_record(file))
    except SidecarGone:
        raise IntegrityError("The metadata file of an object is missing.") from None
    except AttributeDenied as error:
        raise AccessDenied(
            "The tags of this object cannot be changed: the server may read its file but not "
            "write to it. Upload the object again, with the header x-amz-tagging."
        ) from error
    finally:
        os.close(file)
    if record.sidecar:
        # Only after the fsync: after a power cut the old attribute must not stand without it.
        remove_sidecar(bucket.private(META), record.sidecar)
    return info


def _of_foreign(facts: os.stat_result) -> Record:
    """What is said of a file that another program put here; its ETag stays what it was."""
    return Record(
        etag=substitute_etag(facts),
        size=facts.st_size,
        mtime_ns=facts.st_mtime_ns,
        metadata=ObjectMetadata(),
    )


def _write(bucket: Bucket, file: int, record: Record, metadata: ObjectMetadata) -> None:
    """Replace the attribute and put it on disk.

    Should the machine stop between a new metadata file and the attribute that names it, that
    small file is left over until its bucket is deleted.
    """
    meta, sidecar = bucket.private(META), random_name()
    settle(bucket.fd, meta)
    try:
        with bucket.vanishing():
            replace_record(file, meta, record, metadata=metadata, sidecar=sidecar)
    except BaseException:
        remove_sidecar(meta, sidecar)
        raise
    os.fsync(file)
