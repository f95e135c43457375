"""Byte ranges of requests and responses.

Source: RFC 9110 section 14; AWS, "GetObject" and "UploadPartCopy".
"""

from __future__ import annotations

import re

from ..errors import InvalidArgument, InvalidRange
from ..interfaces.storage import ByteRange

# A number of a hundred digits exceeds every object; longer ones would only cost time.
_RANGE = re.compile(r"bytes[ \t]*=[ \t]*([0-9]{0,100})-([0-9]{0,100})[ \t]*", re.IGNORECASE)
_COPY_RANGE = re.compile(r"bytes=([0-9]{1,100})-([0-9]{1,100})")


def parse_range(header: str | None) -> ByteRange | None:
    """Read a ``Range`` header; None if it is absent or must be ignored.

    RFC 9110 lets a server ignore what it cannot read, and S3 does so with malformed,
    reversed and multiple ranges: the answer is the whole object. ``bytes=-0`` is a valid
    range that no object can satisfy.
    """
    if header is None:
        return None
    match = _RANGE.fullmatch(header.strip(" \t"))
    if match is None:
        return None
    first, last = (int(text) if text else None for text in match.groups())
    if first is None and last is None:
        return None
    if first is not None and last is not None and first > last:
        return None
    return ByteRange(first=first, last=last)


def content_range(start: int, stop: int, size: int) -> str:
    """``Content-Range`` of bytes ``[start, stop)`` of an object of ``size`` bytes."""
    return f"bytes {start}-{stop - 1}/{size}"


def parse_copy_range(header: str) -> ByteRange:
    """Read ``x-amz-copy-source-range``, which needs both ends.

    Raises:
        InvalidArgument: Malformed or reversed.
    """
    match = _COPY_RANGE.fullmatch(header.strip(" \t"))
    if match is not None:
        first, last = int(match[1]), int(match[2])
        if first <= last:
            return ByteRange(first=first, last=last)
    raise InvalidArgument(
        "The x-amz-copy-source-range value must be of the form bytes=first-last where first "
        "and last are the zero-based offsets of the first and last bytes to copy.",
        fields={"ArgumentName": "x-amz-copy-source-range", "ArgumentValue": header},
    )


def resolve_copy_range(byte_range: ByteRange, size: int) -> tuple[int, int]:
    """Return ``(start, stop)`` of a copy range, which unlike ``Range`` is never clamped.

    Raises:
        InvalidRange: It reaches beyond a source of ``size`` bytes.
    """
    start, stop = byte_range.resolve(size)
    if byte_range.last is not None and byte_range.last >= size:
        raise InvalidRange(size=size, requested=str(byte_range))
    return start, stop
