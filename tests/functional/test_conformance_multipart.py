"""Multipart uploads that go wrong, and their listings element by element.

Source: AWS, "CompleteMultipartUpload", "UploadPart", "UploadPartCopy", "ListParts",
"ListMultipartUploads", "Multipart upload limits".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from support.expect import refused
from support.raw import Answer, RawClient
from support.uploads import Upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1024**2
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


def complete(raw: RawClient, upload: Upload, parts: Sequence[tuple[int, str]]) -> Answer:
    inner = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>" for number, tag in parts
    )
    body = f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>"
    return raw.request("POST", upload.target, body=body.encode())


def error_of(answer: Answer) -> dict[str, str]:
    """The elements between ``Message`` and ``Resource``, in order."""
    tags = {child.tag: child.text or "" for child in ET.fromstring(answer.body)}
    names = list(tags)
    return {name: tags[name] for name in names[2 : names.index("Resource")]}


def test_what_cannot_be_completed(s3: S3Client, raw: RawClient, bucket: str) -> None:
    upload = Upload(s3, bucket, "k")
    small = upload.part(1, b"small")
    last = upload.part(2, b"last")
    plain = small.strip('"')
    cases: list[tuple[str, list[tuple[int, str]], dict[str, str]]] = [
        ("InvalidPartOrder", [(2, last), (1, small)], {"UploadId": upload.upload_id}),
        ("InvalidPartOrder", [(1, small), (1, small)], {"UploadId": upload.upload_id}),
        (
            "InvalidPart",
            [(1, small), (3, last)],
            {"UploadId": upload.upload_id, "PartNumber": "3", "ETag": last.strip('"')},
        ),
        (
            "InvalidPart",
            [(1, last)],
            {"UploadId": upload.upload_id, "PartNumber": "1", "ETag": last.strip('"')},
        ),
        (
            "EntityTooSmall",
            [(1, small), (2, last)],
            {
                "ProposedSize": "5",
                "MinSizeAllowed": str(5 * MIB),
                "PartNumber": "1",
                "ETag": plain,
            },
        ),
        ("MalformedXML", [], {}),
    ]
    for code, parts, more in cases:
        answer = complete(raw, upload, parts)
        assert (answer.status, answer.code) == (400, code), parts
        assert error_of(answer) == more
    assert raw.request("HEAD", f"/{bucket}/k").status == 404
    # The upload is as it was; a part of any size can be the only one.
    assert complete(raw, upload, [(2, last)]).status == 200
    assert raw.request("GET", f"/{bucket}/k").body == b"last"


def test_uploads_that_are_over(s3: S3Client, raw: RawClient, bucket: str) -> None:
    upload = Upload(s3, bucket)
    tag = upload.part(1, b"x")
    s3.abort_multipart_upload(**upload.names)
    with refused("NoSuchUpload", 404):
        s3.abort_multipart_upload(**upload.names)
    with refused("NoSuchUpload", 404):
        s3.list_parts(**upload.names)
    with refused("NoSuchUpload", 404):
        upload.part(2, b"y")
    s3.put_object(Bucket=bucket, Key="source", Body=b"z")
    with refused("NoSuchUpload", 404):
        s3.upload_part_copy(**upload.names, PartNumber=2, CopySource=f"{bucket}/source")
    answer = complete(raw, upload, [(1, tag)])
    assert (answer.status, answer.code) == (404, "NoSuchUpload")


def test_an_upload_belongs_to_its_key_and_bucket(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket)
    for names in ({"Key": "other"}, {"Bucket": "conformance-none"}):
        with refused("NoSuchBucket" if "Bucket" in names else "NoSuchUpload", 404):
            s3.list_parts(**{**upload.names, **names})
    assert "Parts" not in s3.list_parts(**upload.names)


def test_the_last_upload_of_a_part_counts(s3: S3Client, raw: RawClient, bucket: str) -> None:
    upload = Upload(s3, bucket, "k")
    first, second = upload.part(1, b"first"), upload.part(1, b"second!")
    assert [part["Size"] for part in s3.list_parts(**upload.names)["Parts"]] == [7]
    assert complete(raw, upload, [(1, first)]).code == "InvalidPart"
    assert complete(raw, upload, [(1, second)]).status == 200
    assert raw.request("GET", f"/{bucket}/k").body == b"second!"
    # The answer may have been lost: the same request gets it again.
    assert complete(raw, upload, [(1, second)]).status == 200


def test_elements_of_completion_and_creation(s3: S3Client, raw: RawClient, bucket: str) -> None:
    answer = raw.request("POST", f"/{bucket}/a%26b?uploads")
    root = ET.fromstring(answer.body)
    assert root.tag == f"{NAMESPACE}InitiateMultipartUploadResult"
    assert [child.tag.removeprefix(NAMESPACE) for child in root] == ["Bucket", "Key", "UploadId"]
    upload = Upload(s3, bucket, "a-b")
    tag = upload.part(1, b"x")
    root = ET.fromstring(complete(raw, upload, [(1, tag)]).body)
    assert root.tag == f"{NAMESPACE}CompleteMultipartUploadResult"
    names = [child.tag.removeprefix(NAMESPACE) for child in root]
    assert names[:4] == ["Location", "Bucket", "Key", "ETag"]
    assert raw.request("HEAD", f"/{bucket}/a-b").headers["etag"].endswith('-1"')


def elements(answer: Answer, names: Sequence[str]) -> list[tuple[str, str | None]]:
    pairs = [
        (child.tag.removeprefix(NAMESPACE), child.text) for child in ET.fromstring(answer.body)
    ]
    return [pair for pair in pairs if pair[0] in names]


def test_elements_of_a_listing_of_parts(s3: S3Client, raw: RawClient, bucket: str) -> None:
    upload = Upload(s3, bucket)
    names = ["PartNumberMarker", "NextPartNumberMarker", "MaxParts", "IsTruncated"]

    def shown(query: str) -> list[str | None]:
        found = elements(raw.request("GET", f"{upload.target}{query}"), names)
        assert [name for name, _ in found] == names
        return [text for _, text in found]

    assert shown("") == ["0", "0", "1000", "false"]
    for number in (1, 2, 7):
        upload.part(number, b"x")
    assert shown("") == ["0", "7", "1000", "false"]
    assert shown("&max-parts=2") == ["0", "2", "2", "true"]
    assert shown("&max-parts=2&part-number-marker=2") == ["2", "7", "2", "false"]
    assert shown("&part-number-marker=7") == ["7", "0", "1000", "false"]
    assert shown("&max-parts=&part-number-marker=") == ["0", "7", "1000", "false"]
    assert shown("&max-parts=5000") == ["0", "7", "1000", "false"]


def test_elements_of_a_listing_of_uploads(s3: S3Client, raw: RawClient, bucket: str) -> None:
    names = ["KeyMarker", "UploadIdMarker", "NextKeyMarker", "NextUploadIdMarker"]
    names += ["Delimiter", "Prefix", "MaxUploads", "IsTruncated"]

    def shown(query: str = "") -> list[tuple[str, str | None]]:
        return elements(raw.request("GET", f"/{bucket}?uploads{query}"), names)

    fixed = [("MaxUploads", "1000"), ("IsTruncated", "false")]
    markers = [("KeyMarker", None), ("UploadIdMarker", None)]
    nothing = [("NextKeyMarker", None), ("NextUploadIdMarker", None)]
    assert shown() == [*markers, *nothing, *fixed]
    first, second = Upload(s3, bucket, "a"), Upload(s3, bucket, "dir/b")
    last = [("NextKeyMarker", "dir/b"), ("NextUploadIdMarker", second.upload_id)]
    assert shown() == [*markers, *last, *fixed]
    assert shown("&prefix=d") == [*markers, *last, ("Prefix", "d"), *fixed]
    assert shown("&delimiter=/")[4:6] == [("Delimiter", "/"), ("Prefix", None)]
    assert shown("&max-uploads=1") == [
        *markers,
        ("NextKeyMarker", "a"),
        ("NextUploadIdMarker", first.upload_id),
        ("MaxUploads", "1"),
        ("IsTruncated", "true"),
    ]
    # Without a key the marker of an upload is ignored.
    ignored = shown(f"&upload-id-marker={first.upload_id}&max-uploads=1")
    assert ignored[2] == ("NextKeyMarker", "a")


@pytest.mark.parametrize(
    ("requested", "status", "code"),
    [
        ("bytes=0-9", 200, ""),
        ("bytes=9-9", 200, ""),
        ("bytes=0-10", 416, "InvalidRange"),
        ("bytes=10-11", 416, "InvalidRange"),
        ("bytes=5-4", 400, "InvalidArgument"),
        ("bytes=5-", 400, "InvalidArgument"),
        ("bytes=-5", 400, "InvalidArgument"),
        ("bytes=0-1,3-4", 400, "InvalidArgument"),
        ("0-9", 400, "InvalidArgument"),
        ("", 400, "InvalidArgument"),
    ],
)
def test_ranges_of_a_copied_part(
    s3: S3Client, raw: RawClient, bucket: str, requested: str, status: int, code: str
) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=b"0123456789")
    upload = Upload(s3, bucket)
    headers = {"x-amz-copy-source": f"{bucket}/source", "x-amz-copy-source-range": requested}
    answer = raw.request("PUT", f"{upload.target}&partNumber=1", headers=headers)
    assert (answer.status, answer.code) == (status, code)
    found: Any = s3.list_parts(**upload.names)
    assert len(found.get("Parts", [])) == (1 if status == 200 else 0)
