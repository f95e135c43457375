"""Object operations: put, get, head, delete, and delete of many."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

import structlog

from ..checksums import DEFAULT_ALGORITHM
from ..context import RequestContext
from ..errors import (
    ClientError,
    InternalError,
    InvalidRange,
    NoSuchVersion,
    PreconditionFailed,
    S3Error,
    ServiceUnavailable,
)
from ..interfaces.auth import Action
from ..interfaces.storage import (
    ByteRange,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    ObjectReader,
    StorageBackend,
)
from ..origin import current_origin, origin
from ..services import run_blocking
from ..tasks import bounded_map
from . import conditions, ranges, xml
from .checksums import checksum_headers, headers_on_read
from .names import check_key
from .object_headers import metadata_of_request, object_headers, refuse_unsupported
from .parts import PartSpan, part_to_read, span_of
from .payload import Payload, open_payload, read_limited
from .request_checks import NULL_VERSION, require_digest
from .response import S3Response, xml_response
from .tags import require_kept

#: Largest object of a single PUT. AWS, "Uploading objects": 5 GiB.
MAX_SINGLE_PUT = 5 * 1024**3
#: Largest DeleteObjects document: 1,000 keys of 1,024 bytes, escaped, with room.
MAX_DELETE_BODY = 8 * 1024**2
#: Keys of one DeleteObjects that are deleted at a time.
DELETE_CONCURRENCY = 64

#: How often an object that is overwritten between two looks at it is looked at again.
_ATTEMPTS = 4


async def put_object(context: RequestContext) -> S3Response:
    """PUT /bucket/key."""
    request = context.request
    refuse_unsupported(request.headers)
    condition = conditions.write_condition(request.headers)
    metadata = metadata_of_request(request)
    limit = min(MAX_SINGLE_PUT, context.pipeline.settings.advanced.max_object_size)
    payload = open_payload(request, context.principal, max_size=limit)
    payload.compute(payload.claimed or DEFAULT_ALGORITHM)
    metadata = with_checksum(metadata, payload)
    storage, bucket = context.storage()
    # Refused before the client sends the body, if it waits for "100 Continue".
    await storage.head_bucket(bucket)
    require_kept(storage, metadata.tags)
    if condition is not None:
        await precheck(storage, bucket, request.key, condition)
    info = await storage.put_object(
        bucket, request.key, payload, size=payload.size, metadata=metadata, condition=condition
    )
    return S3Response(headers={"ETag": f'"{info.etag}"', **checksum_headers(payload.checksum)})


def with_checksum(metadata: ObjectMetadata, payload: Payload) -> ObjectMetadata:
    """Metadata that keep the checksum of a payload, which may be known only after its end."""
    known = payload.internal()
    return replace(
        metadata,
        internal={**metadata.internal, **known},
        late=None if known else payload.internal,
    )


async def precheck(storage: StorageBackend, bucket: str, key: str, condition: Condition) -> None:
    """Refuse early what the commit would refuse; the commit decides again, atomically."""
    present: ObjectInfo | None
    if condition.if_match is not None:
        # An absent key is 404 here, as AWS answers.
        present = await storage.head_object(bucket, key)
        if condition.if_match not in ("*", present.etag):
            raise PreconditionFailed(fields={"Condition": "If-Match"})
    if condition.if_none_match is not None:
        page = await storage.list_objects(bucket, prefix=key, max_keys=1)
        if any(found.key == key for found in page.objects):
            raise PreconditionFailed(fields={"Condition": "If-None-Match"})


async def get_object(context: RequestContext) -> S3Response:
    """GET /bucket/key."""
    request = context.request
    number = part_to_read(request)
    storage, bucket = context.storage()
    part, byte_range = None, None
    if number is not None:
        part, reader = await _open_part(context, storage, bucket, number)
    else:
        byte_range, reader = await _open_range(context, storage, bucket)
    stream: AsyncGenerator[bytes, None] | None = None
    try:
        info = reader.info
        headers = object_headers(request, info)
        if conditions.check_read(request.headers, info.etag, info.last_modified):
            return not_modified(headers)
        status, length = 200, reader.stop - reader.start
        headers["Content-Length"] = str(length)
        if part is not None:
            status, length = part.status, part.length
            headers.update(part.headers())
        elif byte_range is not None:
            status = 206
            headers["Content-Range"] = ranges.content_range(reader.start, reader.stop, info.size)
        else:
            headers.update(headers_on_read(request.headers, info))
        if length == 0:
            return S3Response(status=status, headers=headers)
        stream = whole(reader)
        # The first piece is read before the status goes out, so that an object that cannot be
        # decoded is an error and not a cut answer.
        first = await anext(stream)
        return S3Response(status=status, headers=headers, stream=_prepend(first, stream))
    except BaseException:
        if stream is not None:
            await stream.aclose()
        raise
    finally:
        if stream is None:
            await reader.aclose()


async def _open_range(
    context: RequestContext, storage: StorageBackend, bucket: str
) -> tuple[ByteRange | None, ObjectReader]:
    """Open what ``Range`` and ``If-Range`` ask for; the range is None for the whole."""
    request = context.request
    byte_range = ranges.parse_range(request.headers.get("range"))
    if byte_range is not None and "if-range" in request.headers:
        info = await storage.head_object(bucket, request.key)
        if not conditions.if_range_applies(request.headers, info.etag, info.last_modified):
            byte_range = None
    reader = await _open(context, storage, bucket, byte_range)
    if byte_range is not None and not conditions.if_range_applies(
        request.headers, reader.info.etag, reader.info.last_modified
    ):
        # Overwritten since the HEAD: part of this version would be glued to the other one.
        await reader.aclose()
        byte_range = None
        reader = await _open(context, storage, bucket, None)
    return byte_range, reader


async def _open_part(
    context: RequestContext, storage: StorageBackend, bucket: str, number: int
) -> tuple[PartSpan, ObjectReader]:
    """Open one part, of the version that says where it lies."""
    request = context.request
    for _ in range(_ATTEMPTS):
        info = await storage.head_object(bucket, request.key)
        if conditions.check_read(request.headers, info.etag, info.last_modified):
            raise _NotModified(object_headers(request, info))
        part = span_of(info, number)
        try:
            reader = await storage.get_object(bucket, request.key, byte_range=part.byte_range)
        except InvalidRange:
            continue
        if reader.info.etag == info.etag:
            return part, reader
        await reader.aclose()
    raise ServiceUnavailable("The object was overwritten while it was being read. Please retry.")


async def _open(
    context: RequestContext, storage: StorageBackend, bucket: str, byte_range: ByteRange | None
) -> ObjectReader:
    request = context.request
    try:
        return await storage.get_object(bucket, request.key, byte_range=byte_range)
    except InvalidRange as error:
        # A condition that fails comes before a range that does not fit (RFC 9110, 13.2.2).
        info = await storage.head_object(bucket, request.key)
        if conditions.check_read(request.headers, info.etag, info.last_modified):
            raise _NotModified(object_headers(request, info)) from error
        raise


class _NotModified(ClientError):
    """304 as an error, for the one place where it is found inside one."""

    code, status, message = "NotModified", 304, "Not Modified"

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__(headers=_not_modified_headers(headers))


async def whole(reader: ObjectReader) -> AsyncGenerator[bytes, None]:
    """The bytes of a reader, which is closed at the end.

    Raises:
        InternalError: The backend gave fewer or more than it announced, which must not pass
            for a mistake of the client.
    """
    length, sent = reader.stop - reader.start, 0
    try:
        async for piece in reader:
            sent += len(piece)
            yield piece
    finally:
        await reader.aclose()
    if sent != length:
        raise InternalError(f"the backend gave {sent} bytes of {length}")


async def _prepend(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    try:
        yield first
        async for piece in rest:
            yield piece
    finally:
        await rest.aclose()


def _not_modified_headers(headers: dict[str, str]) -> dict[str, str]:
    kept = ("ETag", "Last-Modified", "Cache-Control", "Expires")
    return {name: headers[name] for name in kept if name in headers}


def not_modified(headers: dict[str, str]) -> S3Response:
    """304; of the headers of a 200 those stay that describe the version."""
    return S3Response(status=304, headers=_not_modified_headers(headers))


async def head_object(context: RequestContext) -> S3Response:
    """HEAD /bucket/key."""
    request = context.request
    number = part_to_read(request)
    storage, bucket = context.storage()
    info = await storage.head_object(bucket, request.key)
    headers = object_headers(request, info)
    if conditions.check_read(request.headers, info.etag, info.last_modified):
        return not_modified(headers)
    if number is not None:
        part = span_of(info, number)
        return S3Response(status=part.status, headers={**headers, **part.headers()})
    byte_range = ranges.parse_range(request.headers.get("range"))
    if byte_range is not None and conditions.if_range_applies(
        request.headers, info.etag, info.last_modified
    ):
        start, stop = byte_range.resolve(info.size)
        headers["Content-Range"] = ranges.content_range(start, stop, info.size)
        headers["Content-Length"] = str(stop - start)
        return S3Response(status=206, headers=headers)
    headers["Content-Length"] = str(info.size)
    return S3Response(headers={**headers, **headers_on_read(request.headers, info)})


async def delete_object(context: RequestContext) -> S3Response:
    """DELETE /bucket/key: 204, also if there was nothing."""
    request = context.request
    condition = conditions.delete_condition(request.headers)
    storage, bucket = context.storage()
    await storage.delete_object(bucket, request.key, condition=condition)
    return S3Response(status=204)


async def delete_objects(context: RequestContext) -> S3Response:
    """POST /bucket?delete: up to 1,000 keys, each decided on its own."""
    request = context.request
    require_digest(request.headers)
    payload = open_payload(request, context.principal, max_size=MAX_DELETE_BODY)
    storage, bucket = context.storage()
    # Refused before the client sends the body, if it waits for "100 Continue".
    await storage.head_bucket(bucket)
    document = await read_limited(payload, MAX_DELETE_BODY)
    batch = await run_blocking(xml.parse_delete_objects, document)

    async def delete(entry: xml.DeleteEntry) -> S3Error | None:
        try:
            check_key(entry.key)
            if entry.version_id not in (None, "", NULL_VERSION):
                raise NoSuchVersion
            context.admit_key("DELETE", "delete_object", Action.DELETE, request.bucket, entry.key)
            await storage.delete_object(bucket, entry.key, condition=entry.condition)
        except S3Error as error:
            return error
        except Exception:
            log = structlog.get_logger("deltaglider_proxy")
            log.exception("one delete of many failed", request_id=request.request_id)
            return InternalError()
        return None

    signature = current_origin.get().signature
    if signature is not None:
        signature = replace(signature, returnable=False)
    with origin(signature=signature):
        errors = await bounded_map(delete, batch.objects, limit=DELETE_CONCURRENCY)
    return xml_response(
        xml.render_delete_result(list(zip(batch.objects, errors, strict=True)), quiet=batch.quiet)
    )
