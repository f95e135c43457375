from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support.expect import refused
from support.raw import RawClient
from support.samples import MIB, noise, release

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def test_answers_with_the_usual_headers(s3: S3Client, raw: RawClient, bucket: str) -> None:
    tag = s3.put_object(Bucket=bucket, Key="k", Body=b"body", ContentType="text/plain")["ETag"]
    answer = raw.request("GET", f"/{bucket}/k")
    assert (answer.status, answer.body) == (200, b"body")
    expected = {
        "etag": tag,
        "content-type": "text/plain",
        "content-length": "4",
        "accept-ranges": "bytes",
        "x-content-type-options": "nosniff",
    }
    assert expected.items() <= answer.headers.items()
    assert "content-range" not in answer.headers
    modified = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    assert abs(datetime.now(UTC) - modified) < timedelta(seconds=60)


def test_empty_object(s3: S3Client, raw: RawClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    answer = raw.request("GET", f"/{bucket}/k")
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "0", b"")


def test_missing_key_and_missing_bucket(s3: S3Client, bucket: str) -> None:
    with refused("NoSuchKey", 404) as refusal:
        s3.get_object(Bucket=bucket, Key="a/b&<c>")
    assert refusal.error["Key"] == "a/b&<c>"
    with refused("NoSuchBucket", 404) as refusal:
        s3.get_object(Bucket="no-such-bucket", Key="k")
    assert refusal.error["BucketName"] == "no-such-bucket"


@pytest.mark.parametrize("key", ["a", "a/", "a/b/c", "A/b", "a/b/"])
def test_neighbours_of_a_key_are_absent(s3: S3Client, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key="a/b", Body=b"x")
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key=key)


def test_response_overrides(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain", CacheControl="a")
    found = s3.get_object(
        Bucket=bucket,
        Key="k",
        ResponseContentType="application/pdf",
        ResponseContentDisposition='attachment; filename="ü.pdf"',
        ResponseCacheControl="no-store",
        ResponseContentEncoding="identity",
        ResponseContentLanguage="fr",
        ResponseExpires=datetime(2030, 1, 1, tzinfo=UTC),
    )
    assert found["ContentType"] == "application/pdf"
    disposition = found["ContentDisposition"].encode("latin-1").decode()
    assert disposition == 'attachment; filename="ü.pdf"'
    assert (found["CacheControl"], found["ContentEncoding"]) == ("no-store", "identity")
    assert found["ContentLanguage"] == "fr"
    assert "2030" in found["ExpiresString"]
    assert s3.head_object(Bucket=bucket, Key="k")["ContentType"] == "text/plain"


@pytest.mark.parametrize("key", ["object", "app.zip"])
def test_a_read_under_way_is_of_one_version(
    s3: S3Client, raw: RawClient, bucket: str, key: str
) -> None:
    s3.put_object(Bucket=bucket, Key="app-0.zip", Body=release(0, 12 * MIB))
    old = release(1, 12 * MIB)
    s3.put_object(Bucket=bucket, Key=key, Body=old)
    with raw.connect(receive_buffer=4096) as connection:
        signed = raw.signer.sign("GET", f"/{bucket}/{key}")
        connection.send_head("GET", signed.target, signed.headers)
        # The server has begun: its first bytes are here, its last ones cannot have been sent.
        assert not connection.is_silent(20)
        s3.put_object(Bucket=bucket, Key=key, Body=b"new")
        answer = connection.answer()
    assert answer.complete
    assert answer.body == old
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"new"


def test_many_requests_on_one_connection(s3: S3Client, raw: RawClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=noise(70_000))
    signed = raw.signer.sign("GET", f"/{bucket}/k")
    missing = raw.signer.sign("GET", f"/{bucket}/missing")
    with raw.connect() as connection:
        for _ in range(3):
            connection.send_head("GET", signed.target, signed.headers)
            assert connection.answer().body == noise(70_000)
            connection.send_head("GET", missing.target, missing.headers)
            assert connection.answer().status == 404


def test_only_the_null_version_exists(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert s3.get_object(Bucket=bucket, Key="k", VersionId="null")["Body"].read() == b"x"
    with refused("InvalidArgument", 400):
        s3.get_object(Bucket=bucket, Key="k", VersionId="3HL4kqtJlcpXroDTDmJ")


@pytest.mark.parametrize("subresource", ["torrent", "retention", "legal-hold"])
def test_subresources_never_answer_with_the_object(
    s3: S3Client, raw: RawClient, bucket: str, subresource: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"the object")
    answer = raw.request("GET", f"/{bucket}/k?{subresource}")
    assert (answer.status, answer.code) == (501, "NotImplemented")
    assert raw.request("GET", f"/{bucket}/absent?{subresource}").code == "NoSuchKey"


def test_unknown_query_keys_are_ignored(s3: S3Client, raw: RawClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert raw.request("GET", f"/{bucket}/k?x-id=GetObject&tag&Tagging").body == b"x"


def test_checksum_mode_does_not_break_ranges(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789", ChecksumAlgorithm="CRC32")
    found = s3.get_object(Bucket=bucket, Key="k", Range="bytes=2-4", ChecksumMode="ENABLED")
    assert found["Body"].read() == b"234"
