"""Copy and multipart uploads for backends that only have the ten abstract methods.

Slower than what a backend could do itself, never wrong, and never with an object in memory.
Where uploads are kept and how their state changes is described in ``uploads``, how they are
assembled in ``complete``.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import heapq
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from ..errors import (
    IntegrityError,
    InvalidArgument,
    InvalidRequest,
    NoSuchUpload,
    PreconditionFailed,
)
from ..interfaces.storage import (
    Body,
    Checksum,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    PartInfo,
    PartPage,
    StorageBackend,
    UploadInfo,
    UploadPage,
)
from .complete import complete_multipart_upload
from .parts import iter_parts
from .uploads import (
    CONCURRENCY,
    MAX_PART_NUMBER,
    Record,
    State,
    SupersededError,
    find_open,
    iter_upload_ids,
    new_record,
    part_key,
    read_record,
    remove,
    transition,
    write_record,
)


async def copy_object(
    backend: StorageBackend,
    source_bucket: str,
    source_key: str,
    bucket: str,
    key: str,
    source_etag: str | None,
    metadata: ObjectMetadata | None,
    condition: Condition | None,
) -> ObjectInfo:
    """Read the source and write it again. The reader belongs to one version of the source, so
    copying an object onto itself and overwriting the source meanwhile are both safe."""
    async with await backend.get_object(source_bucket, source_key) as reader:
        if source_etag is not None and reader.info.etag != source_etag:
            raise PreconditionFailed(fields={"Condition": "x-amz-copy-source-If-Match"})
        if metadata is None:
            metadata = reader.info.metadata
            if metadata is None:
                raise IntegrityError("The backend opened an object without its metadata.")
        return await backend.put_object(
            bucket,
            key,
            aiter(reader),
            size=reader.info.size,
            metadata=metadata,
            condition=condition,
        )


async def create_multipart_upload(
    backend: StorageBackend,
    bucket: str,
    key: str,
    metadata: ObjectMetadata,
    checksum: Checksum | None,
) -> str:
    """Store the record of a new upload."""
    record = new_record(key, metadata, "" if checksum is None else str(checksum))
    record = await write_record(backend, bucket, record)
    return record.upload_id


async def upload_part(
    backend: StorageBackend,
    bucket: str,
    key: str,
    upload_id: str,
    part_number: int,
    body: Body,
    size: int | None,
    checksum: Callable[[], Checksum | None] | None,
) -> PartInfo:
    """Store a part as an object; its ETag is the one the backend gives."""
    if not 1 <= part_number <= MAX_PART_NUMBER:
        raise InvalidArgument(
            f"Part number must be an integer between 1 and {MAX_PART_NUMBER}, inclusive",
            fields={"ArgumentName": "partNumber", "ArgumentValue": str(part_number)},
        )
    await find_open(backend, bucket, key, upload_id)
    name = part_key(upload_id, part_number)
    known = _internal(checksum)
    late = backend.capabilities.late_metadata
    metadata = ObjectMetadata(
        internal=known, late=functools.partial(_internal, checksum) if late else None
    )
    info = await backend.put_object(bucket, name, body, size=size, metadata=metadata)
    try:
        await find_open(backend, bucket, key, upload_id)
    except NoSuchUpload:
        # It ended while the part was on its way, and whoever ended it has not seen this part.
        await backend.delete_object(bucket, name)
        raise
    return PartInfo(
        part_number=part_number,
        etag=info.etag,
        size=info.size,
        last_modified=info.last_modified,
        checksum=checksum() if checksum is not None and (known or late) else None,
    )


def _internal(checksum: Callable[[], Checksum | None] | None) -> Mapping[str, str]:
    found = None if checksum is None else checksum()
    return {} if found is None else {"checksum": str(found)}


async def list_parts(
    backend: StorageBackend, bucket: str, key: str, upload_id: str, marker: int, max_parts: int
) -> PartPage:
    """Parts above ``marker``, at most ``max_parts``."""
    record = await find_open(backend, bucket, key, upload_id)
    chosen = Checksum.parse(record.checksum)
    parts: list[PartInfo] = []
    if max_parts < 1:
        return PartPage(checksum=chosen)
    async with contextlib.aclosing(iter_parts(backend, bucket, upload_id, marker)) as found:
        async for part in found:
            if len(parts) == max_parts:
                return PartPage(
                    parts=tuple(parts), next_marker=parts[-1].part_number, checksum=chosen
                )
            parts.append(part)
    return PartPage(parts=tuple(parts), checksum=chosen)


async def list_multipart_uploads(
    backend: StorageBackend,
    bucket: str,
    prefix: str,
    delimiter: str,
    key_marker: str,
    upload_id_marker: str,
    max_uploads: int,
) -> UploadPage:
    """Open uploads ordered by key, then id.

    The folders are ordered by id, so each call reads every record; only the smallest
    ``max_uploads + 1`` entries are kept. Without an upload id marker, uploads of the marker's
    key itself are left out, as AWS does it.
    """
    if max_uploads < 1:
        await backend.head_bucket(bucket)
        return UploadPage()
    # Python orders strings by code point, which is the order of their UTF-8 bytes.
    smallest: dict[tuple[str, str], tuple[datetime, str] | None] = {}
    async with contextlib.aclosing(_batches(iter_upload_ids(backend, bucket))) as batches:
        async for upload_ids in batches:
            records = await asyncio.gather(
                *(read_record(backend, bucket, upload_id) for upload_id in upload_ids)
            )
            for record in records:
                if record is None or not record.is_open or not record.key.startswith(prefix):
                    continue
                entry = _entry(record, prefix, delimiter)
                if _above(entry, key_marker, upload_id_marker):
                    shown = (record.initiated, record.checksum)
                    smallest[entry] = shown if entry[1] else None
            kept = heapq.nsmallest(max_uploads + 1, smallest)
            smallest = {entry: smallest[entry] for entry in kept}
    page = list(smallest)[:max_uploads]
    return UploadPage(
        uploads=tuple(
            UploadInfo(
                key=entry[0],
                upload_id=entry[1],
                initiated=facts[0],
                checksum=Checksum.parse(facts[1]),
            )
            for entry in page
            if (facts := smallest[entry]) is not None
        ),
        prefixes=tuple(key for key, upload_id in page if not upload_id),
        next_marker=page[-1] if len(smallest) > max_uploads else None,
    )


def _entry(record: Record, prefix: str, delimiter: str) -> tuple[str, str]:
    """``(key, upload id)``, or ``(common prefix, "")``."""
    if delimiter:
        head, found, _ = record.key.removeprefix(prefix).partition(delimiter)
        if found:
            return prefix + head + delimiter, ""
    return record.key, record.upload_id


def _above(entry: tuple[str, str], key_marker: str, upload_id_marker: str) -> bool:
    if upload_id_marker and entry[1]:
        return entry > (key_marker, upload_id_marker)
    return not key_marker or entry[0] > key_marker


async def _batches(ids: AsyncGenerator[str, None]) -> AsyncGenerator[Sequence[str], None]:
    batch: list[str] = []
    async with contextlib.aclosing(ids):
        async for item in ids:
            batch.append(item)
            if len(batch) == CONCURRENCY:
                yield batch
                batch = []
    if batch:
        yield batch


async def abort_multipart_upload(
    backend: StorageBackend, bucket: str, key: str, upload_id: str
) -> None:
    """End the upload, then delete its parts.

    Raises:
        InvalidRequest: A Complete is committing it at this moment.
    """
    while True:
        record = await find_open(backend, bucket, key, upload_id)
        if record.claimed:
            raise InvalidRequest("The upload is being completed.")
        try:
            await transition(backend, bucket, record, replace(record, state=State.ABORTED))
        except SupersededError:
            continue  # somebody else moved it on: decide again on what it is now
        return await remove(backend, bucket, upload_id)


__all__ = [
    "abort_multipart_upload",
    "complete_multipart_upload",
    "copy_object",
    "create_multipart_upload",
    "list_multipart_uploads",
    "list_parts",
    "upload_part",
]
