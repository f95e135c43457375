from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.expect import refused
from support.raw import RawClient
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def keys_in(s3: S3Client, bucket: str) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_deletes_one_key_only(s3: S3Client, bucket: str) -> None:
    for key in ("a", "a/b", "a/b/c", "ab"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert s3.delete_object(Bucket=bucket, Key="a/b")["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert keys_in(s3, bucket) == ["a", "a/b/c", "ab"]
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="a/b")


def test_a_folder_marker_is_no_folder(s3: S3Client, bucket: str) -> None:
    for key in ("dir/", "dir/a", "dir/b"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    s3.delete_object(Bucket=bucket, Key="dir/")
    assert keys_in(s3, bucket) == ["dir/a", "dir/b"]
    s3.delete_object(Bucket=bucket, Key="dir")
    assert keys_in(s3, bucket) == ["dir/a", "dir/b"]


def test_an_absent_key_is_no_error(raw: RawClient, bucket: str) -> None:
    answer = raw.request("DELETE", f"/{bucket}/absent/key")
    assert (answer.status, answer.body) == (204, b"")


def test_an_absent_bucket_is_one(s3: S3Client) -> None:
    with refused("NoSuchBucket", 404):
        s3.delete_object(Bucket="no-such-bucket", Key="k")


def test_leaves_no_empty_folders(s3: S3Client, server: ServerProcess, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="deep/er/est/key", Body=b"x")
    assert (server.data / bucket / "deep").is_dir()
    s3.delete_object(Bucket=bucket, Key="deep/er/est/key")
    assert not (server.data / bucket / "deep").exists()


@pytest.mark.parametrize("tag", ['"00000000000000000000000000000000"', "wrong"])
def test_if_match_protects_another_version(s3: S3Client, bucket: str, tag: str) -> None:
    good = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    with refused("PreconditionFailed", 412):
        s3.delete_object(Bucket=bucket, Key="k", IfMatch=tag)
    assert keys_in(s3, bucket) == ["k"]
    s3.delete_object(Bucket=bucket, Key="k", IfMatch=good)
    assert keys_in(s3, bucket) == []


def test_only_the_null_version_can_be_deleted(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    with refused("InvalidArgument", 400):
        s3.delete_object(Bucket=bucket, Key="k", VersionId="3HL4kqtJlcpXroDTDmJ")
    assert keys_in(s3, bucket) == ["k"]
    s3.delete_object(Bucket=bucket, Key="k", VersionId="null")
    assert keys_in(s3, bucket) == []


def test_deleting_a_release_keeps_the_others_readable(s3: S3Client, bucket: str) -> None:
    from support.samples import release

    for number in range(3):
        s3.put_object(Bucket=bucket, Key=f"app-{number}.zip", Body=release(number))
    s3.delete_object(Bucket=bucket, Key="app-0.zip")
    for number in (1, 2):
        found = s3.get_object(Bucket=bucket, Key=f"app-{number}.zip")
        assert found["Body"].read() == release(number)
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="app-0.zip")
