from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support.expect import refused
from support.raw import RawClient
from support.samples import MIB, md5_hex, noise
from support.signing import SIGNED_CHUNKS, crc32_base64, md5_base64, signed_chunks

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from conftest import MakeClient, StartServer

KEYS = [
    "plain.txt",
    "with space + plus.txt",
    "%41 is not A",
    "percent%2Fslash",
    "&<>\"'.xml",
    "ünï/☃/\U0001f600.bin",
    "e\u0301 is not é",
    "a//b",
    "//",
    "/leading",
    "folder/",
    "./.",
    "a/../b",
    "...",
    "ends with space ",
    "line\nbreak",
    "\t",
    "reference.bin",
    "app.zip.delta",
    "%dg-self",
    "%dg-tmp/x",
    ".deltaglider",
    ".deltagliderx/y",
    ".well-known/acme",
    "n" * 255,
    "n" * 256,
    "☃" * 341,
    "/".join("d" * 200 for _ in range(5)),
    "?query#fragment",
    "back\\slash",
    "CON",
    "~tilde",
]


def body_of(s3: S3Client, bucket: str, key: str) -> bytes:
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, MIB, 5 * MIB + 1])
def test_stores_every_size(s3: S3Client, bucket: str, size: int) -> None:
    data = noise(size)
    answer = s3.put_object(Bucket=bucket, Key="object", Body=data)
    assert answer["ETag"] == f'"{md5_hex(data)}"'
    found = s3.get_object(Bucket=bucket, Key="object")
    assert (found["ContentLength"], found["ETag"]) == (size, answer["ETag"])
    assert found["Body"].read() == data


@pytest.mark.parametrize("key", KEYS)
def test_any_key_is_only_itself(s3: S3Client, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert body_of(s3, bucket, key) == key.encode()
    assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(key.encode())
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    s3.delete_object(Bucket=bucket, Key=key)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_all_keys_live_together(s3: S3Client, bucket: str) -> None:
    keys = [*KEYS, "a", "a/b", "a/b/c", "folder", "A", "plain.TXT"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert listed == sorted(keys, key=str.encode)
    for key in keys:
        assert body_of(s3, bucket, key) == key.encode(), key


def test_overwrites_as_a_whole(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=noise(MIB), Metadata={"old": "1"})
    s3.put_object(Bucket=bucket, Key="k", Body=b"short")
    found = s3.get_object(Bucket=bucket, Key="k")
    assert (found["Body"].read(), found["Metadata"]) == (b"short", {})


def test_concurrent_writers_never_mix(s3: S3Client, bucket: str) -> None:
    bodies = [noise(MIB + number, seed=number) for number in range(8)]

    def write(number: int) -> str:
        return s3.put_object(Bucket=bucket, Key="k", Body=bodies[number])["ETag"]

    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(write, number % 8) for number in range(24)]
        seen = []
        while not all(write_.done() for write_ in writes):
            try:
                found = s3.get_object(Bucket=bucket, Key="k")
            except s3.exceptions.NoSuchKey:
                continue
            seen.append((found["ETag"], found["Body"].read()))
    assert {write_.result() for write_ in writes} == {f'"{md5_hex(body)}"' for body in bodies}
    assert seen
    assert all(tag == f'"{md5_hex(body)}"' for tag, body in seen)


def test_keeps_metadata_and_stored_headers(s3: S3Client, bucket: str) -> None:
    sent: dict[str, Any] = {
        "ContentType": "text/x-test; charset=utf-8",
        "CacheControl": "max-age=60, public",
        "ContentDisposition": 'attachment; filename="a b.txt"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de, en",
        "Metadata": {"Colour": "blue", "empty": "", "spaces": "a  b", "write-id": "mine"},
    }
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Expires=1893456000, **sent)
    for found in (s3.head_object(Bucket=bucket, Key="k"), s3.get_object(Bucket=bucket, Key="k")):
        assert found["Metadata"] == {
            "colour": "blue",
            "empty": "",
            "spaces": "a  b",
            "write-id": "mine",
        }
        names = ("ContentType", "CacheControl", "ContentDisposition", "ContentLanguage")
        assert [found[name] for name in names] == [sent[name] for name in names]
        assert found["ContentEncoding"] == "gzip"
        assert found["ExpiresString"] == "Tue, 01 Jan 2030 00:00:00 GMT"


def test_transfer_encoding_of_aws_is_not_stored(s3: S3Client, raw: RawClient, bucket: str) -> None:
    for sent, kept in (("aws-chunked", None), ("gzip,aws-chunked", "gzip")):
        headers = {"content-encoding": sent, "x-amz-decoded-content-length": "1"}
        seed = raw.signer.sign("PUT", f"/{bucket}/k", headers=headers, payload=SIGNED_CHUNKS)
        assert raw.send("PUT", seed, signed_chunks(seed, [b"x"])).status == 200
        found = s3.get_object(Bucket=bucket, Key="k")
        assert (found["Body"].read(), found.get("ContentEncoding")) == (b"x", kept)


def test_framing_that_is_announced_but_not_named_is_refused(raw: RawClient, bucket: str) -> None:
    """Stored as it is, the framing would become part of the object."""
    headers = {"content-encoding": "aws-chunked"}
    answer = raw.request("PUT", f"/{bucket}/k", body=b"1\r\nx\r\n0\r\n\r\n", headers=headers)
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert raw.request("HEAD", f"/{bucket}/k").status == 404


def test_content_type_has_a_default(raw: RawClient, bucket: str) -> None:
    assert raw.request("PUT", f"/{bucket}/k", body=b"x").status == 200
    answer = raw.request("HEAD", f"/{bucket}/k")
    assert answer.headers["content-type"] == "binary/octet-stream"


def test_metadata_in_utf8_comes_back(raw: RawClient, bucket: str) -> None:
    headers = {"x-amz-meta-name": "Zürich ☃"}
    assert raw.request("PUT", f"/{bucket}/k", body=b"x", headers=headers).status == 200
    found = raw.request("HEAD", f"/{bucket}/k").headers["x-amz-meta-name"]
    assert found.encode("latin-1").decode() == "Zürich ☃"


def test_metadata_up_to_two_kilobytes(s3: S3Client, bucket: str) -> None:
    fits = {"a": "v" * 2047}
    s3.put_object(Bucket=bucket, Key="fits", Body=b"", Metadata=fits)
    assert s3.head_object(Bucket=bucket, Key="fits")["Metadata"] == fits
    with refused("MetadataTooLarge", 400):
        s3.put_object(Bucket=bucket, Key="big", Body=b"", Metadata={"a": "v" * 2048})
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key="big")


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_echoes_the_checksum(s3: S3Client, bucket: str, algorithm: str) -> None:
    answer = s3.put_object(Bucket=bucket, Key="k", Body=b"hello world", ChecksumAlgorithm=algorithm)
    # CRCs of "hello world" as published; the digests are those of hashlib.
    known = {
        "CRC32": "DUoRhQ==",
        "CRC32C": "yZRlqg==",
        "CRC64NVME": "jSnVw/bqjr4=",
        "SHA1": "Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
        "SHA256": "uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=",
    }
    assert answer[f"Checksum{algorithm}"] == known[algorithm]  # type: ignore[literal-required]


def test_right_digests_are_accepted(raw: RawClient, bucket: str) -> None:
    data = noise(100_000)
    headers = {"content-md5": md5_base64(data), "x-amz-checksum-crc32": crc32_base64(data)}
    answer = raw.request("PUT", f"/{bucket}/k", body=data, headers=headers)
    assert (answer.status, answer.headers["etag"]) == (200, f'"{md5_hex(data)}"')
    assert answer.headers["x-amz-checksum-crc32"] == crc32_base64(data)


def test_unsigned_payload(raw: RawClient, bucket: str) -> None:
    answer = raw.request("PUT", f"/{bucket}/k", body=b"x", payload="UNSIGNED-PAYLOAD")
    assert answer.status == 200
    assert raw.request("GET", f"/{bucket}/k").body == b"x"


def test_body_in_http_chunks_without_length(raw: RawClient, bucket: str) -> None:
    framed = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    answer = raw.request(
        "PUT",
        f"/{bucket}/k",
        body=framed,
        payload="UNSIGNED-PAYLOAD",
        headers={"transfer-encoding": "chunked"},
    )
    assert (answer.status, answer.code) == (411, "MissingContentLength")
    assert raw.request("GET", f"/{bucket}/k").code == "NoSuchKey"


def test_missing_bucket(s3: S3Client) -> None:
    with refused("NoSuchBucket", 404) as refusal:
        s3.put_object(Bucket="no-such-bucket", Key="k", Body=b"x")
    assert refusal.error["BucketName"] == "no-such-bucket"


@pytest.mark.parametrize(
    ("options", "code", "status"),
    [
        ({"ACL": "public-read"}, "AccessControlListNotSupported", 400),
        ({"StorageClass": "GLACIER"}, "NotImplemented", 501),
        ({"StorageClass": "COLD"}, "InvalidStorageClass", 400),
        ({"ServerSideEncryption": "aws:kms"}, "NotImplemented", 501),
        ({"ServerSideEncryption": "AES256"}, "NotImplemented", 501),
        ({"ObjectLockMode": "GOVERNANCE"}, "NotImplemented", 501),
        ({"WebsiteRedirectLocation": "/x"}, "NotImplemented", 501),
    ],
)
def test_refuses_what_it_would_not_do(
    s3: S3Client, bucket: str, options: dict[str, Any], code: str, status: int
) -> None:
    with refused(code, status):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", **options)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_largest_object(start_server: StartServer, boto3_factory: MakeClient) -> None:
    server = start_server(settings={"advanced": {"max_object_size": 6 * MIB}})
    s3 = boto3_factory(server)
    s3.create_bucket(Bucket="bucket")
    for key in ("plain", "app.zip"):
        s3.put_object(Bucket="bucket", Key=key, Body=noise(6 * MIB))
        assert body_of(s3, "bucket", key) == noise(6 * MIB)
        with refused("EntityTooLarge", 400) as refusal:
            s3.put_object(Bucket="bucket", Key=f"more-{key}", Body=noise(6 * MIB + 1))
        assert refusal.error["MaxSizeAllowed"] == str(6 * MIB)
    for last, fits in ((MIB, True), (MIB + 1, False)):
        names: Any = {"Bucket": "bucket", "Key": f"parts-{last}"}
        names["UploadId"] = s3.create_multipart_upload(**names)["UploadId"]
        tags = [
            {
                "PartNumber": number,
                "ETag": s3.upload_part(**names, PartNumber=number, Body=part)["ETag"],
            }
            for number, part in enumerate((noise(5 * MIB), noise(last)), 1)
        ]
        if fits:
            s3.complete_multipart_upload(**names, MultipartUpload={"Parts": tags})
            continue
        with refused("EntityTooLarge", 400):
            s3.complete_multipart_upload(**names, MultipartUpload={"Parts": tags})
    listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket="bucket")["Contents"]]
    assert listed == ["app.zip", f"parts-{MIB}", "plain"]
