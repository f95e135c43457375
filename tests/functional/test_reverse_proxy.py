"""Virtual hosts, absolute targets, and reverse proxies that change what the client signed."""

from __future__ import annotations

import io
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from support.clients import boto3_client
from support.raw import Answer, RawClient
from support.samples import noise, wait_until
from support.server import ServerProcess
from support.signing import SIGNED_CHUNKS, sha256_hex, signed_chunks

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "my.dotted.bucket"
DOMAIN = "s3.example.test"
VIRTUAL = f"{BUCKET}.{DOMAIN}"
PREFIX = "/store"
DATA = noise(100_000)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with virtual hosts, behind a trusted proxy and a path prefix."""
    advanced = {
        "virtual_host_domains": [DOMAIN, "example.test"],
        "path_prefix": PREFIX,
        "trust_proxy_headers": True,
        "trusted_proxy_cidrs": ["127.0.0.1"],
    }
    directory = tmp_path_factory.mktemp("addressing")
    with ServerProcess(directory, settings={"advanced": advanced}) as server:
        raw = RawClient(server)
        assert raw.request("PUT", f"/{BUCKET}").status == 200
        assert raw.request("PUT", f"/{BUCKET}/k", body=DATA).status == 200
        yield server


@pytest.fixture(scope="module")
def proxied(own: ServerProcess) -> RawClient:
    return RawClient(own)


def virtual(server: ServerProcess, patch: pytest.MonkeyPatch, **options: Any) -> S3Client:
    """boto3 that addresses buckets by host; every name leads to this machine."""
    resolve = socket.getaddrinfo

    def here(host: Any, *arguments: Any, **keywords: Any) -> Any:
        known = isinstance(host, str) and host.endswith(DOMAIN)
        return resolve("127.0.0.1" if known else host, *arguments, **keywords)

    patch.setattr(socket, "getaddrinfo", here)
    client = boto3_client(server, **{"s3": {"addressing_style": "virtual"}, **options})
    client.meta.events.register("before-send", _no_path_style)
    return client


def _no_path_style(request: Any, **_: Any) -> None:
    path = urlsplit(request.url).path
    assert "my-virtual-bucket" not in path, "the client fell back to path style"


@pytest.mark.parametrize("prefix", ["", PREFIX])
@pytest.mark.parametrize("by_proxy", [False, True])
def test_boto3_with_virtual_hosts(
    own: ServerProcess, monkeypatch: pytest.MonkeyPatch, prefix: str, by_proxy: bool
) -> None:
    """With ``by_proxy`` requests name their target in absolute form, as to a forward proxy."""
    endpoint = replace_url(own, f"http://{DOMAIN}:{own.port}{prefix}")
    options = {"proxies": {"http": own.url}} if by_proxy else {}
    s3 = virtual(endpoint, monkeypatch, **options)
    name, key = "my-virtual-bucket", "folder/key with + and \u00e9"
    assert s3.create_bucket(Bucket=name)["Location"] == f"/{name}"
    s3.upload_fileobj(io.BytesIO(DATA), name, key)
    assert s3.get_object(Bucket=name, Key=key)["Body"].read() == DATA
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=name)["Contents"]] == [key]
    assert name in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]
    url = s3.generate_presigned_url("get_object", Params={"Bucket": name, "Key": key})
    assert url.startswith(f"http://{name}.{DOMAIN}:{own.port}{prefix}/folder/")
    if not by_proxy:
        with urlopen(Request(url)) as response:
            assert response.read() == DATA
    upload = s3.create_multipart_upload(Bucket=name, Key=key)["UploadId"]
    part = s3.upload_part(Bucket=name, Key=key, UploadId=upload, PartNumber=1, Body=DATA)
    done = s3.complete_multipart_upload(
        Bucket=name,
        Key=key,
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    assert done["Location"] == url.partition("?")[0]
    deleted = s3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": key}, {"Key": "_/x"}]})
    assert len(deleted["Deleted"]) == 2
    s3.delete_bucket(Bucket=name)
    s3.close()


def replace_url(server: ServerProcess, url: str) -> ServerProcess:
    """The same server, reached by another address."""
    other = object.__new__(ServerProcess)
    other.__dict__.update(server.__dict__)
    other.url = url
    return other


def send(
    raw: RawClient,
    *,
    method: str = "GET",
    signed: tuple[str, str],
    arrives: tuple[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    presigned: bool = False,
    payload: str = sha256_hex(b""),
    body: bytes = b"",
) -> Answer:
    """Sign for one host and path, and send to another, as a proxy in between would."""
    host, target = signed
    signer = replace(raw.signer, host=host)
    if presigned:
        what = signer.presign(method, target)
    else:
        what = signer.sign(method, target, payload=payload)
    host, target = arrives or signed
    target = what.target.replace(signed[1], target, 1)
    extra = {"host": host} | dict(headers or {})
    return raw.send_unsigned(method, target, dict(what.headers) | extra, body)


PUBLIC = "files.example.org"
FORWARDED = {"x-forwarded-host": PUBLIC}


@pytest.mark.parametrize("presigned", [False, True])
@pytest.mark.parametrize(
    ("signed", "arrives", "headers"),
    [
        # Virtual hosts as they are.
        ((VIRTUAL, "/k"), None, {}),
        ((f"{VIRTUAL}:8443", "/k"), None, {}),
        ((f"{BUCKET}.example.test", "/k"), None, {}),
        ((DOMAIN, f"/{BUCKET}/k"), None, {}),
        # The prefix, passed on or stripped.
        ((PUBLIC, f"{PREFIX}/{BUCKET}/k"), None, {}),
        ((PUBLIC, f"{PREFIX}/{BUCKET}/k"), (PUBLIC, f"/{BUCKET}/k"), {}),
        ((VIRTUAL, f"{PREFIX}/k"), (VIRTUAL, "/k"), {}),
        # Another host.
        ((PUBLIC, f"/{BUCKET}/k"), ("backend:9000", f"/{BUCKET}/k"), FORWARDED),
        (
            (f"{PUBLIC}:8443", f"/{BUCKET}/k"),
            ("backend:9000", f"/{BUCKET}/k"),
            FORWARDED | {"x-forwarded-port": "8443"},
        ),
        ((VIRTUAL, "/k"), ("backend:9000", "/k"), {"x-forwarded-host": VIRTUAL}),
        # Both, and a client that talks to the service without the proxy.
        ((PUBLIC, f"{PREFIX}/{BUCKET}/k"), ("backend", f"/{BUCKET}/k"), FORWARDED),
        (("backend", f"/{BUCKET}/k"), None, {}),
    ],
)
def test_what_is_accepted(
    proxied: RawClient,
    signed: tuple[str, str],
    arrives: tuple[str, str] | None,
    headers: dict[str, str],
    presigned: bool,
) -> None:
    answer = send(proxied, signed=signed, arrives=arrives, headers=headers, presigned=presigned)
    assert (answer.status, answer.body) == (200, DATA), answer.body


@pytest.mark.parametrize("presigned", [False, True])
@pytest.mark.parametrize(
    ("signed", "arrives", "headers"),
    [
        # A signature for one bucket is none for another one, whoever rewrites the request.
        ((f"other.{DOMAIN}", "/k"), (VIRTUAL, "/k"), {}),
        ((f"other.{DOMAIN}", "/k"), (f"other.{DOMAIN}", "/k"), {"x-forwarded-host": VIRTUAL}),
        ((DOMAIN, "/k"), (VIRTUAL, "/k"), {}),
        ((VIRTUAL, f"{PREFIX}/k"), (VIRTUAL, f"{PREFIX}{PREFIX}/k"), {}),
        ((PUBLIC, f"/{BUCKET}/k"), ("backend", f"/{BUCKET}/k"), {}),
        ((PUBLIC, f"/other{PREFIX}/k"), (PUBLIC, f"{PREFIX}/k"), {}),
    ],
)
def test_what_is_refused(
    proxied: RawClient,
    signed: tuple[str, str],
    arrives: tuple[str, str],
    headers: dict[str, str],
    presigned: bool,
) -> None:
    answer = send(proxied, signed=signed, arrives=arrives, headers=headers, presigned=presigned)
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")


def test_chunk_signatures_of_a_virtual_host(proxied: RawClient) -> None:
    signer = replace(proxied.signer, host=VIRTUAL)
    pieces = [DATA[:70_000], DATA[70_000:]]
    signed = signer.sign(
        "PUT",
        f"{PREFIX}/chunked",
        headers={"x-amz-decoded-content-length": str(len(DATA)), "content-encoding": "aws-chunked"},
        payload=SIGNED_CHUNKS,
    )
    body = signed_chunks(signed, pieces)
    stripped = replace(signed, target="/chunked")
    assert proxied.send("PUT", stripped, body).status == 200
    assert send(proxied, signed=(VIRTUAL, "/chunked")).body == DATA


# --- what an error tells ------------------------------------------------------------------------


@pytest.mark.parametrize("presigned", [False, True])
def test_a_mismatch_names_the_hosts_and_paths(proxied: RawClient, presigned: bool) -> None:
    answer = send(
        proxied,
        signed=("files.example.org:8443", f"/elsewhere/{BUCKET}/k"),
        arrives=("backend:9000", f"/{BUCKET}/k"),
        headers=FORWARDED,
        presigned=presigned,
    )
    canonical = answer.element("CanonicalRequest")
    assert canonical.startswith(f"GET\n{PREFIX}/{BUCKET}/k\n")
    assert f"\nhost:{PUBLIC}\n" in canonical
    assert bytes.fromhex(answer.element("CanonicalRequestBytes")).decode() == canonical
    assert answer.element("StringToSign").endswith(sha256_hex(canonical.encode()))
    assert answer.element("Compared").split("; ") == [
        f"host {PUBLIC}, path {PREFIX}/{BUCKET}/k",
        f"host {PUBLIC}, path /{BUCKET}/k",
        f"host backend:9000, path {PREFIX}/{BUCKET}/k",
        f"host backend:9000, path /{BUCKET}/k",
    ]


def test_a_mismatch_of_a_virtual_host_has_a_path_without_bucket(proxied: RawClient) -> None:
    answer = send(proxied, signed=(DOMAIN, f"/{BUCKET}/k"), arrives=(VIRTUAL, f"{PREFIX}/k"))
    canonical = answer.element("CanonicalRequest")
    assert canonical.startswith(f"GET\n{PREFIX}/k\n")
    assert f"\nhost:{VIRTUAL}\n" in canonical
    # One spelling only: nothing but the canonical request was compared, as at AWS.
    assert b"<Compared>" not in answer.body


# --- hosts and paths that are none --------------------------------------------------------------


def bare(server: ServerProcess, request: str) -> Answer:
    with RawClient(server).connect() as connection:
        connection.send(request.encode())
        return connection.answer()


@pytest.mark.parametrize(
    "request_text",
    [
        "GET /b HTTP/1.1\r\n\r\n",
        "GET /b HTTP/1.1\r\nHost:\r\n\r\n",
        "GET /b HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET /b HTTP/1.1\r\nHost: a/b\r\n\r\n",
        f"GET /b HTTP/1.1\r\nHost: x..{DOMAIN}\r\n\r\n",
        "GET /b HTTP/1.1\r\nHost: a:99999\r\n\r\n",
        "GET /b HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        f"GET /b HTTP/1.1\r\nHost: a\r\nHost: {VIRTUAL}\r\n\r\n",
        "GET http://user:secret@a/b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /b HTTP/1.1\r\nHost: a\r\nX-Forwarded-Host: a b\r\n\r\n",
    ],
)
def test_a_host_that_is_none(own: ServerProcess, request_text: str) -> None:
    answer = bare(own, request_text)
    assert (answer.status, answer.code) == (400, "BadRequest")
    assert "Host header" in answer.element("Message") or "host" in answer.element("Message")


def test_a_bucket_name_that_is_none_in_the_host(proxied: RawClient) -> None:
    answer = send(proxied, signed=(f"under_score.{DOMAIN}", "/k"))
    assert (answer.status, answer.code) == (400, "InvalidBucketName")


@pytest.mark.parametrize(
    ("host", "path", "version", "status"),
    [
        ("127.0.0.1", "/_/health", "1.1", 200),
        (DOMAIN, "/_/health", "1.1", 200),
        ("127.0.0.1", f"{PREFIX}/_/health", "1.1", 200),
        (None, "/_/health", "1.0", 200),
        ("not a host", "/_/health", "1.1", 200),
        ("127.0.0.1", "/_/nothing", "1.1", 404),
        # With a bucket in the host it is a key like any other, which needs a signature.
        (VIRTUAL, "/_/health", "1.1", 403),
        (VIRTUAL, f"{PREFIX}/_/health", "1.1", 403),
    ],
)
def test_probes(own: ServerProcess, host: str | None, path: str, version: str, status: int) -> None:
    line = "" if host is None else f"Host: {host}\r\n"
    answer = bare(own, f"GET {path} HTTP/{version}\r\n{line}\r\n")
    assert answer.status == status
    assert (b"healthy" in answer.body) is (status == 200)


def test_a_key_that_looks_like_a_probe(proxied: RawClient) -> None:
    where = (VIRTUAL, "/_/health")
    assert send(proxied, method="PUT", signed=where, headers={"content-length": "0"}).status == 200
    assert send(proxied, signed=where).body == b""
    assert send(proxied, signed=(DOMAIN, f"/{BUCKET}/_/health")).status == 200


# --- the address of the client ------------------------------------------------------------------


def test_the_client_behind_a_trusted_proxy_is_logged(own: ServerProcess) -> None:
    headers = "X-Forwarded-For: 1.1.1.1, ::ffff:203.0.113.9, 127.0.0.1\r\n"
    bare(own, f"GET /b HTTP/1.1\r\nHost: a\r\n{headers}\r\n")
    wait_until(lambda: "203.0.113.9" in own.log_text(), "the client is in the log")
    assert "::ffff:203.0.113.9" not in own.log_text()
    assert "1.1.1.1" not in own.log_text()


def test_others_cannot_claim_to_be_somebody_else(server: ServerProcess, raw: RawClient) -> None:
    """Nothing is trusted by default."""
    headers = {"x-forwarded-for": "203.0.113.77", "x-real-ip": "203.0.113.77"}
    answer = raw.send("GET", raw.signer.sign("GET", "/no-such-bucket-77"), extra=headers)
    assert answer.code == "NoSuchBucket"
    wait_until(lambda: "no-such-bucket-77" in server.log_text(), "the request is in the log")
    assert "203.0.113.77" not in server.log_text()
    forwarded = {"x-forwarded-host": "elsewhere.example"}
    assert raw.send("GET", raw.signer.sign("GET", "/"), extra=forwarded).status == 200


def reload(server: ServerProcess, configuration: str) -> None:
    server.config.write_text(configuration)
    before = server.log_text().count("configuration reloaded")
    os.kill(server.pid, signal.SIGHUP)
    wait_until(
        lambda: server.log_text().count("configuration reloaded") > before,
        "the configuration is reloaded",
    )


def test_a_reload_puts_them_in_force(own: ServerProcess, proxied: RawClient) -> None:
    late = (f"{BUCKET}.late.test", f"{PREFIX}/k")
    before = own.config.read_text()
    # In path style "k" is the bucket, and too short for one.
    assert send(proxied, signed=late).code == "InvalidBucketName"
    reload(own, before.replace("- example.test", "- example.test\n  - late.test"))
    assert send(proxied, signed=late).body == DATA
    reload(own, before)
    assert send(proxied, signed=late).code == "InvalidBucketName"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trust_proxy_headers": True}, "trust_proxy_headers needs trusted_proxy_cidrs"),
        ({"trusted_proxy_cidrs": ["10.0.0.1/8"]}, "is not a network"),
        ({"virtual_host_domains": ["http://s3.example.com"]}, "is not a domain"),
        ({"virtual_host_domains": ["1.2.3.4"]}, "is not a domain"),
        ({"path_prefix": "s3"}, "must be empty or look like /s3"),
        ({"path_prefix": "/a/../b"}, "must be empty or look like /s3"),
        ({"path_prefix": "/a/_"}, "must be empty or look like /s3"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    from pydantic import ValidationError

    from deltaglider_core.settings import AdvancedSettings

    with pytest.raises(ValidationError, match=words):
        AdvancedSettings.model_validate(settings)


def test_lists_in_variables_have_commas() -> None:
    from deltaglider_core.settings import AdvancedSettings

    settings = AdvancedSettings.model_validate(
        {
            "virtual_host_domains": "S3.example.com., localhost,",
            "trusted_proxy_cidrs": " 10.0.0.0/8,::1",
            "path_prefix": "/store/",
        }
    )
    assert settings.virtual_host_domains == ("s3.example.com", "localhost")
    assert settings.trusted_proxy_cidrs == ("10.0.0.0/8", "::1/128")
    assert settings.path_prefix == "/store"
