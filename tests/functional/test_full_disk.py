"""No room left, without root: the kernel limits the size of every file of the server.

``RLIMIT_FSIZE`` makes a write beyond the limit fail (EFBIG) in the same places where a full
disk does (ENOSPC).
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.clients import boto3_client
from support.expect import Footprint, refused
from support.raw import RawClient
from support.samples import MIB, noise, release
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "full"
LIMIT = 3 * MIB


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with ServerProcess(tmp_path_factory.mktemp("full"), arguments=["-v"]) as server:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
        client = boto3_client(server)
        client.create_bucket(Bucket=BUCKET)
        yield server, client
        client.close()


def assert_goes_on(s3: S3Client, key: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=key, Body=noise(MIB))
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == noise(MIB)
    s3.delete_object(Bucket=BUCKET, Key=key)


@pytest.mark.parametrize("key", ["plain", "app.zip"])
def test_put(full: tuple[ServerProcess, S3Client], key: str) -> None:
    server, s3 = full
    assert_goes_on(s3, "before")
    footprint = Footprint(server.data, server.temporary)
    with refused("InsufficientStorage", 507):
        s3.put_object(Bucket=BUCKET, Key=key, Body=noise(LIMIT + 1))
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=BUCKET, Key=key)
    footprint.assert_unchanged()
    assert_goes_on(s3, "after")


@pytest.mark.parametrize("key", ["plain", "app.zip"])
def test_overwriting_keeps_the_old_object(full: tuple[ServerProcess, S3Client], key: str) -> None:
    _, s3 = full
    s3.put_object(Bucket=BUCKET, Key=f"over-{key}", Body=b"old")
    with refused("InsufficientStorage", 507):
        s3.put_object(Bucket=BUCKET, Key=f"over-{key}", Body=noise(LIMIT * 2))
    assert s3.get_object(Bucket=BUCKET, Key=f"over-{key}")["Body"].read() == b"old"


def test_a_delta_that_fits_is_stored(full: tuple[ServerProcess, S3Client]) -> None:
    _, s3 = full
    for number in range(2):
        data = release(number, 2 * MIB)
        s3.put_object(Bucket=BUCKET, Key=f"fits-{number}.zip", Body=data)
        assert s3.get_object(Bucket=BUCKET, Key=f"fits-{number}.zip")["Body"].read() == data


def test_parts_and_complete(full: tuple[ServerProcess, S3Client]) -> None:
    server, s3 = full
    names: Any = {"Bucket": BUCKET, "Key": "parts"}
    names["UploadId"] = s3.create_multipart_upload(**names)["UploadId"]
    footprint = Footprint(server.data, server.temporary)
    with refused("InsufficientStorage", 507):
        s3.upload_part(**names, PartNumber=1, Body=noise(LIMIT + 1))
    footprint.assert_unchanged()
    assert "Parts" not in s3.list_parts(**names)
    s3.abort_multipart_upload(**names)


def test_copy(full: tuple[ServerProcess, S3Client]) -> None:
    server, s3 = full
    # Another process without the limit wrote this file into the backend.
    (server.data / BUCKET / "foreign").write_bytes(noise(LIMIT + 1))
    footprint = Footprint(server.data, server.temporary)
    with refused("InsufficientStorage", 507):
        s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=f"{BUCKET}/foreign")
    footprint.assert_unchanged()
    (server.data / BUCKET / "foreign").unlink()


def test_the_process_is_still_the_same(full: tuple[ServerProcess, S3Client]) -> None:
    server, _ = full
    pid = server.pid
    raw = RawClient(server)
    signed = raw.signer.sign("PUT", f"/{BUCKET}/k", payload="UNSIGNED-PAYLOAD")
    answer = raw.send("PUT", signed, noise(LIMIT + 1))
    assert (answer.status, answer.code) == (507, "InsufficientStorage")
    assert "full" in answer.element("Message").lower()
    assert Path(f"/proc/{pid}").exists()
    assert raw.request("GET", f"/{BUCKET}").status == 200
