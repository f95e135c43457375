"""Preconditions, with the precedence of RFC 9110 section 13.2.2."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaglider_core.errors import InvalidArgument, NotImplementedS3, PreconditionFailed, S3Error
from deltaglider_core.interfaces.storage import Condition, ObjectInfo
from deltaglider_core.s3.conditions import (
    check_copy_source,
    check_read,
    delete_condition,
    if_range_applies,
    parse_http_date,
    parse_time,
    write_condition,
)

ETAG = "0123456789abcdef0123456789abcdef"
MODIFIED = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SAME = "Fri, 02 Jan 2026 03:04:05 GMT"
BEFORE = "Fri, 02 Jan 2026 03:04:04 GMT"
AFTER = "Fri, 02 Jan 2026 03:04:06 GMT"

OK, NOT_MODIFIED, FAILED = "200", "304", "412"


def outcome(headers: dict[str, str]) -> str:
    try:
        return NOT_MODIFIED if check_read(headers, ETAG, MODIFIED) else OK
    except PreconditionFailed:
        return FAILED


TABLE = [
    ({}, OK),
    ({"if-match": f'"{ETAG}"'}, OK),
    ({"if-match": ETAG}, OK),
    ({"if-match": f'""{ETAG}""'}, OK),
    ({"if-match": "*"}, OK),
    ({"if-match": f'"other", "{ETAG}"'}, OK),
    ({"if-match": f'"a,b" , "{ETAG}"'}, OK),
    ({"if-match": '"other"'}, FAILED),
    ({"if-match": f'W/"{ETAG}"'}, FAILED),
    ({"if-match": ""}, FAILED),
    ({"if-match": f"{ETAG} junk"}, FAILED),
    ({"if-none-match": f'"{ETAG}"'}, NOT_MODIFIED),
    ({"if-none-match": f'W/"{ETAG}"'}, NOT_MODIFIED),
    ({"if-none-match": "*"}, NOT_MODIFIED),
    ({"if-none-match": f'"a", junk here, W/"{ETAG}"'}, NOT_MODIFIED),
    ({"if-none-match": '"other"'}, OK),
    ({"if-none-match": ""}, OK),
    ({"if-modified-since": SAME}, NOT_MODIFIED),
    ({"if-modified-since": AFTER}, NOT_MODIFIED),
    ({"if-modified-since": BEFORE}, OK),
    ({"if-modified-since": "yesterday"}, OK),
    ({"if-modified-since": "2026-01-02T03:04:05Z"}, OK),
    ({"if-unmodified-since": SAME}, OK),
    ({"if-unmodified-since": AFTER}, OK),
    ({"if-unmodified-since": BEFORE}, FAILED),
    ({"if-unmodified-since": "yesterday"}, OK),
    # If-Match decides alone over If-Unmodified-Since.
    ({"if-match": f'"{ETAG}"', "if-unmodified-since": BEFORE}, OK),
    ({"if-match": '"other"', "if-unmodified-since": AFTER}, FAILED),
    # If-None-Match decides alone over If-Modified-Since.
    ({"if-none-match": '"other"', "if-modified-since": AFTER}, OK),
    ({"if-none-match": f'"{ETAG}"', "if-modified-since": BEFORE}, NOT_MODIFIED),
    # 412 beats 304.
    ({"if-match": '"other"', "if-none-match": f'"{ETAG}"'}, FAILED),
    ({"if-unmodified-since": BEFORE, "if-modified-since": AFTER}, FAILED),
    ({"if-match": f'"{ETAG}"', "if-none-match": f'"{ETAG}"'}, NOT_MODIFIED),
    ({"if-unmodified-since": AFTER, "if-none-match": f'"{ETAG}"'}, NOT_MODIFIED),
]


@pytest.mark.parametrize(("headers", "expected"), TABLE)
def test_check_read(headers: dict[str, str], expected: str) -> None:
    assert outcome(headers) == expected


@pytest.mark.parametrize(("headers", "expected"), TABLE)
def test_check_copy_source_answers_412_for_both(headers: dict[str, str], expected: str) -> None:
    prefixed = {f"x-amz-copy-source-{name}": value for name, value in headers.items()}
    if expected == OK:
        check_copy_source(prefixed, ETAG, MODIFIED)
    else:
        with pytest.raises(PreconditionFailed):
            check_copy_source(prefixed, ETAG, MODIFIED)
    check_copy_source(headers, ETAG, MODIFIED)


def test_the_failed_condition_is_named() -> None:
    with pytest.raises(PreconditionFailed) as caught:
        check_read({"if-match": '"x"'}, ETAG, MODIFIED)
    assert caught.value.fields == {"Condition": "If-Match"}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"if-none-match": "*"}, Condition(if_none_match="*")),
        ({"if-none-match": " * "}, Condition(if_none_match="*")),
        ({"if-match": "*"}, Condition(if_match="*")),
        ({"if-match": f'"{ETAG}"'}, Condition(if_match=ETAG)),
        ({"if-match": ETAG}, Condition(if_match=ETAG)),
        ({"if-match": f'""{ETAG}""'}, Condition(if_match=ETAG)),
        ({"if-match": f'W/"{ETAG}"'}, Condition(if_match=f'W/"{ETAG}"')),
        ({"if-match": '"*"'}, Condition(if_match='"*"')),
        ({"if-unmodified-since": BEFORE}, None),
    ],
)
def test_write_condition(headers: dict[str, str], expected: Condition | None) -> None:
    assert write_condition(headers) == expected


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"if-none-match": f'"{ETAG}"'}, NotImplementedS3),
        ({"if-none-match": ""}, NotImplementedS3),
        ({"if-none-match": "*", "if-match": "*"}, NotImplementedS3),
        ({"if-match": '"a", "b"'}, NotImplementedS3),
        ({"if-match": '"a",'}, NotImplementedS3),
        ({"if-match": '"a'}, NotImplementedS3),
        ({"if-match": ""}, InvalidArgument),
        ({"if-match": '""'}, InvalidArgument),
    ],
)
def test_write_condition_refuses(headers: dict[str, str], error: type[S3Error]) -> None:
    with pytest.raises(error):
        write_condition(headers)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, True),
        (f'"{ETAG}"', True),
        (ETAG, True),
        (SAME, True),
        ('"other"', False),
        (f'W/"{ETAG}"', False),
        (f'"{ETAG}", "x"', False),
        (BEFORE, False),
        (AFTER, False),
        ("", False),
        ("junk junk", False),
    ],
)
def test_if_range(value: str | None, expected: bool) -> None:
    headers = {} if value is None else {"if-range": value}
    assert if_range_applies(headers, ETAG, MODIFIED) is expected


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 09:49:37 +0100",
    ],
)
def test_http_dates_in_all_forms(text: str) -> None:
    assert parse_http_date(text) == datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "0", "-1", "Sun, 32 Nov 1994 08:49:37 GMT", "never", "\x00"])
def test_no_http_dates(text: str) -> None:
    assert parse_http_date(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SAME, MODIFIED.replace(microsecond=0)),
        ("2026-01-02T03:04:05Z", MODIFIED.replace(microsecond=0)),
        ("2026-01-02T03:04:05.678901Z", MODIFIED),
        ("2026-01-02T04:04:05+01:00", MODIFIED.replace(microsecond=0)),
        ("2026-01-02T03:04:05", MODIFIED.replace(microsecond=0)),
        ("", None),
        ("yesterday", None),
        ("2026-13-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+14:00", None),
    ],
)
def test_times(text: str, expected: datetime | None) -> None:
    assert parse_time(text) == expected


def test_a_date_in_the_future_is_no_condition() -> None:
    assert outcome({"if-modified-since": "Fri, 02 Jan 2222 03:04:05 GMT"}) == OK


TIME, SIZE = "x-amz-if-match-last-modified-time", "x-amz-if-match-size"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"if-modified-since": SAME}, None),
        ({"if-match": "*"}, Condition(if_match="*")),
        ({"if-match": f'"{ETAG}"'}, Condition(if_match=ETAG)),
        ({SIZE: " 12 "}, Condition(size=12)),
        ({SIZE: "0"}, Condition(size=0)),
        ({TIME: SAME}, Condition(last_modified=MODIFIED.replace(microsecond=0))),
        (
            {TIME: "2026-01-02T03:04:05.250Z"},
            Condition(last_modified=MODIFIED.replace(microsecond=0)),
        ),
        (
            {"if-match": ETAG, SIZE: "1", TIME: SAME},
            Condition(if_match=ETAG, size=1, last_modified=MODIFIED.replace(microsecond=0)),
        ),
    ],
)
def test_conditions_of_deletes(headers: dict[str, str], expected: Condition | None) -> None:
    assert delete_condition(headers) == expected


@pytest.mark.parametrize(
    ("microsecond", "holds"), [(0, True), (MODIFIED.microsecond, True), (678902, False)]
)
def test_dates_with_a_fraction_are_exact(microsecond: int, holds: bool) -> None:
    present = ObjectInfo(key="k", size=1, etag=ETAG, last_modified=MODIFIED)
    condition = Condition(last_modified=MODIFIED.replace(microsecond=microsecond))
    if holds:
        condition.check(present)
    else:
        with pytest.raises(PreconditionFailed):
            condition.check(present)


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"if-match": ""}, InvalidArgument),
        ({"if-match": '""'}, InvalidArgument),
        ({"if-match": '"a", "b"'}, NotImplementedS3),
        ({"if-none-match": "*"}, NotImplementedS3),
        ({SIZE: ""}, InvalidArgument),
        ({SIZE: "1.5"}, InvalidArgument),
        ({SIZE: "9" * 40}, InvalidArgument),
        ({SIZE: "0\x1f"}, InvalidArgument),  # white space to str.strip, but not to int
        ({TIME: ""}, InvalidArgument),
        ({TIME: "now"}, InvalidArgument),
    ],
)
def test_conditions_of_deletes_that_cannot_be_read(
    headers: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        delete_condition(headers)


@given(st.text(max_size=40))
@settings(deadline=None, max_examples=300)
def test_only_s3_errors_come_out(status_of: Callable[..., int], text: str) -> None:
    for name in ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"):
        assert outcome({name: text}) in (OK, NOT_MODIFIED, FAILED)
        assert status_of(write_condition, {name: text}) in (200, 400, 501)
    for name in ("if-match", TIME, SIZE):
        assert status_of(delete_condition, {name: text}) in (200, 400, 501)
    assert if_range_applies({"if-range": text}, ETAG, MODIFIED) in (True, False)


def test_hostile_etag_lists_cost_linear_time() -> None:
    # Quadratic matching would take minutes on this.
    assert outcome({"if-none-match": '"' * 60_000 + "x"}) == OK
    assert outcome({"if-match": '", ' * 20_000}) == FAILED
