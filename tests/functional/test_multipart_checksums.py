"""Checksums of multipart uploads: chosen, verified part by part, put together."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import pytest
from support.digests import composite, digest
from support.raw import Answer, RawClient
from support.samples import MIB, noise
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PARTS = [noise(5 * MIB, 1), noise(5 * MIB, 2), noise(17, 3)]
WHOLE = b"".join(PARTS)
ASKED = {"x-amz-checksum-mode": "ENABLED"}


class RawUpload:
    """A multipart upload spoken by hand: no SDK adds a checksum of its own."""

    def __init__(self, raw: RawClient, bucket: str, **headers: str) -> None:
        self.raw, self.path = raw, f"/{bucket}/object"
        sent = {f"x-amz-checksum-{name}": value for name, value in headers.items()}
        self.created = raw.request("POST", f"{self.path}?uploads", headers=sent)
        assert self.created.status == 200, self.created.body
        self.upload_id = self.created.element("UploadId")

    def part(self, number: int, data: bytes, **headers: str) -> Answer:
        sent = {f"x-amz-checksum-{name}": value for name, value in headers.items()}
        target = f"{self.path}?partNumber={number}&uploadId={self.upload_id}"
        return self.raw.request("PUT", target, body=data, headers=sent)

    def list_parts(self) -> bytes:
        return self.raw.request("GET", f"{self.path}?uploadId={self.upload_id}").body

    def complete(
        self, parts: dict[int, str], elements: dict[int, str] | None = None, **headers: str
    ) -> Answer:
        """List parts by number with their ETag, and with further elements."""
        listed = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag>"
            f"{(elements or {}).get(number, '')}</Part>"
            for number, etag in parts.items()
        )
        document = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        sent = {f"x-amz-checksum-{name}": value for name, value in headers.items()}
        target = f"{self.path}?uploadId={self.upload_id}"
        return self.raw.request("POST", target, body=document, headers=sent)

    def abort(self) -> None:
        assert self.raw.request("DELETE", f"{self.path}?uploadId={self.upload_id}").status == 204


def refuses(answer: Answer, code: str, text: str = "") -> bool:
    """Whether it is this error, and says this."""
    assert (answer.status, answer.code) == (400, code)
    return text in answer.element("Message")


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        ("crc32", "COMPOSITE"),
        ("crc32", "FULL_OBJECT"),
        ("crc32c", "FULL_OBJECT"),
        ("crc64nvme", "FULL_OBJECT"),
        ("sha256", "COMPOSITE"),
        ("xxhash3", "COMPOSITE"),
    ],
)
def test_a_whole_upload(
    s3: S3Client, raw: RawClient, bucket: str, algorithm: str, kind: str
) -> None:
    upper, key = algorithm.upper(), f"Checksum{algorithm.upper()}"
    chosen: Any = {"ChecksumAlgorithm": upper, "ChecksumType": kind}
    created = s3.create_multipart_upload(Bucket=bucket, Key="k", **chosen)
    names: Any = {"Bucket": bucket, "Key": "k", "UploadId": created["UploadId"]}
    assert (created["ChecksumAlgorithm"], created["ChecksumType"]) == (upper, kind)
    listed: list[Any] = []
    for number, data in enumerate(PARTS, 1):
        # The second one comes without a checksum of its algorithm: the server computes it.
        target = f"/{bucket}/k?partNumber={number}&uploadId={created['UploadId']}"
        headers = {} if number == 2 else {f"x-amz-checksum-{algorithm}": digest(algorithm, data)}
        answer = raw.request("PUT", target, body=data, headers=headers)
        assert answer.headers[f"x-amz-checksum-{algorithm}"] == digest(algorithm, data)
        etag = answer.headers["etag"]
        listed.append({"PartNumber": number, "ETag": etag, key: digest(algorithm, data)})
    page: Any = s3.list_parts(**names)
    assert (page["ChecksumAlgorithm"], page["ChecksumType"]) == (upper, kind)
    assert [part[key] for part in page["Parts"]] == [digest(algorithm, data) for data in PARTS]
    upload: Any = s3.list_multipart_uploads(Bucket=bucket)["Uploads"][0]
    assert (upload["ChecksumAlgorithm"], upload["ChecksumType"]) == (upper, kind)
    expected = composite(algorithm, PARTS) if kind == "COMPOSITE" else digest(algorithm, WHOLE)
    claim: Any = {key: expected, "ChecksumType": kind}
    for _ in range(2):  # a repetition is answered alike
        done: Any = s3.complete_multipart_upload(
            **names, MultipartUpload={"Parts": listed}, **claim
        )
        assert (done[key], done["ChecksumType"]) == (expected, kind)
    for method in ("GET", "HEAD"):
        found = raw.request(method, f"/{bucket}/k", headers=ASKED)
        assert found.headers[f"x-amz-checksum-{algorithm}"] == expected
        assert found.headers["x-amz-checksum-type"] == kind
    attributes: Any = s3.get_object_attributes(
        Bucket=bucket, Key="k", ObjectAttributes=["Checksum", "ObjectParts"]
    )
    assert attributes["Checksum"] == {key: expected, "ChecksumType": kind}
    assert [part[key] for part in attributes["ObjectParts"]["Parts"]] == [
        digest(algorithm, data) for data in PARTS
    ]
    # A copy is stored as one: its checksum is of the whole, its algorithm the same.
    copied: Any = s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/k")
    assert copied["CopyObjectResult"][key] == digest(algorithm, WHOLE)
    assert copied["CopyObjectResult"]["ChecksumType"] == "FULL_OBJECT"
    found = raw.request("GET", f"/{bucket}/copy", headers=ASKED)
    assert found.body == WHOLE
    assert found.headers[f"x-amz-checksum-{algorithm}"] == digest(algorithm, WHOLE)
    # Onto itself it stays an upload in parts.
    itself: Any = s3.copy_object(
        Bucket=bucket, Key="k", CopySource=f"{bucket}/k", MetadataDirective="REPLACE"
    )["CopyObjectResult"]
    assert (itself[key], itself["ChecksumType"]) == (expected, kind)
    assert itself["ETag"].endswith(f'-{len(PARTS)}"')


def test_without_a_choice(s3: S3Client, raw: RawClient, bucket: str) -> None:
    """CRC64NVME of the whole; what parts bring along is verified."""
    upload = RawUpload(raw, bucket)
    assert not [name for name in upload.created.headers if "checksum" in name]
    plain = upload.part(1, PARTS[0])
    assert plain.headers["x-amz-checksum-crc64nvme"] == digest("crc64nvme", PARTS[0])
    other = upload.part(2, PARTS[2], crc32=digest("crc32", PARTS[2]))
    assert other.headers["x-amz-checksum-crc32"] == digest("crc32", PARTS[2])
    assert refuses(upload.part(2, PARTS[2], crc32=digest("crc32", b"other")), "BadDigest")
    assert b"Checksum" not in upload.list_parts()
    done = upload.complete({1: plain.headers["etag"], 2: other.headers["etag"]})
    expected = digest("crc64nvme", PARTS[0] + PARTS[2])
    assert done.element("ChecksumCRC64NVME") == expected
    assert done.element("ChecksumType") == "FULL_OBJECT"
    attributes: Any = s3.get_object_attributes(
        Bucket=bucket, Key="object", ObjectAttributes=["Checksum", "ObjectParts"]
    )
    assert attributes["Checksum"]["ChecksumCRC64NVME"] == expected
    assert attributes["ObjectParts"] == {"TotalPartsCount": 2}


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"algorithm": "CRC31"}, "[CRC32, "),
        ({"algorithm": ""}, "[CRC32, "),
        ({"type": "COMPOSITE"}, "can only be used with"),
        ({"algorithm": "CRC32", "type": "PARTIAL"}, "x-amz-checksum-type header is invalid"),
        ({"algorithm": "CRC64NVME", "type": "COMPOSITE"}, "The COMPOSITE checksum type"),
        ({"algorithm": "SHA256", "type": "FULL_OBJECT"}, "used with the sha256"),
        ({"algorithm": "XXHASH64", "type": "FULL_OBJECT"}, "used with the xxhash64"),
    ],
)
def test_choices_that_are_refused(
    s3: S3Client, raw: RawClient, bucket: str, headers: dict[str, str], text: str
) -> None:
    sent = {f"x-amz-checksum-{name}": value for name, value in headers.items()}
    answer = raw.request("POST", f"/{bucket}/k?uploads", headers=sent)
    assert refuses(answer, "InvalidRequest", text), answer.body
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_parts_that_are_refused(raw: RawClient, bucket: str) -> None:
    upload = RawUpload(raw, bucket, algorithm="SHA256")
    answer = upload.part(1, b"data", crc32=digest("crc32", b"data"))
    assert refuses(
        answer, "InvalidRequest", "expected checksum Type: sha256, actual checksum Type: crc32"
    )
    assert refuses(upload.part(1, b"data", sha256=digest("sha256", b"other")), "BadDigest")
    assert refuses(upload.part(1, b"data", sha256="AAAA"), "InvalidRequest")
    assert b"<Part>" not in upload.list_parts()
    upload.abort()
    answer = upload.part(1, b"data", sha256=digest("sha256", b"data"))
    assert (answer.status, answer.code) == (404, "NoSuchUpload")


def test_completes_that_are_refused(raw: RawClient, bucket: str) -> None:
    upload = RawUpload(raw, bucket, algorithm="CRC32")
    etags = {n: upload.part(n, PARTS[n - 1]).headers["etag"] for n in (1, 2)}
    etags[3] = upload.part(3, PARTS[2]).headers["etag"]
    right = {
        n: f"<ChecksumCRC32>{digest('crc32', PARTS[n - 1])}</ChecksumCRC32>" for n in (1, 2, 3)
    }
    answer = upload.complete(etags)
    assert refuses(answer, "InvalidRequest", "using a crc32 checksum")
    answer = upload.complete(etags, {1: right[1], 3: right[3]})
    assert refuses(answer, "InvalidRequest", "missing for part 2")
    answer = upload.complete(etags, {**right, 2: right[1]})
    assert refuses(answer, "InvalidPart")
    assert answer.element("PartNumber") == "2"
    gap = upload.complete({1: etags[1], 3: etags[3]}, right)
    assert refuses(gap, "InvalidPartOrder")
    wrong = composite("crc32", PARTS[:2])
    answer = upload.complete(etags, right, crc32=wrong)
    assert refuses(answer, "BadDigest", "The crc32 you specified did not match")
    answer = upload.complete(etags, right, crc32="AAA")
    assert refuses(answer, "InvalidRequest", "Value for x-amz-checksum-crc32")
    answer = upload.complete(etags, right, sha1=digest("sha1", WHOLE))
    assert refuses(answer, "InvalidRequest", "actual checksum Type: sha1")
    answer = upload.complete(etags, right, type="FULL_OBJECT")
    assert refuses(answer, "InvalidRequest", "created using the COMPOSITE checksum mode")
    both = {"crc32": wrong, "sha1": digest("sha1", WHOLE)}
    assert refuses(upload.complete(etags, right, **both), "InvalidRequest", "single")
    # None of them has closed the upload, nor stored anything.
    assert raw.request("HEAD", upload.path).status == 404
    done = upload.complete(etags, right, crc32=composite("crc32", PARTS), type="COMPOSITE")
    assert done.element("ChecksumCRC32") == composite("crc32", PARTS)


def test_copied_parts(s3: S3Client, raw: RawClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=WHOLE)
    upload = RawUpload(raw, bucket, algorithm="CRC32C", type="FULL_OBJECT")
    etags = {}
    for number, span in ((1, f"bytes=0-{5 * MIB - 1}"), (2, f"bytes={5 * MIB}-{len(WHOLE) - 1}")):
        copied = raw.request(
            "PUT",
            f"{upload.path}?partNumber={number}&uploadId={upload.upload_id}",
            headers={
                "x-amz-copy-source": f"{bucket}/source",
                "x-amz-copy-source-range": span,
            },
        )
        first, last = map(int, re.findall(r"\d+", span))
        assert copied.element("ChecksumCRC32C") == digest("crc32c", WHOLE[first : last + 1])
        etags[number] = copied.element("ETag")
    done = upload.complete(etags, crc32c=digest("crc32c", WHOLE))
    assert done.element("ChecksumCRC32C") == digest("crc32c", WHOLE)
    plain = RawUpload(raw, bucket)
    copied = raw.request(
        "PUT",
        f"{plain.path}?partNumber=1&uploadId={plain.upload_id}",
        headers={"x-amz-copy-source": f"{bucket}/source"},
    )
    assert b"Checksum" not in copied.body
    done = plain.complete({1: copied.element("ETag")})
    assert done.element("ChecksumCRC64NVME") == digest("crc64nvme", WHOLE)


@pytest.mark.parametrize("algorithm", ["crc32", "sha256", "crc64nvme"])
def test_an_upload_older_than_its_checksums(
    server: ServerProcess, raw: RawClient, bucket: str, algorithm: str
) -> None:
    """Of the upload no choice is known, of its parts no checksum; what the client says counts."""
    upload = RawUpload(raw, bucket)
    etags = {n: upload.part(n, PARTS[n - 1]).headers["etag"] for n in (1, 2, 3)}

    def claims(value: str) -> dict[str, str]:
        return {algorithm: value}

    if algorithm != "crc64nvme":  # parts of which something is known contradict it
        answer = upload.complete(etags, **claims(digest(algorithm, WHOLE)))
        assert refuses(answer, "InvalidRequest", "expected checksum Type: crc64nvme")
    stripped = 0
    for path in (server.data / bucket).rglob(".deltaglider/uploads/*/0000[1-3]"):
        record = json.loads(os.getxattr(path, "user.dg.metadata"))
        del record["internal"]["checksum"]
        os.setxattr(path, "user.dg.metadata", json.dumps(record).encode())
        stripped += 1
    assert stripped == 3
    right = digest(algorithm, WHOLE)
    if algorithm == "sha256":
        right = composite(algorithm, PARTS)
        answer = upload.complete(etags, **claims(digest(algorithm, WHOLE)), type="FULL_OBJECT")
        assert refuses(answer, "InvalidRequest", "FULL_OBJECT checksum type cannot be used")
    wrong = upload.complete(etags, **claims(digest(algorithm, PARTS[0])))
    assert refuses(wrong, "BadDigest", f"The {algorithm} you specified")
    done = upload.complete(etags, **claims(right))
    assert done.status == 200, done.body
    assert done.element(f"Checksum{algorithm.upper()}") == right
    head = raw.request("HEAD", upload.path, headers=ASKED)
    assert head.headers[f"x-amz-checksum-{algorithm}"] == right
