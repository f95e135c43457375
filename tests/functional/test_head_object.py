from __future__ import annotations

from typing import TYPE_CHECKING

from support.expect import refused
from support.raw import RawClient
from support.samples import MIB, md5_hex, release

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def test_says_what_get_says_without_a_body(s3: S3Client, raw: RawClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"12345", Metadata={"a": "b"})
    head, get = raw.request("HEAD", f"/{bucket}/k"), raw.request("GET", f"/{bucket}/k")
    different = {"date", "x-amz-request-id"}
    assert {n: v for n, v in head.headers.items() if n not in different} == {
        n: v for n, v in get.headers.items() if n not in different
    }
    assert head.headers["content-length"] == "5"


def test_the_connection_goes_on_after_it(s3: S3Client, raw: RawClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"12345")
    present = raw.signer.sign("HEAD", f"/{bucket}/k")
    absent = raw.signer.sign("HEAD", f"/{bucket}/absent")
    with raw.connect() as connection:
        for signed, status in ((present, 200), (absent, 404), (present, 200)):
            connection.send_head("HEAD", signed.target, signed.headers)
            # A body after any of them would be read as the next status line.
            assert connection.answer().status == status


def test_missing_key_and_bucket(s3: S3Client, bucket: str) -> None:
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key="k")
    with refused("404", 404):
        s3.head_object(Bucket="no-such-bucket", Key="k")


def test_size_and_etag_of_a_delta_are_logical(s3: S3Client, bucket: str) -> None:
    for number in range(2):
        data = release(number, MIB)
        s3.put_object(Bucket=bucket, Key=f"app-{number}.zip", Body=data)
        found = s3.head_object(Bucket=bucket, Key=f"app-{number}.zip")
        assert (found["ContentLength"], found["ETag"]) == (len(data), f'"{md5_hex(data)}"')
        assert found["Metadata"] == {}


def test_takes_overrides_and_ranges(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    found = s3.head_object(
        Bucket=bucket, Key="k", Range="bytes=2-4", ResponseContentType="text/x-other"
    )
    assert (found["ContentLength"], found["ContentType"]) == (3, "text/x-other")
    assert found["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert found["ContentRange"] == "bytes 2-4/10"
    with refused("416", 416):
        s3.head_object(Bucket=bucket, Key="k", Range="bytes=10-")
