"""Versions in a bucket that never had versioning: each object has one, called ``null``.

Source: AWS, "ListObjectVersions", "Working with objects in a versioning-disabled bucket".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from support.expect import refused
from support.raw import RawClient

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "conformance-versions"
KEYS = sorted(
    ["a", "a&b <c>", "a+b%41", "dir/", "dir/1", "dir/2", "dir/sub/3", "photos-x", "z", "ü☃/k"],
    key=str.encode,
)


@pytest.fixture(scope="module")
def versions(s3: S3Client) -> S3Client:
    s3.create_bucket(Bucket=BUCKET)
    for key in KEYS:
        s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    return s3


def listed(page: Any) -> list[str]:
    return sorted(
        [version["Key"] for version in page.get("Versions", [])]
        + [common["Prefix"] for common in page.get("CommonPrefixes", [])],
        key=str.encode,
    )


def rolled_up(prefix: str, delimiter: str) -> list[str]:
    """What a listing shows, by the definition in the API reference."""
    seen: dict[str, None] = {}
    for key in KEYS:
        if key.startswith(prefix):
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            seen[prefix + head + delimiter if found else key] = None
    return list(seen)


def pages(s3: S3Client, **query: Any) -> Iterator[Any]:
    """Follow the markers of the answers, as a client does that knows nothing else."""
    markers: dict[str, Any] = {}
    while True:
        page: Any = s3.list_object_versions(Bucket=BUCKET, **query, **markers)
        yield page
        if not page["IsTruncated"]:
            assert "NextKeyMarker" not in page
            return
        markers = {"KeyMarker": page["NextKeyMarker"]}
        if "NextVersionIdMarker" in page:
            markers["VersionIdMarker"] = page["NextVersionIdMarker"]


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("prefix", "delimiter"),
    [("", ""), ("", "/"), ("dir/", "/"), ("dir", ""), ("", "ir/"), ("a", "b"), ("nothing", "/")],
)
def test_paging(versions: S3Client, prefix: str, delimiter: str, size: int) -> None:
    seen: list[str] = []
    for page in pages(versions, Prefix=prefix, Delimiter=delimiter, MaxKeys=size):
        assert len(listed(page)) <= size
        assert "DeleteMarkers" not in page
        seen += listed(page)
    assert seen == rolled_up(prefix, delimiter)


def test_facts_of_a_version(versions: S3Client) -> None:
    page = versions.list_object_versions(Bucket=BUCKET, Prefix="dir/1")
    (version,) = page["Versions"]
    head = versions.head_object(Bucket=BUCKET, Key="dir/1")
    assert (version["VersionId"], version["IsLatest"]) == ("null", True)
    assert (version["ETag"], version["Size"]) == (head["ETag"], head["ContentLength"])
    assert version["LastModified"] == head["LastModified"]
    assert version["StorageClass"] == "STANDARD"
    assert version["Owner"] == versions.list_buckets()["Owner"]


def test_elements_and_their_order(versions: S3Client, raw: RawClient) -> None:
    target = (
        f"/{BUCKET}?versions&prefix=dir/&delimiter=/&max-keys=2&key-marker=dir/&encoding-type=url"
    )
    root = ET.fromstring(raw.request("GET", target).body)
    space = "{http://s3.amazonaws.com/doc/2006-03-01/}"
    assert root.tag == f"{space}ListVersionsResult"
    assert [(child.tag.removeprefix(space), child.text) for child in root][:10] == [
        ("Name", BUCKET),
        ("Prefix", "dir/"),
        ("KeyMarker", "dir/"),
        ("VersionIdMarker", None),
        ("NextKeyMarker", "dir/2"),
        ("NextVersionIdMarker", "null"),
        ("MaxKeys", "2"),
        ("Delimiter", "/"),
        ("EncodingType", "url"),
        ("IsTruncated", "true"),
    ]
    assert [child.tag.removeprefix(space) for child in root[10]] == [
        "Key",
        "VersionId",
        "IsLatest",
        "LastModified",
        "ETag",
        "ChecksumAlgorithm",
        "ChecksumType",
        "Size",
        "Owner",
        "StorageClass",
    ]


def test_a_page_that_ends_with_a_prefix_names_no_version(versions: S3Client) -> None:
    page = versions.list_object_versions(
        Bucket=BUCKET, Prefix="dir/s", Delimiter="/", MaxKeys=1, EncodingType="url"
    )
    assert listed(page) == ["dir/sub/"]
    page = versions.list_object_versions(Bucket=BUCKET, Delimiter="/", MaxKeys=4)
    assert (page["NextKeyMarker"], "NextVersionIdMarker" in page) == ("dir/", False)


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ({"KeyMarker": "dir/1"}, "dir/2"),
        ({"KeyMarker": "dir/1", "VersionIdMarker": "null"}, "dir/2"),
        ({"KeyMarker": "dir/1~"}, "dir/2"),
        ({"KeyMarker": "dir/sub/2", "Delimiter": "/", "Prefix": "dir/"}, None),
        ({"KeyMarker": "zz~", "Prefix": "a"}, None),
        ({"MaxKeys": 0}, None),
    ],
)
def test_markers(versions: S3Client, query: dict[str, Any], first: str | None) -> None:
    page = versions.list_object_versions(Bucket=BUCKET, **query)
    assert next(iter(listed(page)), None) == first
    assert page["IsTruncated"] is False


def test_unencoded_keys(versions: S3Client, raw: RawClient) -> None:
    root = ET.fromstring(raw.request("GET", f"/{BUCKET}?versions").body)
    assert [element.text for element in root.iter() if element.tag.endswith("}Key")] == KEYS
    assert not [element for element in root if element.tag.endswith("}EncodingType")]


def test_the_null_version_is_the_object(s3: S3Client, bucket: str) -> None:
    names = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**names, Body=b"x")
    assert s3.get_object(**names, VersionId="null")["Body"].read() == b"x"
    found = s3.head_object(**names, VersionId="null")
    assert "VersionId" not in found
    assert s3.get_object_acl(**names, VersionId="null")["Grants"]
    source = {**names, "VersionId": "null"}
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=source)  # type: ignore[arg-type]
    s3.delete_object(**names, VersionId="null")
    with refused("NoSuchKey", 404):
        s3.get_object(**names, VersionId="null")
    s3.delete_object(**names, VersionId="null")
    page = s3.list_object_versions(Bucket=bucket)
    assert listed(page) == ["copy"]


def test_batches_delete_null_versions_only(s3: S3Client, bucket: str) -> None:
    for key in ("a", "b", "c"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    unknown = "HPniJFCxqTsMuIH9KX8K8wEjNUgmABCD"
    answer = s3.delete_objects(
        Bucket=bucket,
        Delete={
            "Objects": [
                {"Key": "a", "VersionId": "null"},
                {"Key": "b", "VersionId": unknown},
                {"Key": "absent", "VersionId": "null"},
            ]
        },
    )
    assert answer["Deleted"] == [
        {"Key": "a", "VersionId": "null"},
        {"Key": "absent", "VersionId": "null"},
    ]
    assert answer["Errors"] == [
        {
            "Key": "b",
            "VersionId": unknown,
            "Code": "NoSuchVersion",
            "Message": "The specified version does not exist.",
        }
    ]
    assert listed(s3.list_object_versions(Bucket=bucket)) == ["b", "c"]


def test_a_bucket_is_emptied_by_its_versions(s3: S3Client, bucket: str) -> None:
    """What consoles and Terraform do before they delete a bucket."""
    for number in range(5):
        s3.put_object(Bucket=bucket, Key=f"dir/{number}", Body=b"x")
    for page in s3.get_paginator("list_object_versions").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 2}
    ):
        objects: Any = [
            {"Key": version["Key"], "VersionId": version["VersionId"]}
            for version in page.get("Versions", [])
        ]
        assert "Errors" not in s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})
    s3.delete_bucket(Bucket=bucket)
