"""A server at its limits: full, with a backend that hangs, and with clients that stop."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

import pytest
from support.descriptors import still
from support.expect import Footprint
from support.faults import Fault, Faults
from support.raw import Answer, RawClient
from support.samples import MIB, noise, release, wait_until
from support.server import ServerProcess

BUCKET = "limits"
SIZE = 16 * MIB
#: Long enough for an honest request on a busy machine.
TIMEOUT = 2.0
STALL = 0.5


@dataclass(frozen=True, kw_only=True)
class Shop:
    server: ServerProcess
    faults: Faults
    raw: RawClient

    def metric(self, name: str) -> float:
        with urlopen(f"{self.server.url}/_/metrics") as response:
            text = response.read().decode()
        found = re.search(rf"^{re.escape(name)} ([0-9.e+]+)$", text, re.MULTILINE)
        assert found is not None, text
        return float(found[1])

    def refused(self, limit: str) -> float:
        return self.metric(f'deltaglider_http_refusals_total{{limit="{limit}"}}')

    @contextlib.contextmanager
    def one_refusal(self, limit: str) -> Iterator[None]:
        before = self.refused(limit)
        yield
        wait_until(lambda: self.refused(limit) == before + 1, f"one refusal by {limit} is counted")

    def in_flight(self) -> float:
        return self.metric("deltaglider_http_requests_in_flight")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    directory = tmp_path_factory.mktemp("limits")
    faults = Faults(directory / "plugin")
    advanced: dict[str, Any] = {
        "request_timeout_seconds": TIMEOUT,
        "transfer_stall_seconds": STALL,
        "transfer_stall_bytes": 1000,
        "max_concurrent_requests": 2,
        "request_queue_seconds": 1.0,
    }
    settings = {"advanced": advanced}
    with ServerProcess(
        directory / "server", settings=settings, environment=faults.environment
    ) as server:
        raw = RawClient(server)
        assert raw.request("PUT", f"/{BUCKET}").status == 200
        assert raw.request("PUT", f"/{BUCKET}/object", body=noise(SIZE)).status == 200
        for number in range(2):
            data = release(number, SIZE)
            assert raw.request("PUT", f"/{BUCKET}/app-{number}.zip", body=data).status == 200
        yield Shop(server=server, faults=faults, raw=raw)


# --- a backend that hangs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "call", "target", "body"),
    [
        ("GET", "get_object", f"/{BUCKET}/object", b""),
        ("PUT", "put_object", f"/{BUCKET}/hung", b"data"),
        ("DELETE", "delete_object", f"/{BUCKET}/object", b""),
    ],
)
def test_an_answer_that_does_not_come(
    shop: Shop, method: str, call: str, target: str, body: bytes
) -> None:
    before = Footprint(shop.server.data, shop.server.temporary)
    with shop.one_refusal("timeout"), shop.faults.armed(Fault(action="hang", method=call)):
        started = time.monotonic()
        answer = shop.raw.request(method, target, body=body)
        assert (answer.status, answer.code) == (504, "GatewayTimeout")
        assert TIMEOUT <= time.monotonic() - started < TIMEOUT + 8
        # Its place is free again although the backend still hangs.
        wait_until(lambda: shop.in_flight() == 0, "nothing is in flight")
    before.assert_unchanged()
    assert shop.raw.request("HEAD", f"/{BUCKET}/object").status == 200
    assert shop.raw.request("HEAD", f"/{BUCKET}/hung").status == 404
    if method == "PUT":
        # What was cancelled holds up nobody who tries again.
        again = shop.raw.request(method, target, body=body, headers={"x-amz-meta-try": "2"})
        assert again.status == 200
        assert shop.raw.request("DELETE", target).status == 204


def test_a_bucket_that_is_created_late_is_created_whole(shop: Shop) -> None:
    """Nobody can tell whether it was: so the creation goes on until that is known."""
    with shop.one_refusal("timeout"), shop.faults.armed(Fault(action="hang", method="create_*")):
        answer = shop.raw.request("PUT", "/late")
        assert (answer.status, answer.code) == (504, "GatewayTimeout")
    wait_until(lambda: shop.raw.request("HEAD", "/late").status == 200, "the bucket is there")
    assert shop.raw.request("PUT", "/late/k", body=b"data").status == 200
    assert shop.raw.request("DELETE", "/late/k").status == 204
    assert shop.raw.request("DELETE", "/late").status == 204


# --- clients that stop --------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["trickled", "trickled.zip"])
@pytest.mark.parametrize("pieces", [0, 6])
def test_a_body_that_stops_or_trickles(shop: Shop, key: str, pieces: int) -> None:
    footprint = Footprint(shop.server.data, shop.server.temporary)
    target = f"/{BUCKET}/{key}"
    signed = shop.raw.signer.sign("PUT", target, payload="UNSIGNED-PAYLOAD")
    with shop.one_refusal("slow_body"), shop.raw.connect() as connection:
        connection.send_head("PUT", target, {**signed.headers, "content-length": "20000"})
        connection.send(b"x" * 5000)
        ended = False
        for _ in range(pieces):
            ended = ended or not connection.is_silent(STALL / 4)
            if not ended:
                connection.send(b"x" * 10)
        answer = connection.answer()
        assert (answer.status, answer.code) == (400, "RequestTimeout")
        assert answer.headers["connection"] == "close"
        connection.close()
    assert shop.raw.request("HEAD", target).status == 404
    footprint.assert_unchanged()


def test_a_slow_body_that_goes_on_is_stored(shop: Shop) -> None:
    """It takes longer than both limits together, and none of them is reached."""
    target = f"/{BUCKET}/patient.zip"
    data = noise(40_000)
    signed = shop.raw.signer.sign("PUT", target, payload="UNSIGNED-PAYLOAD")
    started = time.monotonic()
    with shop.raw.connect() as connection:
        connection.send_head("PUT", target, {**signed.headers, "content-length": str(len(data))})
        for start in range(0, len(data), 2000):
            connection.send(data[start : start + 2000])
            assert start + 2000 >= len(data) or connection.is_silent(STALL / 4)
        assert connection.answer().status == 200
    assert time.monotonic() - started > TIMEOUT
    assert shop.raw.request("GET", target).body == data


@pytest.mark.parametrize("key", ["object", "app-1.zip"])
def test_a_reader_that_stops(shop: Shop, key: str) -> None:
    before = still(shop.server)
    with shop.one_refusal("slow_reader"):
        signed = shop.raw.signer.sign("GET", f"/{BUCKET}/{key}")
        with shop.raw.connect(receive_buffer=4096) as connection:
            connection.send_head("GET", signed.target, signed.headers)
            assert connection.receive_some().startswith(b"HTTP/1.1 200")
            # Not read, and not closed either: the server has to find out by itself.
            wait_until(lambda: shop.in_flight() == 0, "the request is over")
            wait_until(lambda: still(shop.server) <= before, "its files are closed")
    assert "A client does not read its answer" in shop.server.log_text()


def test_a_slow_reader_that_goes_on_gets_everything(shop: Shop) -> None:
    before = shop.refused("slow_reader")
    data, size = bytearray(), 16 * MIB
    started = time.monotonic()
    signed = shop.raw.signer.sign("GET", f"/{BUCKET}/object")
    with shop.raw.connect(receive_buffer=64 * 1024) as connection:
        connection.send_head("GET", signed.target, signed.headers)
        while len(data) < size:
            piece = connection.receive_some()
            assert piece, f"cut after {len(data)} bytes"
            data += piece
            if time.monotonic() - started < TIMEOUT + STALL:
                assert threading.Event().wait(0.05) is False
    assert bytes(data[-size:])[-MIB:] == noise(SIZE)[-MIB:]
    assert shop.refused("slow_reader") == before


# --- too many at a time -------------------------------------------------------------------------


def test_a_full_house(shop: Shop) -> None:
    """Two bodies are under way: the third request waits, and is told to come again."""
    with contextlib.ExitStack() as stack:
        for number in range(2):
            target = f"/{BUCKET}/busy-{number}"
            signed = shop.raw.signer.sign("PUT", target, payload="UNSIGNED-PAYLOAD")
            connection = stack.enter_context(shop.raw.connect())
            connection.send_head("PUT", target, {**signed.headers, "content-length": "90000"})
            stack.enter_context(trickle(connection))
        wait_until(lambda: shop.in_flight() == 2, "both requests are in flight")
        with shop.one_refusal("requests"):
            answer = shop.raw.request("GET", f"/{BUCKET}/object")
        assert (answer.status, answer.code) == (503, "SlowDown")
        assert answer.headers["retry-after"] == "1"
        with urlopen(f"{shop.server.url}/_/health") as response:
            assert response.status == 200, "probes need no place"
        put = shop.raw.request("PUT", f"/{BUCKET}/third", body=noise(MIB))
        assert (put.status, put.code) == (503, "SlowDown")
    wait_until(lambda: shop.in_flight() == 0, "nothing is in flight")
    answers: list[Answer] = []

    def head() -> None:
        answers.append(shop.raw.request("HEAD", f"/{BUCKET}/object"))

    threads = [threading.Thread(target=head) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # More than there are places; each in its turn.
    assert [answer.status for answer in answers] == [200] * 12
    assert shop.raw.request("HEAD", f"/{BUCKET}/third").status == 404


@contextlib.contextmanager
def trickle(connection: Any) -> Iterator[None]:
    """Send just enough to be taken for a client that goes on."""
    over = threading.Event()

    def run() -> None:
        with contextlib.suppress(OSError):
            while not over.wait(STALL / 5):
                connection.send(b"x" * 1000)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        connection.close()
