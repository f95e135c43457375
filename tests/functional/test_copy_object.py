from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.expect import Footprint, refused
from support.raw import RawClient
from support.samples import MIB, md5_hex, noise, release

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def test_copies_bytes_metadata_and_etag(s3: S3Client, bucket: str) -> None:
    data = noise(300_000)
    s3.put_object(
        Bucket=bucket, Key="a", Body=data, ContentType="text/x", Metadata={"colour": "blue"}
    )
    answer = s3.copy_object(Bucket=bucket, Key="b", CopySource=f"{bucket}/a")
    assert answer["CopyObjectResult"]["ETag"] == f'"{md5_hex(data)}"'
    found = s3.get_object(Bucket=bucket, Key="b")
    assert found["Body"].read() == data
    assert (found["ContentType"], found["Metadata"]) == ("text/x", {"colour": "blue"})
    assert found["ETag"] == answer["CopyObjectResult"]["ETag"]
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == data


def test_between_buckets(s3: S3Client, bucket: str) -> None:
    other = f"{bucket}-other"
    s3.create_bucket(Bucket=other)
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    s3.copy_object(Bucket=other, Key="b", CopySource={"Bucket": bucket, "Key": "a"})
    assert s3.get_object(Bucket=other, Key="b")["Body"].read() == b"x"


@pytest.mark.parametrize(
    "key", ["ünï ☃", "a+b", "%41", "a//b", "/lead", "q?x=1", "dir/", "&<>", "a/../b"]
)
def test_source_keys_are_decoded_once(s3: S3Client, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == key.encode()


def test_replace_takes_new_metadata_only(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x", Metadata={"old": "1"}, CacheControl="old")
    s3.copy_object(
        Bucket=bucket,
        Key="a",
        CopySource=f"{bucket}/a",
        MetadataDirective="REPLACE",
        Metadata={"new": "2"},
        ContentType="text/new",
    )
    found = s3.get_object(Bucket=bucket, Key="a")
    assert (found["Body"].read(), found["Metadata"]) == (b"x", {"new": "2"})
    assert found["ContentType"] == "text/new"
    assert "CacheControl" not in found


def test_copy_of_a_delta_is_whole(s3: S3Client, bucket: str) -> None:
    for number in range(2):
        s3.put_object(Bucket=bucket, Key=f"app-{number}.zip", Body=release(number))
    other = f"{bucket}-other"
    s3.create_bucket(Bucket=other)
    targets = [(bucket, "copy.zip"), (bucket, "else/copy.txt"), (other, "app.zip"), (other, "x")]
    for target, key in targets:
        s3.copy_object(Bucket=target, Key=key, CopySource=f"{bucket}/app-1.zip")
    for number in range(2):
        s3.delete_object(Bucket=bucket, Key=f"app-{number}.zip")
    for target, key in targets:
        found = s3.get_object(Bucket=target, Key=key)
        assert found["Body"].read() == release(1), key
        assert found["ETag"] == f'"{md5_hex(release(1))}"'


def test_a_copy_survives_its_source(s3: S3Client, bucket: str) -> None:
    data = noise(MIB)
    s3.put_object(Bucket=bucket, Key="a", Body=data)
    s3.copy_object(Bucket=bucket, Key="b", CopySource=f"{bucket}/a")
    s3.put_object(Bucket=bucket, Key="a", Body=b"overwritten")
    assert s3.get_object(Bucket=bucket, Key="b")["Body"].read() == data
    s3.delete_object(Bucket=bucket, Key="a")
    assert s3.get_object(Bucket=bucket, Key="b")["Body"].read() == data


def test_unchanged_copy_to_itself_is_refused(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    with refused("InvalidRequest", 400):
        s3.copy_object(Bucket=bucket, Key="a", CopySource=f"{bucket}/a")


def test_absent_sources_and_targets(s3: S3Client, bucket: str, footprint: Footprint) -> None:
    with refused("NoSuchKey", 404) as refusal:
        s3.copy_object(Bucket=bucket, Key="b", CopySource=f"{bucket}/absent")
    assert refusal.error["Key"] == "absent"
    with refused("NoSuchBucket", 404):
        s3.copy_object(Bucket=bucket, Key="b", CopySource="no-such-bucket/a")
    footprint.assert_unchanged()
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    with refused("NoSuchBucket", 404):
        s3.copy_object(Bucket="no-such-bucket", Key="b", CopySource=f"{bucket}/a")


@pytest.mark.parametrize(
    ("source", "code", "status"),
    [
        ("", "InvalidArgument", 400),
        ("/", "InvalidArgument", 400),
        ("{bucket}", "InvalidArgument", 400),
        ("{bucket}/", "InvalidArgument", 400),
        ("{bucket}/a%ZZ", "InvalidArgument", 400),
        ("{bucket}/%ff", "InvalidArgument", 400),
        ("{bucket}/a?versionId=1", "InvalidArgument", 400),
        ("arn:aws:s3:us-east-1:1:accesspoint/x/object/a", "NotImplemented", 501),
        ("{bucket}/../other/a", "InvalidURI", 400),
        ("{bucket}/..%2f..%2fx", "InvalidURI", 400),
        ("../{bucket}/a", "InvalidBucketName", 400),
        ("{bucket}/a%00", "InvalidArgument", 400),
    ],
)
def test_malformed_sources(
    s3: S3Client, raw: RawClient, bucket: str, source: str, code: str, status: int
) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    headers = {"x-amz-copy-source": source.format(bucket=bucket)}
    answer = raw.request("PUT", f"/{bucket}/b", headers=headers)
    assert (answer.status, answer.code) == (status, code)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_source_with_leading_slash_and_null_version(raw: RawClient, bucket: str) -> None:
    assert raw.request("PUT", f"/{bucket}/a", body=b"x").status == 200
    for source in (f"/{bucket}/a", f"{bucket}/a?versionId=null", f"{bucket}%2Fa"):
        headers = {"x-amz-copy-source": source}
        assert raw.request("PUT", f"/{bucket}/b", headers=headers).status == 200
        assert raw.request("GET", f"/{bucket}/b").body == b"x"


@pytest.mark.parametrize(
    "options",
    [
        {"CopySourceIfMatch": '"00000000000000000000000000000000"'},
        {"CopySourceIfNoneMatch": "{etag}"},
        {"CopySourceIfModifiedSince": "{modified}"},
        {"CopySourceIfUnmodifiedSince": datetime.now(UTC) - timedelta(hours=1)},
        {"IfNoneMatch": "*"},
        {"IfMatch": '"00000000000000000000000000000000"'},
    ],
)
def test_conditions_that_fail(s3: S3Client, bucket: str, options: dict[str, Any]) -> None:
    tag = s3.put_object(Bucket=bucket, Key="a", Body=b"new")["ETag"]
    s3.put_object(Bucket=bucket, Key="b", Body=b"kept")
    modified = s3.head_object(Bucket=bucket, Key="a")["LastModified"].isoformat()
    options = {
        name: value.format(etag=tag, modified=modified) if isinstance(value, str) else value
        for name, value in options.items()
    }
    with refused("PreconditionFailed", 412):
        s3.copy_object(Bucket=bucket, Key="b", CopySource=f"{bucket}/a", **options)
    assert s3.get_object(Bucket=bucket, Key="b")["Body"].read() == b"kept"


def test_conditions_that_hold(s3: S3Client, bucket: str) -> None:
    tag = s3.put_object(Bucket=bucket, Key="a", Body=b"new")["ETag"]
    past = datetime.now(UTC) - timedelta(hours=1)
    future = datetime.now(UTC) - timedelta(seconds=-3600)
    for number, options in enumerate(
        (
            {"CopySourceIfMatch": tag, "CopySourceIfUnmodifiedSince": past},
            {"CopySourceIfModifiedSince": past},
            {"CopySourceIfUnmodifiedSince": future},
            {"IfNoneMatch": "*"},
        )
    ):
        key = f"copy-{number}"
        s3.copy_object(Bucket=bucket, Key=key, CopySource=f"{bucket}/a", **options)  # type: ignore[arg-type]
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"new"


@pytest.mark.parametrize("algorithm", ["", "SHA256"])
def test_tags_and_uploads_beside_a_copy_onto_itself(
    s3: S3Client, bucket: str, algorithm: str
) -> None:
    """Whatever was acknowledged while the copy was under way is there after it."""
    data = noise(MIB) * 24
    asked: Any = {"ChecksumAlgorithm": algorithm} if algorithm else {}

    def restate() -> str:
        try:
            s3.copy_object(
                Bucket=bucket,
                Key="a.mp4",
                CopySource=f"{bucket}/a.mp4",
                MetadataDirective="REPLACE",
                Metadata={"new": "1"},
                **asked,
            )
        except s3.exceptions.ClientError as error:
            return error.response["Error"]["Code"]
        return ""

    s3.put_object(Bucket=bucket, Key="a.mp4", Body=data)
    with ThreadPoolExecutor(1) as pool:
        copying, last = pool.submit(restate), ""
        while not copying.done():
            last = str(int(last or "0") + 1)
            s3.put_object_tagging(
                Bucket=bucket, Key="a.mp4", Tagging={"TagSet": [{"Key": "n", "Value": last}]}
            )
        assert copying.result() == ""
        tags = s3.get_object_tagging(Bucket=bucket, Key="a.mp4")["TagSet"]
        assert tags == [{"Key": "n", "Value": last}]
        assert s3.head_object(Bucket=bucket, Key="a.mp4")["Metadata"] == {"new": "1"}
        copying = pool.submit(restate)
        s3.put_object(Bucket=bucket, Key="a.mp4", Body=b"newer")
        assert copying.result() in ("", "ConditionalRequestConflict")
    assert s3.get_object(Bucket=bucket, Key="a.mp4")["Body"].read() == b"newer"


@pytest.mark.parametrize(
    ("header", "value", "code", "status"),
    [
        ("x-amz-metadata-directive", "KEEP", "InvalidArgument", 400),
        ("x-amz-tagging-directive", "KEEP", "InvalidArgument", 400),
        ("x-amz-storage-class", "GLACIER", "NotImplemented", 501),
        ("x-amz-acl", "public-read", "AccessControlListNotSupported", 400),
    ],
)
def test_unknown_directives(
    s3: S3Client, raw: RawClient, bucket: str, header: str, value: str, code: str, status: int
) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    headers = {"x-amz-copy-source": f"{bucket}/a", header: value}
    answer = raw.request("PUT", f"/{bucket}/b", headers=headers)
    assert (answer.status, answer.code) == (status, code)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
