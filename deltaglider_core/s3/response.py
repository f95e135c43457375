"""What an operation returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..interfaces.storage import Body


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
