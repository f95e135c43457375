"""Checksums of objects: verified, stored, told to whoever asks, kept by copies and deltas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest
from support.digests import digest
from support.expect import Footprint, refused
from support.raw import Answer, RawClient
from support.samples import noise, release
from support.signing import (
    SIGNED_CHUNKS_AND_TRAILER,
    UNSIGNED_CHUNKS_AND_TRAILER,
    signed_chunks,
    unsigned_chunks,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ALGORITHMS = (
    "crc32",
    "crc32c",
    "crc64nvme",
    "sha1",
    "sha256",
    "sha512",
    "md5",
    "xxhash64",
    "xxhash3",
    "xxhash128",
)
DATA = noise(70_000)
ASKED = {"x-amz-checksum-mode": "ENABLED"}
PREFIX = "x-amz-checksum-"


def checksums_in(answer: Answer) -> dict[str, str]:
    """The headers about checksums, without their prefix."""
    return {
        name.removeprefix(PREFIX): value
        for name, value in answer.headers.items()
        if name.startswith(PREFIX)
    }


def put(
    raw: RawClient, target: str, data: bytes = DATA, headers: Mapping[str, str] | None = None
) -> Answer:
    return raw.request("PUT", target, body=data, headers=headers)


def whole(algorithm: str, data: bytes = DATA) -> dict[str, str]:
    """What answers say of a whole object."""
    return {algorithm: digest(algorithm, data), "type": "FULL_OBJECT"}


# --- PUT and what is read back ---------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_checksum_of_the_client(raw: RawClient, bucket: str, algorithm: str) -> None:
    """In a header, in an unsigned and in a signed trailer: the same answers, now and later."""
    name, value = PREFIX + algorithm, digest(algorithm, DATA)
    trailing = {
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": str(len(DATA)),
        "x-amz-trailer": name,
        "x-amz-sdk-checksum-algorithm": algorithm.upper(),
    }
    answers = [put(raw, f"/{bucket}/header", headers={name: value})]
    signed = raw.signer.sign(
        "PUT", f"/{bucket}/unsigned", headers=trailing, payload=UNSIGNED_CHUNKS_AND_TRAILER
    )
    answers.append(raw.send("PUT", signed, unsigned_chunks([DATA], {name: value})))
    signed = raw.signer.sign(
        "PUT", f"/{bucket}/signed", headers=trailing, payload=SIGNED_CHUNKS_AND_TRAILER
    )
    answers.append(raw.send("PUT", signed, signed_chunks(signed, [DATA], {name: value})))
    for key, answer in zip(("header", "unsigned", "signed"), answers, strict=True):
        assert answer.status == 200
        assert checksums_in(answer) == whole(algorithm)
        for method in ("GET", "HEAD"):
            found = raw.request(method, f"/{bucket}/{key}", headers=ASKED)
            assert checksums_in(found) == whole(algorithm)
            assert checksums_in(raw.request(method, f"/{bucket}/{key}")) == {}


@pytest.mark.parametrize("size", [0, 1, 70_000])
def test_without_one_it_is_computed(raw: RawClient, bucket: str, size: int) -> None:
    data = noise(size)
    assert checksums_in(put(raw, f"/{bucket}/k", data)) == whole("crc64nvme", data)
    found = raw.request("HEAD", f"/{bucket}/k", headers=ASKED)
    assert checksums_in(found) == whole("crc64nvme", data)


def test_an_overwrite_replaces_it(raw: RawClient, bucket: str) -> None:
    put(raw, f"/{bucket}/k", headers={"x-amz-checksum-sha1": digest("sha1", DATA)})
    put(raw, f"/{bucket}/k", b"other")
    found = raw.request("GET", f"/{bucket}/k", headers=ASKED)
    assert checksums_in(found) == whole("crc64nvme", b"other")


def test_only_whole_objects_are_answered_with_it(raw: RawClient, bucket: str) -> None:
    """Clients compare it with what they receive: a part would not fit."""
    etag = put(raw, f"/{bucket}/k").headers["etag"]
    for headers, status in (
        ({"range": "bytes=0-9"}, 206),
        ({"range": f"bytes=0-{len(DATA) - 1}"}, 206),
        ({"range": "bytes=5-4"}, 200),
        ({"range": "bytes=90000-"}, 416),
        ({"if-none-match": etag}, 304),
        ({"if-match": '"x"'}, 412),
    ):
        for method in ("GET", "HEAD"):
            found = raw.request(method, f"/{bucket}/k", headers={**ASKED, **headers})
            assert found.status == status
            assert bool(checksums_in(found)) == (status == 200)
    for method in ("GET", "HEAD"):
        found = raw.request(method, f"/{bucket}/k?partNumber=1", headers=ASKED)
        assert (found.status, checksums_in(found)) == (206, {})


def test_of_objects_that_are_stored_as_deltas(s3: S3Client, raw: RawClient, bucket: str) -> None:
    for number in range(3):
        data = release(number, 200_000)
        name = f"{PREFIX}{'sha256' if number == 1 else 'crc32'}"
        algorithm = name.removeprefix(PREFIX)
        put(raw, f"/{bucket}/v/app-{number}.zip", data, {name: digest(algorithm, data)})
    for number in range(3):
        data = release(number, 200_000)
        algorithm = "sha256" if number == 1 else "crc32"
        found = raw.request("GET", f"/{bucket}/v/app-{number}.zip", headers=ASKED)
        assert found.body == data
        assert checksums_in(found) == whole(algorithm, data)
    copied = s3.copy_object(Bucket=bucket, Key="v/copy.zip", CopySource=f"{bucket}/v/app-1.zip")
    expected = digest("sha256", release(1, 200_000))
    assert copied["CopyObjectResult"]["ChecksumSHA256"] == expected
    head = s3.head_object(Bucket=bucket, Key="v/copy.zip", ChecksumMode="ENABLED")
    assert (head["ChecksumSHA256"], head["ChecksumType"]) == (expected, "FULL_OBJECT")


# --- what is refused -------------------------------------------------------------------------


WRONG = digest("crc32", b"other")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-amz-checksum-crc32": WRONG}, "BadDigest"),
        ({"x-amz-checksum-sha512": digest("sha512", b"other")}, "BadDigest"),
        ({"x-amz-checksum-xxhash128": digest("xxhash128", b"other")}, "BadDigest"),
        ({"x-amz-checksum-crc32": "AAAA"}, "InvalidRequest"),
        ({"x-amz-checksum-crc32": "not base64"}, "InvalidRequest"),
        ({"x-amz-checksum-crc32": ""}, "InvalidRequest"),
        ({"x-amz-checksum-crc31": "AAAAAA=="}, "InvalidRequest"),
        (
            {"x-amz-checksum-crc32": WRONG, "x-amz-checksum-sha1": digest("sha1", DATA)},
            "InvalidRequest",
        ),
        (
            {"x-amz-checksum-crc32": WRONG, "x-amz-sdk-checksum-algorithm": "SHA1"},
            "InvalidRequest",
        ),
        ({"x-amz-sdk-checksum-algorithm": "CRC32"}, "InvalidRequest"),
        ({"x-amz-sdk-checksum-algorithm": "CRC31"}, "InvalidRequest"),
        ({"x-amz-trailer": "x-amz-checksum-crc32"}, "InvalidRequest"),
    ],
)
def test_nothing_is_stored_of_what_does_not_fit(
    raw: RawClient, bucket: str, footprint: Footprint, headers: dict[str, str], code: str
) -> None:
    answer = put(raw, f"/{bucket}/k", headers=headers)
    assert (answer.status, answer.code) == (400, code)
    assert raw.request("GET", f"/{bucket}/k").status == 404
    footprint.assert_unchanged()


@pytest.mark.parametrize(
    ("announced", "trailers", "code"),
    [
        ("x-amz-checksum-crc32", {"x-amz-checksum-crc32": WRONG}, "BadDigest"),
        ("x-amz-checksum-crc32", {}, "InvalidRequest"),
        ("x-amz-checksum-crc32", {"x-amz-checksum-sha1": "AA=="}, "InvalidRequest"),
        ("x-amz-checksum-crc32", {"x-amz-checksum-crc32": "AA=="}, "InvalidRequest"),
        ("x-amz-checksum-crc31", {"x-amz-checksum-crc31": "AAAAAA=="}, "InvalidRequest"),
        ("x-amz-meta-colour", {"x-amz-meta-colour": "blue"}, "InvalidRequest"),
        (
            "x-amz-checksum-crc32,x-amz-checksum-sha1",
            {"x-amz-checksum-crc32": digest("crc32", DATA)},
            "InvalidRequest",
        ),
    ],
)
def test_trailers_that_do_not_fit(
    raw: RawClient, bucket: str, announced: str, trailers: dict[str, str], code: str
) -> None:
    headers = {
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": str(len(DATA)),
        "x-amz-trailer": announced,
    }
    signed = raw.signer.sign(
        "PUT", f"/{bucket}/k", headers=headers, payload=UNSIGNED_CHUNKS_AND_TRAILER
    )
    answer = raw.send("PUT", signed, unsigned_chunks([DATA], trailers))
    assert (answer.status, answer.code) == (400, code)
    assert raw.request("GET", f"/{bucket}/k").status == 404


# --- CopyObject ------------------------------------------------------------------------------


def test_copies(s3: S3Client, raw: RawClient, bucket: str) -> None:
    """A copy keeps the checksum of its source, or gets the one that the client asks for."""
    put(raw, f"/{bucket}/k", headers={"x-amz-checksum-sha1": digest("sha1", DATA)})
    source = f"{bucket}/k"
    kept = s3.copy_object(Bucket=bucket, Key="kept", CopySource=source)["CopyObjectResult"]
    assert kept["ChecksumSHA1"] == digest("sha1", DATA)
    assert kept["ChecksumType"] == "FULL_OBJECT"
    for algorithm in ("crc32", "sha256", "sha1"):
        copied = s3.copy_object(
            Bucket=bucket,
            Key="asked",
            CopySource=source,
            ChecksumAlgorithm=algorithm.upper(),  # type: ignore[arg-type]
            Metadata={"colour": "blue"},
            MetadataDirective="REPLACE",
        )["CopyObjectResult"]
        assert copied[f"Checksum{algorithm.upper()}"] == digest(algorithm, DATA)  # type: ignore[literal-required]
        found = raw.request("GET", f"/{bucket}/asked", headers=ASKED)
        assert (found.body, found.headers["x-amz-meta-colour"]) == (DATA, "blue")
        assert checksums_in(found) == whole(algorithm)
    itself = s3.copy_object(Bucket=bucket, Key="k", CopySource=source, MetadataDirective="REPLACE")[
        "CopyObjectResult"
    ]
    assert itself["ChecksumSHA1"] == digest("sha1", DATA)
    with refused("InvalidRequest", 400) as refusal:
        s3.copy_object(
            Bucket=bucket,
            Key="new",
            CopySource=source,
            ChecksumAlgorithm="CRC31",  # type: ignore[arg-type]
        )
    assert "CRC64NVME" in refusal.error["Message"]


def test_listings_say_which_kind_of_checksum_there_is(
    s3: S3Client, raw: RawClient, bucket: str
) -> None:
    for algorithm in ("sha1", "crc64nvme"):
        headers = {f"x-amz-checksum-{algorithm}": digest(algorithm, DATA)}
        put(raw, f"/{bucket}/{algorithm}", headers=headers)
    for entries in (
        s3.list_objects_v2(Bucket=bucket)["Contents"],
        s3.list_objects(Bucket=bucket)["Contents"],
        s3.list_object_versions(Bucket=bucket)["Versions"],
    ):
        found = {
            entry["Key"]: (entry["ChecksumAlgorithm"], entry["ChecksumType"]) for entry in entries
        }
        assert found == {
            "sha1": (["SHA1"], "FULL_OBJECT"),
            "crc64nvme": (["CRC64NVME"], "FULL_OBJECT"),
        }
