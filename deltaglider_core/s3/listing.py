"""ListObjects, versions 1 and 2, and ListObjectVersions.

Source: AWS, "ListObjects", "ListObjectsV2", "ListObjectVersions".
"""

from __future__ import annotations

import base64
import binascii

from ..context import RequestContext, S3Request
from ..errors import InvalidArgument
from ..interfaces.storage import ObjectPage
from . import xml
from .request_checks import NULL_VERSION, invalid_version
from .response import S3Response, xml_response
from .xml_versions import render_list_versions

#: Most entries of a page; more is asked for in vain, as on AWS.
MAX_KEYS = 1000
MAX_INTEGER = 2**31 - 1
#: First byte of a continuation token: its version.
TOKEN_VERSION = b"\x01"


def integer_param(request: S3Request, name: str, default: int) -> int:
    """A query value that is a whole number, at least 0. Raises ``InvalidArgument``."""
    value = request.param(name)
    if value is None or value == "":
        return default
    # The length first: int() refuses thousands of digits with an error of its own.
    if value.isascii() and value.isdigit() and len(value) <= 10 and int(value) <= MAX_INTEGER:
        return int(value)
    if value.startswith("-") and value[1:].isascii() and value[1:].isdigit():
        text = f"Argument {name} must be an integer between 0 and {MAX_INTEGER}"
    else:
        text = f"Provided {name} not an integer or within integer range"
    raise InvalidArgument(text, fields={"ArgumentName": name, "ArgumentValue": value})


def encode_token(start_after: str) -> str:
    """An opaque continuation token."""
    return base64.urlsafe_b64encode(TOKEN_VERSION + start_after.encode()).decode("ascii")


def decode_token(token: str) -> str:
    """The entry behind a token. Raises ``InvalidArgument``."""
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        if raw[:1] != TOKEN_VERSION:
            raise ValueError("version")
        return raw[1:].decode("utf-8")
    except (UnicodeError, binascii.Error, ValueError):
        raise InvalidArgument(
            "The continuation token provided is incorrect",
            fields={"ArgumentName": "continuation-token", "ArgumentValue": token},
        ) from None


def encoding_type_of(request: S3Request) -> str | None:
    """``encoding-type``: ``url`` or nothing. Raises ``InvalidArgument``."""
    value = request.param("encoding-type")
    if value in (None, "", "url"):
        return value or None
    raise InvalidArgument(
        "Invalid Encoding Method specified in Request",
        fields={"ArgumentName": "encoding-type", "ArgumentValue": value or ""},
    )


async def _page(
    context: RequestContext, *, prefix: str, delimiter: str, start_after: str, max_keys: int
) -> ObjectPage:
    storage, bucket = context.storage()
    if max_keys == 0:
        await storage.head_bucket(bucket)
        return ObjectPage()
    return await storage.list_objects(
        bucket, prefix=prefix, delimiter=delimiter, start_after=start_after, max_keys=max_keys
    )


async def list_objects(context: RequestContext) -> S3Response:
    """GET /bucket, version 1."""
    request = context.request
    max_keys = min(integer_param(request, "max-keys", MAX_KEYS), MAX_KEYS)
    encoding_type = encoding_type_of(request)
    prefix = request.param("prefix") or ""
    delimiter = request.param("delimiter") or ""
    marker = request.param("marker") or ""
    page = await _page(
        context, prefix=prefix, delimiter=delimiter, start_after=marker, max_keys=max_keys
    )
    return xml_response(
        xml.render_list_objects(
            request.bucket,
            page,
            prefix=prefix,
            delimiter=delimiter,
            marker=marker,
            max_keys=max_keys,
            encoding_type=encoding_type,
        )
    )


async def list_objects_v2(context: RequestContext) -> S3Response:
    """GET /bucket?list-type=2."""
    request = context.request
    max_keys = min(integer_param(request, "max-keys", MAX_KEYS), MAX_KEYS)
    encoding_type = encoding_type_of(request)
    prefix = request.param("prefix") or ""
    delimiter = request.param("delimiter") or ""
    start_after = request.param("start-after") or ""
    token = request.param("continuation-token")
    if token == "":
        raise InvalidArgument(
            "The continuation token provided is incorrect",
            fields={"ArgumentName": "continuation-token", "ArgumentValue": ""},
        )
    after = start_after if token is None else decode_token(token)
    page = await _page(
        context, prefix=prefix, delimiter=delimiter, start_after=after, max_keys=max_keys
    )
    return xml_response(
        xml.render_list_objects_v2(
            request.bucket,
            page,
            prefix=prefix,
            delimiter=delimiter,
            start_after=start_after,
            continuation_token=token,
            next_token=None if page.next_after is None else encode_token(page.next_after),
            max_keys=max_keys,
            encoding_type=encoding_type,
            fetch_owner=request.param("fetch-owner") == "true",
        )
    )


async def list_object_versions(context: RequestContext) -> S3Response:
    """GET /bucket?versions: of every object its only version."""
    request = context.request
    max_keys = min(integer_param(request, "max-keys", MAX_KEYS), MAX_KEYS)
    encoding_type = encoding_type_of(request)
    prefix = request.param("prefix") or ""
    delimiter = request.param("delimiter") or ""
    key_marker = request.param("key-marker") or ""
    version_id_marker = request.param("version-id-marker") or ""
    if version_id_marker and not key_marker:
        raise InvalidArgument(
            "A version-id marker cannot be specified without a key marker.",
            fields={"ArgumentName": "version-id-marker", "ArgumentValue": version_id_marker},
        )
    if version_id_marker not in ("", NULL_VERSION):
        raise invalid_version(version_id_marker, name="version-id-marker")
    # After the only version of a key comes the next key, whether that version is named or not.
    page = await _page(
        context, prefix=prefix, delimiter=delimiter, start_after=key_marker, max_keys=max_keys
    )
    return xml_response(
        render_list_versions(
            request.bucket,
            page,
            prefix=prefix,
            delimiter=delimiter,
            key_marker=key_marker,
            version_id_marker=version_id_marker,
            max_keys=max_keys,
            encoding_type=encoding_type,
        )
    )
