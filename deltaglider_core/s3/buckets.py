"""Bucket and service operations.

Source: AWS, "ListBuckets", "CreateBucket", "HeadBucket", "DeleteBucket", "GetBucketLocation".
"""

from __future__ import annotations

from ..context import RequestContext
from ..errors import (
    InvalidArgument,
    MethodNotAllowed,
    NotImplementedS3,
)
from ..interfaces.auth import Action
from ..interfaces.storage import BucketInfo
from . import xml
from .acl import check_acl_headers
from .listing import decode_token, encode_token, integer_param
from .operations import BUCKET_SUBRESOURCES, OBJECT_SUBRESOURCES, subresource_of
from .payload import read_optional
from .response import S3Response, xml_response

REGION = "us-east-1"
MAX_BUCKETS = 10_000
#: A CreateBucketConfiguration is a few hundred bytes.
MAX_CREATE_BODY = 64 * 1024

_METHODS = {
    "SERVICE": ("GET", "HEAD"),
    "BUCKET": ("DELETE", "GET", "HEAD", "POST", "PUT"),
    "OBJECT": ("DELETE", "GET", "HEAD", "POST", "PUT"),
}


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
    after = decode_token(token) if token else ""
    region = request.param("bucket-region") or REGION
    visible: list[BucketInfo] = []
    for storage in context.pipeline.backends.values():
        visible += [
            bucket
            for bucket in await storage.list_buckets()
            if region == REGION
            and bucket.name > after
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


async def create_bucket(context: RequestContext) -> S3Response:
    """PUT /bucket. A location constraint is read and ignored: there is one region."""
    request = context.request
    check_acl_headers(request.headers)
    ownership = request.headers.get("x-amz-object-ownership", "BucketOwnerEnforced")
    if ownership != "BucketOwnerEnforced":
        raise NotImplementedS3(
            f"The object ownership {ownership!r} is not supported: it is BucketOwnerEnforced.",
            fields={"Header": "x-amz-object-ownership"},
        )
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
    return S3Response(
        headers={
            "Content-Type": "application/xml",
            "x-amz-bucket-region": REGION,
            "x-amz-access-point-alias": "false",
        }
    )


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


async def not_implemented(context: RequestContext) -> S3Response:
    """S3 that this service does not have: first 404 for what is absent, then 501."""
    storage, bucket = context.storage()
    if context.request.key and context.request.method == "GET":
        await storage.head_object(bucket, context.request.key)
    else:
        await storage.head_bucket(bucket)
    known = OBJECT_SUBRESOURCES if context.request.key else BUCKET_SUBRESOURCES
    subresource = subresource_of({name for name, _ in context.request.query}, known)
    what = f"?{subresource}" if subresource else "this resource"
    raise NotImplementedS3(
        f"{context.request.method} of {what} is not implemented by this service."
    )


async def method_not_allowed(context: RequestContext) -> S3Response:
    """No S3 operation has this method."""
    request = context.request
    kind = "OBJECT" if request.key else "BUCKET" if request.bucket else "SERVICE"
    allowed = [name for name in _METHODS[kind] if name != request.method]
    raise MethodNotAllowed(
        fields={"Method": request.method, "ResourceType": kind},
        headers={"Allow": ", ".join(allowed)},
    )
