"""Bucket and service operations.

Source: AWS, "ListBuckets", "CreateBucket", "HeadBucket", "DeleteBucket", "GetBucketLocation".
"""

from __future__ import annotations

from ..context import RequestContext
from ..errors import (
    ClientError,
    InvalidArgument,
    MethodNotAllowed,
    NoSuchBucketConfiguration,
    NotImplementedS3,
)
from ..interfaces.auth import Action
from ..interfaces.storage import BucketInfo
from . import xml
from .listing import decode_token, encode_token, integer_param
from .object_headers import refuse_unsupported_acl
from .operations import BUCKET_SUBRESOURCES, EMPTY_CONFIGURATIONS, EMPTY_DOCUMENTS, subresource_of
from .payload import read_optional
from .response import S3Response, xml_response

REGION = "us-east-1"
MAX_BUCKETS = 10_000
#: A CreateBucketConfiguration is a few hundred bytes.
MAX_CREATE_BODY = 64 * 1024


class AccessForbidden(ClientError):
    """What AWS answers to a preflight request that no CORS rule admits."""

    code, status = "AccessForbidden", 403
    message = "CORSResponse: CORS is not enabled for this bucket."


async def list_buckets(context: RequestContext) -> S3Response:
    """GET /: the buckets that the caller may list."""
    request = context.request
    max_buckets = integer_param(request, "max-buckets", MAX_BUCKETS)
    if not 1 <= max_buckets <= MAX_BUCKETS:
        raise InvalidArgument(
            f"Argument max-buckets must be an integer between 1 and {MAX_BUCKETS}",
            fields={"ArgumentName": "max-buckets", "ArgumentValue": str(max_buckets)},
        )
    prefix = request.param("prefix") or ""
    token = request.param("continuation-token")
    after = "" if token is None else decode_token(token)
    visible: list[BucketInfo] = []
    for storage in context.pipeline.backends.values():
        visible += [
            bucket
            for bucket in await storage.list_buckets()
            if bucket.name > after
            and bucket.name.startswith(prefix)
            and context.allowed(Action.LIST, bucket.name)
        ]
    visible.sort(key=lambda bucket: bucket.name)
    page = visible[:max_buckets]
    next_token = encode_token(page[-1].name) if len(visible) > max_buckets else None
    return xml_response(
        xml.render_list_buckets(page, region=REGION, prefix=prefix, next_token=next_token)
    )


async def head_service(context: RequestContext) -> S3Response:
    """HEAD /: some clients probe whether there is a server."""
    return S3Response()


async def cors_preflight(context: RequestContext) -> S3Response:
    """OPTIONS: no bucket has CORS rules."""
    raise AccessForbidden


async def create_bucket(context: RequestContext) -> S3Response:
    """PUT /bucket. A location constraint is read and ignored: there is one region."""
    request = context.request
    refuse_unsupported_acl(request.headers)
    if request.headers.get("x-amz-bucket-object-lock-enabled", "false").lower() == "true":
        raise NotImplementedS3("Object Lock is not supported by this service.")
    document = await read_optional(request, context.principal, MAX_CREATE_BODY)
    if document.strip():
        xml.parse_create_bucket(document)
    storage, bucket = context.storage()
    await storage.create_bucket(bucket)
    return S3Response(headers={"Location": f"/{request.bucket}"})


async def head_bucket(context: RequestContext) -> S3Response:
    """HEAD /bucket."""
    storage, bucket = context.storage()
    await storage.head_bucket(bucket)
    return S3Response(headers={"x-amz-bucket-region": REGION})


async def delete_bucket(context: RequestContext) -> S3Response:
    """DELETE /bucket: only an empty one."""
    storage, bucket = context.storage()
    await storage.delete_bucket(bucket)
    return S3Response(status=204)


async def get_bucket_location(context: RequestContext) -> S3Response:
    """GET /bucket?location: empty means us-east-1."""
    storage, bucket = context.storage()
    await storage.head_bucket(bucket)
    return xml_response(xml.render_empty("LocationConstraint"))


async def get_bucket_configuration(context: RequestContext) -> S3Response:
    """GET of a bucket configuration: what AWS answers where none was ever set."""
    storage, bucket = context.storage()
    await storage.head_bucket(bucket)
    names = {name for name, _ in context.request.query}
    subresource = subresource_of(names, BUCKET_SUBRESOURCES) or ""
    if subresource in EMPTY_DOCUMENTS:
        return xml_response(xml.render_empty(EMPTY_DOCUMENTS[subresource]))
    raise NoSuchBucketConfiguration(*EMPTY_CONFIGURATIONS[subresource])


async def get_acl(context: RequestContext) -> S3Response:
    """GET ?acl of a bucket or object: its owner has full control, nobody else has any."""
    storage, bucket = context.storage()
    if context.request.key:
        await storage.head_object(bucket, context.request.key)
    else:
        await storage.head_bucket(bucket)
    return xml_response(xml.render_acl())


async def not_implemented(context: RequestContext) -> S3Response:
    """S3 that this service does not have: first 404 for what is absent, then 501."""
    storage, bucket = context.storage()
    if context.request.key and context.request.method == "GET":
        await storage.head_object(bucket, context.request.key)
    else:
        await storage.head_bucket(bucket)
    raise NotImplementedS3(
        f"{context.request.method} of this subresource is not supported by this service."
    )


async def method_not_allowed(context: RequestContext) -> S3Response:
    """No S3 operation has this method."""
    raise MethodNotAllowed(fields={"Method": context.request.method})
