"""Transactions on multipart uploads: what the database knows of each.

::

    open ──completing──> completing ──completed──> done      (kept 15 minutes, for repetitions)
     │  <────reopened────    │
     └──────abort──────> aborted                             (until its parts are deleted)

An upload is ``completing`` exactly as long as the intent of its Complete lasts, so whoever settles
the intent decides how it goes on, also after a crash. Functions that write run inside
``Database.write`` with the number of the bucket as scope.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from ..errors import DeltaGliderError, InvalidRequest, NoSuchUpload
from ..interfaces.storage import Checksum, ObjectInfo, ObjectMetadata
from .tables import buckets, uploads

if TYPE_CHECKING:
    from .records import Present

#: How long a finished upload answers a repeated Complete, seconds.
REMEMBER_SECONDS = 900.0

#: The activity of an open upload is known to within so many seconds; it saves a write per part.
TOUCH_SECONDS = 600.0

_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")


class UploadChangedError(DeltaGliderError):
    """Another request has completed the upload, or begins to: look at it again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """A multipart upload that clients may name.

    Attributes:
        inner: The id that the backend gave it.
        write_id: Of the object to be.
        state: ``open``, ``completing`` or ``done``.
        since: Begin of the state or, if it is open, the last known activity; Unix seconds.
        parts: Fingerprint of the list that is or was completed.
        answer: What was answered, JSON: by Complete once it is ``done``, before that by Create.
    """

    upload_id: str
    bucket: int
    key: bytes
    inner: str
    write_id: str
    state: str
    since: float
    parts: str | None
    answer: str | None

    @property
    def checksum(self) -> Checksum | None:
        """Algorithm and type that the client chose, for an upload that is not ``done``."""
        return checksum_of(self.answer)

    def completed_object(self) -> ObjectInfo:
        """The object as Complete answered it; for an upload that is ``done``."""
        answer = json.loads(self.answer or "")
        checksum = answer.get("checksum")
        return ObjectInfo(
            key=self.key.decode(),
            size=answer["size"],
            etag=answer["etag"],
            last_modified=datetime.fromtimestamp(answer["modified"], UTC),
            metadata=ObjectMetadata(internal={"checksum": checksum} if checksum else {}),
            stored_size=answer["stored"],
            stored_as=answer["stored_as"],
        )


_FIND = select(
    uploads.c.upload_id,
    uploads.c.bucket,
    uploads.c.key,
    uploads.c.inner,
    uploads.c.write_id,
    uploads.c.state,
    uploads.c.since,
    uploads.c.parts,
    uploads.c.answer,
).where(uploads.c.upload_id == bindparam("u"))
_BUCKET = select(buckets.c.size).where(buckets.c.number == bindparam("b"))
_ACTIVE = _BUCKET.where(buckets.c.state == "active")
_INSERT = insert(uploads)


def checksum_of(answer: str | None) -> Checksum | None:
    """The checksum of which an answer speaks."""
    text = json.loads(answer).get("checksum") if answer else None
    return Checksum.parse(text) if text else None


def is_upload_id(text: str) -> bool:
    """Whether it looks like an upload id of ours."""
    return _UPLOAD_ID.fullmatch(text) is not None


def no_such_upload(upload_id: str) -> NoSuchUpload:
    """The error, with the id that the client sent."""
    return NoSuchUpload(fields={"UploadId": upload_id})


def find(connection: Connection, now: float, bucket: int, key: bytes, upload_id: str) -> Upload:
    """An upload that is neither aborted nor forgotten.

    Raises:
        NoSuchUpload: Unknown, malformed, aborted, done long ago, or of another key or bucket.
    """
    row = None
    if is_upload_id(upload_id):
        row = connection.execute(_FIND, {"u": upload_id}).first()
    if row is None or (row.bucket, row.key) != (bucket, key) or row.state == "aborted":
        raise no_such_upload(upload_id)
    if row.state == "done" and now - row.since > REMEMBER_SECONDS:
        raise no_such_upload(upload_id)
    return Upload(**row._mapping)


def find_open(
    connection: Connection, now: float, bucket: int, key: bytes, upload_id: str
) -> Upload:
    """An upload that clients see; it may be ``completing``.

    Raises:
        NoSuchUpload: See ``find``; also if it is done.
    """
    upload = find(connection, now, bucket, key, upload_id)
    if upload.state == "done":
        raise no_such_upload(upload_id)
    return upload


def bucket_size(connection: Connection, bucket: int) -> int:
    """Logical bytes of what is known to be in the bucket."""
    return connection.execute(_BUCKET, {"b": bucket}).scalar() or 0


def is_active(connection: Connection, bucket: int) -> bool:
    """Whether the bucket takes writes."""
    return connection.execute(_ACTIVE, {"b": bucket}).first() is not None


def create(
    connection: Connection,
    now: float,
    *,
    upload_id: str,
    bucket: int,
    key: bytes,
    inner: str,
    write_id: str,
    checksum: Checksum | None = None,
) -> None:
    """Make a new upload known."""
    connection.execute(
        _INSERT,
        {
            "upload_id": upload_id,
            "bucket": bucket,
            "key": key,
            "inner": inner,
            "write_id": write_id,
            "initiated": now,
            "state": "open",
            "since": now,
            "answer": json.dumps({"checksum": str(checksum)}) if checksum else None,
        },
    )


def touch(connection: Connection, now: float, upload_id: str) -> None:
    """Note that a part arrives, which keeps the upload from being taken for idle.

    Raises:
        NoSuchUpload: It is not open any more.
    """
    found = connection.execute(
        update(uploads)
        .where(uploads.c.upload_id == upload_id, uploads.c.state == "open")
        .values(since=now)
    )
    if found.rowcount != 1:
        raise no_such_upload(upload_id)


# --- Complete -----------------------------------------------------------------------------


def check(connection: Connection, bucket: int, upload_id: str) -> None:
    """Refuse to complete what is not open.

    Raises:
        NoSuchUpload: Gone, aborted, or of another bucket.
        UploadChangedError: Another Complete was faster.
    """
    row = connection.execute(_FIND, {"u": upload_id}).first()
    if row is None or row.bucket != bucket or row.state == "aborted":
        raise no_such_upload(upload_id)
    if row.state != "open":
        raise UploadChangedError


def completing(connection: Connection, now: float, upload_id: str, parts: str) -> None:
    """A Complete begins, which ``check`` has admitted in the same transaction.

    Args:
        parts: Fingerprint of its list of parts.
    """
    connection.execute(
        update(uploads)
        .where(uploads.c.upload_id == upload_id)
        .values(state="completing", since=now, parts=parts)
    )


def completed(
    connection: Connection,
    now: float,
    upload_id: str,
    present: Present,
    parts: str | None = None,
) -> None:
    """The object is there; keep the answer for repetitions.

    Args:
        parts: Fingerprint of the list of its parts; None if it is the one that is noted.
    """
    values: dict[str, object] = {"state": "done", "since": now}
    if parts is not None:
        # A process that was taken for dead has done it after all; the upload was open meanwhile.
        values["parts"] = parts
    answer = {
        "etag": present.etag,
        "size": present.facts.size,
        "modified": present.modified,
        "stored": present.facts.stored,
        "stored_as": present.stored_as,
        "checksum": present.checksum,
    }
    connection.execute(
        update(uploads)
        .where(uploads.c.upload_id == upload_id)
        .values(**values, answer=json.dumps(answer))
    )


def reopened(connection: Connection, now: float, upload_id: str) -> None:
    """The Complete did not happen: the upload can be completed or aborted again."""
    connection.execute(
        update(uploads)
        .where(uploads.c.upload_id == upload_id, uploads.c.state == "completing")
        .values(state="open", since=now, parts=None)
    )


# --- the end ------------------------------------------------------------------------------


def abort(connection: Connection, now: float, bucket: int, key: bytes, upload_id: str) -> str:
    """End an upload for its client; returns the id of the backend, where its parts still are.

    Raises:
        NoSuchUpload
        InvalidRequest: It is being completed.
    """
    upload = find_open(connection, now, bucket, key, upload_id)
    if upload.state == "completing":
        raise InvalidRequest("The upload is being completed.")
    _set_aborted(connection, now, upload_id)
    return upload.inner


def expire(connection: Connection, now: float, upload_id: str, idle_seconds: float) -> bool:
    """End an upload that is idle; False if it is not, or not open any more."""
    row = connection.execute(_FIND, {"u": upload_id}).first()
    if row is None or row.state != "open" or now - row.since < idle_seconds + TOUCH_SECONDS:
        return False
    _set_aborted(connection, now, upload_id)
    return True


def _set_aborted(connection: Connection, now: float, upload_id: str) -> None:
    connection.execute(
        update(uploads).where(uploads.c.upload_id == upload_id).values(state="aborted", since=now)
    )


def forget_aborted(connection: Connection, upload_id: str) -> None:
    """Drop an upload whose parts are gone."""
    connection.execute(
        delete(uploads).where(uploads.c.upload_id == upload_id, uploads.c.state == "aborted")
    )


def forget_done(connection: Connection, now: float, limit: int) -> int:
    """Drop uploads that were completed more than 15 minutes ago; returns how many."""
    old = (
        select(uploads.c.upload_id)
        .where(uploads.c.state == "done", uploads.c.since < now - REMEMBER_SECONDS)
        .limit(limit)
    )
    return connection.execute(delete(uploads).where(uploads.c.upload_id.in_(old))).rowcount


__all__ = [
    "REMEMBER_SECONDS",
    "TOUCH_SECONDS",
    "Upload",
    "UploadChangedError",
    "abort",
    "bucket_size",
    "check",
    "checksum_of",
    "completed",
    "completing",
    "create",
    "expire",
    "find",
    "find_open",
    "forget_aborted",
    "forget_done",
    "is_active",
    "is_upload_id",
    "no_such_upload",
    "reopened",
    "touch",
]
