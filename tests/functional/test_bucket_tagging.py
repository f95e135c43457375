"""Tags of buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support.expect import refused

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def tagging(tags: dict[str, str]) -> Any:
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


def test_put_get_delete(s3: S3Client, bucket: str) -> None:
    with refused("NoSuchTagSet", 404) as refusal:
        s3.get_bucket_tagging(Bucket=bucket)
    assert refusal.error["BucketName"] == bucket
    fifty = {f"k{number} ü": "v" for number in range(50)}
    for tags in (fifty, {"team": "größe", "empty": ""}, {}):
        put = s3.put_bucket_tagging(Bucket=bucket, Tagging=tagging(tags))
        assert put["ResponseMetadata"]["HTTPStatusCode"] == 204
        found = s3.get_bucket_tagging(Bucket=bucket)["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in found} == tags
    for _ in range(2):
        deleted = s3.delete_bucket_tagging(Bucket=bucket)
        assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    with refused("NoSuchTagSet", 404):
        s3.get_bucket_tagging(Bucket=bucket)


def test_what_cannot_be(s3: S3Client, bucket: str) -> None:
    s3.put_bucket_tagging(Bucket=bucket, Tagging=tagging({"old": "1"}))
    with refused("BadRequest", 400):
        s3.put_bucket_tagging(
            Bucket=bucket, Tagging=tagging({f"k{number}": "v" for number in range(51)})
        )
    with refused("InvalidTag", 400):
        s3.put_bucket_tagging(Bucket=bucket, Tagging=tagging({"aws:x": "v"}))
    twice: Any = {"TagSet": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}
    with refused("InvalidTag", 400):
        s3.put_bucket_tagging(Bucket=bucket, Tagging=twice)
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == [{"Key": "old", "Value": "1"}]
    for call in (s3.get_bucket_tagging, s3.delete_bucket_tagging):
        absent: Any = call
        with refused("NoSuchBucket", 404):
            absent(Bucket="absent-bucket")
    with refused("NoSuchBucket", 404):
        s3.put_bucket_tagging(Bucket="absent-bucket", Tagging=tagging({"a": "1"}))
