"""What is checked of a request whatever its operation: version, owner, digest.

Source: AWS, Amazon S3 API Reference, "Common request headers", "GetObject" (``versionId``,
``x-amz-expected-bucket-owner``, overriding response header values), "DeleteObjects".
"""

from __future__ import annotations

from collections.abc import Mapping

from ..context import S3Request
from ..errors import AccessDenied, InvalidArgument, InvalidRequest
from .xml_output import OWNER_ID

#: The version of every object in a bucket that was never versioned.
NULL_VERSION = "null"

#: Operations that write what becomes a version, and so cannot name one.
_NO_VERSION = frozenset({"put_object", "copy_object", "upload_part", "upload_part_copy"})
#: Headers that say something about a checksum without being one.
_ABOUT_CHECKSUMS = frozenset({"x-amz-checksum-algorithm", "x-amz-checksum-type"})


def check_request(request: S3Request) -> None:
    """Refuse what no operation may take on.

    ``x-amz-request-payer`` and ``x-amz-mfa`` need no answer: nobody is charged, and without
    versions there is nothing that MFA Delete would protect.

    Raises:
        InvalidArgument: A version other than ``null``.
        AccessDenied: The bucket belongs to somebody else than the client expects.
        InvalidRequest: ``response-*`` without credentials.
    """
    if request.key:
        _check_version(request)
    if request.bucket and request.operation != "create_bucket":
        check_owner(request.headers.get("x-amz-expected-bucket-owner"))
    if request.operation in ("get_object", "head_object") and not request.has_credentials:
        for name, _ in request.query:
            if name.startswith("response-"):
                raise InvalidRequest(
                    "Request specific response headers cannot be used for anonymous GET requests."
                )


def check_owner(expected: str | None) -> None:
    """Raise ``AccessDenied`` if the client expects another owner than listings report."""
    if expected is not None and expected.strip() != OWNER_ID:
        raise AccessDenied


def invalid_version(value: str, *, name: str = "versionId") -> InvalidArgument:
    """The error for a version id that this service never gave to anybody."""
    text = "Invalid version id specified" if value else "Version id cannot be the empty string"
    return InvalidArgument(text, fields={"ArgumentName": name, "ArgumentValue": value})


def require_digest(headers: Mapping[str, str]) -> None:
    """Require that a body that deletes or configures comes with a digest.

    Raises:
        InvalidRequest: Neither ``Content-MD5`` nor a checksum, not even one to come as trailer.
    """
    if "content-md5" in headers or "x-amz-trailer" in headers:
        return
    if any(n.startswith("x-amz-checksum-") and n not in _ABOUT_CHECKSUMS for n in headers):
        return
    raise InvalidRequest(
        "Missing required header for this request: Content-MD5 OR x-amz-checksum-*"
    )


def _check_version(request: S3Request) -> None:
    value = request.param("versionId")
    if value is None:
        return
    if request.operation in _NO_VERSION:
        raise InvalidArgument(
            "This operation does not accept a version-id.",
            fields={"ArgumentName": "versionId", "ArgumentValue": value},
        )
    if value != NULL_VERSION:
        raise invalid_version(value)
