"""What is checked of every request: version, owner, overrides, digest, access control."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deltaglider_core.context import S3Request
from deltaglider_core.errors import (
    AccessControlListNotSupported,
    AccessDenied,
    InvalidArgument,
    InvalidRequest,
)
from deltaglider_core.s3.acl import check_acl_headers
from deltaglider_core.s3.request_checks import check_request, require_digest
from deltaglider_core.s3.xml import OWNER_ID

SIGNED = ("authorization", "AWS4-HMAC-SHA256 ...")
OWNER = "x-amz-expected-bucket-owner"


@pytest.mark.parametrize(
    ("operation", "target", "headers"),
    [
        ("get_object", "/b/k", []),
        ("get_object", "/b/k?versionId=null", []),
        ("delete_object", "/b/k?versionId=null", []),
        ("get_object", "/b/k?response-expires=x", [SIGNED]),
        ("get_object", "/b/k?response-expires=x&X-Amz-Signature=x", []),
        ("get_object", "/b/k", [(OWNER, OWNER_ID)]),
        ("create_bucket", "/b", [(OWNER, "other")]),
        ("list_buckets", "/", [(OWNER, "other")]),
        ("list_objects", "/b?versionId=x&response-expires=x", []),
        ("get_object", "/b/k", [("x-amz-request-payer", "requester"), ("x-amz-mfa", "1 2")]),
    ],
)
def test_accepted(
    make_request: Callable[..., S3Request],
    operation: str,
    target: str,
    headers: list[tuple[str, str]],
) -> None:
    check_request(make_request("GET", target, headers, operation=operation))


@pytest.mark.parametrize(
    ("operation", "target", "headers", "error"),
    [
        ("get_object", "/b/k?versionId=abc", [], InvalidArgument),
        ("get_object_tagging", "/b/k?tagging&versionId=abc", [], InvalidArgument),
        ("head_object", "/b/k?versionId", [], InvalidArgument),
        ("put_object", "/b/k?versionId=null", [], InvalidArgument),
        ("upload_part_copy", "/b/k?versionId=null", [], InvalidArgument),
        ("get_object", "/b/k?response-expires=x", [], InvalidRequest),
        ("head_object", "/b/k?response-content-type=x", [], InvalidRequest),
        ("get_object", "/b/k", [(OWNER, "123456789012")], AccessDenied),
        ("delete_bucket", "/b", [(OWNER, "")], AccessDenied),
    ],
)
def test_refused(
    make_request: Callable[..., S3Request],
    operation: str,
    target: str,
    headers: list[tuple[str, str]],
    error: type[Exception],
) -> None:
    with pytest.raises(error):
        check_request(make_request("GET", target, headers, operation=operation))


@pytest.mark.parametrize(
    "headers",
    [
        {"content-md5": "x"},
        {"x-amz-checksum-crc32": "x"},
        {"x-amz-checksum-sha256": "x", "x-amz-checksum-type": "COMPOSITE"},
        {"x-amz-trailer": "x-amz-checksum-crc32"},
    ],
)
def test_digests(headers: dict[str, str]) -> None:
    require_digest(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-amz-content-sha256": "a" * 64},
        {"x-amz-sdk-checksum-algorithm": "CRC32"},
        {"x-amz-checksum-algorithm": "CRC32", "x-amz-checksum-type": "FULL_OBJECT"},
    ],
)
def test_what_is_no_digest(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="Content-MD5 OR x-amz-checksum"):
        require_digest(headers)


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({}, False),
        ({"x-amz-acl": "private"}, True),
        ({"x-amz-acl": "bucket-owner-read"}, True),
        ({"x-amz-grant-full-control": f'id="{OWNER_ID}"'}, True),
        ({"x-amz-grant-full-control": f" id = {OWNER_ID} "}, True),
    ],
)
def test_private_lists(headers: dict[str, str], named: bool) -> None:
    assert check_acl_headers(headers) is named


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"x-amz-acl": "public-read"}, AccessControlListNotSupported),
        ({"x-amz-acl": "Private"}, InvalidArgument),
        ({"x-amz-acl": ""}, InvalidArgument),
        ({"x-amz-grant-read": f'id="{OWNER_ID}"'}, AccessControlListNotSupported),
        ({"x-amz-grant-full-control": 'id="other"'}, AccessControlListNotSupported),
        (
            {"x-amz-grant-full-control": f'id="{OWNER_ID}", id="other"'},
            AccessControlListNotSupported,
        ),
        (
            {"x-amz-acl": "private", "x-amz-grant-full-control": f'id="{OWNER_ID}"'},
            InvalidRequest,
        ),
    ],
)
def test_lists_that_share(headers: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error):
        check_acl_headers(headers)
