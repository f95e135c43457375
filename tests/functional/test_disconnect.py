"""Clients that go away in the middle: nothing is kept, nothing leaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.descriptors import still
from support.expect import Footprint
from support.raw import RawClient
from support.samples import MIB, noise, release, wait_until
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from conftest import MakeClient, StartServer

BUCKET = "disconnect"
SIZE = 24 * MIB
ROUNDS = 12


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server whose open files nobody else changes, with large objects on it."""
    from support.clients import boto3_client

    with ServerProcess(tmp_path_factory.mktemp("disconnect")) as server:
        s3 = boto3_client(server)
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="object", Body=noise(SIZE))
        for number in range(2):
            s3.put_object(Bucket=BUCKET, Key=f"app-{number}.zip", Body=release(number, SIZE))
        for key in ("object", "app-1.zip"):
            s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        s3.close()
        yield server


@pytest.mark.parametrize("key", ["object", "app-1.zip"])
def test_in_the_middle_of_a_get(own: ServerProcess, key: str) -> None:
    raw = RawClient(own)
    before = still(own)
    for _ in range(ROUNDS):
        signed = raw.signer.sign("GET", f"/{BUCKET}/{key}")
        with raw.connect(receive_buffer=4096) as connection:
            connection.send_head("GET", signed.target, signed.headers)
            assert connection.receive_some().startswith(b"HTTP/1.1 200")
    wait_until(lambda: still(own) <= before, "the files of broken downloads are closed")
    assert raw.request("HEAD", f"/{BUCKET}/{key}").status == 200


@pytest.mark.parametrize("key", ["plain", "app-2.zip"])
def test_in_the_middle_of_a_put(own: ServerProcess, key: str) -> None:
    raw = RawClient(own)
    before, footprint = still(own), Footprint(own.data, own.temporary)
    data = release(2, 4 * MIB)
    for number in range(ROUNDS):
        signed = raw.signer.sign("PUT", f"/{BUCKET}/{key}", payload="UNSIGNED-PAYLOAD")
        with raw.connect() as connection:
            connection.send_head(
                "PUT", signed.target, {**signed.headers, "content-length": str(len(data))}
            )
            connection.send(data[: number * len(data) // ROUNDS])
    wait_until(lambda: still(own) <= before, "the files of broken uploads are closed")
    footprint.assert_unchanged()
    assert raw.request("HEAD", f"/{BUCKET}/{key}").status == 404


def test_in_the_middle_of_a_part(own: ServerProcess) -> None:
    raw = RawClient(own)
    target = f"/{BUCKET}/parts?uploads"
    upload = raw.request("POST", target).element("UploadId")
    before, footprint = still(own), Footprint(own.data, own.temporary)
    for _ in range(ROUNDS):
        target = f"/{BUCKET}/parts?partNumber=1&uploadId={upload}"
        signed = raw.signer.sign("PUT", target, payload="UNSIGNED-PAYLOAD")
        with raw.connect() as connection:
            connection.send_head("PUT", target, {**signed.headers, "content-length": "9000000"})
            connection.send(noise(MIB))
    wait_until(lambda: still(own) <= before, "the files of broken parts are closed")
    footprint.assert_unchanged()
    assert raw.request("DELETE", f"/{BUCKET}/parts?uploadId={upload}").status == 204


def test_before_the_answer_to_a_complete_upload(own: ServerProcess) -> None:
    """The object is stored or not, but never in part; and a second try works."""
    raw = RawClient(own)
    data = noise(2 * MIB, seed=5)
    for number in range(4):
        key = f"hasty-{number}"
        signed = raw.signer.sign("PUT", f"/{BUCKET}/{key}", payload="UNSIGNED-PAYLOAD")
        with raw.connect() as connection:
            connection.send_head(
                "PUT", signed.target, {**signed.headers, "content-length": str(len(data))}
            )
            connection.send(data)
        found = raw.request("GET", f"/{BUCKET}/{key}")
        assert found.status == 404 or found.body == data
        assert raw.request("PUT", f"/{BUCKET}/{key}", body=data).status == 200
        assert raw.request("GET", f"/{BUCKET}/{key}").body == data


def test_disconnect_while_complete_runs_then_retry(own: ServerProcess) -> None:
    from support.samples import multipart_etag

    raw = RawClient(own)
    parts = [noise(5 * MIB, 1), noise(5 * MIB, 2)]
    upload = raw.request("POST", f"/{BUCKET}/assembled?uploads").element("UploadId")
    entries = ""
    for number, part in enumerate(parts, 1):
        target = f"/{BUCKET}/assembled?partNumber={number}&uploadId={upload}"
        tag = raw.request("PUT", target, body=part).headers["etag"]
        entries += f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
    document = f"<CompleteMultipartUpload>{entries}</CompleteMultipartUpload>".encode()
    target = f"/{BUCKET}/assembled?uploadId={upload}"
    signed = raw.signer.sign("POST", target, payload="UNSIGNED-PAYLOAD")
    with raw.connect() as connection:
        connection.send_head(
            "POST", target, {**signed.headers, "content-length": str(len(document))}
        )
        connection.send(document)
    answer = raw.request("POST", target, body=document)
    assert answer.status == 200
    assert answer.element("ETag") == f'"{multipart_etag(parts)}"'
    assert raw.request("GET", f"/{BUCKET}/assembled").body == b"".join(parts)


def test_silent_clients_do_not_stop_others(
    start_server: StartServer, boto3_factory: MakeClient
) -> None:
    server = start_server()
    s3: S3Client = boto3_factory(server)
    s3.create_bucket(Bucket=BUCKET)
    raw = RawClient(server)
    silent = [raw.connect() for _ in range(50)]
    for number, connection in enumerate(silent):
        if number % 2:
            signed = raw.signer.sign("PUT", f"/{BUCKET}/s{number}", payload="UNSIGNED-PAYLOAD")
            connection.send_head("PUT", signed.target, {**signed.headers, "content-length": "9"})
    s3.put_object(Bucket=BUCKET, Key="k", Body=noise(MIB))
    assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == noise(MIB)
    for connection in silent:
        connection.close()
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["k"]
