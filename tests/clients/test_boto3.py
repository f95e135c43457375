"""boto3: with its defaults, with those of earlier years, and its transfer manager."""

from __future__ import annotations

import os
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from support.clients import boto3_client
from support.compatibility import Recorder
from support.expect import refused
from support.samples import MIB, contents, noise
from support.server import ServerProcess
from urllib3 import encode_multipart_formdata

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CLIENT = "boto3"

#: What botocore did before it sent checksums by default, and the payload modes that can be chosen.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "before-1.36": {
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    },
    "signed-payloads": {"s3": {"addressing_style": "path", "payload_signing_enabled": True}},
    "unsigned-payloads": {"s3": {"addressing_style": "path", "payload_signing_enabled": False}},
}


def version() -> str:
    return boto3.__version__


@pytest.fixture(params=CONFIGURATIONS)
def client(request: pytest.FixtureRequest, endpoint: ServerProcess) -> Iterator[S3Client]:
    """The client under test."""
    made = boto3_client(endpoint, **CONFIGURATIONS[request.param])
    yield made
    made.close()


def test_round(
    client: S3Client, endpoint: ServerProcess, bucket: str, step: Recorder, tree: Path
) -> None:
    files = contents(tree)
    names = sorted(files, key=str.encode)
    with step("buckets"):
        client.create_bucket(Bucket=f"{bucket}-made")
        assert f"{bucket}-made" in [found["Name"] for found in client.list_buckets()["Buckets"]]
        client.delete_bucket(Bucket=f"{bucket}-made")
    with step("tree", "checksums"):
        for name in names:
            client.put_object(Bucket=bucket, Key=name, Body=files[name])
        for name in names:
            assert client.get_object(Bucket=bucket, Key=name)["Body"].read() == files[name]
    with step("list"):
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, PaginationConfig={"PageSize": 3}
        )
        assert [entry["Key"] for page in pages for entry in page["Contents"]] == names
        below = client.list_objects_v2(Bucket=bucket, Prefix="sub/", Delimiter="/")
        assert [entry["Prefix"] for entry in below["CommonPrefixes"]] == ["sub/deeper/"]
        assert [entry["Key"] for entry in below["Contents"]] == [
            name for name in names if name.startswith("sub/") and "deeper" not in name
        ]
    metadata(client, bucket, step)
    with step("range"):
        part = client.get_object(Bucket=bucket, Key="app-2.tar", Range="bytes=100000-100999")
        assert part["Body"].read() == files["app-2.tar"][100_000:101_000]
        assert part["ContentRange"] == f"bytes 100000-100999/{len(files['app-2.tar'])}"
    with step("copy"):
        source = {"Bucket": bucket, "Key": "sub/100% + 1%41.txt"}
        client.copy_object(Bucket=bucket, Key="copy ü", CopySource=source)
        copied = client.get_object(Bucket=bucket, Key="copy ü")["Body"].read()
        assert copied == files["sub/100% + 1%41.txt"]
    with step("delete", "delete many"):
        client.delete_object(Bucket=bucket, Key="copy ü")
        objects = [{"Key": name} for name in names]
        deleted = client.delete_objects(Bucket=bucket, Delete={"Objects": objects})
        assert [entry["Key"] for entry in deleted["Deleted"]] == names
        assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
        client.delete_object(Bucket=bucket, Key="described")


def metadata(client: S3Client, bucket: str, step: Recorder) -> None:
    """Headers, user metadata and conditions."""
    headers = {
        "CacheControl": "max-age=60",
        "ContentDisposition": 'attachment; filename="x.txt"',
        "ContentLanguage": "de",
        "ContentType": "text/x; charset=utf-8",
        "Metadata": {"colour": "blue", "two-words": "a b"},
    }
    with step("metadata"):
        client.put_object(Bucket=bucket, Key="described", Body=b"text", **headers)
        found = client.head_object(Bucket=bucket, Key="described")
        assert {name: found[name] for name in headers} == headers  # type: ignore[literal-required]
    with step("conditions"):
        with refused("PreconditionFailed", 412):
            client.put_object(Bucket=bucket, Key="described", Body=b"2", IfNoneMatch="*")
        with refused("304", 304):
            client.get_object(Bucket=bucket, Key="described", IfNoneMatch=found["ETag"])
        client.put_object(Bucket=bucket, Key="described", Body=b"2", IfMatch=found["ETag"])


def test_transfer_manager(client: S3Client, bucket: str, step: Recorder, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(noise(11 * MIB + 7))
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    with step("multipart", "metadata"):
        extra = {"ContentType": "text/x", "Metadata": {"colour": "blue"}}
        client.upload_file(os.fspath(source), bucket, "k", ExtraArgs=extra, Config=config)
        found = client.head_object(Bucket=bucket, Key="k")
        assert found["ETag"].endswith('-3"')
        assert (found["ContentType"], found["Metadata"]) == ("text/x", {"colour": "blue"})
    with step("range"):
        client.download_file(bucket, "k", os.fspath(back), Config=config)
        assert back.read_bytes() == source.read_bytes()
    with step("copy"):
        client.copy({"Bucket": bucket, "Key": "k"}, bucket, "copied", Config=config)
        with back.open("wb") as target:
            client.download_fileobj(bucket, "copied", target, Config=config)
        assert back.read_bytes() == source.read_bytes()
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}, {"Key": "copied"}]})


def test_presigned(
    endpoint: ServerProcess, bucket: str, step: Recorder, opened: Callable[..., bytes]
) -> None:
    client = boto3_client(endpoint)
    names = {"Bucket": bucket, "Key": "k ü+%"}
    with step("presign"):
        put = client.generate_presigned_url("put_object", names, ExpiresIn=60)
        opened(urllib.request.Request(put, b"presigned", method="PUT"))
        assert opened(client.generate_presigned_url("get_object", names)) == b"presigned"
    with step("form"):
        fields = {"Content-Type": "text/x", "success_action_status": "201"}
        conditions = [{"Content-Type": "text/x"}, {"success_action_status": "201"}]
        form = client.generate_presigned_post(
            bucket, "forms/${filename}", Fields=fields, Conditions=conditions, ExpiresIn=60
        )
        parts = [*form["fields"].items(), ("file", ("a ü.txt", b"by a form", "text/plain"))]
        body, kind = encode_multipart_formdata(parts)
        opened(urllib.request.Request(form["url"], body, {"Content-Type": kind}, method="POST"))
        found = client.get_object(Bucket=bucket, Key="forms/a ü.txt")
        assert (found["Body"].read(), found["ContentType"]) == (b"by a form", "text/x")
    client.close()


def test_virtual_hosts(
    start_server: Callable[..., ServerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of buckets in the name of the host; it needs a setting, so a server of its own."""
    server = start_server(settings={"advanced": {"virtual_host_domains": ["s3.test"]}})
    resolve, asked = socket.getaddrinfo, []

    def local(host: str, *words: Any, **named: Any) -> Any:
        asked.append(host)
        return resolve("127.0.0.1" if host.endswith("s3.test") else host, *words, **named)

    monkeypatch.setattr(socket, "getaddrinfo", local)
    client = boto3_client(
        server, endpoint_url=f"http://s3.test:{server.port}", s3={"addressing_style": "virtual"}
    )
    client.create_bucket(Bucket="photos")
    client.put_object(Bucket="photos", Key="a/b ü", Body=b"by its host")
    assert client.get_object(Bucket="photos", Key="a/b ü")["Body"].read() == b"by its host"
    assert [entry["Key"] for entry in client.list_objects_v2(Bucket="photos")["Contents"]] == [
        "a/b ü"
    ]
    url = client.generate_presigned_url("get_object", {"Bucket": "photos", "Key": "a/b ü"})
    assert url.startswith("http://photos.s3.test:")
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.read() == b"by its host"
    assert set(asked) == {"photos.s3.test"}
    client.close()
    path_style = boto3_client(server)
    assert path_style.get_object(Bucket="photos", Key="a/b ü")["Body"].read() == b"by its host"
    path_style.close()


def test_streams_and_waiters(endpoint: ServerProcess, bucket: str, step: Recorder) -> None:
    client = boto3_client(endpoint)
    once = {"MaxAttempts": 1}
    with step("buckets"):
        client.get_waiter("bucket_exists").wait(Bucket=bucket, WaiterConfig=once)
        client.get_waiter("object_not_exists").wait(Bucket=bucket, Key="k", WaiterConfig=once)
    with step("tree"):
        client.put_object(Bucket=bucket, Key="k", Body=noise(300_000))
        client.get_waiter("object_exists").wait(Bucket=bucket, Key="k", WaiterConfig=once)
        chunks = client.get_object(Bucket=bucket, Key="k")["Body"].iter_chunks(1 << 16)
        assert b"".join(chunks) == noise(300_000)
    client.close()
