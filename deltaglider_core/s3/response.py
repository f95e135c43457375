"""What an operation returns."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..interfaces.storage import Body

#: Names the process that answered, as ``x-amz-id-2`` does at AWS; random, so it tells nothing else.
HOST_ID = base64.b64encode(secrets.token_bytes(48)).decode()

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# Surrogates have no bytes in UTF-8; the others would end the header or the request.
_UNSENDABLE = re.compile("[\\x00-\\x08\\x0a-\\x1f\\x7f\ud800-\udfff]")


def is_sendable(name: str, value: str) -> bool:
    """Whether a header can have this name and this value (RFC 9110 section 5)."""
    return _NAME.fullmatch(name) is not None and _UNSENDABLE.search(value) is None


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Response:
    """Status, headers and either a body or a stream.

    Attributes:
        headers: Canonical spelling, e.g. ``ETag``; values may hold any text, it is sent as UTF-8.
        body: A small, complete body.
        stream: A body sent while it is produced; closed by the endpoint in every case.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    stream: Body | None = None


def xml_response(
    body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> S3Response:
    """A complete XML document."""
    return S3Response(
        status=status, headers={"Content-Type": "application/xml", **(headers or {})}, body=body
    )
