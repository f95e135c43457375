"""Parts of objects by their number, and GetObjectAttributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.digests import digest
from support.expect import refused
from support.raw import RawClient
from support.samples import MIB, noise, release
from support.uploads import Upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SIZE = 5 * MIB


def stored_in_parts(s3: S3Client, bucket: str, key: str, pieces: list[bytes]) -> None:
    upload = Upload(s3, bucket, key)
    # The numbers have gaps: they are not what a part is read by.
    tags = [(3 * n, upload.part(3 * n, piece)) for n, piece in enumerate(pieces, 1)]
    upload.complete(*tags)


@pytest.mark.parametrize("key", ["plain.txt", "delta.zip"])
def test_parts_of_a_multipart_object(s3: S3Client, bucket: str, key: str) -> None:
    """Also of one that became a delta after it had been assembled."""
    whole = release(1, SIZE + 4096)
    if key == "delta.zip":
        s3.put_object(Bucket=bucket, Key="first.zip", Body=release(0, SIZE + 4096))
    pieces = [whole[:SIZE], whole[SIZE:]]
    stored_in_parts(s3, bucket, key, pieces)
    position = 0
    for number, piece in enumerate(pieces, 1):
        span = f"bytes {position}-{position + len(piece) - 1}/{len(whole)}"
        got: Any = s3.get_object(Bucket=bucket, Key=key, PartNumber=number)
        head: Any = s3.head_object(Bucket=bucket, Key=key, PartNumber=number)
        assert got["Body"].read() == piece
        for answer in (got, head):
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
            assert answer["ResponseMetadata"]["HTTPHeaders"]["content-range"] == span
            assert (answer["PartsCount"], answer["ContentLength"]) == (2, len(piece))
        position += len(piece)
    for call in (s3.get_object, s3.head_object):
        with refused("InvalidPartNumber" if call == s3.get_object else "416", 416):
            call(Bucket=bucket, Key=key, PartNumber=3)
        assert "PartsCount" not in call(Bucket=bucket, Key=key)
    # A copy is stored as one.
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/{key}")
    copy: Any = s3.get_object(Bucket=bucket, Key="copy", PartNumber=1)
    assert copy["Body"].read() == whole
    assert "PartsCount" not in copy
    with refused("InvalidPartNumber", 416):
        s3.get_object(Bucket=bucket, Key="copy", PartNumber=2)
    # Onto itself it stays what it is, also if a checksum has to be computed from its bytes.
    options: Any
    for options in ({}, {"ChecksumAlgorithm": "SHA256"}):
        itself = s3.copy_object(
            Bucket=bucket,
            Key=key,
            CopySource=f"{bucket}/{key}",
            MetadataDirective="REPLACE",
            **options,
        )["CopyObjectResult"]
        again: Any = s3.head_object(Bucket=bucket, Key=key, PartNumber=2)
        assert itself["ETag"] == again["ETag"] == head["ETag"]
        assert (again["PartsCount"], again["ContentLength"]) == (2, len(pieces[1]))
    assert itself["ChecksumType"] == "FULL_OBJECT"
    assert itself["ChecksumSHA256"] == digest("sha256", whole)


def test_parts_of_other_objects(s3: S3Client, raw: RawClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    for method in ("GET", "HEAD"):
        one = raw.request(method, f"/{bucket}/k?partNumber=1")
        assert (one.status, one.headers["content-range"]) == (206, "bytes 0-9/10")
        assert one.headers["content-length"] == "10"
        assert "x-amz-mp-parts-count" not in one.headers
        empty = raw.request(method, f"/{bucket}/empty?partNumber=1")
        assert (empty.status, empty.headers["content-length"]) == (200, "0")
        assert "content-range" not in empty.headers
    upload = Upload(s3, bucket, "nothing")
    upload.complete((1, upload.part(1, b"")))
    nothing = raw.request("GET", f"/{bucket}/nothing?partNumber=1")
    assert (nothing.status, nothing.headers["x-amz-mp-parts-count"]) == (200, "1")
    beyond = raw.request("GET", f"/{bucket}/k?partNumber=2")
    assert (beyond.status, beyond.code) == (416, "InvalidPartNumber")
    assert (beyond.element("ActualPartCount"), beyond.element("PartNumberRequested")) == ("1", "2")


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("partNumber=0", {}, 400, "InvalidArgument"),
        ("partNumber=10001", {}, 400, "InvalidArgument"),
        ("partNumber=-1", {}, 400, "InvalidArgument"),
        ("partNumber=one", {}, 400, "InvalidArgument"),
        ("partNumber=", {}, 400, "InvalidArgument"),
        ("partNumber=" + "9" * 5000, {}, 400, "InvalidArgument"),
        ("partNumber=1", {"range": "bytes=0-1"}, 400, "InvalidRequest"),
        ("partNumber=1", {"range": "nonsense"}, 400, "InvalidRequest"),
        ("partNumber=2", {"if-match": '"x"'}, 412, "PreconditionFailed"),
        ("partNumber=2", {"if-none-match": "*"}, 304, ""),
        ("partNumber=1", {"if-none-match": "*"}, 304, ""),
        ("partNumber=10000", {}, 416, "InvalidPartNumber"),
    ],
)
def test_parts_that_are_refused(
    s3: S3Client,
    raw: RawClient,
    bucket: str,
    query: str,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    answer = raw.request("GET", f"/{bucket}/k?{query}", headers=headers)
    assert (answer.status, answer.code) == (status, code)
    assert raw.request("HEAD", f"/{bucket}/k?{query}", headers=headers).status == status


# --- GetObjectAttributes ---------------------------------------------------------------------


def test_attributes(s3: S3Client, raw: RawClient, bucket: str) -> None:
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789", ChecksumAlgorithm="SHA1")
    found: Any = s3.get_object_attributes(
        Bucket=bucket,
        Key="k",
        ObjectAttributes=["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"],
    )
    assert found["ETag"] == put["ETag"].strip('"')
    assert found["Checksum"] == {
        "ChecksumSHA1": put["ChecksumSHA1"],
        "ChecksumType": "FULL_OBJECT",
    }
    assert (found["StorageClass"], found["ObjectSize"]) == ("STANDARD", 10)
    assert "ObjectParts" not in found
    assert found["LastModified"] == s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    answer = raw.request(
        "GET", f"/{bucket}/k?attributes", headers={"x-amz-object-attributes": "ObjectSize , ETag"}
    )
    assert b"Checksum" not in answer.body
    assert b"StorageClass" not in answer.body
    assert (answer.element("ObjectSize"), answer.element("ETag")) == ("10", found["ETag"])


def test_pages_of_parts(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket, ChecksumAlgorithm="CRC32C")
    data = noise(SIZE)
    listed: list[Any] = []
    for number in range(1, 4):
        part: Any = s3.upload_part(
            **upload.names, PartNumber=number, Body=data, ChecksumAlgorithm="CRC32C"
        )
        listed.append(
            {
                "PartNumber": number,
                "ETag": part["ETag"],
                "ChecksumCRC32C": part["ChecksumCRC32C"],
            }
        )
    s3.complete_multipart_upload(**upload.names, MultipartUpload={"Parts": listed})
    for marker, size, numbers, truncated in (
        (0, 2, [1, 2], True),
        (2, 2, [3], False),
        (0, 3, [1, 2, 3], False),
        (3, 1, [], False),
        (9999, 1, [], False),
        (0, 0, [], True),
    ):
        found: Any = s3.get_object_attributes(
            Bucket=bucket,
            Key="object",
            ObjectAttributes=["ObjectParts"],
            MaxParts=size,
            PartNumberMarker=marker,
        )["ObjectParts"]
        parts = found.get("Parts", [])
        assert [part["PartNumber"] for part in parts] == numbers
        assert {part["Size"] for part in parts} <= {SIZE}
        assert {part["ChecksumCRC32C"] for part in parts} <= {listed[0]["ChecksumCRC32C"]}
        assert (found["TotalPartsCount"], found["MaxParts"]) == (3, size)
        assert (found["PartNumberMarker"], found["IsTruncated"]) == (marker, truncated)
        assert found["NextPartNumberMarker"] == (numbers[-1] if numbers else 0)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 400, "InvalidRequest"),
        ({"x-amz-object-attributes": ""}, 400, "InvalidRequest"),
        ({"x-amz-object-attributes": " , "}, 400, "InvalidRequest"),
        ({"x-amz-object-attributes": "ETag,Colour"}, 400, "InvalidArgument"),
        ({"x-amz-object-attributes": "etag"}, 400, "InvalidArgument"),
        ({"x-amz-object-attributes": "ETag", "x-amz-max-parts": "-1"}, 400, "InvalidArgument"),
        ({"x-amz-object-attributes": "ETag", "x-amz-max-parts": "x"}, 400, "InvalidArgument"),
        (
            {"x-amz-object-attributes": "ETag", "x-amz-part-number-marker": "1e3"},
            400,
            "InvalidArgument",
        ),
        ({"x-amz-object-attributes": "ETag", "if-match": '"x"'}, 412, "PreconditionFailed"),
        ({"x-amz-object-attributes": "ETag", "if-none-match": "*"}, 304, ""),
    ],
)
def test_attributes_that_are_refused(
    s3: S3Client, raw: RawClient, bucket: str, headers: dict[str, str], status: int, code: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = raw.request("GET", f"/{bucket}/k?attributes", headers=headers)
    assert (answer.status, answer.code) == (status, code)
    missing = raw.request(
        "GET", f"/{bucket}/absent?attributes", headers={"x-amz-object-attributes": "ETag"}
    )
    assert (missing.status, missing.code) == (404, "NoSuchKey")
