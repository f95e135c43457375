"""Operation name to the function that serves it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from ..context import RequestContext
from . import buckets, copying, listing, multipart, objects
from .response import S3Response

Handler = Callable[[RequestContext], Awaitable[S3Response]]

HANDLERS: Mapping[str, Handler] = {
    function.__name__: function
    for function in (
        buckets.cors_preflight,
        buckets.create_bucket,
        buckets.delete_bucket,
        buckets.get_acl,
        buckets.get_bucket_configuration,
        buckets.get_bucket_location,
        buckets.head_bucket,
        buckets.head_service,
        buckets.list_buckets,
        buckets.method_not_allowed,
        buckets.not_implemented,
        copying.copy_object,
        copying.upload_part_copy,
        listing.list_objects,
        listing.list_objects_v2,
        multipart.abort_multipart_upload,
        multipart.complete_multipart_upload,
        multipart.create_multipart_upload,
        multipart.list_multipart_uploads,
        multipart.list_parts,
        multipart.upload_part,
        objects.delete_object,
        objects.delete_objects,
        objects.get_object,
        objects.head_object,
        objects.put_object,
    )
}
