"""Memory of the server while large objects pass through, whatever their size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.raw import RawClient
from support.samples import MIB, release
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from conftest import MakeClient, StartServer

#: Many times what may be held of it.
LARGE = 384 * MIB
BUCKET = "memory"


def peak(server: ServerProcess) -> int:
    """Greatest resident memory of the process since ``reset``, file pages apart, in bytes."""
    for line in Path(f"/proc/{server.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def reset(server: ServerProcess) -> int:
    """Let the peak begin anew at the present use, which is returned."""
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")
    return peak(server)


@pytest.fixture
def own(start_server: StartServer, boto3_factory: MakeClient) -> tuple[ServerProcess, S3Client]:
    server = start_server()
    s3 = boto3_factory(server)
    s3.create_bucket(Bucket=BUCKET)
    # The first requests import and allocate what stays.
    s3.put_object(Bucket=BUCKET, Key="warm", Body=b"x" * MIB)
    s3.get_object(Bucket=BUCKET, Key="warm")["Body"].read()
    return server, s3


def send_zeros(raw: RawClient, target: str, size: int) -> int:
    signed = raw.signer.sign("PUT", target, payload="UNSIGNED-PAYLOAD")
    piece = bytes(4 * MIB)
    with raw.connect() as connection:
        connection.send_head("PUT", target, {**signed.headers, "content-length": str(size)})
        for _ in range(size // len(piece)):
            connection.send(piece)
        return connection.answer().status


def count_bytes(raw: RawClient, target: str) -> int:
    signed = raw.signer.sign("GET", target)
    with raw.connect() as connection:
        connection.send_head("GET", target, signed.headers)
        data = connection.receive_some()
        count = len(data) - data.index(b"\r\n\r\n") - 4
        size = int(data.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while count < size and (data := connection.receive_some()):
            count += len(data)
        return count


def test_a_large_object_verbatim(own: tuple[ServerProcess, S3Client]) -> None:
    """Bound: a few buffers of a MiB each, in and out; measured 6 to 12 MiB."""
    server, _ = own
    raw = RawClient(server)
    before = reset(server)
    assert send_zeros(raw, f"/{BUCKET}/zeros", LARGE) == 200
    assert count_bytes(raw, f"/{BUCKET}/zeros") == LARGE
    assert peak(server) - before < 48 * MIB


def test_a_large_delta(own: tuple[ServerProcess, S3Client]) -> None:
    """Bound: what the engine holds per window, beside the reference, which is a file map.

    Resident memory counts the pages of a mapped file as well; they belong to the kernel's
    cache. The reference here has 8 MiB, so that they cannot hide a held object of 256 MiB.
    """
    server, s3 = own
    base = release(0, 8 * MIB)
    s3.put_object(Bucket=BUCKET, Key="app-0.zip", Body=base)
    raw = RawClient(server)
    before = reset(server)
    body = base * 32
    signed = raw.signer.sign("PUT", f"/{BUCKET}/app-1.zip", payload="UNSIGNED-PAYLOAD")
    assert raw.send("PUT", signed, body).status == 200
    assert (server.data / BUCKET / "app-1.zip").stat().st_size < 16 * MIB
    assert count_bytes(raw, f"/{BUCKET}/app-1.zip") == len(body) == 256 * MIB
    assert peak(server) - before < 160 * MIB
    found = s3.get_object(Bucket=BUCKET, Key="app-1.zip", Range=f"bytes={100 * MIB}-{101 * MIB}")
    assert found["Body"].read() == body[100 * MIB : 101 * MIB + 1]
