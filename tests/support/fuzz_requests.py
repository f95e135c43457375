"""Hypothesis strategies for requests that are almost right.

A request begins as an honest one of some operation and is then spoilt in up to three places: a
header, a query parameter, a byte of the path, a slice of the body. What is spoilt comes from a
dictionary of values that parsers stumble over, or is arbitrary. ``{upload}`` and ``{etag}`` stand
for what a server gave out; the test puts them in, so that a failure can be replayed elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from .asgi import RawRequest
from .fuzz_bases import BASES, honest
from .fuzz_words import (
    HEADER_NAMES,
    METHODS,
    NUMBERS,
    PATHS,
    PIECES,
    QUERY_NAMES,
    TIMES,
    WORDS,
)
from .signing import md5_base64

VALUES = st.sampled_from([*NUMBERS, *TIMES, *WORDS])
#: Bytes that an HTTP parser lets through in the value of a header.
_HEADER_BYTES = st.lists(st.sampled_from([9, *range(32, 256)]), max_size=24).map(bytes)
HEADER_VALUES = VALUES | _HEADER_BYTES


@st.composite
def mutated_body(draw: st.DrawFn, body: bytes) -> bytes:
    """The body with one fault; it may be the same, by chance."""
    at = draw(st.integers(0, len(body)))
    to = draw(st.integers(at, min(len(body), at + 40)))
    piece = draw(st.sampled_from([*PIECES, *NUMBERS[:16]]) | st.binary(max_size=8))
    how = draw(st.sampled_from(["cut", "remove", "insert", "replace", "repeat", "other"]))
    return {
        "cut": body[:at],
        "remove": body[:at] + body[to:],
        "insert": body[:at] + piece + body[at:],
        "replace": body[:at] + piece + body[to:],
        "repeat": body[:to] + body[at:],
        "other": piece,
    }[how]


def _split(draw: st.DrawFn, body: bytes) -> list[bytes]:
    if not body:
        return []
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=3)))
    return [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]


def _mutate_header(draw: st.DrawFn, request: RawRequest) -> RawRequest:
    headers = list(request.headers)
    value = draw(HEADER_VALUES)
    if draw(st.booleans()) and headers:
        at = draw(st.integers(0, len(headers) - 1))
        name, old = headers[at]
        how = draw(st.sampled_from(["value", "remove", "again", "append"]))
        if how == "remove":
            del headers[at]
        elif how == "again":
            headers.append((name, value))
        else:
            headers[at] = (name, value if how == "value" else old + value)
    else:
        headers.append((draw(st.sampled_from(HEADER_NAMES)), value))
    return replace(request, headers=headers)


#: Bytes that no request target can hold: they end it, or llhttp refuses them.
_NO_TARGET = bytes([*range(33), 127, *b"#"])


def _mutate_query(draw: st.DrawFn, request: RawRequest) -> RawRequest:
    pieces = request.query.split(b"&") if request.query else []
    value = draw(HEADER_VALUES).translate(None, _NO_TARGET)
    if draw(st.integers(0, 9)):
        value = b"".join(b"%%%02X" % byte for byte in value[:400])
    if draw(st.booleans()) and pieces:
        at = draw(st.integers(0, len(pieces) - 1))
        name = pieces[at].partition(b"=")[0]
        pieces[at : at + 1] = draw(
            st.sampled_from([[], [name], [name + b"=" + value], [pieces[at], name + b"=" + value]])
        )
    else:
        pieces.append(draw(st.sampled_from(QUERY_NAMES)) + b"=" + value)
    return replace(request, query=b"&".join(pieces))


def _mutate_path(draw: st.DrawFn, request: RawRequest) -> RawRequest:
    path = request.path
    at = draw(st.integers(0, len(path)))
    to = draw(st.integers(at, min(len(path), at + 10)))
    # A "?" would end the path, and a parser takes no target that does not begin with a slash.
    piece = draw(st.sampled_from(PATHS)).replace(b"?", b"%3F")
    path = path[:at] + piece + path[to:]
    return replace(request, path=path if path.startswith(b"/") else b"/" + path)


_MUTATIONS: Sequence[Callable[[st.DrawFn, RawRequest], RawRequest]] = (
    *[_mutate_header] * 4,
    *[_mutate_query] * 3,
    *[lambda draw, request: replace(request, pieces=[draw(mutated_body(request.body))])] * 2,
    _mutate_path,
    lambda draw, request: replace(request, method=draw(st.sampled_from(METHODS))),
)


@st.composite
def spoilt(draw: st.DrawFn, operation: str) -> RawRequest:
    """A request of ``operation`` with up to three faults, its body in up to four pieces."""
    request = honest(draw(st.sampled_from(BASES[operation])))
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        request = draw(st.sampled_from(_MUTATIONS))(draw, request)
    request = replace(request, pieces=_split(draw, request.body))
    if not draw(st.integers(0, 9)):
        # Some send no length, as HTTP/1.1 allows, and some go away before the end.
        headers = [pair for pair in request.headers if pair[0] != b"content-length"]
        headers.append((b"transfer-encoding", b"chunked"))
        return replace(request, headers=headers, cut=draw(st.booleans()))
    return request.with_length()


@st.composite
def spoilt_body(draw: st.DrawFn, operation: str) -> RawRequest:
    """A request of ``operation`` whose body alone has up to three faults.

    Its digests are left out, or they would be all that is ever refused.
    """
    request = honest(draw(st.sampled_from([base for base in BASES[operation] if base[4]])))
    body = request.body
    for _ in range(draw(st.integers(1, 3))):
        body = draw(mutated_body(body))
    headers = [
        (name, value)
        for name, value in request.headers
        if name != b"content-md5"
        and not name.startswith(b"x-amz-checksum-")
        and (name != b"x-amz-content-sha256" or value.startswith(b"STREAMING"))
    ]
    if operation in ("delete_objects", "bucket_cors", "bucket_tagging", "object_tagging", "acl"):
        headers.append((b"content-md5", md5_base64(body).encode()))
    return replace(request, headers=headers, pieces=_split(draw, body)).with_length()


def filled(request: RawRequest, *, upload: str, etag: str) -> RawRequest:
    """The request with what the server gave out in the places of ``{upload}`` and ``{etag}``."""

    def fill(data: bytes) -> bytes:
        return data.replace(b"{upload}", upload.encode()).replace(b"{etag}", etag.encode())

    if not any(
        b"{" in part for part in (request.query, request.body, *dict(request.headers).values())
    ):
        return request
    body = fill(request.body)
    pieces = request.pieces if body == request.body else [body]
    changed = replace(
        request,
        query=fill(request.query),
        headers=[(name, fill(value)) for name, value in request.headers],
        pieces=pieces,
    )
    return changed if request.header(b"content-length") is None else changed.with_length()


__all__ = ["HEADER_VALUES", "filled", "mutated_body", "spoilt", "spoilt_body"]
