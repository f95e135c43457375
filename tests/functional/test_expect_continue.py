"""``Expect: 100-continue``: a refusal comes before the body, the permission only when wanted.

Source: RFC 9110 section 10.1.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from support.expect import Footprint
from support.raw import Answer, RawClient
from support.samples import MIB, noise
from support.signing import Signer, sha256_hex

DATA = noise(MIB)
EXPECT = {"expect": "100-continue"}


def first_answer(
    raw: RawClient,
    target: str,
    *,
    headers: Mapping[str, str] | None = None,
    size: int = len(DATA),
    signer: Signer | None = None,
) -> Answer:
    """The first answer to a PUT whose body is announced and held back."""
    signed = (signer or raw.signer).sign("PUT", target, headers=headers, payload=sha256_hex(DATA))
    with raw.connect() as connection:
        connection.send_head(
            "PUT", target, {**signed.headers, **EXPECT, "content-length": str(size)}
        )
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
    answer = first_answer(raw, f"/{bucket}/k", headers={"x-amz-tagging": "a=b"})
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
