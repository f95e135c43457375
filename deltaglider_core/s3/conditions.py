"""Conditional requests.

Source: RFC 9110 section 13 (precedence: 13.2.2); AWS, "GetObject", "CopyObject" and
"Conditional writes". ETags come in without quotes; times are compared in whole seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ..errors import InvalidArgument, NotImplementedS3, PreconditionFailed
from ..interfaces.storage import Condition

# Clients also send ETags without quotes, or with the quotes of a listing inside their own.
_ETAG = re.compile(r"[ \t]*(W/)?(?:\"{1,2}([^\"]*)\"{1,2}|([^\",\s]+))[ \t]*(?:,|$)")
_SIZE = re.compile(r"[ \t]*[0-9]{1,19}[ \t]*")


def check_read(headers: Mapping[str, str], etag: str, last_modified: datetime) -> bool:
    """Decide the preconditions of a GET or HEAD of an existing object.

    Returns:
        True if the answer is 304 Not Modified.

    Raises:
        PreconditionFailed: Before any 304.
    """
    _check_must_hold(headers, "", etag, last_modified)
    return _unchanged(headers, "", etag, last_modified) is not None


def check_copy_source(headers: Mapping[str, str], etag: str, last_modified: datetime) -> None:
    """Decide ``x-amz-copy-source-if-*``; all failures are ``PreconditionFailed``."""
    prefix = "x-amz-copy-source-"
    _check_must_hold(headers, prefix, etag, last_modified)
    failed = _unchanged(headers, prefix, etag, last_modified)
    if failed is not None:
        raise PreconditionFailed(fields={"Condition": failed})


def write_condition(headers: Mapping[str, str]) -> Condition | None:
    """Read the condition of a write; None without one.

    A weak ETag is kept as sent: it is equal to no stored one, as strong comparison demands.
    So is ``"*"`` in quotes, which is an ETag and not the wildcard.

    Raises:
        NotImplementedS3: ``If-None-Match`` other than ``*``, both headers, or several ETags,
            none of which S3 has.
        InvalidArgument: ``If-Match`` is empty.
    """
    if_match, if_none_match = headers.get("if-match"), headers.get("if-none-match")
    if if_match is None and if_none_match is None:
        return None
    if if_none_match is not None:
        if if_match is not None or if_none_match.strip() != "*":
            raise _unsupported("If-None-Match")
        return Condition(if_none_match="*")
    return Condition(if_match=_one_etag(if_match or ""))


def delete_condition(headers: Mapping[str, str]) -> Condition | None:
    """Read the condition of a DELETE; None without one.

    Raises:
        NotImplementedS3: ``If-None-Match``, which S3 does not have here, or several ETags.
        InvalidArgument: A value that cannot be read, which must not count as no condition.
    """
    if "if-none-match" in headers:
        raise NotImplementedS3(
            "If-None-Match is not supported for deletes.", fields={"Header": "If-None-Match"}
        )
    if_match = headers.get("if-match")
    time = headers.get("x-amz-if-match-last-modified-time")
    size = headers.get("x-amz-if-match-size")
    if if_match is None and time is None and size is None:
        return None
    return Condition(
        if_match=None if if_match is None else _one_etag(if_match),
        last_modified=None if time is None else _time_of("x-amz-if-match-last-modified-time", time),
        size=None if size is None else _size_of("x-amz-if-match-size", size),
    )


def _one_etag(header: str) -> str:
    value = header.strip()
    match = _ETAG.fullmatch(value)
    if match is None or value.endswith(","):
        if not value:
            raise InvalidArgument(
                "If-Match must not be empty.", fields={"ArgumentName": "If-Match"}
            )
        raise _unsupported("If-Match")
    weak, quoted, plain = match.groups()
    if weak or quoted == "*":
        return value
    tag = plain if quoted is None else quoted
    if not tag:
        raise InvalidArgument("If-Match must not be empty.", fields={"ArgumentName": "If-Match"})
    return str(tag)


def _time_of(name: str, text: str) -> datetime:
    time = parse_time(text)
    if time is None:
        raise InvalidArgument(
            f"The value of {name} is not a date.",
            fields={"ArgumentName": name, "ArgumentValue": text},
        )
    return time.replace(microsecond=0)


def _size_of(name: str, text: str) -> int:
    if not _SIZE.fullmatch(text):
        raise InvalidArgument(
            f"The value of {name} is not a number of bytes.",
            fields={"ArgumentName": name, "ArgumentValue": text},
        )
    return int(text)


def if_range_applies(headers: Mapping[str, str], etag: str, last_modified: datetime) -> bool:
    """Whether ``Range`` counts: no ``If-Range``, or one that names just this version."""
    value = headers.get("if-range")
    if value is None:
        return True
    time = parse_http_date(value)
    if time is not None:
        return time == last_modified.replace(microsecond=0)
    match = _ETAG.fullmatch(value.strip())
    if match is None or value.strip().endswith(","):
        return False
    weak, quoted, plain = match.groups()
    return not weak and etag == (plain if quoted is None else quoted)


def parse_http_date(text: str) -> datetime | None:
    """An HTTP date of any of the three forms, aware, UTC; None if it is none.

    Source: RFC 9110 section 5.6.7.
    """
    try:
        time = parsedate_to_datetime(text)
        if time.tzinfo is None:
            time = time.replace(tzinfo=UTC)
        return time.astimezone(UTC).replace(microsecond=0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def parse_time(text: str) -> datetime | None:
    """An HTTP date, or a time of ISO 8601 as SDKs write it into XML; None if it is neither."""
    time = parse_http_date(text)
    if time is not None:
        return time
    try:
        time = datetime.fromisoformat(text.strip())
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _check_must_hold(
    headers: Mapping[str, str], prefix: str, etag: str, last_modified: datetime
) -> None:
    """If-Match; only without it If-Unmodified-Since."""
    if_match = headers.get(prefix + "if-match")
    if if_match is not None:
        if not _matches(if_match, etag, weak=False):
            raise PreconditionFailed(fields={"Condition": prefix + "If-Match"})
        return
    since = _date(headers, prefix + "if-unmodified-since")
    if since is not None and last_modified.replace(microsecond=0) > since:
        raise PreconditionFailed(fields={"Condition": prefix + "If-Unmodified-Since"})


def _unchanged(
    headers: Mapping[str, str], prefix: str, etag: str, last_modified: datetime
) -> str | None:
    """The header that finds the client's copy current: If-None-Match, else the date."""
    if_none_match = headers.get(prefix + "if-none-match")
    if if_none_match is not None:
        matched = _matches(if_none_match, etag, weak=True)
        return prefix + "If-None-Match" if matched else None
    since = _date(headers, prefix + "if-modified-since")
    # A date in the future says nothing: S3 ignores it.
    if since is not None and last_modified.replace(microsecond=0) <= since <= datetime.now(UTC):
        return prefix + "If-Modified-Since"
    return None


def _date(headers: Mapping[str, str], name: str) -> datetime | None:
    value = headers.get(name)
    return None if value is None else parse_http_date(value)


def _matches(header: str, etag: str, *, weak: bool) -> bool:
    """Whether a list of ETags names ``etag``, or is ``*``."""
    if header.strip() == "*":
        return True
    return any(tag == etag and (weak or not is_weak) for is_weak, tag in _etags(header))


def _etags(header: str) -> Iterator[tuple[bool, str]]:
    position = 0
    while position < len(header):
        match = _ETAG.match(header, position)
        if match is None:
            comma = header.find(",", position)
            if comma < 0:
                return
            position = comma + 1
            continue
        weak, quoted, plain = match.groups()
        yield bool(weak), plain if quoted is None else quoted
        position = match.end()


def _unsupported(header: str) -> NotImplementedS3:
    return NotImplementedS3(
        f"This form of {header} is not supported for writes: If-None-Match takes only *, "
        "If-Match one ETag or *, and not both.",
        fields={"Header": header},
    )
