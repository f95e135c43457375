"""Records and parts of multipart uploads that are kept as objects; used by ``operations``.

An upload is the folder ``.deltaglider/uploads/<upload id>/`` of its bucket: one object
``upload`` (JSON, below) and one object per part, named by its number in five digits. The
record is replaced as a whole, conditionally on the version read before where the backend
declares ``conditional_writes``, so exactly one of several callers changes the state::

    OPEN ──claim──> COMMITTING ──commit──> DONE      (kept 15 minutes, for repeated calls)
     │  <──failure──    │ (claimant dead: claim older than two minutes)
     └──────abort───────┴────────> ABORTED           (until its parts are deleted)

A folder without a record belongs to no upload, whatever lies in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import hashlib
import json
import re
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from ..errors import (
    ConditionalRequestConflict,
    DeltaGliderError,
    IntegrityError,
    NoSuchKey,
    NoSuchUpload,
    PreconditionFailed,
    S3Error,
)
from ..interfaces.storage import (
    RESERVED_PREFIX,
    Body,
    CompletedPart,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    StorageBackend,
)

UPLOADS_PREFIX = f"{RESERVED_PREFIX}uploads/"
MAX_PART_NUMBER = 10_000
PAGE = 1000

#: Requests that one call has under way at once when it touches many small objects.
CONCURRENCY = 8

#: A claim this old belongs to a process that died between claim and commit.
CLAIM_SECONDS = 120.0

#: How long a finished upload answers a repeated Complete.
REMEMBER_SECONDS = 900.0

#: Folders looked at by each Complete. Each adds one record, so two suffice to keep those
#: that have expired at half of all folders at most.
SWEEP_FOLDERS = 2

# Metadata is at most some 10 KB and escaped JSON at most six times that.
_MAX_RECORD_BYTES = 256 * 1024
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
PART_NAME = re.compile(r"[0-9]{5}")


class State(enum.StrEnum):
    """Where an upload stands; see the module."""

    OPEN = "open"
    COMMITTING = "committing"
    DONE = "done"
    ABORTED = "aborted"


class SupersededError(DeltaGliderError):
    """Another request changed the record first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """The object ``upload``.

    Attributes:
        upload_id: 32 hex digits.
        key: Key of the object to be.
        metadata: Of the object to be.
        initiated: Aware, UTC.
        state: See the module.
        since: When the state was entered; seconds of Unix time.
        checksum: Algorithm and type that the client chose, as ``Checksum``; once DONE, that of
            the object. Empty if there is none.
        parts: Fingerprint of the part list that is or was completed.
        nonce: Random; makes every version of the record differ from every other.
        etag, size, last_modified: The answer, once DONE.
        version: ETag of the record as an object; not part of its JSON.
    """

    upload_id: str
    key: str
    metadata: ObjectMetadata
    initiated: datetime
    checksum: str = ""
    state: State = State.OPEN
    since: float = 0.0
    parts: str = ""
    nonce: str = ""
    etag: str = ""
    size: int = 0
    last_modified: datetime | None = None
    version: str = field(default="", compare=False)

    @property
    def is_open(self) -> bool:
        """Whether clients see the upload."""
        return self.state in (State.OPEN, State.COMMITTING)

    @property
    def claimed(self) -> bool:
        """Whether a live request is committing it."""
        return self.state is State.COMMITTING and time.time() - self.since < CLAIM_SECONDS

    @property
    def expired(self) -> bool:
        """Whether it is finished and need not be remembered."""
        return not self.is_open and time.time() - self.since > REMEMBER_SECONDS


def folder(upload_id: str) -> str:
    """Prefix of everything that belongs to an upload."""
    return f"{UPLOADS_PREFIX}{upload_id}/"


def record_key(upload_id: str) -> str:
    """Key of its record."""
    return f"{folder(upload_id)}upload"


def part_key(upload_id: str, part_number: int) -> str:
    """Key of one part."""
    return f"{folder(upload_id)}{part_number:05d}"


def new_record(key: str, metadata: ObjectMetadata, checksum: str = "") -> Record:
    """An open upload that is not stored yet."""
    return Record(
        upload_id=secrets.token_hex(16),
        key=key,
        metadata=metadata,
        initiated=datetime.now(UTC),
        checksum=checksum,
        since=time.time(),
        nonce=secrets.token_hex(8),
    )


def fingerprint(parts: Sequence[CompletedPart]) -> str:
    """SHA-256 of a part list in hex: 10,000 ETags need not be kept to recognise them."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.part_number}:{len(part.etag)}:{part.etag}\n".encode())
    return digest.hexdigest()


def _dump(record: Record) -> bytes:
    document = {
        "format": 1,
        "key": record.key,
        "initiated": record.initiated.isoformat(),
        "headers": dict(record.metadata.headers),
        "user": dict(record.metadata.user),
        "internal": dict(record.metadata.internal),
        "tags": dict(record.metadata.tags),
        "checksum": record.checksum,
        "state": record.state.value,
        "since": record.since,
        "parts": record.parts,
        "nonce": record.nonce,
        "etag": record.etag,
        "size": record.size,
        "last_modified": record.last_modified and record.last_modified.isoformat(),
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _load(upload_id: str, version: str, data: bytes) -> Record:
    try:
        document = json.loads(data)
        if document["format"] != 1:
            raise ValueError(f"format {document['format']}")
        modified = document["last_modified"]
        return Record(
            upload_id=upload_id,
            key=document["key"],
            metadata=ObjectMetadata(
                headers=document["headers"],
                user=document["user"],
                internal=document["internal"],
                tags=document.get("tags", {}),
            ),
            initiated=datetime.fromisoformat(document["initiated"]),
            checksum=document.get("checksum", ""),
            state=State(document["state"]),
            since=document["since"],
            parts=document["parts"],
            nonce=document["nonce"],
            etag=document["etag"],
            size=document["size"],
            last_modified=modified and datetime.fromisoformat(modified),
            version=version,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"The record of upload {upload_id} is unreadable: {error}") from error


async def one_chunk(data: bytes) -> Body:
    """A body of bytes that are small enough to be at hand."""
    yield data


async def read_record(backend: StorageBackend, bucket: str, upload_id: str) -> Record | None:
    """The record, or None if there is none.

    Raises:
        NoSuchBucket
        IntegrityError: It is there but is not one.
    """
    try:
        reader = await backend.get_object(bucket, record_key(upload_id))
    except NoSuchKey:
        return None
    data = bytearray()
    async with reader:
        if reader.info.size > _MAX_RECORD_BYTES:
            raise IntegrityError(f"The record of upload {upload_id} is too large.")
        async for chunk in reader:
            data += chunk
    return _load(upload_id, reader.info.etag, bytes(data))


async def find(backend: StorageBackend, bucket: str, key: str, upload_id: str) -> Record:
    """The record of an upload in any state but ABORTED.

    Raises:
        NoSuchBucket
        NoSuchUpload: Unknown, malformed, aborted, forgotten, or of another key.
    """
    if not _UPLOAD_ID.fullmatch(upload_id):
        raise NoSuchUpload(fields={"UploadId": upload_id})
    record = await read_record(backend, bucket, upload_id)
    if record is None or record.key != key or record.state is State.ABORTED or record.expired:
        raise NoSuchUpload(fields={"UploadId": upload_id})
    return record


async def find_open(backend: StorageBackend, bucket: str, key: str, upload_id: str) -> Record:
    """As ``find``; a completed upload is ``NoSuchUpload`` too."""
    record = await find(backend, bucket, key, upload_id)
    if not record.is_open:
        raise NoSuchUpload(fields={"UploadId": upload_id})
    return record


async def write_record(
    backend: StorageBackend, bucket: str, record: Record, condition: Condition | None = None
) -> Record:
    """Store a record and return it with its version."""
    data = _dump(record)
    info = await backend.put_object(
        bucket,
        record_key(record.upload_id),
        one_chunk(data),
        size=len(data),
        metadata=ObjectMetadata(headers={"content-type": "application/json"}),
        condition=condition,
    )
    return replace(record, version=info.etag)


async def transition(backend: StorageBackend, bucket: str, before: Record, after: Record) -> Record:
    """Replace ``before`` by ``after``.

    On a backend without conditional writes the version is compared right before the write,
    which leaves two processes the time of one request to overtake each other.

    Raises:
        SupersededError: The stored record is no longer ``before``.
    """
    condition = None
    if backend.capabilities.conditional_writes:
        condition = Condition(if_match=before.version)
    else:
        current = await read_record(backend, bucket, before.upload_id)
        if current is None or current.version != before.version:
            raise SupersededError(before.upload_id)
    after = replace(after, since=time.time(), nonce=secrets.token_hex(8))
    try:
        return await write_record(backend, bucket, after, condition)
    except S3Error as error:
        # The answer can be lost where the write is not, and its repetition refused.
        current = await read_record(backend, bucket, before.upload_id)
        if current is not None and current.nonce == after.nonce:
            return current
        if isinstance(error, PreconditionFailed | NoSuchKey | ConditionalRequestConflict):
            raise SupersededError(before.upload_id) from error
        raise


async def iter_objects(
    backend: StorageBackend, bucket: str, prefix: str, start_after: str = ""
) -> AsyncGenerator[ObjectInfo, None]:
    """All objects below a prefix, one page at a time."""
    while True:
        page = await backend.list_objects(
            bucket, prefix=prefix, start_after=start_after, max_keys=PAGE
        )
        for info in page.objects:
            yield info
        if page.next_after is None:
            return
        start_after = page.next_after


async def iter_upload_ids(
    backend: StorageBackend, bucket: str, start_after: str = "", page_size: int = PAGE
) -> AsyncGenerator[str, None]:
    """Ids of all folders, in order, whatever is in them."""
    while True:
        page = await backend.list_objects(
            bucket,
            prefix=UPLOADS_PREFIX,
            delimiter="/",
            start_after=start_after,
            max_keys=page_size,
        )
        for prefix in page.prefixes:
            upload_id = prefix.removeprefix(UPLOADS_PREFIX).removesuffix("/")
            if _UPLOAD_ID.fullmatch(upload_id):
                yield upload_id
        if page.next_after is None:
            return
        start_after = page.next_after


async def remove(
    backend: StorageBackend, bucket: str, upload_id: str, *, keep_record: bool = False
) -> None:
    """Delete the parts, then the record.

    What cannot be deleted now stays: it is invisible, and ``sweep`` finds it by its record,
    which for that reason goes last and only if everything else is gone.
    """
    last = record_key(upload_id)
    with contextlib.suppress(S3Error, OSError):
        batch: list[str] = []
        async for info in iter_objects(backend, bucket, folder(upload_id)):
            if info.key != last:
                batch.append(info.key)
            if len(batch) == CONCURRENCY:
                await asyncio.gather(*(backend.delete_object(bucket, key) for key in batch))
                batch = []
        await asyncio.gather(*(backend.delete_object(bucket, key) for key in batch))
        if not keep_record:
            await backend.delete_object(bucket, last)


async def sweep(backend: StorageBackend, bucket: str, near: str) -> None:
    """Forget finished uploads whose time is over: looks at two folders after ``near``.

    ``near`` is a random upload id, so every folder has its turn. Errors end the sweep.
    """
    with contextlib.suppress(S3Error, OSError):
        found: list[str] = []
        for start in (folder(near), ""):
            async with contextlib.aclosing(
                iter_upload_ids(backend, bucket, start, SWEEP_FOLDERS)
            ) as ids:
                async for upload_id in ids:
                    if len(found) == SWEEP_FOLDERS:
                        break
                    if upload_id != near and upload_id not in found:
                        found.append(upload_id)
        for upload_id in found:
            record = await read_record(backend, bucket, upload_id)
            if record is None or record.expired:
                await remove(backend, bucket, upload_id)
