"""Reading one part of an object by its number.

Source: AWS, "GetObject" and "HeadObject", ``partNumber``.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from ..context import S3Request
from ..errors import InvalidArgument, InvalidPartNumber, InvalidRequest
from ..interfaces.storage import ByteRange, ObjectInfo
from ..part_table import MAX_PARTS, PartTable
from . import ranges


@dataclass(frozen=True, kw_only=True, slots=True)
class PartSpan:
    """Where a part lies.

    Attributes:
        start, stop: Its bytes, half open.
        size: Of the object.
        count: Parts of a multipart object; None for an object that was stored as one.
    """

    start: int
    stop: int
    size: int
    count: int | None

    @property
    def length(self) -> int:
        """Bytes of the part."""
        return self.stop - self.start

    @property
    def byte_range(self) -> ByteRange | None:
        """What to read; None for a part without bytes, which no range can name."""
        return ByteRange(first=self.start, last=self.stop - 1) if self.length else None

    @property
    def status(self) -> int:
        """200 where the part is an object without bytes, else 206."""
        return 206 if self.size else 200

    def headers(self) -> dict[str, str]:
        """What an answer says of the part, besides what it says of the object."""
        headers = {"Content-Length": str(self.length)}
        if self.length:
            headers["Content-Range"] = ranges.content_range(self.start, self.stop, self.size)
        if self.count is not None:
            headers["x-amz-mp-parts-count"] = str(self.count)
        return headers


def parse_part_number(request: S3Request) -> int:
    """``partNumber``, 1 to 10,000. Raises ``InvalidArgument``."""
    value = request.param("partNumber") or ""
    number = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else 0
    if not 1 <= number <= MAX_PARTS:
        raise InvalidArgument(
            f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive",
            fields={"ArgumentName": "partNumber", "ArgumentValue": value},
        )
    return number


def part_to_read(request: S3Request) -> int | None:
    """The part that a GET or HEAD asks for, or None for the object.

    Raises:
        InvalidArgument: It is no number from 1 to 10,000.
        InvalidRequest: Together with a range.
    """
    if request.param("partNumber") is None:
        return None
    number = parse_part_number(request)
    if "range" in request.headers:
        raise InvalidRequest("Cannot specify both Range header and partNumber query parameter")
    return number


def table_of(info: ObjectInfo) -> PartTable | None:
    """The parts of a multipart object; None for any other.

    A table that is damaged or belongs to other bytes is logged and counts as none: the object is
    readable as a whole.
    """
    text = None if info.metadata is None else info.metadata.internal.get("parts")
    if text is None:
        return None
    table = PartTable.from_text(text)
    if table is None or table.starts[-1] != info.size:
        structlog.get_logger("deltaglider_proxy").warning("part_table_unusable", key=info.key)
        return None
    return table


def span_of(info: ObjectInfo, number: int) -> PartSpan:
    """Where a part lies in an object. Raises ``InvalidPartNumber``."""
    table = table_of(info)
    count = 1 if table is None else len(table.sizes)
    if number > count:
        raise InvalidPartNumber(
            fields={"ActualPartCount": str(count), "PartNumberRequested": str(number)}
        )
    if table is None:
        return PartSpan(start=0, stop=info.size, size=info.size, count=None)
    start, stop = table.starts[number - 1], table.starts[number]
    return PartSpan(start=start, stop=stop, size=info.size, count=count)
