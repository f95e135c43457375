"""Range headers, of reads and of part copies."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaglider_core.errors import InvalidArgument, InvalidRange
from deltaglider_core.interfaces.storage import ByteRange
from deltaglider_core.s3.ranges import (
    content_range,
    parse_copy_range,
    parse_range,
    resolve_copy_range,
)


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=2-5", 2, 5),
        ("bytes=2-", 2, None),
        ("bytes=-5", None, 5),
        ("bytes=-0", None, 0),
        ("Bytes=2-5", 2, 5),
        (" bytes = 2-5 ", 2, 5),
        ("bytes=007-8", 7, 8),
        ("bytes=0-" + "9" * 99, 0, int("9" * 99)),
    ],
)
def test_parse_range(header: str, first: int | None, last: int | None) -> None:
    assert parse_range(header) == ByteRange(first=first, last=last)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-2",
        "bytes=1-2,4-5",
        "bytes=1-2,",
        "bytes=--1",
        "bytes=+1-2",
        "bytes=1-2-3",
        "bytes=0x1-2",
        "items=0-1",
        "bytes=\u0661-\u0662",
        "bytes=0-" + "9" * 5000,
    ],
)
def test_ranges_that_are_ignored(header: str | None) -> None:
    assert parse_range(header) is None


@given(st.text(max_size=30) | st.from_regex(r"bytes=[0-9,\- ]{0,12}", fullmatch=True))
@settings(deadline=None, max_examples=300)
def test_parse_range_is_total(header: str) -> None:
    parsed = parse_range(header)
    assert parsed is None or (parsed.first is not None or parsed.last is not None)


def test_content_range() -> None:
    assert content_range(0, 1, 1) == "bytes 0-0/1"
    assert content_range(2, 6, 10) == "bytes 2-5/10"


def test_copy_range() -> None:
    assert parse_copy_range("bytes=2-5") == ByteRange(first=2, last=5)
    assert resolve_copy_range(parse_copy_range("bytes=2-5"), 6) == (2, 6)


@pytest.mark.parametrize(
    "header", ["", "bytes=2-", "bytes=-5", "bytes=5-2", "bytes=1-2,3-4", "2-5", "bytes=a-b"]
)
def test_copy_range_needs_both_ends(header: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_copy_range(header)
    assert caught.value.fields["ArgumentName"] == "x-amz-copy-source-range"


@pytest.mark.parametrize("size", [0, 2, 5])
def test_copy_range_is_never_clamped(size: int) -> None:
    with pytest.raises(InvalidRange) as caught:
        resolve_copy_range(parse_copy_range("bytes=2-5"), size)
    assert caught.value.headers["Content-Range"] == f"bytes */{size}"
