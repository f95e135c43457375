"""``Expect: 100-continue``: a refusal comes before the body, the permission only when wanted.

Source: RFC 9110 section 10.1.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from support.expect import Footprint
from support.raw import Answer, RawClient
from support.samples import MIB, noise
from support.server import ServerProcess
from support.signing import Signer, md5_base64, sha256_hex

DATA = noise(MIB)
EXPECT = {"expect": "100-continue"}


def first_answer(
    raw: RawClient,
    target: str,
    *,
    method: str = "PUT",
    headers: Mapping[str, str] | None = None,
    size: int | None = len(DATA),
    signer: Signer | None = None,
    payload: str = sha256_hex(DATA),
) -> Answer:
    """The first answer to a request whose body is announced and held back.

    Args:
        size: None for a body whose length nobody knows.
    """
    signed = (signer or raw.signer).sign(method, target, headers=headers, payload=payload)
    length = {"transfer-encoding": "chunked"} if size is None else {"content-length": str(size)}
    with raw.connect() as connection:
        connection.send_head(method, target, {**signed.headers, **EXPECT, **length})
        return connection.answer()


def test_a_welcome_body_is_asked_for(raw: RawClient, bucket: str) -> None:
    signed = raw.signer.sign("PUT", f"/{bucket}/k", payload=sha256_hex(DATA))
    with raw.connect() as connection:
        connection.send_head(
            "PUT", signed.target, {**signed.headers, **EXPECT, "content-length": str(len(DATA))}
        )
        assert connection.answer().status == 100
        connection.send(DATA)
        assert connection.answer().status == 200
        # The connection stays in step.
        get = raw.signer.sign("GET", f"/{bucket}/k")
        connection.send_head("GET", get.target, get.headers)
        assert connection.answer().body == DATA


def test_without_expectation_nothing_comes_between(raw: RawClient, bucket: str) -> None:
    signed = raw.signer.sign("PUT", f"/{bucket}/k", payload=sha256_hex(DATA))
    with raw.connect() as connection:
        connection.send_head("PUT", signed.target, {**signed.headers, "content-length": "1048576"})
        assert connection.is_silent(0.2)
        connection.send(DATA)
        assert connection.answer().status == 200


@pytest.mark.parametrize("key", ["k", "app.zip"])
def test_an_empty_body_is_asked_for_as_well(raw: RawClient, bucket: str, key: str) -> None:
    """RFC 9110 leaves it open; without it, the aws CLI 1.x hangs on its next request."""
    with raw.connect() as connection:
        for number in range(2):
            # A signature changes something only once, and two of one second are the same.
            signed = raw.signer.sign(
                "PUT", f"/{bucket}/{key}", headers={"x-amz-meta-number": str(number)}
            )
            head = {**signed.headers, **EXPECT, "content-length": "0"}
            connection.send_head("PUT", signed.target, head)
            assert connection.answer().status == 100
            answer = connection.answer()
            assert (answer.status, answer.headers.get("connection")) == (200, None)


def test_a_refusal_of_an_empty_body_ends_the_connection(raw: RawClient, bucket: str) -> None:
    assert raw.request("PUT", f"/{bucket}/k", body=b"kept").status == 200
    signed = raw.signer.sign("PUT", f"/{bucket}/k", headers={"if-none-match": "*"})
    with raw.connect() as connection:
        connection.send_head(
            "PUT", signed.target, {**signed.headers, **EXPECT, "content-length": "0"}
        )
        answer = connection.answer()
        assert (answer.status, answer.headers.get("connection")) == (412, "close")
        assert connection.receive_some() == b""


def test_wrong_signature(raw: RawClient, bucket: str) -> None:
    answer = first_answer(raw, f"/{bucket}/k", signer=replace(raw.signer, secret_key="wrong"))
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")
    assert answer.headers["connection"] == "close"


def test_missing_bucket(raw: RawClient) -> None:
    assert first_answer(raw, "/no-such-bucket/k").code == "NoSuchBucket"


@pytest.mark.parametrize("headers", [{"if-none-match": "*"}, {"if-match": '"0"'}])
def test_failing_precondition(raw: RawClient, bucket: str, headers: dict[str, str]) -> None:
    assert raw.request("PUT", f"/{bucket}/k", body=b"kept").status == 200
    answer = first_answer(raw, f"/{bucket}/k", headers=headers)
    assert (answer.status, answer.code) == (412, "PreconditionFailed")
    assert raw.request("GET", f"/{bucket}/k").body == b"kept"


def test_too_large(raw: RawClient, bucket: str) -> None:
    answer = first_answer(raw, f"/{bucket}/k", size=5 * 1024**3 + 1)
    assert (answer.status, answer.code) == (400, "EntityTooLarge")


def test_unsupported_header(raw: RawClient, bucket: str) -> None:
    answer = first_answer(raw, f"/{bucket}/k", headers={"x-amz-write-offset-bytes": "0"})
    assert (answer.status, answer.code) == (501, "NotImplemented")


def test_key_too_long(raw: RawClient, bucket: str) -> None:
    assert first_answer(raw, f"/{bucket}/{'k' * 1025}").code == "KeyTooLongError"


def test_unknown_upload(raw: RawClient, bucket: str) -> None:
    target = f"/{bucket}/k?partNumber=1&uploadId={'0' * 32}"
    assert first_answer(raw, target).code == "NoSuchUpload"


def test_a_client_that_sends_anyway_still_reads_the_refusal(
    raw: RawClient, bucket: str, footprint: Footprint
) -> None:
    """Closing with unread bytes makes the kernel reset the connection and lose the answer."""
    big = noise(8 * MIB)
    for _ in range(3):
        signed = replace(raw.signer, secret_key="wrong").sign(
            "PUT", f"/{bucket}/k", payload=sha256_hex(big)
        )
        answer = raw.send("PUT", signed, big)
        assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")
    footprint.assert_unchanged()


UPLOAD = f"uploadId={'0' * 32}"

#: Requests with a body, by method and what follows the bucket.
WITH_BODY = [
    ("PUT", "/k"),
    ("PUT", f"/k?partNumber=1&{UPLOAD}"),
    ("POST", "?delete"),
    ("POST", f"/k?{UPLOAD}"),
]


@pytest.mark.parametrize(("method", "rest"), WITH_BODY)
def test_every_operation_refuses_before_the_body(
    raw: RawClient, bucket: str, method: str, rest: str
) -> None:
    target, absent = f"/{bucket}{rest}", f"/no-such-bucket{rest}"
    stranger = replace(raw.signer, access_key="AKSTRANGER")
    forger = replace(raw.signer, secret_key="wrong")
    # DeleteObjects needs one.
    digest = {"content-md5": md5_base64(DATA)}
    big, endless = 6 * 1024**3, "UNSIGNED-PAYLOAD"
    for answer, expected in (
        (first_answer(raw, target, method=method, signer=forger), "SignatureDoesNotMatch"),
        (first_answer(raw, target, method=method, signer=stranger), "InvalidAccessKeyId"),
        (first_answer(raw, target, method=method, headers=digest, size=big), "EntityTooLarge"),
        (
            first_answer(raw, target, method=method, headers=digest, size=None, payload=endless),
            "MissingContentLength",
        ),
        (
            first_answer(raw, target, method=method, headers={"content-md5": "no"}),
            "InvalidDigest",
        ),
    ):
        assert answer.code == expected
        assert answer.status == {"EntityTooLarge": 400, "InvalidDigest": 400}.get(
            expected, 411 if expected == "MissingContentLength" else 403
        )
        assert answer.headers["connection"] == "close"
    gone = first_answer(raw, absent, method=method, headers=digest)
    assert (gone.status, gone.code) in {(404, "NoSuchBucket"), (404, "NoSuchUpload")}


@pytest.mark.parametrize(("method", "rest"), WITH_BODY)
def test_without_permission(raw: RawClient, bucket: str, method: str, rest: str) -> None:
    """Nobody is allowed anything without a signature."""
    with raw.connect() as connection:
        head = {"host": raw.signer.host, **EXPECT, "content-length": "9"}
        connection.send_head(method, f"/{bucket}{rest}", head)
        answer = connection.answer()
    assert (answer.status, answer.code) == (403, "AccessDenied")


def test_a_document_that_is_welcome_is_asked_for(raw: RawClient, bucket: str) -> None:
    """Also that of a Complete: whether it repeats an earlier one, only its storage knows."""
    for target, document, code in (
        (f"/{bucket}?delete", b"<Delete><Object><Key>k</Key></Object></Delete>", ""),
        (
            f"/{bucket}/k?{UPLOAD}",
            b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part>"
            b"</CompleteMultipartUpload>",
            "NoSuchUpload",
        ),
    ):
        headers = {"content-md5": md5_base64(document)}
        signed = raw.signer.sign("POST", target, headers=headers, payload=sha256_hex(document))
        with raw.connect() as connection:
            head = {**signed.headers, **EXPECT, "content-length": str(len(document))}
            connection.send_head("POST", target, head)
            assert connection.answer().status == 100
            connection.send(document)
            assert connection.answer().code == code


def test_a_condition_of_complete(raw: RawClient, bucket: str) -> None:
    assert raw.request("PUT", f"/{bucket}/k", body=b"kept").status == 200
    upload = raw.request("POST", f"/{bucket}/k?uploads").element("UploadId")
    target = f"/{bucket}/k?uploadId={upload}"
    for condition in ({"if-none-match": "*"}, {"if-match": '"0"'}):
        answer = first_answer(raw, target, method="POST", headers=condition, size=100)
        assert (answer.status, answer.code) == (412, "PreconditionFailed")
    assert raw.request("DELETE", target).status == 204


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawClient]:
    """A server with a bucket that is full, and one that is frozen."""
    buckets = {"full": {"quota_bytes": len(DATA) - 1}, "frozen": {"quota_bytes": 0}}
    settings = {"storage": {"buckets": buckets}}
    with ServerProcess(tmp_path_factory.mktemp("narrow"), settings=settings) as server:
        raw = RawClient(server)
        for name in buckets:
            assert raw.request("PUT", f"/{name}").status == 200
        yield raw


@pytest.mark.parametrize("bucket_name", ["full", "frozen"])
@pytest.mark.parametrize("key", ["k", "app.zip"])
def test_a_full_quota(narrow: RawClient, bucket_name: str, key: str) -> None:
    answer = first_answer(narrow, f"/{bucket_name}/{key}")
    assert (answer.status, answer.code) == (403, "QuotaExceeded")


def test_a_part_beyond_the_quota(narrow: RawClient) -> None:
    upload = narrow.request("POST", "/full/k?uploads").element("UploadId")
    answer = first_answer(narrow, f"/full/k?partNumber=1&uploadId={upload}")
    assert (answer.status, answer.code) == (403, "QuotaExceeded")
