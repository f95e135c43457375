"""Keys, headers and metadata that come back as they were sent; copies that change them.

Source: AWS, "Creating object key names", "Working with object metadata", "PutObject",
"CopyObject", "GetObject".
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.etree import ElementTree as ET

import pytest
from support.expect import refused
from support.raw import RawClient

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEYS = [
    *(" ", '"', "$", "%", "&", "'", "<", ">", "_", "_ ", "_ _", "__"),
    *("a//b", "a/./b", "./a", "a/", "a//", "/a", "a/../b", "a b+c", "é", "日本/語", "\u00a0"),
    "k" * 1024,
    "ü" * 512,
    "/".join(["d"] * 512),
    "tab\tkey",
    "cr\rlf\n",
    "]]>&amp;<!--",
    "%2F%25",
    "?a=b#c",
]
HEADERS = {
    "content-type": "text/x; charset=utf-8",
    "cache-control": "max-age=3, private",
    "content-disposition": 'attachment; filename="a b.txt"',
    "content-encoding": "deflate, gzip",
    "content-language": "de, en-GB",
    "expires": "Thu, 01 Dec 2033 16:00:00 GMT",
}
METADATA = {
    "x-amz-meta-plain": "value",
    "x-amz-meta-empty": "",
    "x-amz-meta-with-dash_and.dot": "a b  c",
    "x-amz-meta-rfc2047": "=?UTF-8?B?w7xuaWNvZGU=?=",
    "x-amz-meta-list": "a, b",
    "x-amz-meta-percent": "%C3%BC",
}


def test_keys_of_every_kind(s3: S3Client, raw: RawClient, bucket: str) -> None:
    for key in KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in KEYS:
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
        s3.put_object_acl(Bucket=bucket, Key=key, ACL="private")
    ordered = sorted(KEYS, key=str.encode)
    assert [e["Key"] for e in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ordered
    root = ET.fromstring(raw.request("GET", f"/{bucket}").body)
    assert [e.text for e in root.iter() if e.tag.endswith("}Key")] == ordered
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in KEYS]})
    assert [entry["Key"] for entry in answer["Deleted"]] == KEYS
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_key_may_be_sent_with_more_escapes_than_needed(raw: RawClient, bucket: str) -> None:
    assert raw.request("PUT", f"/{bucket}/%61%2Fb", body=b"x").status == 200
    assert raw.request("GET", f"/{bucket}/a/b").body == b"x"


@pytest.mark.parametrize("key", ["k", "app.zip"])
def test_headers_come_back(raw: RawClient, bucket: str, key: str) -> None:
    target = f"/{bucket}/{key}"
    sent = HEADERS | METADATA
    assert raw.request("PUT", target, body=b"x" * 9000, headers=sent).status == 200
    for method in ("GET", "HEAD"):
        answer = raw.request(method, target)
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
        assert {name: answer.headers.get(name) for name in METADATA} == METADATA
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["content-length"] == "9000"
    # Metadata is replaced as a whole, never merged.
    assert raw.request("PUT", target, body=b"y", headers={"x-amz-meta-new": "1"}).status == 200
    answer = raw.request("HEAD", target)
    found = {name for name in answer.headers if name.startswith("x-amz-meta-")}
    assert found == {"x-amz-meta-new"}
    assert answer.headers["content-type"] == "binary/octet-stream"
    assert not {"cache-control", "content-encoding", "expires"} & answer.headers.keys()


def test_copies_keep_or_replace_everything(raw: RawClient, bucket: str) -> None:
    assert raw.request("PUT", f"/{bucket}/a", body=b"x", headers=HEADERS | METADATA).status == 200
    source = {"x-amz-copy-source": f"/{bucket}/a"}
    ignored = {"x-amz-meta-ignored": "1", "content-type": "text/ignored"}
    assert raw.request("PUT", f"/{bucket}/kept", headers=source | ignored).status == 200
    kept = raw.request("HEAD", f"/{bucket}/kept").headers
    assert {name: kept.get(name) for name in HEADERS | METADATA} == HEADERS | METADATA
    assert "x-amz-meta-ignored" not in kept
    replace = source | {"x-amz-metadata-directive": "REPLACE", "x-amz-meta-new": "2"}
    for target in ("replaced", "a"):  # with REPLACE an object can be copied to itself
        assert raw.request("PUT", f"/{bucket}/{target}", headers=replace).status == 200
        found = raw.request("GET", f"/{bucket}/{target}")
        assert found.body == b"x"
        assert found.headers["x-amz-meta-new"] == "2"
        assert found.headers["content-type"] == "binary/octet-stream"
        assert not (METADATA.keys() | {"cache-control", "expires"}) & found.headers.keys()


def test_copy_results(raw: RawClient, bucket: str) -> None:
    etag = raw.request("PUT", f"/{bucket}/a", body=b"x").headers["etag"]
    source = {"x-amz-copy-source": quote(f"{bucket}/a", safe="")}
    answer = raw.request("PUT", f"/{bucket}/b", headers=source)
    root = ET.fromstring(answer.body)
    assert root.tag.endswith("}CopyObjectResult")
    names = [child.tag.rpartition("}")[2] for child in root]
    assert names[:2] == ["LastModified", "ETag"]
    assert answer.element("ETag") == etag
    assert answer.element("LastModified").endswith(".000Z")


def test_an_empty_object(s3: S3Client, raw: RawClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="empty")
    answer = raw.request("GET", f"/{bucket}/empty")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
    assert answer.headers["etag"] == '"d41d8cd98f00b204e9800998ecf8427e"'
    for requested in ("bytes=0-0", "bytes=0-", "bytes=-1"):
        answer = raw.request("GET", f"/{bucket}/empty", headers={"range": requested})
        assert (answer.status, answer.code) == (416, "InvalidRange")


def test_overrides_need_credentials_and_touch_one_answer(
    s3: S3Client, raw: RawClient, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain")
    query = "response-content-type=a/b&response-cache-control=c&response-expires=e"
    signed = raw.signer.presign("GET", f"/{bucket}/k?{query}")
    answer = raw.send("GET", signed)
    assert answer.headers["content-type"] == "a/b"
    assert (answer.headers["cache-control"], answer.headers["expires"]) == ("c", "e")
    assert raw.request("GET", f"/{bucket}/k").headers["content-type"] == "text/plain"


def test_deleting_and_not_found(s3: S3Client, bucket: str) -> None:
    for _ in range(2):
        answer = s3.delete_object(Bucket=bucket, Key="never")
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
        assert {"VersionId", "DeleteMarker"}.isdisjoint(answer)
    with refused("NoSuchBucket", 404):
        s3.delete_objects(Bucket="no-such-bucket", Delete={"Objects": [{"Key": "k"}]})
