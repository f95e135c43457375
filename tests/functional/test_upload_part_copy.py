from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.expect import refused
from support.raw import RawClient
from support.samples import MIB, md5_hex, noise
from support.uploads import Upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def test_parts_copied_from_objects(s3: S3Client, bucket: str) -> None:
    data = noise(5 * MIB + 100)
    s3.put_object(Bucket=bucket, Key="sour ce", Body=data)
    upload = Upload(s3, bucket)
    source: Any = {"Bucket": bucket, "Key": "sour ce"}
    whole = s3.upload_part_copy(**upload.names, PartNumber=1, CopySource=source)
    ranged = s3.upload_part_copy(
        **upload.names, PartNumber=2, CopySource=source, CopySourceRange="bytes=10-19"
    )
    one, two = whole["CopyPartResult"]["ETag"], ranged["CopyPartResult"]["ETag"]
    assert (one, two) == (f'"{md5_hex(data)}"', f'"{md5_hex(data[10:20])}"')
    upload.complete((1, one), (2, two))
    assert s3.get_object(Bucket=bucket, Key="object")["Body"].read() == data + data[10:20]


@pytest.mark.parametrize(
    ("requested", "code"),
    [
        ("bytes=0-10", "InvalidArgument"),
        ("bytes=10-11", "InvalidRange"),
        ("bytes=5-4", "InvalidArgument"),
        ("bytes=5-", "InvalidArgument"),
        ("bytes=-5", "InvalidArgument"),
        ("0-4", "InvalidArgument"),
        ("bytes=0-1,3-4", "InvalidArgument"),
    ],
)
def test_ranges_that_cannot_be_copied(
    s3: S3Client, raw: RawClient, bucket: str, requested: str, code: str
) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=b"0123456789")
    upload = Upload(s3, bucket)
    headers = {"x-amz-copy-source": f"{bucket}/source", "x-amz-copy-source-range": requested}
    answer = raw.request("PUT", f"{upload.target}&partNumber=1", headers=headers)
    assert answer.code in (code, "InvalidRange")
    assert answer.status in (400, 416)
    assert "Parts" not in s3.list_parts(**upload.names)


def test_copied_parts_with_conditions(s3: S3Client, bucket: str) -> None:
    tag = s3.put_object(Bucket=bucket, Key="source", Body=b"x")["ETag"]
    upload = Upload(s3, bucket)
    copy: Any = {**upload.names, "PartNumber": 1, "CopySource": f"{bucket}/source"}
    with refused("PreconditionFailed", 412):
        s3.upload_part_copy(**copy, CopySourceIfNoneMatch=tag)
    with refused("NoSuchKey", 404):
        s3.upload_part_copy(**copy | {"CopySource": f"{bucket}/absent"})
    with refused("NoSuchUpload", 404):
        s3.upload_part_copy(**copy | {"UploadId": "0" * 32})
    s3.upload_part_copy(**copy, CopySourceIfMatch=tag)
