"""Object metadata between HTTP headers and storage.

Source: AWS, "PutObject", "GetObject" and "Working with object metadata".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..context import S3Request
from ..errors import (
    InvalidArgument,
    InvalidStorageClass,
    MetadataTooLarge,
    NotImplementedS3,
)
from ..interfaces.storage import STORED_HEADERS, ObjectInfo, ObjectMetadata
from .acl import check_acl_headers
from .response import is_sendable
from .tags import TAGGING_HEADER, parse_tagging_header
from .xml import http_date

USER_PREFIX = "x-amz-meta-"
#: AWS: names without the prefix plus values, in bytes of UTF-8.
MAX_USER_METADATA_BYTES = 2048
#: AWS limits all request headers together to 8 KB; what we store of them stays below that.
MAX_STORED_HEADER_BYTES = 8192

#: What AWS answers where the client named no type.
DEFAULT_CONTENT_TYPE = "binary/octet-stream"

#: ``response-*`` query parameters of GET and HEAD, and the header each one replaces.
OVERRIDES = {
    "response-content-type": "Content-Type",
    "response-content-language": "Content-Language",
    "response-expires": "Expires",
    "response-cache-control": "Cache-Control",
    "response-content-disposition": "Content-Disposition",
    "response-content-encoding": "Content-Encoding",
}

_STORAGE_CLASSES = frozenset(
    {
        "STANDARD",
        "REDUCED_REDUNDANCY",
        "STANDARD_IA",
        "ONEZONE_IA",
        "INTELLIGENT_TIERING",
        "GLACIER",
        "DEEP_ARCHIVE",
        "OUTPOSTS",
        "GLACIER_IR",
        "SNOW",
        "EXPRESS_ONEZONE",
    }
)
_UNSUPPORTED_HEADERS = (
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-object-lock-legal-hold",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-server-side-encryption-context",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-website-redirect-location",
    "x-amz-write-offset-bytes",
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def refuse_unsupported(headers: Mapping[str, str]) -> None:
    """Raise where a header asks for something this service would silently not do."""
    for name in _UNSUPPORTED_HEADERS:
        if name in headers:
            raise NotImplementedS3(
                f"The header {name} is not supported by this service.",
                fields={"Header": name},
            )
    storage_class = headers.get("x-amz-storage-class", "STANDARD")
    if storage_class not in _STORAGE_CLASSES:
        raise InvalidStorageClass(fields={"StorageClassRequested": storage_class})
    if storage_class != "STANDARD":
        raise NotImplementedS3(
            f"The storage class {storage_class} is not supported; objects are STANDARD.",
            fields={"Header": "x-amz-storage-class"},
        )
    check_acl_headers(headers)


def metadata_of_request(request: S3Request) -> ObjectMetadata:
    """Read the metadata that a write carries, and give the write its id.

    Raises:
        MetadataTooLarge: User metadata above 2 KB.
        InvalidArgument: A value that no response header could carry.
        InvalidTag, BadRequest: Tags that an object cannot have.
    """
    stored: dict[str, str] = {}
    for name in STORED_HEADERS:
        value = request.headers.get(name)
        if value is None:
            continue
        if name == "content-encoding":
            # "aws-chunked" describes the transfer, not the object.
            codings = [coding.strip() for coding in value.split(",")]
            if "aws-chunked" in map(str.lower, codings):
                value = ",".join(c for c in codings if c and c.lower() != "aws-chunked")
        value = value.strip()
        if value:
            stored[name] = _checked(name, value)
    user: dict[str, str] = {}
    for name, value in request.headers.items():
        if name.startswith(USER_PREFIX) and len(name) > len(USER_PREFIX):
            user[name[len(USER_PREFIX) :]] = _checked(name, value.strip())
    size = _bytes_of(user)
    if size > MAX_USER_METADATA_BYTES:
        raise MetadataTooLarge(
            fields={"Size": str(size), "MaxSizeAllowed": str(MAX_USER_METADATA_BYTES)}
        )
    if _bytes_of(stored) > MAX_STORED_HEADER_BYTES:
        raise MetadataTooLarge(
            fields={"Size": str(_bytes_of(stored)), "MaxSizeAllowed": str(MAX_STORED_HEADER_BYTES)}
        )
    return ObjectMetadata(headers=stored, user=user, tags=tags_of_request(request))


def tags_of_request(request: S3Request) -> dict[str, str]:
    """Read ``x-amz-tagging``. Raises ``InvalidArgument``, ``InvalidTag``, ``BadRequest``."""
    return parse_tagging_header(request.headers.get(TAGGING_HEADER, ""))


def _checked(name: str, value: str) -> str:
    if _CONTROL.search(value):
        raise InvalidArgument(
            f"The value of {name} holds a control character.",
            fields={"ArgumentName": name},
        )
    return value


def _bytes_of(pairs: Mapping[str, str]) -> int:
    return sum(len(name.encode()) + len(value.encode()) for name, value in pairs.items())


def object_headers(request: S3Request, info: ObjectInfo) -> dict[str, str]:
    """Headers of a GET or HEAD, without length and range.

    Stored text that no header can carry, which only other writers of the storage leave, is
    left out; user metadata of this kind is counted in ``x-amz-missing-meta``, as on AWS.
    """
    metadata = info.metadata or ObjectMetadata()
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Type": DEFAULT_CONTENT_TYPE,
        "ETag": f'"{info.etag}"',
        "Last-Modified": http_date(info.last_modified),
    }
    for name, value in metadata.headers.items():
        if value and is_sendable(name, value):
            headers[name.title()] = value
    missing = 0
    for name, value in metadata.user.items():
        if name and is_sendable(name, value):
            headers[USER_PREFIX + name] = value
        else:
            missing += 1
    if missing:
        headers["x-amz-missing-meta"] = str(missing)
    if metadata.tags:
        headers["x-amz-tagging-count"] = str(len(metadata.tags))
    for name, header in OVERRIDES.items():
        override = request.param(name)
        if override:
            headers[header] = _checked(name, override)
    return headers
