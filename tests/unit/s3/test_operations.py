"""From the shape of a request to the name of its operation."""

from __future__ import annotations

import pytest

from deltaglider_core.s3.handlers import HANDLERS
from deltaglider_core.s3.operations import ACTIONS, OPEN_OPERATIONS, find_operation

COPY = {"x-amz-copy-source": "b/k"}


@pytest.mark.parametrize(
    ("method", "bucket", "key", "query", "headers", "operation"),
    [
        ("GET", "", "", [], {}, "list_buckets"),
        ("HEAD", "", "", [], {}, "head_service"),
        ("POST", "", "", [], {}, "method_not_allowed"),
        ("OPTIONS", "b", "k", [], {}, "cors_preflight"),
        ("GET", "b", "", [], {}, "list_objects"),
        ("GET", "b", "", [("list-type", "2")], {}, "list_objects_v2"),
        ("GET", "b", "", [("list-type", "1")], {}, "list_objects"),
        ("GET", "b", "", [("delimiter", "/")], {}, "list_objects"),
        ("GET", "b", "", [("location", "")], {}, "get_bucket_location"),
        ("GET", "b", "", [("uploads", "")], {}, "list_multipart_uploads"),
        ("GET", "b", "", [("acl", "")], {}, "get_acl"),
        ("GET", "b", "", [("policy", "")], {}, "get_bucket_configuration"),
        ("GET", "b", "", [("versioning", "")], {}, "get_bucket_configuration"),
        ("PUT", "b", "", [("versioning", "")], {}, "put_bucket_configuration"),
        ("GET", "b", "", [("versions", "")], {}, "list_object_versions"),
        ("HEAD", "b", "", [], {}, "head_bucket"),
        ("PUT", "b", "", [], {}, "create_bucket"),
        ("PUT", "b", "", [("x-id", "CreateBucket")], {}, "create_bucket"),
        ("DELETE", "b", "", [], {}, "delete_bucket"),
        ("DELETE", "b", "", [("policy", "")], {}, "delete_bucket_configuration"),
        ("PUT", "b", "", [("policy", "")], {}, "not_implemented"),
        ("GET", "b", "", [("requestPayment", "")], {}, "get_bucket_configuration"),
        ("GET", "b", "", [("metrics", ""), ("id", "1")], {}, "get_bucket_configuration"),
        ("PUT", "b", "", [("acl", "")], {}, "put_acl"),
        ("DELETE", "b", "", [("ownershipControls", "")], {}, "not_implemented"),
        ("POST", "b", "", [("delete", "")], {}, "delete_objects"),
        ("POST", "b", "", [], {}, "post_object"),
        ("PATCH", "b", "", [], {}, "method_not_allowed"),
        ("GET", "b", "k", [], {}, "get_object"),
        ("GET", "b", "k", [("x-id", "GetObject")], {}, "get_object"),
        ("HEAD", "b", "k", [], {}, "head_object"),
        ("PUT", "b", "k", [], {}, "put_object"),
        ("PUT", "b", "k", [], COPY, "copy_object"),
        ("DELETE", "b", "k", [], {}, "delete_object"),
        ("GET", "b", "k", [("tagging", "")], {}, "get_object_tagging"),
        ("PUT", "b", "k", [("tagging", ""), ("versionId", "null")], {}, "put_object_tagging"),
        ("DELETE", "b", "k", [("tagging", "")], {}, "delete_object_tagging"),
        ("POST", "b", "k", [("tagging", "")], {}, "not_implemented"),
        ("GET", "b", "", [("tagging", "")], {}, "get_bucket_tagging"),
        ("DELETE", "b", "", [("tagging", "")], {}, "delete_bucket_tagging"),
        ("PUT", "b", "", [("cors", "")], {}, "put_bucket_cors"),
        ("POST", "b", "", [("cors", "")], {}, "not_implemented"),
        ("PUT", "b", "k", [("acl", "")], {}, "put_acl"),
        ("GET", "b", "k", [("attributes", "")], {}, "get_object_attributes"),
        ("PUT", "b", "k", [("attributes", "")], {}, "not_implemented"),
        ("POST", "b", "k", [], {}, "method_not_allowed"),
        ("POST", "b", "k", [("uploads", "")], {}, "create_multipart_upload"),
        ("PUT", "b", "k", [("partNumber", "1"), ("uploadId", "u")], {}, "upload_part"),
        ("PUT", "b", "k", [("partNumber", "1"), ("uploadId", "u")], COPY, "upload_part_copy"),
        ("GET", "b", "k", [("uploadId", "u")], {}, "list_parts"),
        ("POST", "b", "k", [("uploadId", "u")], {}, "complete_multipart_upload"),
        ("DELETE", "b", "k", [("uploadId", "u")], {}, "abort_multipart_upload"),
        ("DELETE", "b", "k", [("uploadId", "")], {}, "abort_multipart_upload"),
    ],
)
def test_find_operation(method, bucket, key, query, headers, operation) -> None:  # type: ignore[no-untyped-def]
    assert find_operation(method, bucket, key, query, headers) == operation


def test_every_operation_has_a_handler_and_a_permission() -> None:
    assert set(HANDLERS) == set(ACTIONS) | OPEN_OPERATIONS
    assert not set(ACTIONS) & OPEN_OPERATIONS
