"""CopyObject and UploadPartCopy: a source, its conditions, and long answers kept alive.

Source: AWS, "CopyObject", "UploadPartCopy".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

import structlog

from ..context import RequestContext, S3Request
from ..errors import (
    ClientError,
    EntityTooLarge,
    IntegrityError,
    InternalError,
    InvalidArgument,
    InvalidRequest,
    InvalidURI,
    NotImplementedS3,
    PreconditionFailed,
    S3Error,
)
from ..interfaces.auth import Action
from ..interfaces.storage import (
    ByteRange,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    StorageBackend,
)
from ..origin import origin
from . import conditions, ranges, xml
from .names import check_bucket_name, check_key, decode_path
from .object_headers import metadata_of_request, refuse_unsupported
from .objects import MAX_SINGLE_PUT, precheck, whole
from .response import S3Response, xml_response

#: Seconds after which a slow operation starts its answer and keeps the connection alive with
#: white space before the document, as AWS does. Below the read timeout of the SDKs (60 s).
KEEP_ALIVE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A copy source, looked up and admitted."""

    storage: StorageBackend
    backend: str
    bucket: str
    key: str
    info: ObjectInfo


def parse_copy_source(value: str) -> tuple[str, str]:
    """Split ``x-amz-copy-source`` into bucket and key, decoded once.

    Raises:
        InvalidArgument: No bucket and key, or a version id other than ``null``.
        NotImplementedS3: An access point ARN.
    """
    if value.startswith("arn:"):
        raise NotImplementedS3("Copy sources given as ARN are not supported.")
    # A "?" in a key comes escaped; bytes that are not ASCII may come as they are.
    path, _, query = value.partition("?")
    if query and query != "versionId=null":
        raise InvalidArgument(
            "Buckets are not versioned: the versionId of a copy source can only be null.",
            fields={"ArgumentName": "x-amz-copy-source", "ArgumentValue": value},
        )
    try:
        raw = path.removeprefix("/").encode().decode("latin-1")
        bucket, _, key = decode_path(f"/{raw}")[1:].partition("/")
    except (InvalidURI, UnicodeEncodeError):
        bucket = key = ""
    if not bucket or not key:
        raise InvalidArgument(
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            fields={"ArgumentName": "x-amz-copy-source", "ArgumentValue": value},
        )
    return bucket, key


async def _source(context: RequestContext) -> Source:
    request = context.request
    bucket, key = parse_copy_source(request.headers["x-amz-copy-source"])
    check_bucket_name(bucket)
    check_key(key)
    context.admit_key("GET", "get_object", Action.READ, bucket, key)
    route = context.route(bucket)
    storage = context.pipeline.backends[route.backend]
    info = await storage.head_object(route.bucket, key)
    conditions.check_copy_source(request.headers, info.etag, info.last_modified)
    return Source(storage=storage, backend=route.backend, bucket=route.bucket, key=key, info=info)


async def copy_object(context: RequestContext) -> S3Response:
    """PUT /bucket/key with ``x-amz-copy-source``."""
    request = context.request
    refuse_unsupported(request.headers)
    directive = request.headers.get("x-amz-metadata-directive", "COPY").upper()
    if directive not in ("COPY", "REPLACE"):
        raise InvalidArgument(
            f"Unknown metadata directive {directive}: use COPY or REPLACE.",
            fields={"ArgumentName": "x-amz-metadata-directive", "ArgumentValue": directive},
        )
    tagging = request.headers.get("x-amz-tagging-directive", "COPY").upper()
    if tagging != "COPY":
        raise NotImplementedS3("Object tagging is not supported by this service.")
    condition = conditions.write_condition(request.headers)
    source = await _source(context)
    storage, bucket = context.storage()
    await storage.head_bucket(bucket)
    if condition is not None:
        await precheck(storage, bucket, request.key, condition)
    same = source.storage is storage and (source.bucket, source.key) == (bucket, request.key)
    if same and directive == "COPY":
        raise InvalidRequest(
            "This copy request is illegal because it is trying to copy an object to itself "
            "without changing the object's metadata, storage class, website redirect location "
            "or encryption attributes."
        )
    if source.info.size > MAX_SINGLE_PUT:
        raise EntityTooLarge(
            "The source of a copy can have at most 5 GiB: use multipart with UploadPartCopy.",
            fields={"ProposedSize": str(source.info.size), "MaxSizeAllowed": str(MAX_SINGLE_PUT)},
        )
    metadata = metadata_of_request(request) if directive == "REPLACE" else None
    copying = _copy(source, storage, bucket, request.key, metadata, condition)

    async def document() -> bytes:
        return xml.render_copy_object_result(await copying)

    return await slow_xml(document, request)


async def _copy(
    source: Source,
    storage: StorageBackend,
    bucket: str,
    key: str,
    metadata: ObjectMetadata | None,
    condition: Condition | None,
) -> ObjectInfo:
    if source.storage is storage:
        return await storage.copy_object(
            source.bucket,
            source.key,
            bucket,
            key,
            source_etag=source.info.etag,
            metadata=metadata,
            condition=condition,
        )
    async with await source.storage.get_object(source.bucket, source.key) as reader:
        if reader.info.etag != source.info.etag:
            raise PreconditionFailed("The source changed while it was being copied.")
        if metadata is None:
            kept = reader.info.metadata or ObjectMetadata()
            metadata = ObjectMetadata(headers=kept.headers, user=kept.user)
        payload = {"source_bucket": source.bucket, "source_key": source.key}
        with origin(kind="ObjectCopied", payload=payload):
            return await storage.put_object(
                bucket,
                key,
                whole(reader),
                size=reader.info.size,
                metadata=metadata,
                condition=condition,
            )


async def upload_part_copy(context: RequestContext) -> S3Response:
    """PUT /bucket/key?partNumber&uploadId with ``x-amz-copy-source``."""
    from .multipart import part_number_of, upload_id_of

    request = context.request
    part_number, upload_id = part_number_of(request), upload_id_of(request)
    source = await _source(context)
    storage, bucket = context.storage()
    requested = request.headers.get("x-amz-copy-source-range")
    byte_range: ByteRange | None = None
    if requested is not None:
        byte_range = ranges.parse_copy_range(requested)
        ranges.resolve_copy_range(byte_range, source.info.size)

    async def copy() -> bytes:
        async with await source.storage.get_object(
            source.bucket, source.key, byte_range=byte_range
        ) as reader:
            if reader.info.etag != source.info.etag:
                raise PreconditionFailed("The source changed while it was being copied.")
            size = reader.stop - reader.start
            if size > MAX_SINGLE_PUT:
                raise EntityTooLarge(
                    "A part can have at most 5 GiB.",
                    fields={"ProposedSize": str(size), "MaxSizeAllowed": str(MAX_SINGLE_PUT)},
                )
            part = await storage.upload_part(
                bucket, request.key, upload_id, part_number, whole(reader), size=size
            )
        return xml.render_copy_part_result(part)

    return await slow_xml(copy, request)


async def slow_xml(work: Callable[[], Awaitable[bytes]], request: S3Request) -> S3Response:
    """Run ``work`` to its end, and answer early with white space if it takes long.

    An error after the early answer becomes an ``<Error>`` document in the 200, which is how
    AWS reports it for these operations and what SDKs look for.
    """
    task = asyncio.ensure_future(work())
    done, _ = await asyncio.wait({task}, timeout=KEEP_ALIVE_SECONDS)
    if done:
        return xml_response(task.result())

    async def stream() -> AsyncGenerator[bytes, None]:
        try:
            yield xml.DECLARATION
            while not task.done():
                yield b" "
                await asyncio.wait({task}, timeout=KEEP_ALIVE_SECONDS)
            yield _late_document(task, request).removeprefix(xml.DECLARATION)
        finally:
            # If the client has gone, the work goes on, and with it the request: a reload must
            # not close the backend under it.
            await asyncio.wait({task})
            if (error := task.exception()) is not None:
                _log_late(error, request)

    return S3Response(headers={"Content-Type": "application/xml"}, stream=stream())


def _log_late(error: BaseException, request: S3Request) -> None:
    """Log what the endpoint would have logged of an error before the answer."""
    log = structlog.get_logger("deltaglider_proxy")
    event = "failed after the answer began"
    fields = {"request_id": request.request_id, "operation": request.operation}
    if not isinstance(error, S3Error):
        log.error(event, exc_info=error, **fields)
    elif not isinstance(error, ClientError | NotImplementedS3):
        log.error(event, error=str(error), code=error.code, **fields)


def _late_document(task: asyncio.Future[bytes], request: S3Request) -> bytes:
    try:
        return task.result()
    except Exception as error:
        # The text of an integrity error is for the log only, as everywhere.
        known = isinstance(error, S3Error) and not isinstance(error, IntegrityError)
        failure: S3Error = error if known else InternalError()  # type: ignore[assignment]
        return xml.render_error(failure, resource=request.raw_path, request_id=request.request_id)
