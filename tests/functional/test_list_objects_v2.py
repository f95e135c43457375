from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from support.expect import refused
from support.raw import RawClient
from support.samples import MIB, md5_hex, release
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEYS = [
    "a",
    "a b",
    "a!b",
    "a/",
    "a/1",
    "a/2/3",
    "a//x",
    "a0",
    "photos/2025/x",
    "photos/2026/y",
    "photosynthesis",
    "~",
    "ü/1",
    "\uffee",
    "\U0001f600",
]


@pytest.fixture(scope="session")
def listed(s3: S3Client) -> str:
    s3.create_bucket(Bucket="list-objects-v2")
    for key in KEYS:
        s3.put_object(Bucket="list-objects-v2", Key=key, Body=b"x")
    return "list-objects-v2"


def model(prefix: str, delimiter: str, after: str) -> list[str]:
    """What S3 documents, written down plainly."""
    found = set()
    for key in KEYS:
        if key.startswith(prefix):
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            found.add(key if cut < 0 else key[: cut + len(delimiter)])
    return sorted((e for e in found if e.encode() > after.encode()), key=str.encode)


def entries_of(page: Any) -> list[str]:
    found = [entry["Key"] for entry in page.get("Contents", [])]
    found += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
    return sorted(found, key=str.encode)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("prefix", "delimiter", "after"),
    [
        ("", "", ""),
        ("", "/", ""),
        ("a", "/", ""),
        ("a/", "/", ""),
        ("photos", "/", ""),
        ("photos/2026/y", "/", ""),
        ("", "o", ""),
        ("", "photos", ""),
        ("", "", "a/1"),
        ("photos", "/", "photos/"),
        ("nothing", "/", ""),
        ("ü", "/", ""),
    ],
)
def test_paging_visits_every_entry_once(
    s3: S3Client, listed: str, size: int, prefix: str, delimiter: str, after: str
) -> None:
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=listed,
        Prefix=prefix,
        Delimiter=delimiter,
        StartAfter=after,
        PaginationConfig={"PageSize": size},
    )
    seen: list[str] = []
    for page in pages:
        entries = entries_of(page)
        assert page["KeyCount"] == len(entries) <= size
        assert page["IsTruncated"] == ("NextContinuationToken" in page)
        seen += entries
    assert seen == model(prefix, delimiter, after)


def test_names_like_deltas_are_ordinary(s3: S3Client, bucket: str) -> None:
    keys = ["v1", "v1.2", "v1.delta", "v1/reference.bin", ".well-known/x"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 1}
    )
    assert [key for page in pages for key in entries_of(page)] == sorted(keys)


def test_deltas_show_logical_facts_and_nothing_internal(s3: S3Client, bucket: str) -> None:
    for number in range(3):
        s3.put_object(Bucket=bucket, Key=f"app-{number}.zip", Body=release(number, MIB))
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert [(e["Key"], e["Size"], e["ETag"]) for e in listed] == [
        (f"app-{n}.zip", len(release(n, MIB)), f'"{md5_hex(release(n, MIB))}"') for n in range(3)
    ]
    assert "CommonPrefixes" not in s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    for prefix in (".", ".deltaglider", ".deltaglider/", ".deltaglider/refs/"):
        assert s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["KeyCount"] == 0


def test_open_uploads_are_not_listed(s3: S3Client, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"x")
    for delimiter in ("", "/"):
        assert s3.list_objects_v2(Bucket=bucket, Delimiter=delimiter)["KeyCount"] == 0


def test_the_token_wins_over_start_after(s3: S3Client, listed: str) -> None:
    first = s3.list_objects_v2(Bucket=listed, MaxKeys=1)
    page = s3.list_objects_v2(
        Bucket=listed, ContinuationToken=first["NextContinuationToken"], StartAfter="photos"
    )
    assert entries_of(page) == model("", "", "a")
    assert page["ContinuationToken"] == first["NextContinuationToken"]
    assert page["StartAfter"] == "photos"


@pytest.mark.parametrize("token", ["", "x", "a/1", "AAAA", "A" * 4000, "/w==", "Ağ"])
def test_wrong_tokens(raw: RawClient, listed: str, token: str) -> None:
    target = f"/{listed}?list-type=2&continuation-token={quote(token, safe='')}"
    answer = raw.request("GET", target)
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_owner_only_when_asked_for(s3: S3Client, listed: str) -> None:
    plain = s3.list_objects_v2(Bucket=listed, MaxKeys=1)["Contents"][0]
    owned = s3.list_objects_v2(Bucket=listed, MaxKeys=1, FetchOwner=True)["Contents"][0]
    assert "Owner" not in plain
    assert owned["Owner"]["ID"]


def test_max_keys(s3: S3Client, raw: RawClient, listed: str) -> None:
    answer = raw.request("GET", f"/{listed}?list-type=2&max-keys=1001")
    assert answer.element("MaxKeys") == "1000"
    empty = s3.list_objects_v2(Bucket=listed, MaxKeys=0)
    assert (empty["KeyCount"], empty["IsTruncated"]) == (0, False)
    assert raw.request("GET", f"/{listed}?list-type=2&max-keys=-1").code == "InvalidArgument"


def test_encoding_covers_every_name(raw: RawClient, listed: str) -> None:
    target = f"/{listed}?list-type=2&encoding-type=url&prefix=a%20&start-after=a%20&delimiter=%20"
    answer = raw.request("GET", target)
    for element in ("Prefix", "StartAfter", "Key"):
        assert " " not in answer.element(element), element
    assert answer.element("Delimiter") in ("%20", "+")


def test_missing_bucket(s3: S3Client) -> None:
    with refused("NoSuchBucket", 404):
        s3.list_objects_v2(Bucket="no-such-bucket")


def test_files_that_another_program_put_there(
    s3: S3Client, server: ServerProcess, bucket: str
) -> None:
    keys = [f"key-{number:05}" for number in range(2001)]
    for key in keys:
        (server.data / bucket / key).write_bytes(b"foreign")
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=bucket))
    assert [page["KeyCount"] for page in pages] == [1000, 1000, 1]
    assert [key for page in pages for key in entries_of(page)] == keys
    listed = pages[2]["Contents"][0]
    found = s3.get_object(Bucket=bucket, Key=keys[-1])
    assert (found["Body"].read(), found["ETag"]) == (b"foreign", listed["ETag"])
