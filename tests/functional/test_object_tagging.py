"""Tags of objects: what clients set comes back, and nothing else of the object changes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support.expect import refused
from support.raw import RawClient

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

TAGS = {"team": "bücher + mehr", "a/b:c=d@e.f_g-h+i": "", "κλειδί": "値 1"}


def tag_set(tags: dict[str, str]) -> Any:
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


def tags_of(s3: S3Client, bucket: str, key: str) -> dict[str, str]:
    found = s3.get_object_tagging(Bucket=bucket, Key=key)
    return {tag["Key"]: tag["Value"] for tag in found["TagSet"]}


def md5_of(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def document(*tags: tuple[str, str]) -> bytes:
    inner = "".join(f"<Tag><Key>{key}</Key><Value>{value}</Value></Tag>" for key, value in tags)
    return f"<Tagging><TagSet>{inner}</TagSet></Tagging>".encode()


@pytest.fixture(params=["k.txt", "dir/k.zip"], ids=["verbatim", "delta candidate"])
def key(request: pytest.FixtureRequest, s3: S3Client, bucket: str) -> str:
    """An object that there is; below a delta candidate another version of it exists."""
    name: str = request.param
    data = bytes(range(256)) * 400
    s3.put_object(Bucket=bucket, Key=f"{name}.other.zip", Body=data)
    s3.put_object(Bucket=bucket, Key=name, Body=data + b"!", Metadata={"m": "1"}, ContentType="a/b")
    return name


def facts_of(s3: S3Client, bucket: str, key: str) -> dict[str, Any]:
    head: Any = s3.head_object(Bucket=bucket, Key=key)
    return {
        name: value for name, value in head.items() if name not in ("ResponseMetadata", "TagCount")
    }


def test_put_get_delete(s3: S3Client, bucket: str, key: str) -> None:
    before = facts_of(s3, bucket, key)
    assert tags_of(s3, bucket, key) == {}
    put = s3.put_object_tagging(Bucket=bucket, Key=key, Tagging=tag_set(TAGS), VersionId="null")
    assert put["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert tags_of(s3, bucket, key) == TAGS
    head = s3.head_object(Bucket=bucket, Key=key)
    got = s3.get_object(Bucket=bucket, Key=key)
    assert head["TagCount"] == got["TagCount"] == 3
    assert got["Body"].read()[-1:] == b"!"
    # They are replaced as a whole.
    s3.put_object_tagging(Bucket=bucket, Key=key, Tagging=tag_set({"one": "1"}))
    assert tags_of(s3, bucket, key) == {"one": "1"}
    deleted = s3.delete_object_tagging(Bucket=bucket, Key=key)
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert tags_of(s3, bucket, key) == {}
    assert "TagCount" not in s3.head_object(Bucket=bucket, Key=key)
    assert facts_of(s3, bucket, key) == before
    (listed,) = s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)["Contents"]
    assert listed["LastModified"] == before["LastModified"]


def test_the_most_and_the_longest(s3: S3Client, bucket: str, key: str) -> None:
    tags = {f"{number}" + "ü" * 127: "値" * 256 for number in range(10)}
    s3.put_object_tagging(Bucket=bucket, Key=key, Tagging=tag_set(tags))
    assert tags_of(s3, bucket, key) == tags
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read()[-1:] == b"!"
    s3.put_object_tagging(Bucket=bucket, Key=key, Tagging=tag_set(TAGS))
    assert tags_of(s3, bucket, key) == TAGS


def test_tags_of_an_upload(s3: S3Client, bucket: str) -> None:
    header = "team=b%C3%BCcher+%2B%20mehr&empty=&none"
    tags = {"team": "bücher + mehr", "empty": "", "none": ""}
    s3.put_object(Bucket=bucket, Key="put", Body=b"x", Tagging=header)
    assert tags_of(s3, bucket, "put") == tags
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts", Tagging=header)["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="parts", UploadId=upload, PartNumber=1, Body=b"x")
    s3.complete_multipart_upload(
        Bucket=bucket,
        Key="parts",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    assert tags_of(s3, bucket, "parts") == tags
    s3.put_object(Bucket=bucket, Key="put", Body=b"x")
    assert tags_of(s3, bucket, "put") == {}


def test_tags_of_a_copy(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1", Metadata={"m": "old"})
    source = {"Bucket": bucket, "Key": "k"}
    for number, (options, tags, meta) in enumerate(
        [
            ({}, {"a": "1"}, "old"),
            ({"Tagging": "b=2"}, {"a": "1"}, "old"),  # not asked for by the directive
            ({"TaggingDirective": "COPY", "MetadataDirective": "REPLACE"}, {"a": "1"}, None),
            ({"TaggingDirective": "REPLACE", "Tagging": "b=2"}, {"b": "2"}, "old"),
            ({"TaggingDirective": "REPLACE"}, {}, "old"),
            (
                {
                    "TaggingDirective": "REPLACE",
                    "Tagging": "b=2",
                    "MetadataDirective": "REPLACE",
                    "Metadata": {"m": "new"},
                },
                {"b": "2"},
                "new",
            ),
        ]
    ):
        more: Any = options
        target = f"copy-{number}"
        s3.copy_object(Bucket=bucket, Key=target, CopySource=source, **more)
        assert tags_of(s3, bucket, target) == tags, options
        assert s3.head_object(Bucket=bucket, Key=target)["Metadata"].get("m") == meta, options
    s3.copy_object(
        Bucket=bucket, Key="k", CopySource=source, MetadataDirective="REPLACE", Metadata={"m": "n"}
    )
    assert tags_of(s3, bucket, "k") == {"a": "1"}
    with refused("InvalidRequest", 400):
        # AWS names what may change about an object that is copied onto itself; tags are not in it.
        s3.copy_object(Bucket=bucket, Key="k", CopySource=source, TaggingDirective="REPLACE")
    with refused("InvalidArgument", 400):
        wrong: Any = "MERGE"
        s3.copy_object(Bucket=bucket, Key="c", CopySource=source, TaggingDirective=wrong)


def test_what_is_absent(s3: S3Client, bucket: str) -> None:
    for name, code in ((bucket, "NoSuchKey"), ("absent-bucket", "NoSuchBucket")):
        with refused(code, 404):
            s3.get_object_tagging(Bucket=name, Key="k")
        with refused(code, 404):
            s3.put_object_tagging(Bucket=name, Key="k", Tagging=tag_set(TAGS))
        with refused(code, 404):
            s3.delete_object_tagging(Bucket=name, Key="k")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    with refused("InvalidArgument", 400):
        s3.get_object_tagging(Bucket=bucket, Key="k", VersionId="3sL4kqtJlcpXroDTDmJ")


ELEVEN = [(f"k{number}", "v") for number in range(11)]


def test_documents_that_cannot_be(s3: S3Client, raw: RawClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="old=1")
    for body, code in (
        (document(*ELEVEN), "BadRequest"),
        (document(("a", "1"), ("a", "2")), "InvalidTag"),
        (document(("aws:x", "v")), "InvalidTag"),
        (b"", "MalformedXML"),
        (b"<Tagging/>", "MalformedXML"),
        (b"<Tagging>" + b" " * 300_000 + b"</Tagging>", "EntityTooLarge"),
    ):
        headers = {"content-md5": md5_of(body)}
        answer = raw.request("PUT", f"/{bucket}/k?tagging", body=body, headers=headers)
        assert (answer.status, answer.code) == (400, code), body[:80]
    for headers, code in (
        ({"content-md5": md5_of(b"other")}, "BadDigest"),
        ({"x-amz-checksum-crc32": "AAAAAA=="}, "BadDigest"),
        ({}, "InvalidRequest"),
    ):
        body = document(("a", "1"))
        answer = raw.request("PUT", f"/{bucket}/k?tagging", body=body, headers=headers)
        assert (answer.status, answer.code) == (400, code), headers
    assert tags_of(s3, bucket, "k") == {"old": "1"}


def test_headers_that_cannot_be(s3: S3Client, bucket: str) -> None:
    for header, code in (
        ("a=1&a=2", "InvalidArgument"),
        ("a=%zz", "InvalidArgument"),
        ("aws:a=1", "InvalidTag"),
        ("&".join(f"{key}=v" for key, _ in ELEVEN), "BadRequest"),
    ):
        with refused(code, 400):
            s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging=header)
        with refused(code, 400):
            s3.create_multipart_upload(Bucket=bucket, Key="k", Tagging=header)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


def test_tags_and_uploads_at_once(s3: S3Client, bucket: str, pool: ThreadPoolExecutor) -> None:
    """Each upload brings its own tag; tags that are set meanwhile replace those of one version,
    so the version in place has its own or those, and nothing of both."""

    def put(number: int) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"%d" % number, Tagging=f"put={number}")

    def tag(number: int) -> None:
        s3.put_object_tagging(Bucket=bucket, Key="k", Tagging=tag_set({"set": str(number)}))

    put(0)
    for round_ in range(5):
        numbers = range(round_ * 8, round_ * 8 + 8)
        list(pool.map(lambda number: (put if number % 2 else tag)(number), numbers))
        body = s3.get_object(Bucket=bucket, Key="k")["Body"].read().decode()
        tags = tags_of(s3, bucket, "k")
        assert len(tags) == 1
        assert "set" in tags or tags == {"put": body}
