"""Byte ranges (RFC 9110 section 14) of objects stored verbatim, as delta and in parts."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from support.expect import refused
from support.raw import RawClient
from support.samples import MIB, noise, release
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "ranges"
#: Three codec windows, whatever their size up to 4 MiB; the last one is short.
BIG = 9 * MIB + 12_345


@pytest.fixture(scope="session")
def objects(s3: S3Client, server: ServerProcess) -> dict[str, bytes]:
    s3.create_bucket(Bucket=BUCKET)
    found = {"verbatim": noise(BIG), "app-0.zip": release(0, BIG), "app-1.zip": release(1, BIG)}
    for key, data in found.items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=data)
    # Only then do these tests say anything about deltas.
    assert (server.data / BUCKET / "app-1.zip").stat().st_size < BIG // 4
    parts = [noise(5 * MIB, 1), noise(MIB, 2)]
    names: Any = {"Bucket": BUCKET, "Key": "parts"}
    names["UploadId"] = s3.create_multipart_upload(**names)["UploadId"]
    tags = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(**names, PartNumber=number, Body=part)["ETag"],
        }
        for number, part in enumerate(parts, 1)
    ]
    s3.complete_multipart_upload(**names, MultipartUpload={"Parts": tags})
    found["parts"] = b"".join(parts)
    return found


KEYS = pytest.mark.parametrize("key", ["verbatim", "app-1.zip", "parts"])


@KEYS
def test_every_form(raw: RawClient, objects: dict[str, bytes], key: str) -> None:
    data = objects[key]
    size = len(data)
    edges = [0, 1, 65_535, 65_536, MIB, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, size - 1]
    spans = [(first, last) for first in edges for last in (first, first + 1, size - 1)]
    chance = random.Random(7)
    for _ in range(10):
        first = chance.randrange(size)
        spans.append((first, chance.randrange(first, size)))
    for first, last in spans:
        answer = raw.request("GET", f"/{BUCKET}/{key}", headers={"range": f"bytes={first}-{last}"})
        stop = min(last + 1, size)
        assert answer.status == 206
        assert answer.body == data[first:stop], (first, last)
        assert answer.headers["content-range"] == f"bytes {first}-{stop - 1}/{size}"
        assert answer.headers["content-length"] == str(stop - first)


@KEYS
@pytest.mark.parametrize(
    ("requested", "start", "stop"),
    [
        ("bytes=100-", 100, None),
        ("bytes=-1", -1, None),
        ("bytes=-100000", -100_000, None),
        ("bytes=-999999999999", 0, None),
        ("bytes=0-999999999999", 0, None),
        ("BYTES=1-2", 1, 3),
        ("bytes = 1-2 ", 1, 3),
    ],
)
def test_open_ends(
    raw: RawClient,
    objects: dict[str, bytes],
    key: str,
    requested: str,
    start: int,
    stop: int | None,
) -> None:
    answer = raw.request("GET", f"/{BUCKET}/{key}", headers={"range": requested})
    assert answer.status == 206
    assert answer.body == objects[key][start:stop]


@KEYS
@pytest.mark.parametrize(
    "requested",
    ["bytes=5-4", "bytes=", "bytes=-", "bytes=a-b", "lines=0-1", "bytes=0-1,5-6", "0-1", "bytes=1"],
)
def test_what_is_no_range_is_ignored(
    raw: RawClient, objects: dict[str, bytes], key: str, requested: str
) -> None:
    answer = raw.request("HEAD", f"/{BUCKET}/{key}", headers={"range": requested})
    assert answer.status == 200
    assert answer.headers["content-length"] == str(len(objects[key]))
    assert "content-range" not in answer.headers


@KEYS
def test_outside(raw: RawClient, objects: dict[str, bytes], key: str) -> None:
    size = len(objects[key])
    for requested in (f"bytes={size}-", f"bytes={size + 5}-{size + 9}", "bytes=-0"):
        answer = raw.request("GET", f"/{BUCKET}/{key}", headers={"range": requested})
        assert (answer.status, answer.code) == (416, "InvalidRange"), requested
        assert answer.headers["content-range"] == f"bytes */{size}"
        assert answer.element("ActualObjectSize") == str(size)
        head = raw.request("HEAD", f"/{BUCKET}/{key}", headers={"range": requested})
        assert (head.status, head.headers["content-range"]) == (416, f"bytes */{size}")


def test_an_empty_object_has_no_range(s3: S3Client, bucket: str) -> None:
    for key in ("empty", "empty.zip"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
        for requested in ("bytes=0-", "bytes=0-0", "bytes=-1"):
            with refused("InvalidRange", 416):
                s3.get_object(Bucket=bucket, Key=key, Range=requested)


@KEYS
def test_if_range(raw: RawClient, objects: dict[str, bytes], key: str) -> None:
    head = raw.request("HEAD", f"/{BUCKET}/{key}").headers
    for value, status in (
        (head["etag"], 206),
        ('"00000000000000000000000000000000"', 200),
        ("W/" + head["etag"], 200),
        (head["last-modified"], 206),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 200),
    ):
        headers = {"range": "bytes=1-3", "if-range": value}
        answer = raw.request("GET", f"/{BUCKET}/{key}", headers=headers)
        assert answer.status == status, value
        assert answer.body == (objects[key][1:4] if status == 206 else objects[key])


def test_parallel_ranges_make_the_whole(s3: S3Client, objects: dict[str, bytes]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def fetch(start: int) -> bytes:
        span = f"bytes={start}-{start + MIB - 1}"
        return s3.get_object(Bucket=BUCKET, Key="app-1.zip", Range=span)["Body"].read()

    with ThreadPoolExecutor(4) as pool:
        pieces = list(pool.map(fetch, range(0, len(objects["app-1.zip"]), MIB)))
    assert b"".join(pieces) == objects["app-1.zip"]
