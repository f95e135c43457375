"""Operation name to the function that serves it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from ..context import RequestContext
from . import (
    acl,
    attributes,
    buckets,
    copying,
    cors,
    fixed_configurations,
    listing,
    multipart,
    objects,
    post_object,
    tagging,
)
from .response import S3Response

Handler = Callable[[RequestContext], Awaitable[S3Response]]

HANDLERS: Mapping[str, Handler] = {
    function.__name__: function
    for function in (
        acl.get_acl,
        acl.put_acl,
        attributes.get_object_attributes,
        fixed_configurations.delete_bucket_configuration,
        fixed_configurations.get_bucket_configuration,
        fixed_configurations.put_bucket_configuration,
        buckets.create_bucket,
        buckets.delete_bucket,
        buckets.get_bucket_location,
        buckets.head_bucket,
        buckets.head_service,
        buckets.list_buckets,
        buckets.method_not_allowed,
        buckets.not_implemented,
        copying.copy_object,
        copying.upload_part_copy,
        cors.cors_preflight,
        cors.delete_bucket_cors,
        cors.get_bucket_cors,
        cors.put_bucket_cors,
        listing.list_object_versions,
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
        post_object.post_object,
        tagging.delete_bucket_tagging,
        tagging.delete_object_tagging,
        tagging.get_bucket_tagging,
        tagging.get_object_tagging,
        tagging.put_bucket_tagging,
        tagging.put_object_tagging,
    )
}
