"""Configurations of a bucket that clients can set: what their operations have in common."""

from __future__ import annotations

from collections.abc import Callable

from ..context import RequestContext
from ..errors import NoSuchBucketConfiguration, NotImplementedS3
from ..interfaces.configurations import BucketConfigurations
from ..services import run_blocking
from .payload import open_payload, read_limited
from .request_checks import require_digest
from .response import S3Response, xml_response


async def get_configuration(
    context: RequestContext, name: str, code: str, message: str
) -> S3Response:
    """Answer with the document that the bucket has under a name.

    Args:
        code, message: Of the error where there is none.

    Raises:
        NoSuchBucket, NoSuchBucketConfiguration
    """
    storage, bucket = context.storage()
    await storage.head_bucket(bucket)
    configurations = context.pipeline.configurations
    # Without a state database nothing was ever set.
    document = None if configurations is None else await configurations.get(bucket, name)
    if document is None:
        raise NoSuchBucketConfiguration(
            code, message, fields={"BucketName": context.request.bucket}
        )
    return xml_response(document.encode())


async def put_configuration(
    context: RequestContext, name: str, normalised: Callable[[bytes], str], *, max_size: int
) -> None:
    """Read the document of the request, check it, and store it under a name.

    Args:
        normalised: Raises for what cannot be stored; runs on a worker thread.
        max_size: Of the document, in bytes.

    Raises:
        NoSuchBucket, EntityTooLarge
        InvalidRequest: The document comes without a digest.
        NotImplementedS3: There is no state database.
    """
    require_digest(context.request.headers)
    storage, bucket = context.storage()
    # Refused before the client sends the body, if it waits for "100 Continue".
    await storage.head_bucket(bucket)
    configurations = _configurations(context)
    payload = open_payload(context.request, context.principal, max_size=max_size)
    document = await run_blocking(normalised, await read_limited(payload, max_size))
    await configurations.put(bucket, name, document)


async def delete_configuration(context: RequestContext, name: str) -> None:
    """Remove what the bucket has under a name, which may be nothing.

    Raises:
        NoSuchBucket
        NotImplementedS3: There is no state database.
    """
    storage, bucket = context.storage()
    await storage.head_bucket(bucket)
    await _configurations(context).put(bucket, name, None)


def _configurations(context: RequestContext) -> BucketConfigurations:
    found = context.pipeline.configurations
    if found is None:
        raise NotImplementedS3(
            "Configurations of buckets are kept in the state database, and this service runs "
            "without one."
        )
    return found
