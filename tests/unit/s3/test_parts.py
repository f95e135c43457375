"""Where a part lies in an object, and tables of parts that cannot be trusted."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from deltaglider_core.errors import InvalidPartNumber
from deltaglider_core.interfaces.storage import ByteRange, ObjectInfo, ObjectMetadata
from deltaglider_core.s3.checksums import headers_on_read, stored_checksum
from deltaglider_core.s3.parts import span_of, table_of


def info(size: int, internal: dict[str, str] | None = None) -> ObjectInfo:
    metadata = None if internal is None else ObjectMetadata(internal=internal)
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    return ObjectInfo(key="k", size=size, etag="e", last_modified=moment, metadata=metadata)


@pytest.mark.parametrize(
    ("size", "table", "number", "span", "status", "headers"),
    [
        (12, "1;5*2,2", 1, (0, 5), 206, {"Content-Range": "bytes 0-4/12"}),
        (12, "1;5*2,2", 3, (10, 12), 206, {"Content-Range": "bytes 10-11/12"}),
        (5, "1;5,0", 2, (5, 5), 206, {}),
        (0, "1;0", 1, (0, 0), 200, {}),
        (12, None, 1, (0, 12), 206, {"Content-Range": "bytes 0-11/12"}),
        (0, None, 1, (0, 0), 200, {}),
    ],
)
def test_spans(
    size: int,
    table: str | None,
    number: int,
    span: tuple[int, int],
    status: int,
    headers: dict[str, str],
) -> None:
    part = span_of(info(size, {} if table is None else {"parts": table}), number)
    assert (part.start, part.stop, part.status) == (*span, status)
    length = span[1] - span[0]
    assert part.byte_range == (ByteRange(first=span[0], last=span[1] - 1) if length else None)
    count = {} if table is None else {"x-amz-mp-parts-count": str(table.count(",") + 1)}
    if table == "1;5*2,2":
        count = {"x-amz-mp-parts-count": "3"}
    assert part.headers() == {"Content-Length": str(length), **headers, **count}


@pytest.mark.parametrize(("table", "count"), [("1;5*2,2", 3), (None, 1)])
def test_parts_that_are_not_there(table: str | None, count: int) -> None:
    found = info(12, {} if table is None else {"parts": table})
    for number in (count + 1, 10_000):
        with pytest.raises(InvalidPartNumber) as caught:
            span_of(found, number)
        assert caught.value.status == 416
        assert caught.value.fields == {
            "ActualPartCount": str(count),
            "PartNumberRequested": str(number),
        }


@pytest.mark.parametrize("table", ["", "nonsense", "2;5*2,2", "1;5*2", "1;5*2,3", "1;12;crc32:A"])
def test_a_table_that_does_not_fit_counts_as_none(table: str) -> None:
    """The object stays readable, as a whole and as its only part; the log tells."""
    found = info(12, {"parts": table})
    with capture_logs() as lines:
        assert table_of(found) is None
        assert (span_of(found, 1).stop, span_of(found, 1).count) == (12, None)
    assert {line["event"] for line in lines} == {"part_table_unusable"}


@pytest.mark.parametrize(
    "text", ["", "nonsense", "crc32:FULL_OBJECT", "crc32:COMPOSITE", "crc32:FULL_OBJECT:AAAA"]
)
def test_a_damaged_checksum_is_not_told(text: str) -> None:
    found = info(1, {"checksum": text})
    assert stored_checksum(found) is None
    assert headers_on_read({"x-amz-checksum-mode": "ENABLED"}, found) == {}


def test_a_checksum_is_told_to_whoever_asks() -> None:
    found = info(1, {"checksum": "crc32:COMPOSITE:DUoRhQ==-2"})
    expected = {"x-amz-checksum-crc32": "DUoRhQ==-2", "x-amz-checksum-type": "COMPOSITE"}
    assert headers_on_read({"x-amz-checksum-mode": "ENABLED"}, found) == expected
    assert headers_on_read({"x-amz-checksum-mode": "enabled "}, found) == expected
    assert headers_on_read({"x-amz-checksum-mode": "DISABLED"}, found) == {}
    assert headers_on_read({}, found) == {}
    assert headers_on_read({"x-amz-checksum-mode": "ENABLED"}, info(1)) == {}
