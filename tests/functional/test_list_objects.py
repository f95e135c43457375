from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.expect import refused
from support.raw import RawClient

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEYS = ["a", "a/1", "a/2", "b", "c/x/1", "c/x/2", "c/y", "d-e", "d/e", "z"]


@pytest.fixture(scope="session")
def listed(s3: S3Client) -> str:
    s3.create_bucket(Bucket="list-objects-v1")
    for key in KEYS:
        s3.put_object(Bucket="list-objects-v1", Key=key, Body=b"x")
    return "list-objects-v1"


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(("prefix", "delimiter"), [("", ""), ("", "/"), ("c/", "/"), ("a", "")])
def test_paging_visits_every_entry_once(
    s3: S3Client, listed: str, size: int, prefix: str, delimiter: str
) -> None:
    keys = [key for key in KEYS if key.startswith(prefix)]
    expected = set()
    for key in keys:
        rest = key[len(prefix) :]
        cut = rest.find(delimiter) if delimiter else -1
        expected.add(key if cut < 0 else prefix + rest[: cut + 1])
    seen: list[str] = []
    marker = ""
    while True:
        page = s3.list_objects(
            Bucket=listed, Prefix=prefix, Delimiter=delimiter, Marker=marker, MaxKeys=size
        )
        entries = [entry["Key"] for entry in page.get("Contents", [])]
        entries += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        assert 1 <= len(entries) <= size
        seen += sorted(entries, key=str.encode)
        if not page["IsTruncated"]:
            assert "NextMarker" not in page
            break
        # NextMarker comes only with a delimiter; without, the last key is the marker.
        assert ("NextMarker" in page) == bool(delimiter)
        marker = page.get("NextMarker") or entries[-1]
    assert seen == sorted(expected, key=str.encode)


def test_entry_and_echo(s3: S3Client, listed: str) -> None:
    page = s3.list_objects(Bucket=listed, Prefix="a", Delimiter="/", MaxKeys=2)
    assert (page["Name"], page["Prefix"], page["Delimiter"]) == (listed, "a", "/")
    assert page["MaxKeys"] == 2
    entry = page["Contents"][0]
    assert (entry["Key"], entry["Size"], entry["StorageClass"]) == ("a", 1, "STANDARD")
    assert entry["ETag"] == '"9dd4e461268c8034f5c8564e155c67a6"'
    assert entry["Owner"]["ID"]
    assert entry["LastModified"] == s3.head_object(Bucket=listed, Key="a")["LastModified"].replace(
        microsecond=entry["LastModified"].microsecond
    )


def test_marker_need_not_be_a_key(s3: S3Client, listed: str) -> None:
    page = s3.list_objects(Bucket=listed, Marker="c/x/11")
    assert [entry["Key"] for entry in page["Contents"]] == ["c/x/2", "c/y", "d-e", "d/e", "z"]
    assert "Contents" not in s3.list_objects(Bucket=listed, Marker="zz")


def test_marker_inside_a_rolled_up_prefix(s3: S3Client, listed: str) -> None:
    page = s3.list_objects(Bucket=listed, Delimiter="/", Marker="c/")
    assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == ["d/"]
    assert [entry["Key"] for entry in page["Contents"]] == ["d-e", "z"]


def test_max_keys(s3: S3Client, raw: RawClient, listed: str) -> None:
    assert raw.request("GET", f"/{listed}?max-keys=5000").element("MaxKeys") == "1000"
    empty = s3.list_objects(Bucket=listed, MaxKeys=0)
    assert (empty["IsTruncated"], "Contents" in empty) == (False, False)
    for wrong in ("-1", "x", "2147483648", "1.5", "9" * 5000):
        answer = raw.request("GET", f"/{listed}?max-keys={wrong}")
        assert (answer.status, answer.code) == (400, "InvalidArgument"), wrong


def test_missing_bucket(s3: S3Client) -> None:
    with refused("NoSuchBucket", 404):
        s3.list_objects(Bucket="no-such-bucket")
    with refused("NoSuchBucket", 404):
        s3.list_objects(Bucket="no-such-bucket", MaxKeys=0)


def test_unencoded_and_encoded_keys(raw: RawClient, bucket: str) -> None:
    for target in ("a%20b%2B%26", "%C3%BC"):
        assert raw.request("PUT", f"/{bucket}/{target}", body=b"x").status == 200
    plain = raw.request("GET", f"/{bucket}?prefix=a")
    assert plain.element("Key") == "a b+&"
    encoded = raw.request("GET", f"/{bucket}?encoding-type=url&prefix=a%20")
    assert encoded.element("EncodingType") == "url"
    assert encoded.element("Key") in ("a+b%2B%26", "a%20b%2B%26")
    assert encoded.element("Prefix") in ("a+", "a%20")
    assert raw.request("GET", f"/{bucket}?encoding-type=base64").code == "InvalidArgument"


def test_control_characters_in_keys(s3: S3Client, raw: RawClient, bucket: str) -> None:
    key = "bell\x07 and \x1b"
    s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert [entry["Key"] for entry in s3.list_objects(Bucket=bucket)["Contents"]] == [key]
    # XML 1.0 cannot hold these characters; without encoding-type AWS writes references.
    assert b"<Key>bell&#x7; and &#x1B;</Key>" in raw.request("GET", f"/{bucket}").body
