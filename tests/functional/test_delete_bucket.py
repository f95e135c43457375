from __future__ import annotations

from typing import TYPE_CHECKING

from support.expect import refused
from support.samples import release
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def test_an_empty_bucket_goes_away(s3: S3Client, server: ServerProcess, bucket: str) -> None:
    assert s3.delete_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204
    with refused("404", 404):
        s3.head_bucket(Bucket=bucket)
    assert not (server.data / bucket).exists()
    with refused("NoSuchBucket", 404):
        s3.delete_bucket(Bucket=bucket)


def test_a_bucket_with_an_object_stays(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="deep/er/k", Body=b"x")
    with refused("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=bucket)
    assert s3.get_object(Bucket=bucket, Key="deep/er/k")["Body"].read() == b"x"


def test_only_internal_things_left(s3: S3Client, server: ServerProcess, bucket: str) -> None:
    for number in range(2):
        s3.put_object(Bucket=bucket, Key=f"app-{number}.zip", Body=release(number))
    upload = s3.create_multipart_upload(Bucket=bucket, Key="open")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="open", UploadId=upload, PartNumber=1, Body=b"x")
    for number in range(2):
        s3.delete_object(Bucket=bucket, Key=f"app-{number}.zip")
    s3.delete_bucket(Bucket=bucket)
    assert not (server.data / bucket).exists()
    with refused("NoSuchUpload", 404):
        s3.create_bucket(Bucket=bucket)
        s3.upload_part(Bucket=bucket, Key="open", UploadId=upload, PartNumber=1, Body=b"x")


def test_a_recreated_bucket_is_empty(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="app-0.zip", Body=release(0))
    s3.delete_object(Bucket=bucket, Key="app-0.zip")
    s3.delete_bucket(Bucket=bucket)
    s3.create_bucket(Bucket=bucket)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    for number in range(2):
        s3.put_object(Bucket=bucket, Key=f"app-{number}.zip", Body=release(number))
        found = s3.get_object(Bucket=bucket, Key=f"app-{number}.zip")
        assert found["Body"].read() == release(number)
