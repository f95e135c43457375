"""What is stored beside the bytes of an object.

One extended attribute on the file itself, so that facts and bytes are replaced by the same
rename: compact JSON with the version of this format, ETag, size and modification time, and
the metadata. Where that does not fit (ext4 gives about 4 KB), or where an internal value is too
long for a listing, the metadata moves to an immutable file in ``%dg-meta`` that the attribute
names: one line of JSON for listings, and behind it a second one with such values, if there are
any, whose names the first line has in ``long``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from deltaglider_core.errors import IntegrityError, InternalError
from deltaglider_core.interfaces.storage import MAX_LISTED_VALUE, ObjectMetadata

from .paths import META

ATTRIBUTE = b"user.dg.metadata"
VERSION = 1
#: MD5 of nothing.
EMPTY_ETAG = "d41d8cd98f00b204e9800998ecf8427e"

#: A random name, as ``atomic.random_name`` gives it; nothing else is looked for.
_SIDECAR = re.compile(r"[0-9a-f]{32}")

_TOO_LARGE = frozenset({errno.ENOSPC, errno.E2BIG, errno.ERANGE})
_NO_ATTRIBUTE = frozenset({errno.ENODATA, errno.EOPNOTSUPP})


class AttributeDenied(PermissionError):
    """This process may read the file and may not write to it."""


class SidecarGone(Exception):
    """The metadata file was removed: the object has been overwritten or deleted meanwhile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """The attribute of a file, read.

    Attributes:
        etag: Recorded when the object was written.
        size: Bytes of the file then.
        mtime_ns: Modification time of the file then.
        metadata: None if it is in the sidecar.
        sidecar: Name in ``%dg-meta``, or empty.
    """

    etag: str
    size: int
    mtime_ns: int
    metadata: ObjectMetadata | None
    sidecar: str = ""

    def describes(self, stat: os.stat_result) -> bool:
        """False if the file was changed by another program since."""
        return (self.size, self.mtime_ns) == (stat.st_size, stat.st_mtime_ns)

    def is_cut(self, stat: os.stat_result) -> bool:
        """True if the length differs though no program has written to the file: damage."""
        return self.mtime_ns == stat.st_mtime_ns and self.size != stat.st_size


def substitute_etag(stat: os.stat_result) -> str:
    """ETag of a file whose MD5 nobody knows.

    It changes with size and modification time. The ``-1`` of a multipart ETag tells clients
    that this is not the MD5 of the content; rclone would report the file as corrupt.
    """
    if stat.st_size == 0:
        return EMPTY_ETAG
    text = f"{stat.st_size}:{stat.st_mtime_ns}".encode()
    return hashlib.blake2b(text, digest_size=16).hexdigest() + "-1"


def write_record(file: int, meta: int, *, etag: str, metadata: ObjectMetadata, sidecar: str) -> str:
    """Record the facts of a complete file, before its fsync.

    Args:
        file: Descriptor; size and modification time are final.
        meta: Descriptor of ``%dg-meta``, a durable folder.
        sidecar: Name to use there if the metadata does not fit.

    Returns:
        ``sidecar`` if it was written, else the empty string.
    """
    stat = os.fstat(file)
    record = Record(etag=etag, size=stat.st_size, mtime_ns=stat.st_mtime_ns, metadata=metadata)
    return replace_record(file, meta, record, metadata=metadata, sidecar=sidecar)


def replace_record(
    file: int, meta: int, record: Record, *, metadata: ObjectMetadata, sidecar: str
) -> str:
    """The same with the facts of ``record``, which the file may have by now.

    One system call replaces the attribute: a reader finds the old one or the new one.

    Raises:
        AttributeDenied
    """
    facts = {
        "v": VERSION,
        "etag": record.etag,
        "size": record.size,
        "mtime_ns": record.mtime_ns,
    }
    short = metadata.listed()
    body = _to_json(short)
    if short is metadata:
        try:
            _set_attribute(file, {**facts, **body})
            return ""
        except OSError as error:
            # ext4 says ENOSPC both for "does not fit" and for a full disk; the next write tells.
            if error.errno not in _TOO_LARGE:
                raise
    write_sidecar(meta, sidecar, _lines(body, _long_values(metadata)))
    _set_attribute(file, {**facts, "sidecar": sidecar})
    return sidecar


def _set_attribute(file: int, value: Mapping[str, Any]) -> None:
    try:
        os.setxattr(file, ATTRIBUTE, _dump(value))
    except PermissionError as error:
        raise AttributeDenied(error.errno, error.strerror) from error
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            raise InternalError("The storage directory has no extended attributes.") from error
        raise


def _long_values(metadata: ObjectMetadata) -> dict[str, str]:
    return {n: v for n, v in metadata.internal.items() if len(v) > MAX_LISTED_VALUE}


def _lines(body: Mapping[str, Any], long: Mapping[str, str]) -> bytes:
    """The content of a metadata file; JSON in ASCII has no line feed of its own."""
    if not long:
        return _dump({"v": VERSION, **body})
    first = _dump({"v": VERSION, "long": sorted(long), **body})
    return first + b"\n" + _dump({"internal": long})


def write_sidecar(meta: int, name: str, data: bytes) -> None:
    """Write and fsync a new metadata file."""
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=meta)
    try:
        with open(fd, "wb", buffering=0, closefd=False) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
        os.fsync(fd)
    except BaseException:
        remove_sidecar(meta, name)
        raise
    finally:
        os.close(fd)
    os.fsync(meta)


def remove_sidecar(meta: int, name: str) -> None:
    """Remove a metadata file that no object names any more."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=meta)


def read_record(file: int) -> Record | None:
    """Read the attribute; None if the file has none, because others put it there.

    Raises:
        IntegrityError: The attribute is there and not what this format allows.
    """
    try:
        raw = os.getxattr(file, ATTRIBUTE)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTE:
            return None
        raise
    fields = _load(raw)
    try:
        sidecar = fields.get("sidecar", "")
        record = Record(
            etag=_checked(fields["etag"], str),
            size=_checked(fields["size"], int),
            mtime_ns=_checked(fields["mtime_ns"], int),
            metadata=None if sidecar else _from_json(fields),
            sidecar=_checked(sidecar, str),
        )
    except (KeyError, TypeError) as error:
        raise IntegrityError("The attribute of an object has the wrong fields.") from error
    if record.sidecar and not _SIDECAR.fullmatch(record.sidecar):
        raise IntegrityError("The attribute of an object names no metadata file.")
    return record


def read_metadata(record: Record, bucket: int) -> ObjectMetadata:
    """The metadata of a record, from its sidecar if need be.

    Args:
        bucket: Descriptor of the bucket.

    Raises:
        SidecarGone: Look at the object again.
        IntegrityError: The sidecar is not readable.
    """
    if record.metadata is not None:
        return record.metadata
    with _open_sidecar(record, bucket) as file:
        metadata, names = _first_line(file.readline())
        second = file.read()
    if not names and not second:
        return metadata
    try:
        long = _strings(_parse(second)["internal"])
    except (KeyError, TypeError) as error:
        raise IntegrityError("The metadata file of an object has the wrong fields.") from error
    if sorted(long) != names:
        raise IntegrityError("The metadata file of an object lacks values that it announces.")
    return replace(metadata, internal={**metadata.internal, **long})


def read_listed_metadata(record: Record, bucket: int) -> ObjectMetadata:
    """The same without internal values that are too long for a listing, which are not read."""
    if record.metadata is not None:
        return record.metadata.listed()
    with _open_sidecar(record, bucket) as file:
        # Files of earlier versions have all values in their one line.
        return _first_line(file.readline())[0].listed()


def _open_sidecar(record: Record, bucket: int) -> BinaryIO:
    path = META + b"/" + record.sidecar.encode()
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=bucket)
    except FileNotFoundError:
        raise SidecarGone(record.sidecar) from None
    return open(fd, "rb")


def _first_line(raw: bytes) -> tuple[ObjectMetadata, list[str]]:
    """What a listing shows, and the names of the values in the second line, sorted."""
    fields = _load(raw)
    try:
        names = [_checked(name, str) for name in _checked(fields.get("long", []), list)]
        return _from_json(fields), names
    except (KeyError, TypeError) as error:
        raise IntegrityError("The metadata file of an object has the wrong fields.") from error


def _dump(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:  # the latter for thousands of brackets
        raise IntegrityError("The metadata of an object is not readable.") from error


def _load(raw: bytes) -> dict[str, Any]:
    value = _parse(raw)
    if not isinstance(value, dict) or value.get("v") != VERSION:
        raise IntegrityError("The metadata of an object has an unknown format.")
    return value


def _checked(value: Any, kind: type[Any]) -> Any:
    if type(value) is not kind:
        raise TypeError(kind.__name__)
    return value


def _to_json(metadata: ObjectMetadata) -> dict[str, dict[str, str]]:
    fields = {
        "headers": dict(metadata.headers),
        "user": dict(metadata.user),
        "internal": dict(metadata.internal),
    }
    if metadata.tags:
        fields["tags"] = dict(metadata.tags)
    return fields


def _from_json(fields: Mapping[str, Any]) -> ObjectMetadata:
    return ObjectMetadata(
        headers=_strings(fields["headers"]),
        user=_strings(fields["user"]),
        internal=_strings(fields["internal"]),
        tags=_strings(fields.get("tags", {})),
    )


def _strings(value: Any) -> dict[str, str]:
    return {_checked(k, str): _checked(v, str) for k, v in _checked(value, dict).items()}
