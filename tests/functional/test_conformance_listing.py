"""ListObjects, both versions, element by element.

Source: AWS, "ListObjects", "ListObjectsV2", "Organizing objects using prefixes".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

import pytest
from support.raw import RawClient

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
TREE = ["asdf+b", "foo+1/bar", "foo/bar/xyzzy", "quux ab/thud"]
SIMPLE = ["bar", "baz", "cab", "foo"]
CHECKSUM = ("ChecksumAlgorithm", "ChecksumType")
DEEP = ["a/b/c", "a/b/d", "a::b::c", "a\nb\nc", "a b c", "a%b%c", "under/_score"]


@pytest.fixture(scope="module")
def buckets(s3: S3Client) -> dict[str, str]:
    """Names of buckets, by the keys that they hold."""
    names = {}
    for name, keys in (("tree", TREE), ("simple", SIMPLE), ("deep", DEEP), ("empty", [])):
        names[name] = f"conformance-listing-{name}"
        s3.create_bucket(Bucket=names[name])
        for key in keys:
            s3.put_object(Bucket=names[name], Key=key, Body=key.encode())
    return names


def listing(raw: RawClient, bucket: str, version: int, **query: str) -> ET.Element:
    pairs = [f"{name.replace('_', '-')}={quote(value)}" for name, value in query.items()]
    if version == 2:
        pairs.insert(0, "list-type=2")
    answer = raw.request("GET", f"/{bucket}?{'&'.join(pairs)}")
    assert answer.status == 200, answer.body
    return ET.fromstring(answer.body)


def texts(root: ET.Element, path: str) -> list[str]:
    steps = "/".join(NAMESPACE + step for step in path.split("/"))
    return [element.text or "" for element in root.findall(steps)]


def entries(root: ET.Element) -> tuple[list[str], list[str]]:
    return texts(root, "Contents/Key"), texts(root, "CommonPrefixes/Prefix")


def names_of(element: ET.Element) -> list[str]:
    return [child.tag.removeprefix(NAMESPACE) for child in element]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("bucket", "query", "keys", "prefixes"),
    [
        ("tree", {"delimiter": "/"}, ["asdf+b"], ["foo+1/", "foo/", "quux ab/"]),
        (
            "tree",
            {"delimiter": "/", "encoding_type": "url"},
            ["asdf%2Bb"],
            ["foo%2B1/", "foo/", "quux%20ab/"],
        ),
        ("tree", {"prefix": "foo/", "delimiter": "/"}, [], ["foo/bar/"]),
        ("tree", {"prefix": "foo/bar/xyzzy", "delimiter": "/"}, ["foo/bar/xyzzy"], []),
        ("tree", {"prefix": "foo/bar/xyzzy/"}, [], []),
        ("simple", {"delimiter": "a"}, ["foo"], ["ba", "ca"]),
        ("simple", {"delimiter": "az"}, ["bar", "cab", "foo"], ["baz"]),
        ("simple", {"delimiter": ""}, SIMPLE, []),
        ("simple", {"delimiter": "/"}, SIMPLE, []),
        ("simple", {"delimiter": "\n"}, SIMPLE, []),
        ("simple", {"prefix": "ba"}, ["bar", "baz"], []),
        ("simple", {"prefix": "ba", "delimiter": "r"}, ["baz"], ["bar"]),
        ("simple", {"prefix": "\n"}, [], []),
        ("simple", {"prefix": "", "delimiter": "bar"}, ["baz", "cab", "foo"], ["bar"]),
        ("deep", {"delimiter": "::", "prefix": "a:"}, [], ["a::b::"]),
        ("deep", {"delimiter": "\n", "prefix": "a\n"}, [], ["a\nb\n"]),
        (
            "deep",
            {"delimiter": " ", "prefix": "a"},
            ["a\nb\nc", "a%b%c", "a/b/c", "a/b/d", "a::b::c"],
            ["a "],
        ),
        ("deep", {"delimiter": "%", "prefix": "a%"}, [], ["a%b%"]),
        ("deep", {"delimiter": "/", "prefix": "under/_"}, ["under/_score"], []),
        ("empty", {}, [], []),
        ("empty", {"delimiter": "/", "prefix": "x"}, [], []),
    ],
)
def test_entries(
    raw: RawClient,
    buckets: dict[str, str],
    version: int,
    bucket: str,
    query: dict[str, str],
    keys: Sequence[str],
    prefixes: Sequence[str],
) -> None:
    root = listing(raw, buckets[bucket], version, **query)
    assert entries(root) == (list(keys), list(prefixes))
    assert texts(root, "IsTruncated") == ["false"]
    assert texts(root, "NextMarker") == texts(root, "NextContinuationToken") == []
    # An empty delimiter is none, and is not repeated.
    assert bool(texts(root, "Delimiter")) is bool(query.get("delimiter"))


def test_elements_of_version_1(raw: RawClient, buckets: dict[str, str]) -> None:
    root = listing(raw, buckets["simple"], 1, max_keys="2", marker="bar", delimiter="x")
    assert names_of(root)[:8] == [
        "Name",
        "Prefix",
        "Marker",
        "NextMarker",
        "MaxKeys",
        "Delimiter",
        "IsTruncated",
        "Contents",
    ]
    assert names_of(root[7]) == [
        "Key",
        "LastModified",
        "ETag",
        *CHECKSUM,
        "Size",
        "Owner",
        "StorageClass",
    ]
    assert texts(root, "NextMarker") == ["cab"]
    # Without a delimiter the last key is the next marker, and is not said twice.
    root = listing(raw, buckets["simple"], 1, max_keys="2")
    assert (texts(root, "IsTruncated"), texts(root, "NextMarker")) == (["true"], [])
    assert (
        texts(listing(raw, buckets["simple"], 1, max_keys="4", delimiter="x"), "NextMarker") == []
    )


def test_elements_of_version_2(raw: RawClient, buckets: dict[str, str]) -> None:
    first = listing(raw, buckets["simple"], 2, max_keys="1", start_after="bar", delimiter="x")
    (token,) = texts(first, "NextContinuationToken")
    root = listing(
        raw,
        buckets["simple"],
        2,
        max_keys="1",
        start_after="bar",
        delimiter="x",
        continuation_token=token,
        encoding_type="url",
    )
    assert names_of(root)[:11] == [
        "Name",
        "Prefix",
        "StartAfter",
        "ContinuationToken",
        "NextContinuationToken",
        "KeyCount",
        "MaxKeys",
        "Delimiter",
        "EncodingType",
        "IsTruncated",
        "Contents",
    ]
    assert names_of(root[10]) == ["Key", "LastModified", "ETag", *CHECKSUM, "Size", "StorageClass"]
    assert texts(first, "Contents/Key") + texts(root, "Contents/Key") == ["baz", "cab"]
    assert texts(root, "ContinuationToken") == [token]
    assert texts(root, "KeyCount") == ["1"]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("asked", "echoed", "shown", "truncated"),
    [
        ("0", "0", [], "false"),
        ("1", "1", ["bar"], "true"),
        ("3", "3", ["bar", "baz", "cab"], "true"),
        ("4", "4", SIMPLE, "false"),
        ("1000", "1000", SIMPLE, "false"),
        ("1001", "1000", SIMPLE, "false"),
        ("2147483647", "1000", SIMPLE, "false"),
        ("", "1000", SIMPLE, "false"),
    ],
)
def test_max_keys(
    raw: RawClient,
    buckets: dict[str, str],
    version: int,
    asked: str,
    echoed: str,
    shown: list[str],
    truncated: str,
) -> None:
    root = listing(raw, buckets["simple"], version, max_keys=asked)
    assert texts(root, "MaxKeys") == [echoed]
    assert texts(root, "Contents/Key") == shown
    assert texts(root, "IsTruncated") == [truncated]
    if version == 2:
        assert texts(root, "KeyCount") == [str(len(shown))]


@pytest.mark.parametrize(
    ("after", "shown"),
    [
        ("", SIMPLE),
        ("bar", SIMPLE[1:]),
        ("blah", SIMPLE[2:]),
        ("\n", SIMPLE),
        ("zzz", []),
        ("foo", []),
        ("cab/", ["foo"]),
    ],
)
def test_starting_after(
    raw: RawClient, buckets: dict[str, str], after: str, shown: list[str]
) -> None:
    root = listing(raw, buckets["simple"], 1, marker=after)
    assert (texts(root, "Contents/Key"), texts(root, "Marker")) == (shown, [after])
    root = listing(raw, buckets["simple"], 2, start_after=after)
    assert texts(root, "Contents/Key") == shown
    assert texts(root, "StartAfter") == ([after] if after else [])


@pytest.mark.parametrize("version", [1, 2])
def test_a_marker_at_or_in_a_common_prefix_skips_it(
    raw: RawClient, buckets: dict[str, str], version: int
) -> None:
    for after in ("foo/", "foo/bar", "foo/zzz"):
        query = {"marker" if version == 1 else "start_after": after}
        root = listing(raw, buckets["tree"], version, delimiter="/", **query)
        assert entries(root) == ([], ["quux ab/"])


def test_folder_markers_are_objects(s3: S3Client, bucket: str) -> None:
    for key in ("dir/", "dir/x", "dir/sub/", "other/"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")

    def shown(**query: Any) -> tuple[list[str], list[str]]:
        page = s3.list_objects_v2(Bucket=bucket, **query)
        return (
            [entry["Key"] for entry in page.get("Contents", [])],
            [entry["Prefix"] for entry in page.get("CommonPrefixes", [])],
        )

    assert shown(Delimiter="/") == ([], ["dir/", "other/"])
    assert shown(Delimiter="/", Prefix="dir/") == (["dir/", "dir/x"], ["dir/sub/"])
    assert shown(Delimiter="/", Prefix="dir/", StartAfter="dir/") == (["dir/x"], ["dir/sub/"])
    assert s3.get_object(Bucket=bucket, Key="dir/")["ContentLength"] == 0
    s3.delete_object(Bucket=bucket, Key="dir/")
    assert shown() == (["dir/sub/", "dir/x", "other/"], [])
    s3.delete_object(Bucket=bucket, Key="dir/sub/")
    s3.delete_object(Bucket=bucket, Key="dir/x")
    assert shown() == (["other/"], [])
