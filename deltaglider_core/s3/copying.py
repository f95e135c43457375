"""CopyObject and UploadPartCopy: a source, its conditions, and long answers kept alive.

Source: AWS, "CopyObject", "UploadPartCopy".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import structlog

from ..checksums import DEFAULT_ALGORITHM
from ..context import RequestContext, S3Request
from ..errors import (
    ClientError,
    ConditionalRequestConflict,
    EntityTooLarge,
    IntegrityError,
    InternalError,
    InvalidArgument,
    InvalidRequest,
    InvalidURI,
    NoSuchBucket,
    NoSuchKey,
    NotImplementedS3,
    PreconditionFailed,
    S3Error,
)
from ..interfaces.auth import Action
from ..interfaces.storage import (
    ByteRange,
    Checksum,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    StorageBackend,
)
from ..origin import origin
from . import conditions, ranges, xml
from .checksums import chosen_algorithm
from .computed import Computed, checksum_of_copy
from .names import check_bucket_name, check_key, decode_path
from .object_headers import metadata_of_request, refuse_unsupported, tags_of_request
from .objects import MAX_SINGLE_PUT, precheck, whole
from .parts import parse_part_number
from .request_checks import check_owner, invalid_version
from .response import S3Response, xml_response
from .tags import require_kept

#: Seconds after which a slow operation starts its answer and keeps the connection alive with
#: white space before the document, as AWS does. Below the read timeout of the SDKs (60 s).
KEEP_ALIVE_SECONDS = 10.0

#: How the names of conditions on a source begin.
_SOURCE_CONDITIONS = "x-amz-copy-source-if-"


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
        raise invalid_version(query.removeprefix("versionId="))
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
    check_owner(request.headers.get("x-amz-source-expected-bucket-owner"))
    try:
        info = await storage.head_object(route.bucket, key)
    except NoSuchKey as error:
        # The answer names the source: the key of the request itself may well exist.
        error.fields["Key"] = key
        raise
    except NoSuchBucket as error:
        error.fields["BucketName"] = bucket
        raise
    conditions.check_copy_source(request.headers, info.etag, info.last_modified)
    return Source(storage=storage, backend=route.backend, bucket=route.bucket, key=key, info=info)


async def copy_object(context: RequestContext) -> S3Response:
    """PUT /bucket/key with ``x-amz-copy-source``."""
    request = context.request
    refuse_unsupported(request.headers)
    directive = _directive(request, "x-amz-metadata-directive", "metadata")
    tagging = _directive(request, "x-amz-tagging-directive", "tagging")
    given = metadata_of_request(request) if directive == "REPLACE" else None
    tags = tags_of_request(request) if tagging == "REPLACE" else None
    condition = conditions.write_condition(request.headers)
    algorithm = chosen_algorithm(request.headers)
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
    checksum = checksum_of_copy(source.info, algorithm, itself=same)
    metadata = _metadata_of_copy(source.info, given, tags, checksum.known)
    require_kept(storage, metadata.tags)
    if same:
        copying = _restate(
            source, metadata, condition, algorithm=checksum.algorithm, headers=request.headers
        )
    else:
        copying = _copy(
            source, storage, bucket, request.key, metadata, condition, algorithm=checksum.algorithm
        )

    async def document() -> bytes:
        return xml.render_copy_object_result(*await copying)

    return await slow_xml(document, request)


def _directive(request: S3Request, header: str, what: str) -> str:
    value = request.headers.get(header, "COPY").upper()
    if value not in ("COPY", "REPLACE"):
        raise InvalidArgument(
            f"Unknown {what} directive {value}: use COPY or REPLACE.",
            fields={"ArgumentName": header, "ArgumentValue": value},
        )
    return value


def _metadata_of_copy(
    source: ObjectInfo,
    given: ObjectMetadata | None,
    tags: dict[str, str] | None,
    checksum: Checksum | None,
) -> ObjectMetadata:
    """What the copy gets: each of metadata and tags is replaced or the source's.

    Args:
        given: Metadata in place of the source's, or None.
        tags: Tags in place of the source's, or None.
        checksum: Of the copy, where it is known already.
    """
    kept = source.metadata or ObjectMetadata()
    headers, user = (kept.headers, kept.user) if given is None else (given.headers, given.user)
    return ObjectMetadata(
        headers=headers,
        user=user,
        internal={} if checksum is None else {"checksum": str(checksum)},
        tags=kept.tags if tags is None else tags,
        tags_of_source=tags is None,
    )


async def _restate(
    source: Source,
    metadata: ObjectMetadata,
    condition: Condition | None,
    *,
    algorithm: str | None,
    headers: Mapping[str, str],
) -> tuple[ObjectInfo, Checksum | None]:
    """Copy an object onto itself: other metadata for the very version that was looked up.

    Its bytes are never sent through this process to be stored again; at most they are read, for
    a checksum.

    Args:
        algorithm, condition: As in ``_copy``.
        headers: Of the request.

    Raises:
        ConditionalRequestConflict: The object was overwritten meanwhile, and the client set no
            condition that says so. 409 stands for a conflicting operation, after which the same
            request may succeed; 412 would deny a condition of the client's.
        PreconditionFailed: The same, where it set one.
        NoSuchKey: The object was deleted meanwhile.
    """
    place = (source.bucket, source.key)
    try:
        if algorithm is not None:
            async with await source.storage.get_object(*place) as reader:
                _same_version(reader.info, source)
                body = Computed(whole(reader), algorithm)
                await body.drain()
            metadata = replace(metadata, internal=body.internal())
        info = await source.storage.copy_object(
            *place, *place, source_etag=source.info.etag, metadata=metadata, condition=condition
        )
    except PreconditionFailed as error:
        if condition is not None or any(name.startswith(_SOURCE_CONDITIONS) for name in headers):
            raise
        raise ConditionalRequestConflict(
            "The object was overwritten while it was copied onto itself. Please retry."
        ) from error
    return info, Checksum.parse(metadata.internal.get("checksum", ""))


def _same_version(present: ObjectInfo, source: Source) -> None:
    if present.etag != source.info.etag:
        raise PreconditionFailed("The source changed while it was being copied.")


async def _copy(
    source: Source,
    storage: StorageBackend,
    bucket: str,
    key: str,
    metadata: ObjectMetadata,
    condition: Condition | None,
    *,
    algorithm: str | None,
) -> tuple[ObjectInfo, Checksum | None]:
    """Copy; through this process if need be.

    Args:
        algorithm: Of a checksum to be computed from the bytes.

    Returns:
        The copy and its checksum.
    """
    if source.storage is storage and algorithm is None:
        info = await storage.copy_object(
            source.bucket,
            source.key,
            bucket,
            key,
            source_etag=source.info.etag,
            metadata=metadata,
            condition=condition,
        )
        return info, Checksum.parse(metadata.internal.get("checksum", ""))
    async with await source.storage.get_object(source.bucket, source.key) as reader:
        _same_version(reader.info, source)
        body = Computed(whole(reader), algorithm or DEFAULT_ALGORITHM)
        if "checksum" not in metadata.internal:
            metadata = replace(metadata, late=body.internal)
        payload = {"source_bucket": source.bucket, "source_key": source.key}
        with origin(kind="ObjectCopied", payload=payload):
            info = await storage.put_object(
                bucket,
                key,
                body.chunks(),
                size=reader.info.size,
                metadata=metadata,
                condition=condition,
            )
        known = Checksum.parse(metadata.internal.get("checksum", ""))
        return info, known or body.checksum


async def upload_part_copy(context: RequestContext) -> S3Response:
    """PUT /bucket/key?partNumber&uploadId with ``x-amz-copy-source``."""
    from .multipart import upload_id_of

    request = context.request
    part_number, upload_id = parse_part_number(request), upload_id_of(request)
    source = await _source(context)
    storage, bucket = context.storage()
    chosen = (await storage.list_parts(bucket, request.key, upload_id, max_parts=0)).checksum
    requested = request.headers.get("x-amz-copy-source-range")
    byte_range: ByteRange | None = None
    if requested is not None:
        byte_range = ranges.parse_copy_range(requested)
        ranges.resolve_copy_range(byte_range, source.info.size)

    async def copy() -> bytes:
        async with await source.storage.get_object(
            source.bucket, source.key, byte_range=byte_range
        ) as reader:
            _same_version(reader.info, source)
            size = reader.stop - reader.start
            if size > MAX_SINGLE_PUT:
                raise EntityTooLarge(
                    "A part can have at most 5 GiB.",
                    fields={"ProposedSize": str(size), "MaxSizeAllowed": str(MAX_SINGLE_PUT)},
                )
            body = Computed(
                whole(reader), DEFAULT_ALGORITHM if chosen is None else chosen.algorithm
            )
            part = await storage.upload_part(
                bucket,
                request.key,
                upload_id,
                part_number,
                body.chunks(),
                size=size,
                checksum=lambda: body.checksum,
            )
        return xml.render_copy_part_result(part, None if chosen is None else body.checksum)

    return await slow_xml(copy, request)


async def slow_xml(work: Callable[[], Awaitable[bytes]], request: S3Request) -> S3Response:
    """Run ``work`` to its end, and answer early with white space if it takes long.

    An error after the early answer becomes an ``<Error>`` document in the 200, which is how
    AWS reports it for these operations and what SDKs look for.
    """
    task = asyncio.ensure_future(work())
    try:
        done, _ = await asyncio.wait({task}, timeout=KEEP_ALIVE_SECONDS)
    except asyncio.CancelledError:
        # Others may have joined this work: it goes on, and what it uses has to stay open.
        await asyncio.wait({task})
        if (error := task.exception()) is not None:
            _log_late(error, request)
        raise
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
