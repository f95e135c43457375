from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support.expect import Footprint, refused
from support.raw import RawClient
from support.samples import MIB, md5_hex, multipart_etag, noise
from support.signing import crc32_base64
from support.uploads import Upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FIVE = 5 * MIB
EMPTY_MD5 = '"d41d8cd98f00b204e9800998ecf8427e"'


def body_of(s3: S3Client, bucket: str, key: str = "object") -> bytes:
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def test_assembles_the_parts(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket, ContentType="text/x", Metadata={"colour": "blue"})
    pieces = [noise(FIVE, 1), noise(FIVE + 1, 2), noise(3, 3)]
    tags = [upload.part(number, piece) for number, piece in enumerate(pieces, 1)]
    assert tags == [f'"{md5_hex(piece)}"' for piece in pieces]
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    answer = upload.complete(*enumerate(tags, 1))
    assert answer["ETag"] == f'"{multipart_etag(pieces)}"'
    assert (answer["Bucket"], answer["Key"]) == (bucket, "object")
    assert answer["Location"].endswith(f"/{bucket}/object")
    found = s3.get_object(Bucket=bucket, Key="object")
    assert found["Body"].read() == b"".join(pieces)
    assert (found["ContentType"], found["Metadata"]) == ("text/x", {"colour": "blue"})
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"][0]
    head = s3.head_object(Bucket=bucket, Key="object")
    copied = s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/object")
    assert answer["ETag"] == found["ETag"] == listed["ETag"] == head["ETag"]
    assert s3.head_object(Bucket=bucket, Key="copy")["ETag"] == copied["CopyObjectResult"]["ETag"]
    assert not upload.is_open()


def test_parts_in_any_order_with_gaps(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket)
    last = upload.part(10_000, b"end")
    middle = upload.part(7, noise(FIVE, 7))
    upload.part(5, noise(FIVE, 5))  # not listed below: dropped
    first = upload.part(2, noise(FIVE, 2))
    upload.complete((2, first), (7, middle), (10_000, last))
    assert body_of(s3, bucket) == noise(FIVE, 2) + noise(FIVE, 7) + b"end"


def test_a_part_sent_again_replaces_the_first(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket)
    old = upload.part(1, b"old one")
    new = upload.part(1, b"new")
    with refused("InvalidPart", 400):
        upload.complete((1, old))
    upload.complete((1, new))
    assert body_of(s3, bucket) == b"new"


def test_one_empty_part(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket)
    tag = upload.part(1, b"")
    assert tag == EMPTY_MD5
    upload.complete((1, tag))
    assert body_of(s3, bucket) == b""


def test_parts_at_once(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket)
    with ThreadPoolExecutor(4) as pool:
        tags = list(pool.map(lambda number: upload.part(number, noise(FIVE, number)), range(1, 6)))
    upload.complete(*enumerate(tags, 1))
    assert md5_hex(body_of(s3, bucket)) == md5_hex(b"".join(noise(FIVE, n) for n in range(1, 6)))


def test_uploads_of_one_key_are_apart(s3: S3Client, bucket: str) -> None:
    one, two = Upload(s3, bucket), Upload(s3, bucket)
    tag_one, tag_two = one.part(1, b"one"), two.part(1, b"two")
    two.complete((1, tag_two))
    assert body_of(s3, bucket) == b"two"
    one.complete((1, tag_one))
    assert body_of(s3, bucket) == b"one"


# --- Complete -----------------------------------------------------------------------------


def test_complete_is_idempotent(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket)
    tag = upload.part(1, b"x")
    first = upload.complete((1, tag))
    assert upload.complete((1, tag))["ETag"] == first["ETag"]
    with refused("InvalidPart", 400):
        upload.complete((1, '"00000000000000000000000000000000"'))
    assert body_of(s3, bucket) == b"x"


def test_repeated_complete_does_not_bring_an_object_back(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket)
    tag = upload.part(1, b"old")
    upload.complete((1, tag))
    s3.put_object(Bucket=bucket, Key="object", Body=b"newer")
    upload.complete((1, tag))
    assert body_of(s3, bucket) == b"newer"
    s3.delete_object(Bucket=bucket, Key="object")
    upload.complete((1, tag))
    with refused("NoSuchKey", 404):
        body_of(s3, bucket)


def test_several_completes_at_once(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket)
    tags = [upload.part(number, noise(FIVE, number)) for number in (1, 2)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: upload.complete(*enumerate(tags, 1)), range(4)))
    assert len({answer["ETag"] for answer in answers}) == 1
    assert body_of(s3, bucket) == noise(FIVE, 1) + noise(FIVE, 2)


def test_wrong_part_lists_leave_the_upload_open(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket)
    one, two = upload.part(1, noise(FIVE)), upload.part(2, b"end")
    with refused("InvalidPartOrder", 400):
        upload.complete((2, two), (1, one))
    with refused("InvalidPartOrder", 400):
        upload.complete((1, one), (1, one))
    with refused("InvalidPart", 400):
        upload.complete((1, one), (2, one))
    with refused("InvalidPart", 400):
        upload.complete((1, one), (3, two))
    with refused("MalformedXML", 400):
        upload.complete()
    assert upload.is_open()
    with refused("NoSuchKey", 404):
        body_of(s3, bucket)
    upload.complete((1, one.strip('"')), (2, two))
    assert body_of(s3, bucket) == noise(FIVE) + b"end"


def test_small_parts_before_the_last(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket)
    tags = [upload.part(1, noise(FIVE - 1)), upload.part(2, b"x")]
    with refused("EntityTooSmall", 400):
        upload.complete(*enumerate(tags, 1))
    assert upload.is_open()
    upload.complete((1, tags[0]))
    assert body_of(s3, bucket) == noise(FIVE - 1)


def test_ten_thousand_and_one_parts(s3: S3Client, raw: RawClient, bucket: str) -> None:
    upload = Upload(s3, bucket)
    tag = upload.part(1, b"x")
    entries = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
        for number in range(1, 10_002)
    )
    document = f"<CompleteMultipartUpload>{entries}</CompleteMultipartUpload>"
    answer = raw.request("POST", upload.target, body=document.encode())
    assert answer.status == 400
    assert answer.code in ("MalformedXML", "InvalidArgument")
    assert upload.is_open()


@pytest.mark.parametrize(
    "document",
    [
        "",
        "garbage",
        "<CompleteMultipartUpload>",
        "<Other><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></Other>",
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part>"
        "</CompleteMultipartUpload>",
        "<CompleteMultipartUpload><Part><ETag>{tag}</ETag></Part></CompleteMultipartUpload>",
        "<CompleteMultipartUpload><Part><PartNumber>one</PartNumber><ETag>{tag}</ETag></Part>"
        "</CompleteMultipartUpload>",
        '<!DOCTYPE c [<!ENTITY one "1">]><CompleteMultipartUpload><Part>'
        "<PartNumber>&one;</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>",
    ],
)
def test_malformed_documents(s3: S3Client, raw: RawClient, bucket: str, document: str) -> None:
    upload = Upload(s3, bucket)
    tag = upload.part(1, b"x")
    answer = raw.request("POST", upload.target, body=document.format(tag=tag).encode())
    assert (answer.status, answer.code) == (400, "MalformedXML")
    assert upload.is_open()
    upload.complete((1, tag))


def test_complete_with_conditions(s3: S3Client, bucket: str) -> None:
    there = s3.put_object(Bucket=bucket, Key="object", Body=b"there")["ETag"]
    upload = Upload(s3, bucket)
    tag = upload.part(1, b"x")
    with refused("PreconditionFailed", 412):
        upload.complete((1, tag), IfNoneMatch="*")
    with refused("PreconditionFailed", 412):
        upload.complete((1, tag), IfMatch=tag)
    assert body_of(s3, bucket) == b"there"
    upload.complete((1, tag), IfMatch=there)
    assert body_of(s3, bucket) == b"x"


def test_complete_checks_the_announced_size(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket)
    tag = upload.part(1, b"four")
    with refused("InvalidRequest", 400):
        upload.complete((1, tag), MpuObjectSize=5)
    with refused("NoSuchKey", 404):
        body_of(s3, bucket)
    upload.complete((1, tag), MpuObjectSize=4)
    assert body_of(s3, bucket) == b"four"


def test_checksums_of_parts(s3: S3Client, bucket: str) -> None:
    created = s3.create_multipart_upload(Bucket=bucket, Key="object", ChecksumAlgorithm="CRC32")
    assert created["ChecksumAlgorithm"] == "CRC32"
    names: Any = {"Bucket": bucket, "Key": "object", "UploadId": created["UploadId"]}
    part = s3.upload_part(**names, PartNumber=1, Body=b"hello world", ChecksumAlgorithm="CRC32")
    assert part["ChecksumCRC32"] == crc32_base64(b"hello world") == "DUoRhQ=="
    listed = {"PartNumber": 1, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]}
    s3.complete_multipart_upload(**names, MultipartUpload={"Parts": [listed]})
    assert body_of(s3, bucket) == b"hello world"


# --- numbers, ids, absence ----------------------------------------------------------------


@pytest.mark.parametrize("number", ["0", "10001", "-1", "1.0", "x", "", "%201", "1e2", "9" * 50])
def test_part_numbers_that_cannot_be(
    s3: S3Client, raw: RawClient, bucket: str, number: str
) -> None:
    upload = Upload(s3, bucket)
    answer = raw.request("PUT", f"{upload.target}&partNumber={number}", body=b"x")
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert "Parts" not in s3.list_parts(**upload.names)


@pytest.mark.parametrize("upload_id", ["0" * 32, "x", "..", "../../x", "%00", "a" * 5000])
def test_unknown_uploads(s3: S3Client, raw: RawClient, bucket: str, upload_id: str) -> None:
    target = f"/{bucket}/k?uploadId={upload_id}"
    document = (
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part>"
        "</CompleteMultipartUpload>"
    )
    for method, query, body in (
        ("PUT", "&partNumber=1", b"x"),
        ("GET", "", b""),
        ("POST", "", document.encode()),
        ("DELETE", "", b""),
    ):
        answer = raw.request(method, target + query, body=body)
        assert (answer.status, answer.code) == (404, "NoSuchUpload"), method


def test_an_upload_belongs_to_its_key_and_bucket(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket)
    other = f"{bucket}-other"
    s3.create_bucket(Bucket=other)
    for place in ({"Key": "another"}, {"Bucket": other}):
        with refused("NoSuchUpload", 404):
            s3.upload_part(**upload.names | place, PartNumber=1, Body=b"x")
        with refused("NoSuchUpload", 404):
            s3.abort_multipart_upload(**upload.names | place)
    assert upload.is_open()


def test_missing_bucket(s3: S3Client) -> None:
    with refused("NoSuchBucket", 404):
        s3.create_multipart_upload(Bucket="no-such-bucket", Key="k")
    with refused("NoSuchBucket", 404):
        s3.list_multipart_uploads(Bucket="no-such-bucket")


def test_abort_removes_everything(s3: S3Client, bucket: str, footprint: Footprint) -> None:
    upload = Upload(s3, bucket)
    upload.part(1, noise(FIVE))
    s3.abort_multipart_upload(**upload.names)
    footprint.assert_unchanged()
    assert not upload.is_open()
    with refused("NoSuchUpload", 404):
        upload.part(2, b"x")
    with refused("NoSuchUpload", 404):
        s3.list_parts(**upload.names)
    with refused("NoSuchUpload", 404):
        s3.abort_multipart_upload(**upload.names)


def test_a_wrong_part_is_not_kept(s3: S3Client, raw: RawClient, bucket: str) -> None:
    upload = Upload(s3, bucket)
    headers = {"content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}
    answer = raw.request("PUT", f"{upload.target}&partNumber=1", body=b"x", headers=headers)
    assert answer.code == "BadDigest"
    assert "Parts" not in s3.list_parts(**upload.names)
