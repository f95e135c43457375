"""A worker of several dies under load: the others go on, and settle what it has left."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from pathlib import Path

from support.journal import read_events
from support.processes import process_of, workers_of
from support.raw import Connection, RawClient
from support.samples import wait_until
from support.server import ServerProcess
from support.server_pair import statistics

BUCKET = "load"
WORKERS = 3
CLIENTS = 12
MORE = 10
#: The lock of a dead process is gone at once, and somebody looks every second.
SETTLE_SECONDS = 9.0


class Writer(threading.Thread):
    """Writes one object after the other through one connection, which one worker serves.

    Attributes:
        worker: Its process id.
        acknowledged: Keys of the objects.
        lost: What was sent last, if the connection was cut then.
        failure: Anything else that went wrong.
    """

    def __init__(self, raw: RawClient, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._raw = raw
        self._number = number
        self._stop_writing = stop
        self._connection = raw.connect()
        self._request("HEAD", "/")
        server = raw.server
        port = self._connection.local_port
        self.worker = process_of(server.port, port, workers_of(server.pid))
        self.acknowledged: list[str] = []
        self.lost: str | None = None
        self.failure: BaseException | None = None

    def run(self) -> None:
        number = 0
        while not self._stop_writing.is_set():
            number += 1
            key = f"{self._number}/{number}"
            try:
                self._request("PUT", f"/{BUCKET}/{key}", key.encode())
            except OSError:
                self.lost = key
                return
            except BaseException as error:
                self.failure = error
                return
            self.acknowledged.append(key)

    def _request(self, method: str, target: str, body: bytes = b"") -> None:
        signed = self._raw.signer.sign(method, target, payload="UNSIGNED-PAYLOAD")
        headers = {**signed.headers, "content-length": str(len(body))}
        self._connection.send_head(method, target, headers)
        self._connection.send(body)
        answer = self._connection.answer()
        assert answer.status == 200, answer


def begin_writes(raw: RawClient, victim: int) -> list[Connection]:
    """Writes that have begun and do not end, at least one of them in a certain worker."""
    server, found = raw.server, []
    for number in range(200):
        connection = raw.connect()
        target = f"/{BUCKET}/begun/{number}"
        signed = raw.signer.sign("PUT", target, payload="UNSIGNED-PAYLOAD")
        connection.send_head("PUT", target, {**signed.headers, "content-length": "100"})
        connection.send(b"half")
        found.append(connection)
        wait_until(lambda: statistics(server)["pending_writes"] == len(found), "it has begun")
        if process_of(server.port, connection.local_port, workers_of(server.pid)) == victim:
            return found
    raise AssertionError("the worker takes no connection")


def test_the_others_settle_what_it_left(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, arguments=["--workers", f"{WORKERS}"]) as server:
        raw = RawClient(server)
        assert raw.request("PUT", f"/{BUCKET}").status == 200
        stop = threading.Event()
        writers = [Writer(raw, number, stop) for number in range(CLIENTS)]
        # Connections are spread by chance; the one with the most clients leaves the most.
        victim, _ = Counter(writer.worker for writer in writers).most_common(1)[0]
        begun = begin_writes(raw, victim)
        before = workers_of(server.pid)
        for writer in writers:
            writer.start()

        def go_on(some: list[Writer]) -> None:
            wanted = {writer: len(writer.acknowledged) + MORE for writer in some}
            wait_until(
                lambda: all(
                    writer.failure or writer.lost or len(writer.acknowledged) >= count
                    for writer, count in wanted.items()
                ),
                "writes go on",
            )

        go_on(writers)
        os.kill(victim, signal.SIGKILL)
        others = [writer for writer in writers if writer.worker != victim]
        go_on(others)
        stop.set()
        for connection in begun:
            connection.close()
        for writer in writers:
            writer.join()
        wait_until(
            lambda: statistics(server)["pending_writes"] == 0, "all is settled", SETTLE_SECONDS
        )
        assert [writer.failure for writer in writers if writer.failure] == []
        assert [writer.lost for writer in others if writer.lost] == []
        check(server, raw, writers)
        wait_until(lambda: len(workers_of(server.pid)) == WORKERS, "there is another one")
        assert victim in before - workers_of(server.pid)


def check(server: ServerProcess, raw: RawClient, writers: list[Writer]) -> None:
    """All that was acknowledged is there, and at most what nobody was told of besides."""
    acknowledged = {key for writer in writers for key in writer.acknowledged}
    lost = {writer.lost for writer in writers if writer.lost}
    events = read_events(server)
    told = {event.key for event in events}
    assert len(told) == events.total()
    assert told - lost == acknowledged
    for key in told:
        assert raw.request("GET", f"/{BUCKET}/{key}").body == key.encode()
    for key in lost - told:
        assert raw.request("HEAD", f"/{BUCKET}/{key}").status == 404
    counted = statistics(server)["buckets"][BUCKET]
    assert counted["total_objects"] == len(told)
    assert counted["total_original_size"] == sum(map(len, told))
