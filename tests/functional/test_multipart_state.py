"""Multipart uploads across processes, restarts and crashes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from support.expect import refused
from support.journal import read_events
from support.model import Event
from support.samples import MIB, files_below, md5_hex, multipart_etag, noise, wait_until
from support.uploads import Upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from conftest import MakeClient, StartServer

FIVE = 5 * MIB
BUCKET = "uploads"


def body_of(s3: S3Client, bucket: str, key: str = "object") -> bytes:
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def test_a_repeated_conditional_complete_is_a_success(s3: S3Client, bucket: str) -> None:
    """Its own object is no reason to refuse it; without it, the condition counts."""
    upload = Upload(s3, bucket)
    tag = upload.part(1, b"x")
    first = upload.complete((1, tag), IfNoneMatch="*")
    assert upload.complete((1, tag), IfNoneMatch="*")["ETag"] == first["ETag"]
    late = Upload(s3, bucket)
    with refused("PreconditionFailed", 412):
        late.complete((1, late.part(1, b"y")), IfNoneMatch="*")
    assert late.is_open()
    upload = Upload(s3, bucket)
    tag = upload.part(1, b"z")
    second = upload.complete((1, tag), IfMatch=first["ETag"])
    assert upload.complete((1, tag), IfMatch=first["ETag"])["ETag"] == second["ETag"]
    assert body_of(s3, bucket) == b"z"


def test_a_repeated_complete_with_the_announced_size(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket)
    tag = upload.part(1, b"four")
    first = upload.complete((1, tag), MpuObjectSize=4)
    assert upload.complete((1, tag), MpuObjectSize=4)["ETag"] == first["ETag"]


def test_errors_name_the_upload_as_the_client_does(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket)
    tag = upload.part(1, b"x")
    with refused("InvalidPart", 400) as refusal:
        upload.complete((2, tag))
    assert refusal.error["UploadId"] == upload.upload_id
    s3.abort_multipart_upload(**upload.names)
    with refused("NoSuchUpload", 404) as refusal:
        upload.part(2, b"y")
    assert refusal.error["UploadId"] == upload.upload_id


def test_an_upload_id_marker_that_is_none(s3: S3Client, bucket: str) -> None:
    Upload(s3, bucket)
    with refused("InvalidArgument", 400):
        s3.list_multipart_uploads(Bucket=bucket, KeyMarker="a", UploadIdMarker="none")
    page = s3.list_multipart_uploads(Bucket=bucket, UploadIdMarker="none")
    assert len(page["Uploads"]) == 1, "ignored without a key marker"


def test_any_worker_takes_any_request(start_server: StartServer, boto3_factory: MakeClient) -> None:
    """Requests at once take connections of their own, which any of three processes accepts."""
    server = start_server(arguments=["--workers", "3"])
    s3 = boto3_factory(server)
    s3.create_bucket(Bucket=BUCKET)
    pieces = [noise(FIVE, number) for number in range(3)] + [b"end"]
    upload = Upload(s3, BUCKET)
    with ThreadPoolExecutor(8) as pool:
        tags = list(pool.map(upload.part, range(1, 5), pieces))
        assert tags == [f'"{md5_hex(piece)}"' for piece in pieces]
        found = pool.map(lambda _: s3.list_parts(**upload.names)["Parts"], range(8))
        assert {len(parts) for parts in found} == {4}
        answers = pool.map(lambda _: upload.complete(*enumerate(tags, 1))["ETag"], range(8))
        assert set(answers) == {f'"{multipart_etag(pieces)}"'}
        assert not any(pool.map(lambda _: upload.is_open(), range(8)))
    assert md5_hex(body_of(s3, BUCKET)) == md5_hex(b"".join(pieces))
    expected = Event(kind="ObjectCreated", bucket=BUCKET, key="object", etag=multipart_etag(pieces))
    assert read_events(server) == {expected: 1}


def test_a_restart_loses_nothing(start_server: StartServer, boto3_factory: MakeClient) -> None:
    """Neither open uploads and their parts, nor what was answered."""
    server = start_server()
    s3 = boto3_factory(server)
    s3.create_bucket(Bucket=BUCKET)
    upload, finished = Upload(s3, BUCKET, "open"), Upload(s3, BUCKET, "finished")
    tag = upload.part(1, noise(FIVE))
    last = finished.part(1, b"x")
    answer = finished.complete((1, last))["ETag"]
    server.kill()
    server.start()
    assert upload.is_open()
    assert not finished.is_open()
    assert [part["ETag"] for part in s3.list_parts(**upload.names)["Parts"]] == [tag]
    assert finished.complete((1, last))["ETag"] == answer
    upload.complete((1, tag), (2, upload.part(2, b"end")))
    assert body_of(s3, BUCKET, "open") == noise(FIVE) + b"end"
    assert sum(read_events(server).values()) == 2


@pytest.mark.parametrize("moment", ["request", "assembly"])
def test_a_complete_that_is_cut_by_a_crash(
    start_server: StartServer, boto3_factory: MakeClient, moment: str
) -> None:
    """The same Complete succeeds after the restart: one object, whole, and one event."""
    server = start_server()
    s3 = boto3_factory(server)
    s3.create_bucket(Bucket=BUCKET)
    pieces = [noise(FIVE, number) for number in range(12)]
    upload = Upload(s3, BUCKET)
    tags = list(enumerate((upload.part(n, piece) for n, piece in enumerate(pieces, 1)), 1))
    before = files_below(server.data)

    def complete() -> None:
        with suppress(Exception):  # the connection breaks, unless the server was faster
            upload.complete(*tags)

    asking = threading.Thread(target=complete)
    asking.start()
    if moment == "assembly":
        wait_until(lambda: files_below(server.data) != before, "the assembly begins")
    server.kill()
    asking.join()
    server.start()
    patient = boto3_factory(server, retries={"total_max_attempts": 5, "mode": "standard"})
    upload.s3 = patient
    answer = upload.complete(*tags)
    assert answer["ETag"] == f'"{multipart_etag(pieces)}"'
    assert md5_hex(body_of(patient, BUCKET)) == md5_hex(b"".join(pieces))
    expected = Event(kind="ObjectCreated", bucket=BUCKET, key="object", etag=multipart_etag(pieces))
    assert read_events(server) == {expected: 1}
    assert not upload.is_open()
    assert not [name for name in files_below(server.data) if name.endswith("/00001")]


def test_quota(start_server: StartServer, boto3_factory: MakeClient) -> None:
    quotas = {BUCKET: {"quota_bytes": 1000}, "frozen": {"quota_bytes": 0}}
    server = start_server(settings={"storage": {"buckets": quotas}})
    s3 = boto3_factory(server)
    for name in quotas:
        s3.create_bucket(Bucket=name)
    with refused("QuotaExceeded", 403):
        s3.create_multipart_upload(Bucket="frozen", Key="object")
    upload = Upload(s3, BUCKET)
    with refused("QuotaExceeded", 403):
        upload.part(1, b"x" * 1001)
    tag = upload.part(1, b"x" * 1000)
    s3.put_object(Bucket=BUCKET, Key="other", Body=b"y")
    with refused("QuotaExceeded", 403):
        upload.complete((1, tag))
    s3.delete_object(Bucket=BUCKET, Key="other")
    upload.complete((1, tag))
    assert body_of(s3, BUCKET) == b"x" * 1000
