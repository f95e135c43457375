"""Signed requests with one fault: whatever it is, they are refused and nothing is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from support.asgi import RawAnswer, RawRequest
from support.fuzz_bases import BASES, DATA, honest
from support.fuzz_requests import mutated_body
from support.fuzz_world import World, fuzz_settings, open_world
from support.signing import (
    SIGNED_CHUNKS,
    SIGNED_CHUNKS_AND_TRAILER,
    Signed,
    crc32_base64,
    signed_chunks,
)

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

#: Operations that need credentials. Browsers ask for leave without them, and sign forms otherwise.
OPERATIONS = sorted(
    BASES.keys() - {"head_service", "cors_preflight", "probes", "post_object", "method_not_allowed"}
)
METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")
CREDENTIALS = (
    *(b"X-Amz-Algorithm=AWS4-HMAC-SHA256", b"X-Amz-Signature=" + b"0" * 64),
    *(b"X-Amz-Credential=AK/20130524/us-east-1/s3/aws4_request", b"AWSAccessKeyId=AK"),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("signed"), open_to_everybody=False) as opened:
        yield opened


def bases() -> st.SearchStrategy[RawRequest]:
    return st.sampled_from([honest(base) for name in OPERATIONS for base in BASES[name]])


def refused(answer: RawAnswer) -> None:
    assert 400 <= answer.status < 500 or answer.status == 501, (answer.status, answer.body)


def test_without_a_fault_no_signature_is_refused(world: World) -> None:
    for operation in OPERATIONS:
        for base in BASES[operation]:
            answer = world.try_out(world.service.signed(world.filled(honest(base))))
            assert answer.status not in (401, 403), (operation, answer)


# --- one fault ------------------------------------------------------------------------------


def change_method(request: RawRequest, at: int) -> RawRequest:
    return replace(request, method=[m for m in METHODS if m != request.method][at % 4])


def change_path(request: RawRequest, at: int) -> RawRequest:
    at = at % len(request.path) + 1
    return replace(request, path=request.path[:at] + b"%41" + request.path[at:])


def add_parameter(request: RawRequest, at: int) -> RawRequest:
    return replace(request, query=request.query + (b"&zz=1" if request.query else b"zz"))


def change_parameter(request: RawRequest, at: int) -> RawRequest:
    pieces = request.query.split(b"&")
    name, _, value = pieces[at % len(pieces)].partition(b"=")
    pieces[at % len(pieces)] = name + b"=" + value + b"x"
    return replace(request, query=b"&".join(pieces))


def drop_parameter(request: RawRequest, at: int) -> RawRequest:
    pieces = request.query.split(b"&")
    assume(pieces != [b""])
    del pieces[at % len(pieces)]
    return replace(request, query=b"&".join(pieces))


def signed_headers(request: RawRequest) -> Sequence[int]:
    """Where the signed headers are."""
    unsigned = (b"authorization", b"content-length")
    return [index for index, (name, _) in enumerate(request.headers) if name not in unsigned]


def change_header(request: RawRequest, at: int) -> RawRequest:
    headers = list(request.headers)
    index = signed_headers(request)[at % len(signed_headers(request))]
    headers[index] = (headers[index][0], headers[index][1] + b"x")
    return replace(request, headers=headers)


def drop_header(request: RawRequest, at: int) -> RawRequest:
    headers = list(request.headers)
    index = signed_headers(request)[at % len(signed_headers(request))]
    assume(headers[index][0] != b"host")
    del headers[index]
    return replace(request, headers=headers)


def repeat_header(request: RawRequest, at: int) -> RawRequest:
    index = signed_headers(request)[at % len(signed_headers(request))]
    return replace(request, headers=[*request.headers, request.headers[index]])


def add_header(request: RawRequest, at: int) -> RawRequest:
    return replace(request, headers=[*request.headers, (b"x-amz-meta-zz", b"1")])


def change_authorization(request: RawRequest, at: int) -> RawRequest:
    value = request.header(b"authorization") or b""
    at %= len(value)
    assume(value[at : at + 1] not in b" ;")
    changed = value[:at] + (b"0" if value[at : at + 1] != b"0" else b"1") + value[at + 1 :]
    others = [pair for pair in request.headers if pair[0] != b"authorization"]
    return replace(request, headers=[*others, (b"authorization", changed)])


def drop_authorization(request: RawRequest, at: int) -> RawRequest:
    others = [pair for pair in request.headers if pair[0] != b"authorization"]
    return replace(request, headers=others)


def change_body(request: RawRequest, at: int) -> RawRequest:
    assume(request.body)
    at %= len(request.body)
    changed = bytes([request.body[at] ^ 1])
    return replace(request, pieces=[request.body[:at] + changed + request.body[at + 1 :]])


FAULTS: Sequence[Callable[[RawRequest, int], RawRequest]] = (
    *(change_method, change_path, add_parameter, change_parameter, drop_parameter),
    *(change_header, drop_header, repeat_header, add_header),
    *(change_authorization, drop_authorization, change_body),
)


@given(bases(), st.sampled_from(FAULTS), st.integers(0, 400))
@fuzz_settings(150)
def test_one_fault(
    world: World, request: RawRequest, fault: Callable[[RawRequest, int], RawRequest], at: int
) -> None:
    sent = world.service.signed(world.filled(request))
    refused(world.try_out(fault(sent, at)))


@given(bases(), st.sampled_from(CREDENTIALS), st.booleans())
@fuzz_settings(60)
def test_credentials_in_header_and_query(
    world: World, request: RawRequest, parameter: bytes, sign: bool
) -> None:
    """Even if the header signs the parameter as well."""
    request = world.filled(request)
    query = request.query + b"&" + parameter if request.query else parameter
    if sign:
        request = world.service.signed(replace(request, query=query))
    else:
        request = replace(world.service.signed(request), query=query)
    answer = world.try_out(request)
    assert answer.status == 400
    assert request.method == "HEAD" or answer.code == "InvalidArgument"


# --- chunk signatures -----------------------------------------------------------------------


def chunked(world: World, target: str, *, trailer: bool) -> tuple[RawRequest, Signed]:
    signer = world.service.signer
    assert signer is not None
    headers = {
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": str(len(DATA)),
        **({"x-amz-trailer": "x-amz-checksum-crc32"} if trailer else {}),
    }
    payload = SIGNED_CHUNKS_AND_TRAILER if trailer else SIGNED_CHUNKS
    signed = signer.sign("PUT", target, headers=headers, payload=payload)
    trailers = {"x-amz-checksum-crc32": crc32_base64(DATA)} if trailer else None
    body = signed_chunks(signed, [DATA[:11], DATA[11:]], trailers)
    path, _, query = target.partition("?")
    request = RawRequest(
        method="PUT",
        path=path.encode(),
        query=query.encode(),
        headers=[(name.encode(), value.encode()) for name, value in signed.headers.items()],
        pieces=[body],
    )
    return request.with_length(), signed


@given(st.data(), st.sampled_from(["part", "plain", "app.zip"]), st.booleans())
@fuzz_settings(60)
def test_spoilt_chunks(world: World, data: st.DataObject, where: str, trailer: bool) -> None:
    """Either the body is refused, or what is stored is what was signed."""
    target = f"/fuzzed/{where}"
    if where == "part":
        target = f"/fuzzed/up?partNumber=1&uploadId={world.upload}"
    request, _ = chunked(world, target, trailer=trailer)
    body = data.draw(mutated_body(request.body))
    answer = world.try_out(replace(request, pieces=[body]).with_length())
    if answer.status == 200 and where != "part":
        assert world.service.request("GET", target).body == DATA
    elif answer.status != 200:
        refused(answer)


@given(bases(), st.binary(max_size=60) | st.sampled_from([b"AWS4-HMAC-SHA256 ", b"AWS "]))
@example(
    RawRequest(), b"AWS4-HMAC-SHA256 Credential=\xff, SignedHeaders=host, Signature=" + b"0" * 64
)
@fuzz_settings(60)
def test_any_authorization(world: World, request: RawRequest, value: bytes) -> None:
    value = value.translate(None, bytes([*range(9), *range(10, 32), 127]))
    for start in (b"", b"AWS4-HMAC-SHA256 ", b"AWS4-HMAC-SHA256 Credential="):
        headers = [*request.headers, (b"authorization", start + value)]
        refused(world.try_out(replace(request, headers=headers)))
