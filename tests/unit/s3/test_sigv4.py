"""SigV4 against AWS's published examples, botocore's signer, and tampering."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deltaglider_core.context import S3Request
from deltaglider_core.errors import SignatureDoesNotMatch
from deltaglider_core.s3 import sigv4
from deltaglider_core.s3.response import is_sendable

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
HOST = ("Host", "examplebucket.s3.amazonaws.com")
DATE = ("x-amz-date", "20130524T000000Z")
EMPTY = ("x-amz-content-sha256", hashlib.sha256(b"").hexdigest())
SCOPE = f"{ACCESS_KEY}/20130524/us-east-1/s3/aws4_request"

Make = Callable[..., S3Request]

# AWS, "Signature calculations for the Authorization header", examples; the last two are the
# seeds of the chunked uploads.
EXAMPLES = [
    pytest.param(
        "GET",
        "/test.txt",
        [HOST, ("Range", "bytes=0-9"), EMPTY, DATE],
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        id="get-object",
    ),
    pytest.param(
        "PUT",
        "/test$file.text",
        [
            HOST,
            ("Date", "Fri, 24 May 2013 00:00:00 GMT"),
            DATE,
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ("x-amz-content-sha256", hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()),
        ],
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        id="put-object",
    ),
    pytest.param(
        "GET",
        "/?lifecycle",
        [HOST, DATE, EMPTY],
        "host;x-amz-content-sha256;x-amz-date",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        id="get-lifecycle",
    ),
    pytest.param(
        "GET",
        "/?prefix=J&max-keys=2",
        [HOST, DATE, EMPTY],
        "host;x-amz-content-sha256;x-amz-date",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        id="list-objects",
    ),
    pytest.param(
        "PUT",
        "/examplebucket/chunkObject.txt",
        [
            ("Host", "s3.amazonaws.com"),
            DATE,
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
            ("Content-Encoding", "aws-chunked"),
            ("x-amz-decoded-content-length", "66560"),
            ("Content-Length", "66824"),
        ],
        "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;"
        "x-amz-decoded-content-length;x-amz-storage-class",
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        id="chunked-seed",
    ),
    pytest.param(
        "PUT",
        "/examplebucket/chunkObject.txt",
        [
            ("Host", "s3.amazonaws.com"),
            DATE,
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
            ("Content-Encoding", "aws-chunked"),
            ("x-amz-decoded-content-length", "66560"),
            ("x-amz-trailer", "x-amz-checksum-crc32c"),
        ],
        "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;"
        "x-amz-storage-class;x-amz-trailer",
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
        id="chunked-trailer-seed",
    ),
]


def authorization(signed_headers: str, signature: str) -> tuple[str, str]:
    value = (
        f"AWS4-HMAC-SHA256 Credential={SCOPE},SignedHeaders={signed_headers},Signature={signature}"
    )
    return ("Authorization", value)


def verify(request: S3Request, secret: str = SECRET) -> Any:
    evidence = sigv4.find_evidence(request)
    assert evidence is not None
    sigv4.check_signed_headers(request, evidence)
    return sigv4.verify(request, evidence, secret)


@pytest.mark.parametrize(("method", "target", "headers", "signed", "signature"), EXAMPLES)
def test_aws_examples(
    make_request: Make,
    method: str,
    target: str,
    headers: list[tuple[str, str]],
    signed: str,
    signature: str,
) -> None:
    request = make_request(method, target, [*headers, authorization(signed, signature)])
    payload = verify(request)
    assert payload.seed == signature
    assert payload.timestamp == "20130524T000000Z"
    assert payload.scope == "20130524/us-east-1/s3/aws4_request"
    assert payload.signing_key == sigv4.signing_key(SECRET, "20130524", "us-east-1")
    assert "signing_key" not in repr(payload)


def test_aws_presigned_example(make_request: Make) -> None:
    target = (
        "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        f"&X-Amz-Credential={quote(SCOPE, safe='')}&X-Amz-Date=20130524T000000Z"
        "&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    verify(make_request("GET", target, [HOST]))
    for tampered in (
        target.replace("86400", "86401"),
        target.replace("test.txt", "test.txu"),
        target + "&versionId=null",
    ):
        with pytest.raises(SignatureDoesNotMatch):
            verify(make_request("GET", tampered, [HOST]))


def test_canonical_request_and_string_to_sign(make_request: Make) -> None:
    headers = [HOST, ("Range", "bytes=0-9"), EMPTY, DATE]
    signed = "host;range;x-amz-content-sha256;x-amz-date"
    request = make_request("GET", "/test.txt", [*headers, authorization(signed, "0" * 64)])
    evidence = sigv4.find_evidence(request)
    assert evidence is not None
    canonical = sigv4.canonical_request(request, evidence)
    assert canonical == (
        "GET\n/test.txt\n\n"
        "host:examplebucket.s3.amazonaws.com\nrange:bytes=0-9\n"
        f"x-amz-content-sha256:{EMPTY[1]}\nx-amz-date:20130524T000000Z\n\n{signed}\n{EMPTY[1]}"
    )
    digest = "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972"
    to_sign = sigv4.string_to_sign(evidence, canonical.encode())
    assert to_sign == (
        f"AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n{digest}"
    )
    with pytest.raises(SignatureDoesNotMatch) as caught:
        sigv4.verify(request, evidence, SECRET)
    assert caught.value.fields == {
        "AWSAccessKeyId": ACCESS_KEY,
        "StringToSign": to_sign,
        "SignatureProvided": "0" * 64,
        "StringToSignBytes": " ".join(f"{byte:02x}" for byte in to_sign.encode()),
        "CanonicalRequest": canonical,
        "CanonicalRequestBytes": " ".join(f"{byte:02x}" for byte in canonical.encode()),
    }


@pytest.mark.parametrize(
    ("raw_path", "expected"),
    [
        ("", "/"),
        ("/", "/"),
        ("/b//k/../.", "/b//k/../."),
        ("/b/a+b c", "/b/a%2Bb%20c"),
        ("/b/%2b%7E%2f%c3%a9", "/b/%2B~/%C3%A9"),
        ("/b/$&'()*!;,:@=", "/b/%24%26%27%28%29%2A%21%3B%2C%3A%40%3D"),
    ],
)
def test_canonical_uri(raw_path: str, expected: str) -> None:
    assert sigv4.canonical_uri(raw_path) == expected


def test_canonical_query_sorts_encoded_names_then_values(make_request: Make) -> None:
    request = make_request("GET", "/b?b=2&a&B=1&b=10&%C3%A9=x+y&a-=&X-Amz-Signature=0")
    assert sigv4.canonical_query(request) == "%C3%A9=x%20y&B=1&a=&a-=&b=10&b=2"


def test_canonical_headers_trim_collapse_and_join(make_request: Make) -> None:
    headers = [("X-B", "  a   b\t c "), ("Other", "1"), ("X-A", "1"), ("X-A", " 2  3 ")]
    request = make_request("GET", "/", headers)
    assert sigv4.canonical_headers(request, ("x-a", "x-b")) == "x-a:1,2 3\nx-b:a b c\n"


def sign(request: S3Request, *, uri: str | None = None, encoding: str = "utf-8") -> S3Request:
    """Replace the placeholder signature of ``request`` by a true one."""
    evidence = sigv4.find_evidence(request)
    assert evidence is not None
    canonical = sigv4.canonical_request(request, evidence, uri=uri).encode(encoding)
    with pytest.raises(SignatureDoesNotMatch):
        sigv4.verify(request, evidence, SECRET)
    key = sigv4.signing_key(SECRET, evidence.date, evidence.region)
    to_sign = sigv4.string_to_sign(evidence, canonical)
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    headers = [
        (name, value.replace("0" * 64, signature) if name == "authorization" else value)
        for name, value in request.header_list
    ]
    return replace(request, headers=dict(headers), header_list=headers)


SIGNED = "host;x-amz-content-sha256;x-amz-date"


@pytest.mark.parametrize("raw_path", ["/b/a(1)!*'.zip", "/b/a%2fb", "/b/%e9%88%b4", "/b/a=b@c"])
def test_clients_that_sign_the_path_as_they_send_it(make_request: Make, raw_path: str) -> None:
    request = make_request("GET", raw_path, [HOST, EMPTY, DATE, authorization(SIGNED, "0" * 64)])
    verify(sign(request, uri=raw_path))
    verify(sign(request))
    with pytest.raises(SignatureDoesNotMatch):
        verify(sign(request, uri=raw_path + "/"))


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_header_bytes_that_are_not_ascii(make_request: Make, encoding: str) -> None:
    headers = [HOST, EMPTY, DATE, ("x-amz-meta-who", "Ren\u00e9")]
    signed = "host;x-amz-content-sha256;x-amz-date;x-amz-meta-who"
    request = make_request("PUT", "/b/k", [*headers, authorization(signed, "0" * 64)])
    verify(sign(request, encoding=encoding))


def test_every_part_of_the_request_is_covered(make_request: Make) -> None:
    headers = [
        HOST,
        EMPTY,
        DATE,
        ("x-amz-meta-a", "1"),
        authorization(SIGNED + ";x-amz-meta-a", "0" * 64),
    ]
    good = sign(make_request("PUT", "/b/k?partNumber=1", headers))
    verify(good)

    def with_header(name: str, value: str) -> S3Request:
        changed = [(n, value if n == name else v) for n, v in good.header_list]
        return replace(good, headers=dict(changed), header_list=changed)

    tampered = [
        replace(good, method="DELETE"),
        replace(good, raw_path="/b/K"),
        replace(good, query=[("partNumber", "2")]),
        replace(good, query=[*good.query, ("x", "")]),
        with_header("host", "evil.example"),
        with_header("x-amz-meta-a", "2"),
        with_header("x-amz-date", "20130524T000001Z"),
        with_header("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        replace(good, header_list=[*good.header_list, ("x-amz-meta-a", "2")]),
    ]
    for request in tampered:
        with pytest.raises(SignatureDoesNotMatch):
            verify(request)
    with pytest.raises(SignatureDoesNotMatch):
        verify(good, secret=SECRET + "x")
    verify(replace(good, header_list=[*good.header_list, ("user-agent", "anything")]))


@pytest.mark.parametrize("value", ["", "text/plain"])
def test_a_signed_header_that_did_not_arrive(make_request: Make, value: str) -> None:
    """Not even one without a value, for which the canonical request would be the same."""
    names = f"content-type;{SIGNED}"
    headers = [HOST, EMPTY, DATE, ("content-type", value), authorization(names, "0" * 64)]
    good = sign(make_request("PUT", "/b/k", headers))
    verify(good)
    left = [(n, v) for n, v in good.header_list if n != "content-type"]
    with pytest.raises(SignatureDoesNotMatch, match=r"did not arrive.*: content-type") as caught:
        verify(replace(good, headers=dict(left), header_list=left))
    assert "content-type:\n" in caught.value.fields["CanonicalRequest"]


# --- botocore as oracle ------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
names = st.from_regex(r"x-(amz-meta-)?[a-z0-9-]{1,8}", fullmatch=True)
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
BOTO = BotoCredentials(ACCESS_KEY, SECRET)


def boto_request(
    method: str, key: str, query: list[tuple[str, str]], headers: list[tuple[str, str]], data: bytes
) -> AWSRequest:
    encoded = "&".join(f"{quote(k, safe='-._~')}={quote(v, safe='-._~')}" for k, v in query)
    url = f"http://localhost:9000/bucket/{quote(key, safe='/~')}" + ("?" + encoded if query else "")
    request = AWSRequest(method=method, url=url, data=data)
    for name, value in headers:
        request.headers.add_header(name, value)
    return request


def as_sent(make_request: Make, request: AWSRequest) -> S3Request:
    parts = urlsplit(request.url)
    target = parts.path + ("?" + parts.query if parts.query else "")
    headers = [("Host", parts.netloc), *request.headers.items()]
    return make_request(request.method, target, headers)


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]),
    key=text,
    query=st.lists(st.tuples(text.filter(bool), text), max_size=4),
    headers=st.lists(st.tuples(names, values), max_size=4),
    data=st.binary(max_size=20),
)
@settings(deadline=None, max_examples=150)
def test_header_signatures_of_botocore(
    make_request: Make,
    method: str,
    key: str,
    query: list[tuple[str, str]],
    headers: list[tuple[str, str]],
    data: bytes,
) -> None:
    request = boto_request(method, key, query, headers, data)
    signer = botocore.auth.S3SigV4Auth(BOTO, "s3", "eu-central-1")
    signer.add_auth(request)
    sent = as_sent(make_request, request)
    verify(sent)
    evidence = sigv4.find_evidence(sent)
    assert evidence is not None
    assert evidence.payload_hash == hashlib.sha256(data).hexdigest()
    assert (sent.bucket, sent.key) == ("bucket", key)
    with pytest.raises(SignatureDoesNotMatch):
        verify(replace(sent, raw_path=sent.raw_path + "x"))


@given(
    key=text,
    query=st.lists(st.tuples(names, text), max_size=3),
    headers=st.lists(st.tuples(names, values), max_size=3),
)
@settings(deadline=None, max_examples=100)
def test_presigned_urls_of_botocore(
    make_request: Make, key: str, query: list[tuple[str, str]], headers: list[tuple[str, str]]
) -> None:
    # What contradicts a header, or could be none, is refused when the request is parsed.
    named = {name.lower() for name, _ in headers}
    assume(named.isdisjoint(name.lower() for name, _ in query))
    # So is a parameter that stands for a header and holds what no header can.
    assume(all(value.isprintable() or not name.startswith("x-amz-") for name, value in query))
    assume(all(is_sendable(*pair) for pair in query if pair[0].startswith("x-amz-")))
    request = boto_request("PUT", key, query, headers, b"")
    signer = botocore.auth.S3SigV4QueryAuth(BOTO, "s3", "us-east-1", expires=60)
    signer.add_auth(request)
    sent = as_sent(make_request, request)
    verify(sent)
    evidence = sigv4.find_evidence(sent)
    assert evidence is not None
    assert (evidence.expires, evidence.payload_hash) == (60, "UNSIGNED-PAYLOAD")
