"""Several processes on one port: what one stores, another reads."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.processes import is_running, process_of, workers_of
from support.raw import Connection, RawClient
from support.samples import MIB, noise, release, wait_until
from support.server import ServerProcess

BUCKET = "workers"


class Pair:
    """One connection to each of the two workers."""

    def __init__(self, server: ServerProcess) -> None:
        self.raw = RawClient(server)
        self.connections: dict[int, Connection] = {}
        self.idle: list[Connection] = []
        for _ in range(200):
            connection = self.raw.connect()
            connection.send_head("HEAD", "/", {"host": "x"})
            assert connection.answer().status == 200
            process = process_of(server.port, connection.local_port, workers_of(server.pid))
            if process in self.connections:
                self.idle.append(connection)
            else:
                self.connections[process] = connection
            if len(self.connections) == 2:
                return
        raise AssertionError("only one process answers")

    def request(self, worker: int, method: str, target: str, body: bytes = b""):  # type: ignore[no-untyped-def]
        connection = list(self.connections.values())[worker % 2]
        signed = self.raw.signer.sign(method, target, payload="UNSIGNED-PAYLOAD")
        headers = dict(signed.headers)
        if body:
            headers["content-length"] = str(len(body))
        connection.send_head(method, target, headers)
        connection.send(body)
        return connection.answer()

    def close(self) -> None:
        for connection in (*self.connections.values(), *self.idle):
            connection.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("workers")
    with ServerProcess(directory, arguments=["--workers", "2"]) as server:
        workers = Pair(server)
        assert workers.request(0, "PUT", f"/{BUCKET}").status == 200
        yield workers
        workers.close()


def test_objects(pair: Pair) -> None:
    for number in range(6):
        target = f"/{BUCKET}/object-{number}"
        assert pair.request(number, "PUT", target, noise(1000, number)).status == 200
        assert pair.request(number + 1, "GET", target).body == noise(1000, number)
        listed = pair.request(number + 1, "GET", f"/{BUCKET}?list-type=2&prefix=object-{number}")
        assert listed.element("KeyCount") == "1"
        assert pair.request(number + 1, "DELETE", target).status == 204
        assert pair.request(number, "GET", target).status == 404
        listed = pair.request(number, "GET", f"/{BUCKET}?list-type=2&prefix=object-{number}")
        assert listed.element("KeyCount") == "0"


def test_deltas(pair: Pair) -> None:
    for number in range(4):
        target = f"/{BUCKET}/app-{number}.zip"
        assert pair.request(number, "PUT", target, release(number)).status == 200
        assert pair.request(number + 1, "GET", target).body == release(number)
    stored = pair.raw.server.data / BUCKET
    for number in range(1, 4):
        assert (stored / f"app-{number}.zip").stat().st_size < MIB // 10


def test_one_upload_through_both(pair: Pair) -> None:
    upload = pair.request(0, "POST", f"/{BUCKET}/parts?uploads").element("UploadId")
    entries, parts = "", [noise(5 * MIB, 1), noise(5 * MIB, 2), b"end"]
    for number, part in enumerate(parts, 1):
        target = f"/{BUCKET}/parts?partNumber={number}&uploadId={upload}"
        tag = pair.request(number, "PUT", target, part).headers["etag"]
        entries += f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
    document = f"<CompleteMultipartUpload>{entries}</CompleteMultipartUpload>".encode()
    target = f"/{BUCKET}/parts?uploadId={upload}"
    first = pair.request(1, "POST", target, document)
    assert first.status == 200
    second = pair.request(0, "POST", target, document)
    assert (second.status, second.element("ETag")) == (200, first.element("ETag"))
    assert pair.request(0, "GET", f"/{BUCKET}/parts").body == b"".join(parts)


def test_one_creator_of_many(pair: Pair) -> None:
    def create(worker: int) -> int:
        raw = pair.raw
        headers = {"if-none-match": "*"}
        return raw.request("PUT", f"/{BUCKET}/only", body=b"%d" % worker, headers=headers).status

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(create, range(16)))
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 409, 412}


def test_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, arguments=["--workers", "2"]).start()
    workers = workers_of(server.pid)
    assert len(workers) == 2
    try:
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not any(map(is_running, workers)), "the workers have ended")
        assert server.log_text().count("the supervisor is gone") == 2
    finally:
        server.kill()
    # The port is free, and what the dead have left is no hindrance.
    with server:
        assert RawClient(server).request("PUT", f"/{BUCKET}").status == 200
