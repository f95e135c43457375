from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from support.raw import Answer, RawClient
from support.samples import noise
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from conftest import MakeClient

WEEK = 604_800


def fetch(raw: RawClient, url: str, method: str = "GET", body: bytes = b"") -> Answer:
    parts = urlsplit(url)
    headers = {"host": parts.netloc}
    if body:
        headers["content-length"] = str(len(body))
    return raw.send_unsigned(method, f"{parts.path}?{parts.query}", headers, body)


def test_get_and_put(s3: S3Client, raw: RawClient, bucket: str) -> None:
    data = noise(200_000)
    names = {"Bucket": bucket, "Key": "ü b+c&d"}
    put = s3.generate_presigned_url("put_object", names, ExpiresIn=60)
    assert fetch(raw, put, "PUT", data).status == 200
    get = s3.generate_presigned_url("get_object", names, ExpiresIn=60)
    assert fetch(raw, get).body == data
    assert fetch(raw, get).body == data, "a presigned URL works more than once"
    head = s3.generate_presigned_url("head_object", names, ExpiresIn=60)
    assert fetch(raw, head, "HEAD").headers["content-length"] == str(len(data))
    delete = s3.generate_presigned_url("delete_object", names, ExpiresIn=60)
    assert fetch(raw, delete, "DELETE").status == 204
    assert fetch(raw, get).code == "NoSuchKey"


def test_response_overrides_are_signed(s3: S3Client, raw: RawClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    url = s3.generate_presigned_url(
        "get_object", {"Bucket": bucket, "Key": "k", "ResponseContentType": "text/html"}
    )
    assert fetch(raw, url).headers["content-type"] == "text/html"
    assert fetch(raw, url.replace("text%2Fhtml", "text%2Fxml")).code == "SignatureDoesNotMatch"


def test_expired(raw: RawClient, bucket: str) -> None:
    assert raw.request("PUT", f"/{bucket}/k", body=b"x").status == 200
    old = datetime.now(UTC) - timedelta(seconds=62)
    signed = raw.signer.presign("GET", f"/{bucket}/k", expires=60, at=old)
    answer = raw.send("GET", signed)
    assert (answer.status, answer.code) == (403, "AccessDenied")
    alive = raw.signer.presign("GET", f"/{bucket}/k", expires=120, at=old)
    assert raw.send("GET", alive).body == b"x"


def test_an_old_one_is_valid_until_it_expires(raw: RawClient, bucket: str) -> None:
    assert raw.request("PUT", f"/{bucket}/k", body=b"x").status == 200
    old = datetime.now(UTC) - timedelta(days=6, hours=23)
    assert raw.send("GET", raw.signer.presign("GET", f"/{bucket}/k", expires=WEEK, at=old)).body


def test_from_the_future(raw: RawClient, bucket: str) -> None:
    assert raw.request("PUT", f"/{bucket}/k", body=b"x").status == 200
    future = datetime.now(UTC) + timedelta(hours=1)
    answer = raw.send("GET", raw.signer.presign("GET", f"/{bucket}/k", at=future))
    assert (answer.status, answer.code) == (403, "RequestTimeTooSkewed")


@pytest.mark.parametrize("expires", [WEEK + 1, 0, -1, "x", "1.5", "9" * 400, ""])
def test_expiries_that_cannot_be(raw: RawClient, bucket: str, expires: int | str) -> None:
    signed = raw.signer.presign("GET", f"/{bucket}/k", expires=expires)
    answer = raw.send("GET", signed)
    assert (answer.status, answer.code) == (400, "AuthorizationQueryParametersError")


def test_a_week_is_the_longest(raw: RawClient, bucket: str) -> None:
    assert raw.request("PUT", f"/{bucket}/k", body=b"x").status == 200
    assert raw.send("GET", raw.signer.presign("GET", f"/{bucket}/k", expires=WEEK)).body == b"x"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/secret?", "/other?"),
        ("X-Amz-Expires=300", "X-Amz-Expires=301"),
        ("us-east-1", "eu-west-1"),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=host;range"),
        ("&X-Amz-Signature=", "&x=y&X-Amz-Signature="),
    ],
)
def test_tampered(raw: RawClient, bucket: str, old: str, new: str) -> None:
    for key in ("secret", "other"):
        assert raw.request("PUT", f"/{bucket}/{key}", body=b"x").status == 200
    signed = raw.signer.presign("GET", f"/{bucket}/secret")
    assert raw.send("GET", signed).status == 200
    assert old in signed.target
    target = signed.target.replace(old, new)
    answer = raw.send_unsigned("GET", target, {**signed.headers, "range": "bytes=0-0"})
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("end", ["", "0" * 63, "0" * 64, "x" * 64])
def test_wrong_signatures(raw: RawClient, bucket: str, end: str) -> None:
    signed = raw.signer.presign("GET", f"/{bucket}/k")
    target = signed.target.removesuffix(signed.signature) + end
    assert raw.send_unsigned("GET", target, signed.headers).status in (400, 403)


def test_a_url_for_one_method_serves_no_other(raw: RawClient, bucket: str) -> None:
    assert raw.request("PUT", f"/{bucket}/k", body=b"kept").status == 200
    signed = raw.signer.presign("GET", f"/{bucket}/k")
    for method in ("PUT", "DELETE"):
        answer = raw.send_unsigned(method, signed.target, signed.headers)
        assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")
    assert raw.request("GET", f"/{bucket}/k").body == b"kept"


def test_unsigned_amz_headers_do_not_ride_along(raw: RawClient, bucket: str) -> None:
    signed = raw.signer.presign("PUT", f"/{bucket}/k")
    headers = {**signed.headers, "x-amz-meta-extra": "1", "content-length": "1"}
    answer = raw.send_unsigned("PUT", signed.target, headers, b"x")
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert raw.request("HEAD", f"/{bucket}/k").status == 404


def test_metadata_hoisted_into_the_query(raw: RawClient, bucket: str) -> None:
    signed = raw.signer.presign("PUT", f"/{bucket}/k?x-amz-meta-colour=blue%20green")
    assert raw.send("PUT", signed, b"x").status == 200
    found = raw.request("HEAD", f"/{bucket}/k")
    assert found.headers["x-amz-meta-colour"] == "blue green"


def test_a_checksum_in_the_query_is_signed_and_ignored(raw: RawClient, bucket: str) -> None:
    # The SDK for JavaScript signs the checksum of no bytes into every URL for an upload.
    query = "x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32"
    signed = raw.signer.presign("PUT", f"/{bucket}/k?{query}")
    changed = replace(signed, target=signed.target.replace("crc32=AAAAAA", "crc32=AAAAAB"))
    assert raw.send("PUT", changed, b"some bytes").code == "SignatureDoesNotMatch"
    assert raw.request("HEAD", f"/{bucket}/k").status == 404
    assert raw.send("PUT", signed, b"some bytes").status == 200
    assert raw.request("GET", f"/{bucket}/k").body == b"some bytes"


def test_a_signed_checksum_of_a_presigned_upload_is_verified(raw: RawClient, bucket: str) -> None:
    headers = {"x-amz-checksum-crc32": "AAAAAA=="}
    signed = raw.signer.presign("PUT", f"/{bucket}/k", headers=headers)
    assert raw.send("PUT", signed, b"not those").code == "BadDigest"
    assert raw.request("HEAD", f"/{bucket}/k").status == 404


def test_version_2_signatures_name_the_way_out(
    boto3_factory: MakeClient, server: ServerProcess, raw: RawClient, bucket: str
) -> None:
    old = boto3_factory(server, signature_version="s3")
    answer = fetch(raw, old.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"}))
    assert answer.status == 400
    assert "s3v4" in answer.element("Message")
