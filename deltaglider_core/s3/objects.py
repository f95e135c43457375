"""Object operations: put, get, head, delete, and delete of many."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

import structlog

from ..context import RequestContext
from ..errors import (
    ClientError,
    InternalError,
    InvalidRange,
    NotImplementedS3,
    PreconditionFailed,
    S3Error,
)
from ..interfaces.auth import Action
from ..interfaces.storage import (
    ByteRange,
    Condition,
    ObjectInfo,
    ObjectReader,
    StorageBackend,
)
from ..origin import current_origin, origin
from ..services import run_blocking
from ..tasks import bounded_map
from . import conditions, ranges, xml
from .names import check_key
from .object_headers import metadata_of_request, object_headers, refuse_unsupported
from .payload import open_payload, read_limited
from .response import S3Response, xml_response

#: Largest object of a single PUT. AWS, "Uploading objects": 5 GiB.
MAX_SINGLE_PUT = 5 * 1024**3
#: Largest DeleteObjects document: 1,000 keys of 1,024 bytes, escaped, with room.
MAX_DELETE_BODY = 8 * 1024**2
#: Keys of one DeleteObjects that are deleted at a time.
DELETE_CONCURRENCY = 64


async def put_object(context: RequestContext) -> S3Response:
    """PUT /bucket/key."""
    request = context.request
    refuse_unsupported(request.headers)
    condition = conditions.write_condition(request.headers)
    metadata = metadata_of_request(request)
    limit = min(MAX_SINGLE_PUT, context.pipeline.settings.advanced.max_object_size)
    payload = open_payload(request, context.principal, max_size=limit)
    storage, bucket = context.storage()
    # Refused before the client sends the body, if it waits for "100 Continue".
    await storage.head_bucket(bucket)
    if condition is not None:
        await precheck(storage, bucket, request.key, condition)
    info = await storage.put_object(
        bucket, request.key, payload, size=payload.size, metadata=metadata, condition=condition
    )
    headers = {"ETag": f'"{info.etag}"'}
    for algorithm, value in payload.checksums.items():
        headers[f"x-amz-checksum-{algorithm}"] = value
        headers["x-amz-checksum-type"] = "FULL_OBJECT"
    return S3Response(headers=headers)


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
    _refuse_versions_and_parts(context)
    storage, bucket = context.storage()
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
    stream: AsyncGenerator[bytes, None] | None = None
    try:
        info = reader.info
        headers = object_headers(request, info)
        if conditions.check_read(request.headers, info.etag, info.last_modified):
            return _not_modified(headers)
        status = 200
        if byte_range is not None:
            status = 206
            headers["Content-Range"] = ranges.content_range(reader.start, reader.stop, info.size)
        length = reader.stop - reader.start
        headers["Content-Length"] = str(length)
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


def _not_modified(headers: dict[str, str]) -> S3Response:
    return S3Response(status=304, headers=_not_modified_headers(headers))


async def head_object(context: RequestContext) -> S3Response:
    """HEAD /bucket/key."""
    request = context.request
    _refuse_versions_and_parts(context)
    storage, bucket = context.storage()
    info = await storage.head_object(bucket, request.key)
    headers = object_headers(request, info)
    if conditions.check_read(request.headers, info.etag, info.last_modified):
        return _not_modified(headers)
    byte_range = ranges.parse_range(request.headers.get("range"))
    if byte_range is not None and conditions.if_range_applies(
        request.headers, info.etag, info.last_modified
    ):
        start, stop = byte_range.resolve(info.size)
        headers["Content-Range"] = ranges.content_range(start, stop, info.size)
        headers["Content-Length"] = str(stop - start)
        return S3Response(status=206, headers=headers)
    headers["Content-Length"] = str(info.size)
    return S3Response(headers=headers)


def _refuse_versions_and_parts(context: RequestContext) -> None:
    if context.request.param("partNumber") is not None:
        raise NotImplementedS3("Reading a single part by its number is not supported.")
    _refuse_versions(context)


def _refuse_versions(context: RequestContext) -> None:
    if context.request.param("versionId", "null") != "null":
        raise NotImplementedS3("Buckets are not versioned: versionId can only be null.")


async def delete_object(context: RequestContext) -> S3Response:
    """DELETE /bucket/key: 204, also if there was nothing."""
    request = context.request
    _refuse_versions(context)
    storage, bucket = context.storage()
    match = request.headers.get("if-match")
    for name in ("x-amz-if-match-last-modified-time", "x-amz-if-match-size"):
        if name in request.headers:
            # Read as no condition, it would delete what the client wanted to protect.
            raise NotImplementedS3(
                f"The header {name} is not supported by this service.", fields={"Header": name}
            )
    condition = None if match is None else conditions.write_condition({"if-match": match})
    await storage.delete_object(bucket, request.key, condition=condition)
    return S3Response(status=204)


async def delete_objects(context: RequestContext) -> S3Response:
    """POST /bucket?delete: up to 1,000 keys, each decided on its own."""
    request = context.request
    payload = open_payload(request, context.principal, max_size=MAX_DELETE_BODY)
    document = await read_limited(payload, MAX_DELETE_BODY)
    batch = await run_blocking(xml.parse_delete_objects, document)
    storage, bucket = context.storage()
    await storage.head_bucket(bucket)

    async def delete(entry: xml.DeleteEntry) -> S3Error | None:
        try:
            check_key(entry.key)
            if entry.version_id not in (None, "", "null"):
                raise NotImplementedS3("Buckets are not versioned.")
            context.admit_key("DELETE", "delete_object", Action.DELETE, request.bucket, entry.key)
            condition = Condition(if_match=entry.etag) if entry.etag else None
            await storage.delete_object(bucket, entry.key, condition=condition)
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
