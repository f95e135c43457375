"""Input that no honest client sends: the right error, nothing stored, and the server goes on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from support.expect import Footprint, refused
from support.raw import RawClient
from support.samples import MIB, noise, release
from support.server import ServerProcess
from support.signing import md5_base64, sha256_hex

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

RESERVED = [".deltaglider/x", ".deltaglider/refs/x", ".deltaglider/", ".deltaglider/uploads/x"]


@pytest.fixture(autouse=True)
def nothing_happened(
    s3: S3Client, bucket: str, footprint: Footprint, server: ServerProcess
) -> Iterator[None]:
    """After every test of this file."""
    pid = server.pid
    yield
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    footprint.assert_unchanged()
    s3.put_object(Bucket=bucket, Key="after", Body=b"still here")
    assert s3.get_object(Bucket=bucket, Key="after")["Body"].read() == b"still here"
    assert server.pid == pid
    os.kill(pid, 0)


def resident_bytes(server: ServerProcess) -> int:
    pages = Path(f"/proc/{server.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


# --- bodies --------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["plain", "app.zip"])
def test_no_length(raw: RawClient, bucket: str, key: str) -> None:
    signed = raw.signer.sign("PUT", f"/{bucket}/{key}", payload="UNSIGNED-PAYLOAD")
    chunked = {**signed.headers, "transfer-encoding": "chunked"}
    answer = raw.send_unsigned("PUT", signed.target, chunked, b"1\r\nx\r\n0\r\n\r\n")
    assert (answer.status, answer.code) == (411, "MissingContentLength")


@pytest.mark.parametrize("key", ["plain", "app.zip"])
@pytest.mark.parametrize("sent", [0, 1, MIB - 1])
def test_a_cut_body(raw: RawClient, bucket: str, key: str, sent: int) -> None:
    data = noise(MIB)
    signed = raw.signer.sign("PUT", f"/{bucket}/{key}", payload=sha256_hex(data))
    with raw.connect() as connection:
        connection.send_head("PUT", signed.target, {**signed.headers, "content-length": str(MIB)})
        connection.send(data[:sent])


def test_a_cut_part(s3: S3Client, raw: RawClient, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    target = f"/{bucket}/k?partNumber=1&uploadId={upload}"
    signed = raw.signer.sign("PUT", target, payload=sha256_hex(noise(MIB)))
    with raw.connect() as connection:
        connection.send_head("PUT", target, {**signed.headers, "content-length": str(MIB)})
        connection.send(noise(MIB)[:-1])
    assert "Parts" not in s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)


@pytest.mark.parametrize("key", ["plain", "app.zip"])
@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("content-md5", md5_base64(b"other"), "BadDigest"),
        ("content-md5", "not base64", "InvalidDigest"),
        ("content-md5", "AAAA", "InvalidDigest"),
        ("content-md5", "", "InvalidDigest"),
        ("x-amz-checksum-crc32", "AAAAAA==", "BadDigest"),
        ("x-amz-checksum-crc32c", "AAAAAA==", "BadDigest"),
        ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA=", "BadDigest"),
        ("x-amz-checksum-sha1", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=", "BadDigest"),
        ("x-amz-checksum-sha256", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "BadDigest"),
        ("x-amz-checksum-crc32", "AAAA", "InvalidRequest"),
        ("x-amz-checksum-sha256", "?", "InvalidRequest"),
    ],
)
def test_wrong_digests(
    raw: RawClient, bucket: str, key: str, header: str, value: str, code: str
) -> None:
    answer = raw.request("PUT", f"/{bucket}/{key}", body=noise(70_000), headers={header: value})
    assert (answer.status, answer.code) == (400, code)


@pytest.mark.parametrize("key", ["plain", "app.zip"])
def test_wrong_payload_hash(raw: RawClient, bucket: str, key: str) -> None:
    answer = raw.request(
        "PUT", f"/{bucket}/{key}", body=noise(70_000), payload=sha256_hex(b"other")
    )
    assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")


def test_two_checksums(raw: RawClient, bucket: str) -> None:
    headers = {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-crc32c": "AAAAAA=="}
    answer = raw.request("PUT", f"/{bucket}/k", body=b"x", headers=headers)
    assert (answer.status, answer.code) == (400, "InvalidRequest")


@pytest.mark.parametrize("length", ["-1", "x", "1x", "0x10", "9" * 30, "1, 2"])
def test_lengths_that_are_none(raw: RawClient, bucket: str, length: str) -> None:
    signed = raw.signer.sign("PUT", f"/{bucket}/k", payload="UNSIGNED-PAYLOAD")
    answer = raw.send_unsigned("PUT", signed.target, {**signed.headers, "content-length": length})
    assert answer.status == 400


def test_length_and_chunks_together(raw: RawClient, bucket: str) -> None:
    """RFC 9112 section 6.1: the way to smuggle a request past a proxy."""
    signed = raw.signer.sign("PUT", f"/{bucket}/k", payload="UNSIGNED-PAYLOAD")
    both = {**signed.headers, "content-length": "5", "transfer-encoding": "chunked"}
    answer = raw.send_unsigned("PUT", signed.target, both, b"0\r\n\r\n")
    assert answer.status in (400, 411)


# --- keys and paths ------------------------------------------------------------------------


def test_a_key_of_1025_bytes(raw: RawClient, bucket: str) -> None:
    for key in ("k" * 1025, quote("☃" * 342), "a/" * 512 + "b"):
        for method in ("PUT", "GET", "DELETE"):
            answer = raw.request(method, f"/{bucket}/{key}")
            assert (answer.status, answer.code) == (400, "KeyTooLongError")


@pytest.mark.parametrize(
    "path",
    [
        "../outside",
        "..%2foutside",
        "%2e%2e/outside",
        "%2e%2e%2f%2e%2e%2fetc/passwd",
        "a/../../outside",
        "..",
        "../..",
    ],
)
def test_traversal(raw: RawClient, server: ServerProcess, bucket: str, path: str) -> None:
    outside = server.directory / "outside"
    for method, body in (("PUT", b"x"), ("GET", b""), ("DELETE", b"")):
        answer = raw.request(method, f"/{bucket}/{path}", body=body)
        assert (answer.status, answer.code) == (400, "InvalidURI")
    assert not outside.exists()
    assert not (server.data / "outside").exists()


@pytest.mark.parametrize("path", ["a%00b", "%00"])
def test_nul(raw: RawClient, bucket: str, path: str) -> None:
    for method in ("PUT", "GET", "HEAD", "DELETE"):
        assert raw.request(method, f"/{bucket}/{path}").status == 400


@pytest.mark.parametrize("path", ["a%", "a%2", "a%zz", "%ff", "%c3%28", "%ed%a0%80", "a%u0041"])
def test_escapes_that_cannot_be_read(raw: RawClient, bucket: str, path: str) -> None:
    answer = raw.request("GET", f"/{bucket}/{path}")
    assert (answer.status, answer.code) == (400, "InvalidURI")
    assert raw.request("GET", f"/{bucket}?prefix={path}").status == 400


def test_bytes_that_are_not_ascii_in_the_request_line(raw: RawClient, bucket: str) -> None:
    answer = raw.send_unsigned("GET", f"/{bucket}/ü☃", {"host": "x"})
    assert answer.status in (400, 403)


def test_not_http_at_all(raw: RawClient) -> None:
    for sent in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"\r\n" * 10 + b"x\r\n\r\n"):
        with raw.connect() as connection:
            connection.send(sent)
            reply = connection.receive_some()
            assert reply.startswith(b"HTTP/1.1 400") or reply == b""


def test_a_head_without_end(raw: RawClient, server: ServerProcess) -> None:
    """Nobody is known yet, so nothing of it may pile up in memory."""
    before = resident_bytes(server)
    for start in (b"GET /", b"GET / HTTP/1.1\r\nx: ", b"GET / HTTP/1.1\r\n"):
        piece = b"x-filler: y\r\n" * 80_000 if start.endswith(b"1.1\r\n") else b"y" * MIB
        with raw.connect() as connection, contextlib.suppress(ConnectionError):
            connection.send(start)
            for _ in range(64):
                connection.send(piece)
            pytest.fail("the server took 64 MiB of headers")
    assert resident_bytes(server) - before < 32 * MIB


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "PROPFIND"])
def test_other_methods(raw: RawClient, bucket: str, method: str) -> None:
    answer = raw.request(method, f"/{bucket}/k")
    assert (answer.status, answer.code) == (405, "MethodNotAllowed")
    assert raw.request("INVENTED", f"/{bucket}/k").status == 400


# --- the reserved prefix -------------------------------------------------------------------


@pytest.mark.parametrize("key", RESERVED)
def test_reserved_keys(s3: S3Client, raw: RawClient, bucket: str, key: str) -> None:
    for method, query, body in (
        ("PUT", "", b"x"),
        ("GET", "", b""),
        ("DELETE", "", b""),
        ("POST", "?uploads", b""),
        ("PUT", f"?partNumber=1&uploadId={'0' * 32}", b"x"),
        ("GET", "?acl", b""),
    ):
        answer = raw.request(method, f"/{bucket}/{key}{query}", body=body)
        assert (answer.status, answer.code) == (403, "AccessDenied"), (method, query)
    assert raw.request("HEAD", f"/{bucket}/{key}").status == 403
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}]})
    assert [(e["Key"], e["Code"]) for e in answer["Errors"]] == [(key, "AccessDenied")]


def test_real_internal_objects_are_out_of_reach(
    s3: S3Client, raw: RawClient, server: ServerProcess, bucket: str
) -> None:
    for number in range(2):
        s3.put_object(Bucket=bucket, Key=f"app-{number}.zip", Body=release(number))
    upload: Any = {"Bucket": bucket, "Key": "open"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    s3.upload_part(**upload, PartNumber=1, Body=b"part")
    root = server.data / bucket
    internal = [
        os.fspath(path.relative_to(root))
        for path in (root / ".deltaglider").rglob("*")
        if path.is_file()
    ]
    assert any(name.startswith(".deltaglider/refs/") for name in internal)
    for name in internal:
        target = f"/{bucket}/{quote(name)}"
        for method, body in (("GET", b""), ("HEAD", b""), ("PUT", b"x"), ("DELETE", b"")):
            assert raw.request(method, target, body=body).status == 403, (method, name)
        for key, query in (("copy", ""), ("open", f"?partNumber=2&uploadId={upload['UploadId']}")):
            answer = raw.request(
                "PUT",
                f"/{bucket}/{key}{query}",
                headers={"x-amz-copy-source": quote(f"{bucket}/{name}")},
            )
            assert (answer.status, answer.code) == (403, "AccessDenied"), name
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": name}]})
        assert [error["Key"] for error in answer["Errors"]] == [name]
    assert s3.get_object(Bucket=bucket, Key="app-1.zip")["Body"].read() == release(1)
    s3.abort_multipart_upload(**upload)
    for number in range(2):
        s3.delete_object(Bucket=bucket, Key=f"app-{number}.zip")
    # References are collected elsewhere; what they leave is no trace of bad input.
    for folder in ("refs", "layout/suffix"):
        for path in (root / ".deltaglider" / folder).rglob("*"):
            if path.is_file():
                path.unlink()


# --- documents -----------------------------------------------------------------------------


def bomb() -> bytes:
    """A kilobyte that expands to a gigabyte ("billion laughs")."""
    entities = '<!ENTITY a0 "haha">' + "".join(
        f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)
    )
    return (
        f"<!DOCTYPE Delete [{entities}]><Delete><Object><Key>&a9;</Key></Object></Delete>".encode()
    )


DOCUMENTS = {
    "bomb": bomb(),
    "external entity": b'<!DOCTYPE Delete [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    b"<Delete><Object><Key>&x;</Key></Object></Delete>",
    "deep": b"<a>" * 100_000,
    "not utf-8": b"<Delete><Object><Key>\xff\xfe</Key></Object></Delete>",
    "other encoding": b'<?xml version="1.0" encoding="utf-7"?><Delete/>',
    "binary": noise(1000),
    "nul": b"<Delete>\0</Delete>",
    "many attributes": b"<Delete " + b" ".join(b'a%d="x"' % n for n in range(50_000)) + b"/>",
}


@pytest.mark.parametrize("name", list(DOCUMENTS))
def test_documents(s3: S3Client, raw: RawClient, bucket: str, name: str) -> None:
    body = DOCUMENTS[name]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    for target in (f"/{bucket}?delete", f"/{bucket}/k?uploadId={upload}"):
        answer = raw.request("POST", target, body=body, headers={"content-md5": md5_base64(body)})
        assert (answer.status, answer.code) == (400, "MalformedXML"), target
        assert b"root:" not in answer.body
    answer = raw.request("PUT", f"/{bucket}-new", body=body)
    assert answer.status == 400
    assert answer.code in ("MalformedXML", "EntityTooLarge")
    with refused("404", 404):
        s3.head_bucket(Bucket=f"{bucket}-new")
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)


def test_a_document_without_end(raw: RawClient, bucket: str) -> None:
    body = b"<Delete>" + b" " * (9 * MIB)
    headers = {"content-md5": md5_base64(body)}
    answer = raw.request("POST", f"/{bucket}?delete", body=body, headers=headers)
    assert answer.status == 400
    assert answer.code in ("EntityTooLarge", "MalformedXML")


# --- headers -------------------------------------------------------------------------------


def test_oversized_metadata(raw: RawClient, bucket: str) -> None:
    for headers in (
        {"x-amz-meta-a": "v" * 2048},
        {f"x-amz-meta-{number:04}": "vv" for number in range(400)},
        {"cache-control": "v" * 9000},
    ):
        answer = raw.request("PUT", f"/{bucket}/k", body=b"x", headers=headers)
        assert (answer.status, answer.code) == (400, "MetadataTooLarge")


@pytest.mark.parametrize("text", ["%0d%0aSet-Cookie:%20a=b", "%00", "a%0ab", "%7f", "%1b"])
def test_control_characters_in_overrides(
    s3: S3Client, raw: RawClient, bucket: str, text: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for name in ("content-type", "content-disposition", "cache-control", "expires"):
        answer = raw.request("GET", f"/{bucket}/k?response-{name}={text}")
        assert (answer.status, answer.code) == (400, "InvalidArgument")
        assert "set-cookie" not in answer.headers
    s3.delete_object(Bucket=bucket, Key="k")


def test_markup_in_errors_is_escaped(raw: RawClient, bucket: str) -> None:
    key = "<script>&\"']]>"
    answer = raw.request("GET", f"/{bucket}/{quote(key)}")
    assert answer.element("Key") == key
    assert b"<script>" not in answer.body
    control = raw.request("GET", f"/{bucket}/a%01b")
    assert control.status == 404
    assert control.code == "NoSuchKey"
