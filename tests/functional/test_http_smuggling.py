"""Requests that a proxy in front reads in another way: none runs that the proxy did not see."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.raw import Connection, RawClient
from support.samples import wait_until
from support.server import ServerProcess

BUCKET = "smuggling"
#: Where the proxy says that the client is, and where the client says that it is.
KNOWN, FORGED = "203.0.113.9", "10.66.66.66"
INNER = (
    f"GET /{BUCKET}/hidden HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {FORGED}\r\n"
    "X-Forwarded-Host: hidden.s3.example.com\r\n\r\n"
).encode()
UPGRADE = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMA"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawClient]:
    """A server behind a proxy that is trusted, and one object."""
    advanced = {
        "trust_proxy_headers": True,
        "trusted_proxy_cidrs": ["127.0.0.0/8"],
        "virtual_host_domains": ["s3.example.com"],
    }
    directory = tmp_path_factory.mktemp("smuggling")
    with ServerProcess(directory, settings={"advanced": advanced}) as server:
        raw = RawClient(server)
        assert raw.request("PUT", f"/{BUCKET}").status == 200
        assert raw.request("PUT", f"/{BUCKET}/k", body=b"data").status == 200
        yield raw


def is_still_served(connection: Connection) -> bool:
    connection.send(b"GET /_/health HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.method = "GET"
    return b"healthy" in connection.answer().body


def test_the_body_of_an_upgrade_is_stored(shop: RawClient) -> None:
    """Java's client asks for HTTP/2 this way with its first request, whatever that is."""
    target = f"/{BUCKET}/upgrade"
    signed = shop.signer.presign("PUT", target)
    with shop.connect() as connection:
        length = {"content-length": str(len(INNER))}
        connection.send_head("PUT", signed.target, {**signed.headers, **UPGRADE, **length})
        # The server is waiting for the body by now: it comes in a segment of its own.
        assert connection.is_silent(0.2)
        connection.send(INNER)
        assert connection.answer().status == 200
        assert is_still_served(connection)
    assert shop.request("GET", target).body == INNER
    signed = shop.signer.presign("GET", target)
    assert shop.send("GET", signed, extra=UPGRADE).body == INNER
    assert FORGED not in shop.server.log_text()


def test_nobody_hides_a_request_in_the_body_of_an_upgrade(shop: RawClient) -> None:
    form = {"content-type": "multipart/form-data; boundary=B", "x-forwarded-for": KNOWN}
    head = {"host": "x", **form, **UPGRADE, "content-length": str(len(INNER))}
    with shop.connect() as connection:
        connection.send_head("POST", f"/{BUCKET}", head)
        assert connection.is_silent(0.2)
        connection.send(INNER)
        answer = connection.answer()
        assert (answer.status, answer.code) == (400, "MalformedPOSTRequest")
        assert answer.headers.get("connection") == "close" or is_still_served(connection)
    wait_until(lambda: f"client={KNOWN}" in shop.server.log_text(), "the request is logged")
    assert FORGED not in shop.server.log_text()
    assert "key=hidden" not in shop.server.log_text()


def test_trailers_do_not_say_who_or_what_is_asked(shop: RawClient) -> None:
    before = len(shop.server.log_text())
    with shop.connect() as connection:
        connection.send(
            f"GET /k?trailers HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {KNOWN}\r\n"
            "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
            f"X-Forwarded-For: {FORGED}\r\nX-Forwarded-Host: {BUCKET}.s3.example.com\r\n"
            f"Host: {BUCKET}.s3.example.com\r\n\r\n".encode()
        )
        answer = connection.answer()
    # The bucket named "k" of the path, not the object of the host in the trailer.
    assert (answer.status, answer.code) == (400, "InvalidBucketName")
    wait_until(
        lambda: f"client={KNOWN}" in shop.server.log_text()[before:], "the request is logged"
    )
    assert FORGED not in shop.server.log_text()


@pytest.mark.parametrize(
    ("coding", "status", "code"),
    [
        ("identity", 400, "BadRequest"),
        ("xchunked", 400, "BadRequest"),
        ("chunked;a=b", 400, "BadRequest"),
        ('"chunked"', 400, "BadRequest"),
        ("gzip, chunked", 501, "NotImplemented"),
    ],
)
def test_what_has_no_certain_end_does_not_run(
    shop: RawClient, coding: str, status: int, code: str
) -> None:
    for method, target in (("DELETE", f"/{BUCKET}/k"), ("PUT", f"/{BUCKET}/never")):
        signed = shop.signer.sign(method, target, payload="UNSIGNED-PAYLOAD")
        headers = {**signed.headers, "transfer-encoding": coding}
        answer = shop.send_unsigned(method, signed.target, headers, b"4\r\nbody\r\n0\r\n\r\n")
        assert (answer.status, answer.code) == (status, code)
        assert answer.headers["connection"] == "close"
    assert shop.request("GET", f"/{BUCKET}/k").body == b"data"
    assert shop.request("HEAD", f"/{BUCKET}/never").status == 404
