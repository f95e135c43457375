"""Multipart uploads.

Source: AWS, "Uploading and copying objects using multipart upload", "Multipart upload limits".
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from ..checksums import DEFAULT_ALGORITHM
from ..context import RequestContext, S3Request
from ..errors import (
    EntityTooLarge,
    InvalidArgument,
    InvalidRequest,
    NoSuchKey,
    NoSuchUpload,
    PreconditionFailed,
)
from ..interfaces.storage import (
    Checksum,
    CompletedPart,
    Condition,
    PartInfo,
    PartPage,
    UploadPage,
)
from ..services import run_blocking
from . import conditions, xml
from .addressing import location_of
from .checksums import (
    ALGORITHM_HEADER,
    PREFIX,
    TYPE_HEADER,
    checksum_headers_of,
    checksum_of_upload,
    chosen_by_claim,
    claim_for_object,
    stored_checksum,
    type_mismatch,
)
from .copying import slow_xml
from .listing import encoding_type_of, integer_param
from .object_headers import metadata_of_request, refuse_unsupported
from .objects import MAX_SINGLE_PUT, precheck
from .parts import parse_part_number
from .payload import open_payload, read_limited, read_optional
from .response import S3Response, xml_response
from .tags import require_kept

#: Largest CompleteMultipartUpload document: 10,000 parts with five checksums each.
MAX_COMPLETE_BODY = 16 * 1024**2

_SIZE = re.compile(r"[0-9]{1,19}")


def upload_id_of(request: S3Request) -> str:
    """``uploadId``. Raises ``NoSuchUpload`` if it is empty."""
    value = request.param("uploadId")
    if not value:
        raise NoSuchUpload(fields={"UploadId": ""})
    return value


async def create_multipart_upload(context: RequestContext) -> S3Response:
    """POST /bucket/key?uploads."""
    request = context.request
    refuse_unsupported(request.headers)
    metadata = metadata_of_request(request)
    checksum = checksum_of_upload(request.headers)
    await read_optional(request, context.principal, 0)
    storage, bucket = context.storage()
    await storage.head_bucket(bucket)
    require_kept(storage, metadata.tags)
    upload_id = await storage.create_multipart_upload(
        bucket, request.key, metadata=metadata, checksum=checksum
    )
    headers = {}
    if checksum is not None:
        headers = {ALGORITHM_HEADER: checksum.algorithm.upper(), TYPE_HEADER: checksum.type}
    return xml_response(
        xml.render_initiate_multipart_upload_result(request.bucket, request.key, upload_id),
        headers=headers,
    )


async def upload_part(context: RequestContext) -> S3Response:
    """PUT /bucket/key?partNumber&uploadId."""
    request = context.request
    part_number, upload_id = parse_part_number(request), upload_id_of(request)
    refuse_unsupported(request.headers)
    limit = min(MAX_SINGLE_PUT, context.pipeline.settings.advanced.max_object_size)
    payload = open_payload(request, context.principal, max_size=limit)
    storage, bucket = context.storage()
    chosen = (await storage.list_parts(bucket, request.key, upload_id, max_parts=0)).checksum
    if chosen is not None and payload.claimed not in (None, chosen.algorithm):
        raise type_mismatch(chosen.algorithm, payload.claimed or "null")
    payload.compute(DEFAULT_ALGORITHM if chosen is None else chosen.algorithm)
    part = await storage.upload_part(
        bucket,
        request.key,
        upload_id,
        part_number,
        payload,
        size=payload.size,
        checksum=lambda: payload.checksum,
    )
    headers = {"ETag": f'"{part.etag}"'}
    for algorithm, value in payload.checksums.items():
        headers[PREFIX + algorithm] = value
    return S3Response(headers=headers)


async def complete_multipart_upload(context: RequestContext) -> S3Response:
    """POST /bucket/key?uploadId."""
    request = context.request
    upload_id = upload_id_of(request)
    condition = conditions.write_condition(request.headers)
    payload = open_payload(request, context.principal, max_size=MAX_COMPLETE_BODY)
    storage, bucket = context.storage()
    # Refused before the client sends the body, if it waits for "100 Continue".
    await storage.head_bucket(bucket)
    if condition is not None:
        await _precheck(context, upload_id, condition)
    document = await read_limited(payload, MAX_COMPLETE_BODY)
    listed = await run_blocking(xml.parse_complete_multipart, document)
    xml.check_part_order([part.part_number for part in listed], upload_id)
    parts: Sequence[CompletedPart] = [
        CompletedPart(part_number=p.part_number, etag=p.etag, checksums=p.checksums) for p in listed
    ]
    checksum = await _claimed(context, upload_id)
    parts = await _with_sizes(context, upload_id, parts)

    async def complete() -> bytes:
        info = await storage.complete_multipart_upload(
            bucket, request.key, upload_id, parts, condition=condition, checksum=checksum
        )
        return xml.render_complete_multipart_upload_result(
            location_of(request),
            request.bucket,
            request.key,
            info.etag,
            stored_checksum(info),
        )

    return await slow_xml(complete, request)


async def _claimed(context: RequestContext, upload_id: str) -> Checksum | None:
    """What the client says the checksum of the object is.

    An upload may be older than the checksums that are kept of uploads. Nothing is then known of
    what its client chose, nor of some of its parts, and the claim is taken as it is: the storage
    computes what it does not know.

    Raises:
        InvalidRequest: Malformed, or of another algorithm or type than the upload.
    """
    headers = context.request.headers
    claims = checksum_headers_of(headers)
    if TYPE_HEADER not in headers and not claims:
        return None
    storage, bucket = context.storage()
    try:
        page = await storage.list_parts(bucket, context.request.key, upload_id, max_parts=0)
        chosen = page.checksum
        if chosen is None and claims and await _has_unknown_parts(context, upload_id):
            chosen = chosen_by_claim(headers)
    except NoSuchUpload:
        # Completed already, perhaps: the storage knows whether this is a repetition.
        return None
    return claim_for_object(headers, chosen or Checksum(algorithm=DEFAULT_ALGORITHM))


async def _has_unknown_parts(context: RequestContext, upload_id: str) -> bool:
    """Whether there is a part whose checksum nobody has stored. Raises ``NoSuchUpload``."""
    async with contextlib.aclosing(_parts_of(context, upload_id)) as parts:
        async for part in parts:
            if part.checksum is None:
                return True
    return False


async def _precheck(context: RequestContext, upload_id: str, condition: Condition) -> None:
    """Refuse early what the storage would refuse, but never the repetition of a success."""
    storage, bucket = context.storage()
    key = context.request.key
    try:
        await precheck(storage, bucket, key, condition)
    except (PreconditionFailed, NoSuchKey):
        try:
            await storage.list_parts(bucket, key, upload_id, max_parts=1)
        except NoSuchUpload:
            # Completed already, perhaps: the storage knows whether this is a repetition.
            return
        raise


async def _with_sizes(
    context: RequestContext, upload_id: str, parts: Sequence[CompletedPart]
) -> Sequence[CompletedPart]:
    """Hold the size of the whole against what the client announced and what is allowed.

    Returns:
        The parts; with their sizes if these had to be looked up.

    Raises:
        InvalidRequest: ``x-amz-mp-object-size`` differs.
        EntityTooLarge: The parts together exceed the largest object.
    """
    request = context.request
    announced = request.headers.get("x-amz-mp-object-size")
    if announced is not None and not _SIZE.fullmatch(announced):
        raise InvalidArgument(
            "x-amz-mp-object-size must be a number of bytes.",
            fields={"ArgumentName": "x-amz-mp-object-size", "ArgumentValue": announced},
        )
    limit = context.pipeline.settings.advanced.max_object_size
    if announced is None and len(parts) * min(MAX_SINGLE_PUT, limit) <= limit:
        return parts
    try:
        sizes = await _sizes_of(context, upload_id)
    except NoSuchUpload:
        # Completed already, perhaps: the storage knows whether this is a repetition.
        return parts
    sized = [replace(part, size=sizes.get(part.part_number)) for part in parts]
    size = sum(part.size or 0 for part in sized)
    if announced is not None and int(announced) != size:
        raise InvalidRequest(
            f"The provided 'x-amz-mp-object-size' header value {announced} does not match what "
            f"was computed: {size}"
        )
    if size > limit:
        raise EntityTooLarge(fields={"ProposedSize": str(size), "MaxSizeAllowed": str(limit)})
    return sized


async def _sizes_of(context: RequestContext, upload_id: str) -> dict[int, int]:
    return {part.part_number: part.size async for part in _parts_of(context, upload_id)}


async def _parts_of(context: RequestContext, upload_id: str) -> AsyncGenerator[PartInfo, None]:
    """All parts that have been uploaded, one page at a time. Raises ``NoSuchUpload``."""
    storage, bucket = context.storage()
    marker = 0
    while True:
        page = await storage.list_parts(
            bucket, context.request.key, upload_id, part_number_marker=marker, max_parts=1000
        )
        for part in page.parts:
            yield part
        if page.next_marker is None:
            return
        marker = page.next_marker


async def abort_multipart_upload(context: RequestContext) -> S3Response:
    """DELETE /bucket/key?uploadId."""
    request = context.request
    storage, bucket = context.storage()
    await storage.abort_multipart_upload(bucket, request.key, upload_id_of(request))
    return S3Response(status=204)


async def list_parts(context: RequestContext) -> S3Response:
    """GET /bucket/key?uploadId."""
    request = context.request
    upload_id = upload_id_of(request)
    max_parts = min(integer_param(request, "max-parts", 1000), 1000)
    marker = integer_param(request, "part-number-marker", 0)
    storage, bucket = context.storage()
    page = await storage.list_parts(
        bucket,
        request.key,
        upload_id,
        part_number_marker=marker,
        max_parts=max(max_parts, 1),
    )
    if max_parts == 0:
        page = PartPage()
    return xml_response(
        xml.render_list_parts_result(
            request.bucket,
            request.key,
            upload_id,
            page,
            part_number_marker=marker,
            max_parts=max_parts,
            encoding_type=encoding_type_of(request),
        )
    )


async def list_multipart_uploads(context: RequestContext) -> S3Response:
    """GET /bucket?uploads."""
    request = context.request
    max_uploads = min(integer_param(request, "max-uploads", 1000), 1000)
    prefix = request.param("prefix") or ""
    delimiter = request.param("delimiter") or ""
    key_marker = request.param("key-marker") or ""
    # An upload id marker without a key marker is ignored, as AWS documents.
    upload_id_marker = (request.param("upload-id-marker") or "") if key_marker else ""
    storage, bucket = context.storage()
    page = await storage.list_multipart_uploads(
        bucket,
        prefix=prefix,
        delimiter=delimiter,
        key_marker=key_marker,
        upload_id_marker=upload_id_marker,
        max_uploads=max(max_uploads, 1),
    )
    if max_uploads == 0:
        page = UploadPage()
    return xml_response(
        xml.render_list_multipart_uploads_result(
            request.bucket,
            page,
            prefix=prefix,
            delimiter=delimiter,
            key_marker=key_marker,
            upload_id_marker=upload_id_marker,
            max_uploads=max_uploads,
            encoding_type=encoding_type_of(request),
        )
    )
