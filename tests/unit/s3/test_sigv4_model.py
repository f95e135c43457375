"""The canonical request against botocore's, and against AWS's definition written out again."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import assume, given
from hypothesis import strategies as st
from support.fuzz_world import fuzz_settings

from deltaglider_core.context import S3Request
from deltaglider_core.s3 import sigv4

Make = Callable[..., S3Request]
Headers = Sequence[tuple[str, str]]

KEYS = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
HOST = "localhost:9000"

anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
header_names = st.sampled_from(["x-amz-meta-a", "x-amz-meta-a-b", "x-amz-acl", "range", "x-other"])
header_values = st.text(string.ascii_letters + " \t,;=\"/'", max_size=12)


# --- the definition -------------------------------------------------------------------------


def uri_encode(data: bytes, *, encode_slash: bool) -> str:
    """``UriEncode`` of "Signature calculations for the Authorization header", byte by byte."""
    result = ""
    for byte in data:
        character = chr(byte)
        if character in string.ascii_letters + string.digits + "-._~":
            result += character
        elif character == "/" and not encode_slash:
            result += "/"
        else:
            result += f"%{byte:02X}"
    return result


def percent_decode(text: str) -> bytes:
    result = bytearray()
    at = 0
    while at < len(text):
        if text[at] == "%":
            result.append(int(text[at + 1 : at + 3], 16))
            at += 3
        else:
            result.append(ord(text[at]))
            at += 1
    return bytes(result)


def model(request: S3Request, signed_headers: Sequence[str], payload: str) -> str:
    """The canonical request of what was sent."""
    pairs = []
    for piece in request.raw_query.split("&"):
        name, _, value = piece.replace("+", "%20").partition("=")
        if piece and name != "X-Amz-Signature":
            pairs.append(
                (
                    uri_encode(percent_decode(name), encode_slash=True),
                    uri_encode(percent_decode(value), encode_slash=True),
                )
            )
    lines = [
        request.method,
        uri_encode(percent_decode(request.raw_path), encode_slash=False),
        "&".join(f"{name}={value}" for name, value in sorted(pairs)),
    ]
    for wanted in sorted(signed_headers):
        values = [value for name, value in request.header_list if name == wanted]
        collapsed = [" ".join(value.replace("\t", " ").split(" ")) for value in values]
        while any("  " in value for value in collapsed):
            collapsed = [value.replace("  ", " ") for value in collapsed]
        lines.append(f"{wanted}:{','.join(value.strip(' ') for value in collapsed)}")
    return "\n".join([*lines, "", ";".join(sorted(signed_headers)), payload])


@st.composite
def spelt(draw: st.DrawFn, kept: str) -> str:
    """Some text as a client may spell it in a URL: what must be escaped is, the rest may be."""
    result = ""
    for byte in draw(anything).encode():
        if chr(byte) in kept and draw(st.booleans()):
            result += chr(byte)
        else:
            result += draw(st.sampled_from([f"%{byte:02X}", f"%{byte:02x}"]))
    return result


UNRESERVED = string.ascii_letters + string.digits + "-._~"
paths = spelt(UNRESERVED + "/!$&'()*+,;=:@").map(lambda path: "/bucket/" + path)
pieces = st.builds(
    lambda name, equals, value: f"{name}={value}" if equals else name,
    spelt(UNRESERVED + "/!$'()*+,;:@?"),
    st.booleans(),
    spelt(UNRESERVED + "/!$'()*+,;:@?="),
)


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]),
    path=paths,
    query=st.lists(pieces | st.just("") | st.just("X-Amz-Signature=1"), max_size=4),
    headers=st.lists(st.tuples(header_names, header_values), max_size=5),
    payload=st.sampled_from(["UNSIGNED-PAYLOAD", "e3b0c44298fc1c149afbf4c8996fb924"]),
)
@fuzz_settings(60)
def test_the_definition_of_aws(
    make_request: Make, method: str, path: str, query: list[str], headers: Headers, payload: str
) -> None:
    signed = sorted({"host", *(name for name, _ in headers)})
    target = path + ("?" + "&".join(query) if query else "")
    request = make_request(method, target, [("Host", HOST), *headers])
    evidence = sigv4.Evidence(
        access_key_id="AKID",
        date="20260102",
        region="us-east-1",
        signed_headers=tuple(signed),
        signature="0" * 64,
        timestamp="20260102T030405Z",
        time=request.received,
        payload_hash=payload,
    )
    assert sigv4.canonical_request(request, evidence) == model(request, signed, payload)


# --- botocore as oracle ---------------------------------------------------------------------


class HeaderSigner(S3SigV4Auth):
    """Keeps what it signs."""

    seen = ""

    def canonical_request(self, request: Any) -> str:
        self.seen = super().canonical_request(request)
        return self.seen


class QuerySigner(S3SigV4QueryAuth):
    """The same for presigned URLs."""

    seen = ""

    def canonical_request(self, request: Any) -> str:
        self.seen = super().canonical_request(request)
        return self.seen


@given(
    presigned=st.booleans(),
    method=st.sampled_from(["GET", "PUT", "DELETE", "HEAD"]),
    key=anything,
    query=st.lists(st.tuples(anything.filter(bool), anything), max_size=3),
    headers=st.lists(st.tuples(header_names, header_values), max_size=4),
)
@fuzz_settings(60)
def test_botocore(
    make_request: Make,
    presigned: bool,
    method: str,
    key: str,
    query: list[tuple[str, str]],
    headers: Headers,
) -> None:
    encoded = "&".join(f"{quote(n, safe='-._~')}={quote(v, safe='-._~')}" for n, v in query)
    url = f"http://{HOST}/bucket/{quote(key, safe='/~')}"
    request = AWSRequest(method=method, url=url + ("?" + encoded if encoded else ""))
    for name, value in headers:
        request.headers.add_header(name, value)
    signer: Any = HeaderSigner(KEYS, "s3", "eu-west-1")
    if presigned:
        assume(not any(name.lower().startswith("x-amz-") for name, _ in query))
        signer = QuerySigner(KEYS, "s3", "eu-west-1", expires=60)
    signer.add_auth(request)

    parts = urlsplit(str(request.url))
    target = parts.path + ("?" + parts.query if parts.query else "")
    sent = make_request(method, target, [("Host", HOST), *request.headers.items()])
    evidence = sigv4.find_evidence(sent)
    assert evidence is not None
    assert sigv4.canonical_request(sent, evidence) == signer.seen
    assert model(sent, evidence.signed_headers, evidence.payload_hash) == signer.seen
    assert sigv4.verify(sent, evidence, KEYS.secret_key).seed == evidence.signature


def test_the_models_can_fail(make_request: Make) -> None:
    """A request that is not the signed one has another canonical form in the model too."""
    one = make_request("GET", "/bucket/a?x=1&y=%2f", [("Host", HOST)])
    for target in (
        "/bucket/b?x=1&y=/",
        "/bucket/a?x=1&y",
        "/bucket/a?x=2&y=/",
        "/bucket/a/?x=1&y=/",
    ):
        other = make_request("GET", target, [("Host", HOST)])
        assert model(one, ["host"], "") != model(other, ["host"], "")
    with pytest.raises(ValueError, match="invalid literal"):
        percent_decode("%zz")
