"""Buckets: configurations that nobody can set, access control, owners, regions.

Source: AWS, Amazon S3 API Reference, ``GetBucket*``, ``PutBucketAcl``, ``HeadBucket``,
``ListBuckets``; "Controlling ownership of objects and disabling ACLs".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.expect import refused
from support.raw import RawClient
from support.signing import md5_base64

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

POLICY = (
    '<AccessControlPolicy xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>{owner}</ID>'
    "</Owner><AccessControlList>{grants}</AccessControlList></AccessControlPolicy>"
)
GRANT = (
    '<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xsi:type="CanonicalUser"><ID>{id}</ID></Grantee><Permission>{permission}</Permission></Grant>'
)


@pytest.fixture(scope="module")
def owner(s3: S3Client) -> str:
    return s3.list_buckets()["Owner"]["ID"]


@pytest.fixture(scope="module")
def shared(s3: S3Client) -> str:
    s3.create_bucket(Bucket="conformance-buckets")
    s3.put_object(Bucket="conformance-buckets", Key="k", Body=b"x")
    return "conformance-buckets"


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("get_bucket_versioning", {}),
        ("get_bucket_accelerate_configuration", {}),
        ("get_bucket_logging", {}),
        ("get_bucket_notification_configuration", {}),
        ("get_bucket_request_payment", {"Payer": "BucketOwner"}),
        (
            "get_bucket_ownership_controls",
            {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}},
        ),
        ("list_bucket_analytics_configurations", {"IsTruncated": False}),
        ("list_bucket_inventory_configurations", {"IsTruncated": False}),
        ("list_bucket_metrics_configurations", {"IsTruncated": False}),
        ("list_bucket_intelligent_tiering_configurations", {"IsTruncated": False}),
        ("get_bucket_location", {"LocationConstraint": None}),
    ],
)
def test_states(s3: S3Client, shared: str, method: str, expected: dict[str, Any]) -> None:
    found = getattr(s3, method)(Bucket=shared)
    del found["ResponseMetadata"]
    assert found == expected
    with refused("NoSuchBucket", 404):
        getattr(s3, method)(Bucket="no-such-bucket")


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("get_bucket_policy", "NoSuchBucketPolicy"),
        ("get_bucket_policy_status", "NoSuchBucketPolicy"),
        ("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration"),
        ("get_bucket_website", "NoSuchWebsiteConfiguration"),
        ("get_bucket_replication", "ReplicationConfigurationNotFoundError"),
        ("get_bucket_encryption", "ServerSideEncryptionConfigurationNotFoundError"),
        ("get_public_access_block", "NoSuchPublicAccessBlockConfiguration"),
        ("get_object_lock_configuration", "ObjectLockConfigurationNotFoundError"),
    ],
)
def test_what_was_never_set(s3: S3Client, shared: str, method: str, code: str) -> None:
    with refused(code, 404):
        getattr(s3, method)(Bucket=shared)


@pytest.mark.parametrize(
    "method",
    [
        "delete_bucket_encryption",
        "delete_bucket_lifecycle",
        "delete_bucket_policy",
        "delete_bucket_replication",
        "delete_bucket_website",
        "delete_public_access_block",
    ],
)
def test_what_is_not_there_can_be_deleted(s3: S3Client, shared: str, method: str) -> None:
    answer = getattr(s3, method)(Bucket=shared)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    with refused("NoSuchBucket", 404):
        getattr(s3, method)(Bucket="no-such-bucket")


def test_what_is_the_case_can_be_set_and_nothing_else(s3: S3Client, shared: str) -> None:
    for ownership, accepted in (("BucketOwnerEnforced", True), ("ObjectWriter", False)):
        controls: Any = {"Rules": [{"ObjectOwnership": ownership}]}
        if accepted:
            s3.put_bucket_ownership_controls(Bucket=shared, OwnershipControls=controls)
        else:
            with refused("NotImplemented", 501):
                s3.put_bucket_ownership_controls(Bucket=shared, OwnershipControls=controls)
    s3.put_bucket_request_payment(
        Bucket=shared, RequestPaymentConfiguration={"Payer": "BucketOwner"}
    )
    with refused("NotImplemented", 501):
        s3.put_bucket_request_payment(
            Bucket=shared, RequestPaymentConfiguration={"Payer": "Requester"}
        )
    for status in ("Enabled", "Suspended"):
        with refused("NotImplemented", 501) as refusal:
            s3.put_bucket_versioning(Bucket=shared, VersioningConfiguration={"Status": status})  # type: ignore[typeddict-item]
        assert status.lower() in refusal.error["Message"]
    with refused("NotImplemented", 501) as refusal:
        s3.put_bucket_policy(Bucket=shared, Policy="{}")
    assert "?policy" in refusal.error["Message"]
    with refused("NotImplemented", 501):
        s3.create_bucket(Bucket="never-created", ObjectOwnership="ObjectWriter")
    with refused("404", 404):
        s3.head_bucket(Bucket="never-created")


# --- access control lists ------------------------------------------------------------------


def test_the_owner_has_full_control(s3: S3Client, shared: str, owner: str) -> None:
    for found in (
        s3.get_bucket_acl(Bucket=shared),
        s3.get_object_acl(Bucket=shared, Key="k"),
    ):
        assert found["Owner"]["ID"] == owner
        (grant,) = found["Grants"]
        assert (grant["Grantee"]["ID"], grant["Permission"]) == (owner, "FULL_CONTROL")
        assert grant["Grantee"]["Type"] == "CanonicalUser"


@pytest.mark.parametrize("target", ["", "/k"])
def test_lists_that_change_nothing(raw: RawClient, shared: str, owner: str, target: str) -> None:
    put = f"/{shared}{target}?acl"
    for headers in (
        {"x-amz-acl": "private"},
        {"x-amz-acl": "bucket-owner-full-control"},
        {"x-amz-grant-full-control": f'id="{owner}"'},
    ):
        assert raw.request("PUT", put, headers=headers).status == 200, headers
    body = POLICY.format(owner=owner, grants=GRANT.format(id=owner, permission="FULL_CONTROL"))
    headers = {"content-md5": md5_base64(body.encode())}
    assert raw.request("PUT", put, body=body.encode(), headers=headers).status == 200
    read_back = raw.request("GET", put).body
    assert raw.request("PUT", put, body=read_back).status == 200


@pytest.mark.parametrize("target", ["", "/k"])
def test_lists_that_would_share(raw: RawClient, shared: str, owner: str, target: str) -> None:
    put = f"/{shared}{target}?acl"
    mine = GRANT.format(id=owner, permission="FULL_CONTROL")
    refusals: list[tuple[str, dict[str, str], str]] = [
        ("AccessControlListNotSupported", {"x-amz-acl": "public-read"}, ""),
        ("AccessControlListNotSupported", {"x-amz-acl": "authenticated-read"}, ""),
        ("AccessControlListNotSupported", {"x-amz-grant-write": f'id="{owner}"'}, ""),
        ("AccessControlListNotSupported", {"x-amz-grant-full-control": 'id="other"'}, ""),
        ("InvalidArgument", {"x-amz-acl": "mine"}, ""),
        ("InvalidRequest", {"x-amz-acl": "private", "x-amz-grant-read": 'id="x"'}, ""),
        *(
            ("AccessControlListNotSupported", {}, POLICY.format(owner=who, grants=grants))
            for who, grants in (
                (owner, ""),
                (owner, GRANT.format(id=owner, permission="READ")),
                (owner, mine + GRANT.format(id="other", permission="READ")),
                ("other", mine),
            )
        ),
        *(
            ("MalformedACLError", {}, document)
            for document in (
                "<AccessControlPolicy/>",
                "<Other/>",
                "<AccessControlPolicy>",
                POLICY.format(owner=owner, grants="<Grant/>"),
                POLICY.format(owner=owner, grants="<Gift/>"),
            )
        ),
    ]
    for code, headers, body in refusals:
        answer = raw.request("PUT", put, headers=headers, body=body.encode())
        assert (answer.status, answer.code) == (400, code), (headers, body)


def test_lists_of_what_is_not_there(raw: RawClient, shared: str) -> None:
    headers = {"x-amz-acl": "private"}
    assert raw.request("PUT", "/no-such-bucket?acl", headers=headers).code == "NoSuchBucket"
    assert raw.request("PUT", f"/{shared}/absent?acl", headers=headers).code == "NoSuchKey"


# --- owners, payers, regions ---------------------------------------------------------------


def test_expected_owner(s3: S3Client, shared: str, owner: str) -> None:
    s3.head_bucket(Bucket=shared, ExpectedBucketOwner=owner)
    s3.list_objects_v2(Bucket=shared, ExpectedBucketOwner=owner, RequestPayer="requester")
    s3.get_object(Bucket=shared, Key="k", ExpectedBucketOwner=owner, RequestPayer="requester")
    other = {"Bucket": shared, "ExpectedBucketOwner": "123456789012"}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("list_objects_v2", {}),
        ("get_object", {"Key": "k"}),
        ("put_object", {"Key": "k", "Body": b"y"}),
        ("delete_object", {"Key": "k"}),
        ("create_multipart_upload", {"Key": "k"}),
        ("delete_bucket", {}),
    ]
    for method, more in calls:
        with refused("AccessDenied", 403):
            getattr(s3, method)(**other, **more)
    with refused("403", 403):
        s3.head_bucket(**other)
    source = {"Bucket": shared, "Key": "k"}
    with refused("AccessDenied", 403):
        s3.copy_object(
            Bucket=shared,
            Key="copy",
            CopySource=source,  # type: ignore[arg-type]
            ExpectedSourceBucketOwner="123456789012",
        )
    assert s3.get_object(Bucket=shared, Key="k")["Body"].read() == b"x"


def test_head_bucket(raw: RawClient, shared: str) -> None:
    answer = raw.request("HEAD", f"/{shared}")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["x-amz-bucket-region"] == "us-east-1"
    assert answer.headers["x-amz-access-point-alias"] == "false"
    assert answer.headers["content-type"] == "application/xml"


def test_list_buckets_by_region_and_with_an_empty_token(raw: RawClient, shared: str) -> None:
    def names(query: str) -> list[str]:
        body = raw.request("GET", f"/?prefix=conformance-buckets{query}").body.decode()
        return [piece.partition("<")[0] for piece in body.split("<Name>")[1:]]

    assert names("") == [shared]
    assert names("&bucket-region=us-east-1") == [shared]
    assert names("&bucket-region=eu-west-1") == []
    assert names("&continuation-token=") == [shared]
