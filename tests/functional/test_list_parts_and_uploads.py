from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.raw import RawClient
from support.uploads import Upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_list_parts_pages(s3: S3Client, bucket: str, size: int) -> None:
    upload = Upload(s3, bucket)
    sent = {number: upload.part(number, b"x" * number) for number in (1, 2, 3, 9, 10, 11, 10_000)}
    pages = s3.get_paginator("list_parts").paginate(
        **upload.names, PaginationConfig={"PageSize": size}
    )
    seen = [part for page in pages for part in page.get("Parts", [])]
    assert {part["PartNumber"]: part["ETag"] for part in seen} == sent
    assert [part["Size"] for part in seen] == sorted(sent)
    assert len(seen) == len(sent)


def test_list_parts_bounds(s3: S3Client, raw: RawClient, bucket: str) -> None:
    upload = Upload(s3, bucket)
    upload.part(1, b"x")
    none = s3.list_parts(**upload.names, MaxParts=0)
    assert (none["IsTruncated"], "Parts" in none) == (False, False)
    assert "Parts" not in s3.list_parts(**upload.names, PartNumberMarker=1)
    for query in ("max-parts=-1", "max-parts=x", "part-number-marker=x"):
        assert raw.request("GET", f"{upload.target}&{query}").code == "InvalidArgument", query


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_list_multipart_uploads_pages(s3: S3Client, bucket: str, size: int) -> None:
    keys = ["a", "a", "a", "b/1", "b/2", "c ü&", "d"]
    uploads = [Upload(s3, bucket, key) for key in keys]
    pages = s3.get_paginator("list_multipart_uploads").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": size}
    )
    seen = [(u["Key"], u["UploadId"]) for page in pages for u in page.get("Uploads", [])]
    assert sorted(seen) == sorted((upload.key, upload.upload_id) for upload in uploads)
    assert [key for key, _ in seen] == keys


def test_list_multipart_uploads_by_prefix_and_delimiter(s3: S3Client, bucket: str) -> None:
    for key in ("a", "b/1", "b/2", "c"):
        Upload(s3, bucket, key)
    page = s3.list_multipart_uploads(Bucket=bucket, Prefix="b/")
    assert [upload["Key"] for upload in page["Uploads"]] == ["b/1", "b/2"]
    page = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [upload["Key"] for upload in page["Uploads"]] == ["a", "c"]
    assert [prefix["Prefix"] for prefix in page["CommonPrefixes"]] == ["b/"]
    page = s3.list_multipart_uploads(Bucket=bucket, KeyMarker="b/2")
    assert [upload["Key"] for upload in page["Uploads"]] == ["c"]
    none = s3.list_multipart_uploads(Bucket=bucket, MaxUploads=0)
    assert (none["IsTruncated"], "Uploads" in none) == (False, False)
