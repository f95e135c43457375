"""``kill -9`` in the middle of uploads: what was acknowledged is there, nothing else is."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from support.raw import RawClient
from support.samples import MIB, md5_hex, noise, release
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from conftest import MakeClient, StartServer

BUCKET = "crash"
WRITERS = 6
PART = 5 * MIB


@dataclass
class Ledger:
    """What the clients were told.

    Attributes:
        acknowledged: Last content of each key that was answered 200.
        attempted: Every content that was ever sent for a key.
    """

    acknowledged: dict[str, bytes] = field(default_factory=dict)
    attempted: dict[str, list[bytes]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, key: str, data: bytes) -> None:
        with self.lock:
            self.attempted.setdefault(key, []).append(data)

    def end(self, key: str, data: bytes) -> None:
        with self.lock:
            self.acknowledged[key] = data
            # Each key has one writer, so what was sent before is overwritten for certain.
            self.attempted[key] = [data]


def put(s3: S3Client, ledger: Ledger, key: str, data: bytes) -> None:
    ledger.begin(key, data)
    s3.put_object(Bucket=BUCKET, Key=key, Body=data)
    ledger.end(key, data)


def put_in_parts(s3: S3Client, ledger: Ledger, key: str, data: bytes) -> None:
    names: Any = {"Bucket": BUCKET, "Key": key}
    names["UploadId"] = s3.create_multipart_upload(**names)["UploadId"]
    parts = []
    for number, at in enumerate(range(0, len(data), PART), 1):
        part = s3.upload_part(**names, PartNumber=number, Body=data[at : at + PART])
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    ledger.begin(key, data)
    s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})
    ledger.end(key, data)


def write_until_dead(s3: S3Client, ledger: Ledger, worker: int, seed: str) -> None:
    chance = random.Random(f"{seed}/{worker}")
    count = 0
    while True:
        count += 1
        choice = chance.randrange(6)
        name = f"w{worker}/{chance.randrange(6)}"
        try:
            if choice == 0:
                put(s3, ledger, f"{name}.small", chance.randbytes(chance.randrange(2000)))
            elif choice == 1:
                put(s3, ledger, f"{name}.txt", noise(2 * MIB + count % 7, seed=worker))
            elif choice == 2:
                size = PART + chance.randrange(MIB)
                put_in_parts(s3, ledger, f"{name}.bin", noise(size - size % 4096, seed=worker))
            else:
                put(s3, ledger, f"app/w{worker}-{name[-1]}.zip", release(chance.randrange(8)))
        except (BotoCoreError, ClientError):
            return


def crash_once(server: ServerProcess, s3: S3Client, ledger: Ledger, seed: str) -> None:
    before = len(ledger.acknowledged)
    writers = [
        threading.Thread(target=write_until_dead, args=(s3, ledger, number, seed), daemon=True)
        for number in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + 20
    wanted = before + random.Random(seed).randrange(3, 12)
    while len(ledger.acknowledged) < min(wanted, 40) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.Random(f"{seed}/delay").random() * 0.3)
    server.kill()
    for writer in writers:
        writer.join(30)
        assert not writer.is_alive()


def check(s3: S3Client, ledger: Ledger) -> None:
    listed: dict[str, Any] = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        listed |= {entry["Key"]: entry for entry in page.get("Contents", [])}
    assert set(ledger.acknowledged) <= set(listed), "an acknowledged object is missing"
    assert set(listed) <= set(ledger.attempted), "an object that nobody sent is visible"
    for key, entry in listed.items():
        data = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        # An overwrite without an answer may have happened or not, but only as a whole.
        allowed = list(ledger.attempted[key])
        if key in ledger.acknowledged:
            allowed.append(ledger.acknowledged[key])
        assert data in allowed, f"{key}: {len(data)} bytes that were never sent"
        assert entry["Size"] == len(data)
        if "-" not in entry["ETag"]:
            assert entry["ETag"] == f'"{md5_hex(data)}"'
        ledger.attempted[key] = [data]
        ledger.acknowledged[key] = data


@pytest.mark.parametrize("workers", [1, 2])
def test_kill_in_the_middle_of_uploads(
    start_server: StartServer, boto3_factory: MakeClient, workers: int
) -> None:
    server = start_server(arguments=["--workers", str(workers)])
    s3 = boto3_factory(server, max_pool_connections=WRITERS, read_timeout=20)
    s3.create_bucket(Bucket=BUCKET)
    ledger = Ledger()
    for number in range(3):
        seed = f"{random.SystemRandom().randrange(10**9)}"
        print(f"round {number}: seed {seed}")
        crash_once(server, s3, ledger, seed)
        server.start()
        check(s3, ledger)
    assert ledger.acknowledged


def test_an_interrupted_upload_leaves_nothing_for_ever(
    start_server: StartServer, boto3_factory: MakeClient
) -> None:
    """What a killed process left behind is gone, or no longer grows, after the restart."""
    from support.samples import files_below

    server = start_server()
    s3 = boto3_factory(server)
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="warm", Body=b"x")
    raw = RawClient(server)
    before = {name for name in files_below(server.data) if "%dg-locks" not in name}
    for key in ("plain", "app.zip"):
        signed = raw.signer.sign("PUT", f"/{BUCKET}/{key}", payload="UNSIGNED-PAYLOAD")
        with raw.connect() as connection:
            connection.send_head(
                "PUT", signed.target, {**signed.headers, "content-length": str(8 * MIB)}
            )
            connection.send(noise(4 * MIB))
            server.kill()
        server.start()
    s3.put_object(Bucket=BUCKET, Key="warm", Body=b"y")
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["warm"]
    after = {name for name in files_below(server.data) if "%dg-locks" not in name}
    assert after == before
    assert [n for n in files_below(server.temporary) if "/op-" in n] == []
