from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from support.expect import Footprint, refused
from support.raw import RawClient
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def test_creates_an_empty_bucket(s3: S3Client) -> None:
    answer = s3.create_bucket(Bucket="created-one")
    assert answer["Location"] == "/created-one"
    assert s3.head_bucket(Bucket="created-one")["BucketRegion"] == "us-east-1"
    assert s3.list_objects_v2(Bucket="created-one")["KeyCount"] == 0


def test_a_location_is_accepted(s3: S3Client) -> None:
    s3.create_bucket(
        Bucket="created-far", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    assert not s3.get_bucket_location(Bucket="created-far").get("LocationConstraint")


def test_an_own_bucket_again(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    with refused("BucketAlreadyOwnedByYou", 409):
        s3.create_bucket(Bucket=bucket)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_one_of_several_at_once(s3: S3Client) -> None:
    def create(_: int) -> bool:
        try:
            s3.create_bucket(Bucket="created-race")
        except s3.exceptions.BucketAlreadyOwnedByYou:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(8))) == 1
    s3.put_object(Bucket="created-race", Key="k", Body=b"x")


@pytest.mark.parametrize(
    "name",
    [
        "ab",
        "a" * 64,
        "Upper",
        "under_score",
        "-start",
        "end-",
        "two..dots",
        "192.168.1.1",
        "127.1",
        "0x7f.0.0.1",
        "xn--bucket",
        "bucket-s3alias",
        "bucket--ol-s3",
        "bucket.mrap",
        "bucket--x-s3",
        "b%20c",
        "b%00c",
        "..%2f..%2fetc",
        "%2e%2e",
        "%25dg-tmp",
        "b%C3%BCcket",
    ],
)
def test_names_that_cannot_be(
    raw: RawClient, server: ServerProcess, footprint: Footprint, name: str
) -> None:
    before = set(server.data.iterdir()) | set(server.directory.iterdir())
    answer = raw.request("PUT", f"/{name}")
    assert answer.status == 400
    assert answer.code in ("InvalidBucketName", "InvalidURI")
    assert set(server.data.iterdir()) | set(server.directory.iterdir()) == before
    footprint.assert_unchanged()


@pytest.mark.parametrize("name", ["abc", "a" * 63, "1.2.3.4.5", "a.b-c", "0bucket0"])
def test_names_at_the_limits(s3: S3Client, raw: RawClient, name: str) -> None:
    assert raw.request("PUT", f"/{name}").status == 200
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    assert s3.get_object(Bucket=name, Key="k")["Body"].read() == b"x"


@pytest.mark.parametrize(
    "document",
    [
        "<",
        "hello",
        "<Other/>",
        "<CreateBucketConfiguration>",
        f"<CreateBucketConfiguration {NAMESPACE}><LocationConstraint></CreateBucketConfiguration>",
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
        "<CreateBucketConfiguration><LocationConstraint>&a;</LocationConstraint>"
        "</CreateBucketConfiguration>",
    ],
)
def test_malformed_documents(s3: S3Client, raw: RawClient, document: str) -> None:
    answer = raw.request("PUT", "/created-malformed", body=document.encode())
    assert (answer.status, answer.code) == (400, "MalformedXML")
    with refused("404", 404):
        s3.head_bucket(Bucket="created-malformed")


def test_what_it_would_not_do_is_refused(s3: S3Client) -> None:
    with refused("NotImplemented", 501):
        s3.create_bucket(Bucket="created-locked", ObjectLockEnabledForBucket=True)
    with refused("AccessControlListNotSupported", 400):
        s3.create_bucket(Bucket="created-public", ACL="public-read")
    for name in ("created-locked", "created-public"):
        with refused("404", 404):
            s3.head_bucket(Bucket=name)


def test_bucket_configurations_that_were_never_set(s3: S3Client, bucket: str) -> None:
    with refused("NoSuchBucketPolicy", 404):
        s3.get_bucket_policy(Bucket=bucket)
    with refused("NoSuchLifecycleConfiguration", 404):
        s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    with refused("NoSuchCORSConfiguration", 404):
        s3.get_bucket_cors(Bucket=bucket)
    with refused("NoSuchTagSet", 404):
        s3.get_bucket_tagging(Bucket=bucket)
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    assert s3.get_bucket_acl(Bucket=bucket)["Grants"][0]["Permission"] == "FULL_CONTROL"
    with refused("NotImplemented", 501):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    with refused("NoSuchBucket", 404):
        s3.get_bucket_policy(Bucket="no-such-bucket")
