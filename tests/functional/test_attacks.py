"""What somebody sends who means harm: nothing is poisoned, spelled around or cut off."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from support.raw import RawClient
from support.samples import wait_until
from support.server import ServerProcess

from conftest import StartServer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HOST = {"host": "anyone"}

#: Query parameters that stand for headers which no request or answer could carry.
IMPOSSIBLE_HEADERS = [
    "X-Amz-Meta-A%0D%0ASet-Cookie=1",
    "X-Amz-Meta-A%00=1",
    "X-Amz-Meta-a%20b=1",
    "X-Amz-Meta-a%3Ab=1",
    "X-Amz-Meta-%C3%A9=1",
    "X-Amz-Meta-%E2%98%83=1",
    "X-Amz-Meta-A=1%0D%0ASet-Cookie:%20a=b",
    "X-Amz-Checksum-Algorithm=a%0d%0ab",
    "X-Amz-Checksum-Type=%00",
]


@pytest.mark.parametrize("parameter", IMPOSSIBLE_HEADERS)
def test_parameters_that_could_be_no_header(
    s3: S3Client, raw: RawClient, bucket: str, parameter: str
) -> None:
    """Stored, such a name would cut off every later answer."""
    for method, query in (("PUT", ""), ("POST", "uploads&")):
        signed = raw.signer.presign(method, f"/{bucket}/k?{query}{parameter}")
        answer = raw.send(method, signed)
        assert (answer.status, answer.code) == (400, "InvalidArgument"), method
        assert "set-cookie" not in answer.headers
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_parameters_that_poison_open_access(start_server: StartServer) -> None:
    access = {
        "authentication": "none",
        "access_key_id": None,
        "secret_access_key": None,
    }
    raw = RawClient(start_server(settings={"access": access}))
    assert raw.send_unsigned("PUT", "/bucket", HOST).status == 200
    one = {**HOST, "content-length": "1"}
    assert raw.send_unsigned("PUT", "/bucket/k", one, b"x").status == 200
    for parameter in IMPOSSIBLE_HEADERS:
        target = f"/bucket/k?X-Amz-Signature=0&{parameter}"
        assert raw.send_unsigned("PUT", target, one, b"y").code == "InvalidArgument"
    assert raw.send_unsigned("GET", "/bucket/k", HOST).body == b"x"


def test_metadata_that_no_header_can_carry(
    s3: S3Client, raw: RawClient, server: ServerProcess, bucket: str
) -> None:
    """Another writer of the storage may have stored any text; the object stays readable."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"good": "1"})
    path = server.data / bucket / "k"
    record = json.loads(os.getxattr(path, "user.dg.metadata"))
    record["user"] |= {"a b": "1", "split": "1\r\nset-cookie: a=b", "": "2", "snow": "☃"}
    record["headers"] |= {"cache-control": "no\r\nset-cookie: a=b", "content-language": "de"}
    os.setxattr(path, "user.dg.metadata", json.dumps(record).encode())
    for method in ("GET", "HEAD"):
        answer = raw.request(method, f"/{bucket}/k")
        assert answer.status == 200
        assert answer.headers["x-amz-meta-good"] == "1"
        assert answer.headers["x-amz-meta-snow"].encode("latin-1").decode() == "☃"
        assert answer.headers["x-amz-missing-meta"] == "3"
        assert answer.headers["content-language"] == "de"
        assert "set-cookie" not in answer.headers
        assert "cache-control" not in answer.headers
    assert raw.request("GET", f"/{bucket}/k").body == b"x"


def test_an_answer_that_cannot_be_sent_is_an_error(
    s3: S3Client, raw: RawClient, server: ServerProcess, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    path = server.data / bucket / "k"
    record = json.loads(os.getxattr(path, "user.dg.metadata"))
    record["etag"] = "a\r\nset-cookie: a=b"
    os.setxattr(path, "user.dg.metadata", json.dumps(record).encode())
    answer = raw.request("GET", f"/{bucket}/k")
    assert (answer.status, answer.code) == (500, "InternalError")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("name", ["health", "ready", "metrics"])
def test_probes_have_one_spelling(raw: RawClient, name: str) -> None:
    """What a proxy in front blocks as ``/_/metrics`` is reached by no other spelling."""
    assert raw.send_unsigned("GET", f"/_/{name}", HOST).status == 200
    assert raw.send_unsigned("GET", f"/_/{name}?x=y", HOST).status == 200
    for path in (
        f"//_/{name}",
        f"///_/{name}",
        f"/_//{name}",
        f"/%5F/{name}",
        f"/%5f%2f{name}",
        f"/_%2f{name}",
        f"/_/%{ord(name[0]):x}{name[1:]}",
        f"/_/{name}/",
        f"/./_/{name}",
        f"/x/../_/{name}",
        f"/_/{name};x",
    ):
        answer = raw.send_unsigned("GET", path, HOST)
        assert answer.status in (400, 404), path
        assert b"healthy" not in answer.body
        assert b"deltaglider_" not in answer.body


def test_a_strange_probe_is_not_repeated_to_its_sender(raw: RawClient) -> None:
    for accept in ("application/json", "application/xml", "text/html"):
        answer = raw.send_unsigned("GET", "/_/%01<b>", {**HOST, "accept": accept})
        assert answer.status == 404
        assert b"<b>" not in answer.body
        assert b"\x01" not in answer.body


@pytest.mark.parametrize("head", ["GET /_/health HTTP/2.0\r\nhost: x", "GET /x HTTP/0.9", "GET /x"])
def test_versions_of_http_that_are_none(raw: RawClient, server: ServerProcess, head: str) -> None:
    before = server.log_text().count("Traceback")
    with raw.connect() as connection:
        connection.send(f"{head}\r\n\r\n".encode())
        assert connection.receive_some().startswith(b"HTTP/1.1 400 ")
    assert raw.send_unsigned("GET", "/_/health", HOST).status == 200
    assert server.log_text().count("Traceback") == before


def test_names_that_are_too_long_do_not_fill_the_log(raw: RawClient, server: ServerProcess) -> None:
    for number, path in enumerate(("a" * 40_000, "bucket/" + "%0a" * 15_000)):
        size = len(server.log_text())
        assert raw.send_unsigned("GET", f"/{path}?{number}", HOST).status in (400, 403)
        wait_until(lambda size=size: len(server.log_text()) > size, "the request is logged")
        assert len(server.log_text()) < size + 4000


def test_nobody_writes_lines_of_the_log(start_server: StartServer) -> None:
    for log_format in ("text", "json"):
        server = start_server(settings={"advanced": {"log_format": log_format}})
        raw = RawClient(server)
        before = server.log_text().splitlines()
        forged = "%0a2026-01-01T00:00:00Z%20%5binfo%5d%20FORGED%1b%5b31m%0d%c2%85%e2%80%a8FORGED"
        for signed in (False, True):
            for target in (f"/bucket{forged}", f"/bucket/k{forged}"):
                if signed:
                    raw.request("GET", target)
                else:
                    raw.send_unsigned("GET", target, HOST)
        wait_until(lambda s=server: s.log_text().count("FORGED") >= 8, "the requests are logged")
        lines = server.log_text().splitlines()[len(before) :]
        assert len(lines) == 4
        assert not any(character in server.log_text() for character in "\x1b\r\x85\u2028")
