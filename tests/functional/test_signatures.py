from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support.expect import refused
from support.raw import RawClient
from support.server import ServerProcess
from support.signing import Signed, Signer, chunk_signatures, sha256_hex, trailer_signature

if TYPE_CHECKING:
    from conftest import MakeClient


@pytest.fixture
def target(raw: RawClient, bucket: str) -> str:
    """An object that may not be read or written without a right signature."""
    assert raw.request("PUT", f"/{bucket}/k", body=b"kept").status == 200
    return f"/{bucket}/k"


def test_the_signer_agrees_with_the_published_vectors() -> None:
    """AWS, "Transferring Payload in Multiple Chunks": 65 KiB of the letter a."""
    signer = Signer(
        host="s3.amazonaws.com",
        access_key="AKIAIOSFODNN7EXAMPLE",
        secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    )
    seed = signer.sign(
        "PUT",
        "/examplebucket/chunkObject.txt",
        headers={
            "content-encoding": "aws-chunked",
            "content-length": "66824",
            "x-amz-decoded-content-length": "66560",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
        },
        payload="STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        at=datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert seed.signature.startswith("4f232c43")
    chunks = chunk_signatures(seed, [b"a" * 65536, b"a" * 1024, b""])
    assert [chunk[:8] for chunk in chunks] == ["ad80c730", "0055627c", "b6c6ea8a"]
    trailing = replace(
        seed, signature="106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
    )
    chunks = chunk_signatures(trailing, [b"a" * 65536, b"a" * 1024, b""])
    assert chunks[-1].startswith("2ca2aba2")
    assert trailer_signature(
        trailing, chunks[-1], {"x-amz-checksum-crc32c": "sOO8/Q=="}
    ).startswith("d81f82fc")


def test_a_wrong_secret(boto3_factory: MakeClient, server: ServerProcess, target: str) -> None:
    client = boto3_factory(server, secret_key="not the secret")
    with refused("SignatureDoesNotMatch", 403):
        client.list_buckets()
    with refused("SignatureDoesNotMatch", 403):
        client.put_object(Bucket=target.split("/")[1], Key="k", Body=b"overwritten")
    assert RawClient(server).request("GET", target).body == b"kept"


def test_an_unknown_key(boto3_factory: MakeClient, server: ServerProcess) -> None:
    client = boto3_factory(server, access_key="AKUNKNOWN")
    with refused("InvalidAccessKeyId", 403):
        client.list_buckets()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST"])
def test_anonymous(raw: RawClient, target: str, method: str) -> None:
    host = {"host": f"127.0.0.1:{raw.server.port}"}
    answer = raw.send_unsigned(method, target, host)
    assert answer.status in (403, 405)
    if method != "HEAD":
        assert answer.code in ("AccessDenied", "MethodNotAllowed")
    assert raw.request("GET", target).body == b"kept"


def test_absence_is_not_told_to_strangers(raw: RawClient, bucket: str) -> None:
    host = {"host": f"127.0.0.1:{raw.server.port}"}
    for path in ("/no-such-bucket", f"/{bucket}/absent", "/no-such-bucket/k"):
        assert raw.send_unsigned("GET", path, host).code == "AccessDenied"


@pytest.mark.parametrize("seconds", [-86_400, -3600, -960, 960, 3600, 86_400 * 3650])
def test_a_shifted_clock(raw: RawClient, target: str, seconds: int) -> None:
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    answer = raw.request("PUT", target, body=b"overwritten", at=at)
    assert (answer.status, answer.code) == (403, "RequestTimeTooSkewed")
    assert raw.request("GET", target).body == b"kept"


@pytest.mark.parametrize("seconds", [-840, 840])
def test_a_clock_within_the_tolerance(raw: RawClient, target: str, seconds: int) -> None:
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    assert raw.request("GET", target, at=at).body == b"kept"


def test_the_signed_time_counts(raw: RawClient, target: str) -> None:
    old = raw.signer.sign("GET", target, at=datetime.now(UTC) - timedelta(days=1))
    fresh = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    answer = raw.send("GET", old, extra={"x-amz-date": fresh})
    assert (answer.status, answer.code) == (400, "AuthorizationHeaderMalformed")


def test_both_kinds_of_credentials(raw: RawClient, target: str) -> None:
    query = raw.signer.presign("GET", target)
    header = raw.signer.sign("GET", query.target)
    answer = raw.send("GET", header)
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_tampered_signed_header(raw: RawClient, bucket: str) -> None:
    signed = raw.signer.sign("PUT", f"/{bucket}/n", headers={"x-amz-meta-a": "1"})
    answer = raw.send("PUT", signed, extra={"x-amz-meta-a": "2"})
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")


def test_added_amz_header(raw: RawClient, bucket: str) -> None:
    signed = raw.signer.sign("PUT", f"/{bucket}/n", payload=sha256_hex(b""))
    for name, value in (
        ("x-amz-meta-a", "1"),
        ("x-amz-copy-source", f"{bucket}/k"),
        ("x-amz-acl", "private"),
    ):
        answer = raw.send("PUT", signed, extra={name: value})
        assert (answer.status, answer.code) == (403, "AccessDenied"), name
    assert raw.request("HEAD", f"/{bucket}/n").status == 404


def test_added_ordinary_headers_are_fine(raw: RawClient, target: str) -> None:
    signed = raw.signer.sign("GET", target)
    assert raw.send("GET", signed, extra={"accept": "*/*", "x-forwarded-for": "1.2.3.4"}).body


def test_a_listed_header_that_is_absent(raw: RawClient, target: str) -> None:
    signed = raw.signer.sign("GET", target, headers={"x-amz-meta-a": "1"})
    headers = {name: value for name, value in signed.headers.items() if name != "x-amz-meta-a"}
    answer = raw.send_unsigned("GET", target, headers)
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")


def test_tampered_path_query_and_method(raw: RawClient, bucket: str, target: str) -> None:
    assert raw.request("PUT", f"/{bucket}/other", body=b"secret").status == 200
    signed = raw.signer.sign("GET", target)
    for method, path in (
        ("GET", f"/{bucket}/other"),
        ("GET", f"{target}?acl"),
        ("GET", f"{target}?x=y"),
        ("DELETE", target),
        ("GET", f"/{bucket}"),
    ):
        answer = raw.send_unsigned(method, path, signed.headers)
        assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch"), (method, path)
    assert raw.request("GET", target).body == b"kept"


def test_another_spelling_of_the_path_is_the_same_key(raw: RawClient, bucket: str) -> None:
    assert raw.request("PUT", f"/{bucket}/secret", body=b"x").status == 200
    signed = raw.signer.sign("GET", f"/{bucket}/secret")
    assert raw.send_unsigned("GET", f"/{bucket}/%73ecret", signed.headers).body == b"x"
    assert raw.send_unsigned("GET", f"/{bucket}/x/../secret", signed.headers).status == 403
    assert raw.send_unsigned("GET", f"/{bucket}//secret", signed.headers).status == 403


@pytest.mark.parametrize(
    "value",
    [
        "",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=x",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=" + "0" * 64,
        "AWS4-HMAC-SHA256 Credential=,SignedHeaders=,Signature=",
        "AWS4-ECDSA-P256-SHA256 Credential=x/20260101/s3/aws4_request, SignedHeaders=host, "
        "Signature=00",
        "AWS AKIAIOSFODNN7EXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=",
        "Basic dXNlcjpwYXNz",
        "Bearer x.y.z",
        "\x01\x02",
        "x" * 7000,
    ],
)
def test_malformed_authorization(raw: RawClient, target: str, value: str) -> None:
    signed = raw.signer.sign("GET", target)
    answer = raw.send("GET", signed, extra={"authorization": value})
    assert answer.status in (400, 403, 501)
    assert b"kept" not in answer.body


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/s3/", "/ec2/"),
        ("aws4_request", "aws3_request"),
        ("us-east-1", "eu-central-1"),
        ("host;", ""),
    ],
)
def test_tampered_scope(raw: RawClient, target: str, old: str, new: str) -> None:
    signed = raw.signer.sign("GET", target)
    assert old in signed.headers["authorization"]
    value = signed.headers["authorization"].replace(old, new)
    assert raw.send("GET", signed, extra={"authorization": value}).status in (400, 403)


def test_any_region_that_is_signed(raw: RawClient, target: str) -> None:
    signer = replace(raw.signer, region="ap-southeast-2")
    assert raw.request("GET", target, signer=signer).body == b"kept"


def test_session_tokens_are_refused(raw: RawClient, target: str) -> None:
    answer = raw.request("GET", target, headers={"x-amz-security-token": "token"})
    assert (answer.status, answer.code) == (400, "InvalidRequest")


def test_the_host_is_signed(raw: RawClient, target: str) -> None:
    signed = raw.signer.sign("GET", target)
    answer = raw.send("GET", signed, extra={"host": "elsewhere.example:9000"})
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")


def test_missing_payload_hash(raw: RawClient, target: str) -> None:
    signed: Signed = raw.signer.sign("GET", target)
    headers = {n: v for n, v in signed.headers.items() if n != "x-amz-content-sha256"}
    answer = raw.send_unsigned("GET", target, headers)
    assert (answer.status, answer.code) == (400, "InvalidRequest")


def test_the_secret_appears_nowhere(raw: RawClient, server: ServerProcess, target: str) -> None:
    for answer in (
        raw.request("GET", target, signer=replace(raw.signer, access_key="AKOTHER")),
        raw.request("GET", target, signer=replace(raw.signer, secret_key="wrong")),
    ):
        assert server.secret_key.encode() not in answer.body
    assert server.secret_key not in server.log_text()
