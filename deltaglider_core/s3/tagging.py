"""Tags of objects and buckets: put, get, delete.

Source: AWS, "PutObjectTagging", "GetObjectTagging", "DeleteObjectTagging", and the same of buckets.
"""

from __future__ import annotations

from ..context import RequestContext
from ..services import run_blocking
from .payload import open_payload, read_limited
from .request_checks import require_digest
from .response import S3Response, xml_response
from .stored_configurations import delete_configuration, get_configuration, put_configuration
from .tags import (
    MAX_TAGGING_BODY,
    parse_bucket_tagging,
    parse_object_tagging,
    render_tagging,
    require_kept,
)

TAGGING = "tagging"


async def put_object_tagging(context: RequestContext) -> S3Response:
    """PUT /bucket/key?tagging: replace all tags."""
    request = context.request
    require_digest(request.headers)
    storage, bucket = context.storage()
    # Refused before the client sends the body, if it waits for "100 Continue".
    await storage.head_object(bucket, request.key)
    payload = open_payload(request, context.principal, max_size=MAX_TAGGING_BODY)
    document = await read_limited(payload, MAX_TAGGING_BODY)
    tags = await run_blocking(parse_object_tagging, document)
    require_kept(storage, tags)
    await storage.set_object_tags(bucket, request.key, tags)
    return S3Response()


async def get_object_tagging(context: RequestContext) -> S3Response:
    """GET /bucket/key?tagging; without tags an empty set."""
    storage, bucket = context.storage()
    return xml_response(render_tagging(await storage.get_object_tags(bucket, context.request.key)))


async def delete_object_tagging(context: RequestContext) -> S3Response:
    """DELETE /bucket/key?tagging."""
    storage, bucket = context.storage()
    await storage.set_object_tags(bucket, context.request.key, {})
    return S3Response(status=204)


async def put_bucket_tagging(context: RequestContext) -> S3Response:
    """PUT /bucket?tagging: replace all tags."""

    def normalised(document: bytes) -> str:
        return render_tagging(parse_bucket_tagging(document)).decode()

    await put_configuration(context, TAGGING, normalised, max_size=MAX_TAGGING_BODY)
    return S3Response(status=204)


async def get_bucket_tagging(context: RequestContext) -> S3Response:
    """GET /bucket?tagging."""
    return await get_configuration(context, TAGGING, "NoSuchTagSet", "The TagSet does not exist")


async def delete_bucket_tagging(context: RequestContext) -> S3Response:
    """DELETE /bucket?tagging."""
    await delete_configuration(context, TAGGING)
    return S3Response(status=204)
