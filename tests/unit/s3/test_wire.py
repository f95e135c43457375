"""The exchange between server and framework, by scripted events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from support.eventually import eventually

from deltaglider_core.errors import IncompleteBody, RequestTimeout
from deltaglider_core.s3.wire import ClientDisconnected, Exchange, Pace

CHUNKED = [(b"transfer-encoding", b"chunked")]


class Server:
    """Plays the server: hands out events in turn, and keeps what it is sent."""

    def __init__(self, events: Sequence[dict[str, Any]] = ()) -> None:
        self.events = list(events)
        self.received = 0
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        self.received += 1
        if not self.events:
            await asyncio.Event().wait()
        return self.events.pop(0)

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    def exchange(
        self, headers: Sequence[tuple[bytes, bytes]] = (), *, pace: Pace | None = None
    ) -> Exchange:
        scope = {"type": "http", "method": "PUT", "headers": list(headers)}
        return Exchange(scope, self.receive, self.send, pace=pace)


def request(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


START = {"type": "http.response.start", "status": 403, "headers": [(b"etag", b"x")]}


def last(body: bytes = b"") -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": False}


async def test_nothing_is_received_before_somebody_reads() -> None:
    server = Server([request(b"data")])
    exchange = server.exchange([(b"content-length", b"4")])
    assert await exchange.receive() == request(b"", more=True)
    assert server.received == 0
    assert [piece async for piece in exchange.body] == [b"data"]
    assert exchange.body.received_bytes == 4


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"0")]])
async def test_a_request_without_body_is_read_at_once(headers: Any) -> None:
    server = Server()
    exchange = server.exchange(headers)
    assert await exchange.receive() == request(b"")
    assert [piece async for piece in exchange.body] == []
    assert server.received == 0


async def test_empty_events_are_passed_over() -> None:
    server = Server([request(b"", more=True), request(b"a", more=True), request(b"")])
    assert [piece async for piece in server.exchange(CHUNKED).body] == [b"a"]


async def test_client_that_goes_away_is_an_incomplete_body_for_ever() -> None:
    server = Server([request(b"a", more=True), {"type": "http.disconnect"}])
    body = server.exchange(CHUNKED).body
    assert await anext(body) == b"a"
    for _ in range(2):
        with pytest.raises(IncompleteBody):
            await anext(body)
    assert body.disconnected


async def test_client_that_sends_nothing_times_out() -> None:
    body = Server().exchange(CHUNKED, pace=Pace(seconds=0.01)).body
    with pytest.raises(RequestTimeout):
        await anext(body)


class Client(Server):
    """Sends so many bytes whenever it has been waited for so long."""

    def __init__(self, seconds: float, *sizes: int) -> None:
        super().__init__([request(b"x" * size, more=True) for size in sizes])
        self.seconds = seconds

    async def receive(self) -> dict[str, Any]:
        await asyncio.sleep(self.seconds)
        return await super().receive()


async def test_client_that_trickles_times_out() -> None:
    client = Client(0.02, *[1] * 50)
    body = client.exchange(CHUNKED, pace=Pace(seconds=0.1, min_bytes=10)).body
    with pytest.raises(RequestTimeout):
        [piece async for piece in body]
    assert 1 <= body.received_bytes < 10
    assert not body.finished, "so the answer ends the connection"


async def test_client_that_is_slow_but_keeps_its_pace_goes_on() -> None:
    client = Client(0.02, *[10] * 12)
    body = client.exchange(CHUNKED, pace=Pace(seconds=0.1, min_bytes=10)).body
    for _ in range(12):
        assert await anext(body) == b"x" * 10


async def test_a_client_that_is_faster_than_its_pace_goes_on_however_it_cuts_its_body() -> None:
    # Each piece is less than the bytes that are counted, and comes in little more than half of
    # the time.
    client = Client(0.55, *[9] * 3)
    body = client.exchange(CHUNKED, pace=Pace(seconds=1.0, min_bytes=10)).body
    for _ in range(3):
        assert await anext(body) == b"x" * 9


async def test_what_was_sent_in_time_buys_no_more_than_the_usual_time() -> None:
    server = Server([request(b"x" * 10_000, more=True)])
    body = server.exchange(CHUNKED, pace=Pace(seconds=0.05, min_bytes=10)).body
    await anext(body)
    started = asyncio.get_running_loop().time()
    with pytest.raises(RequestTimeout):
        await anext(body)
    # The allowance of ten thousand bytes would be fifty seconds.
    assert 0.04 < asyncio.get_running_loop().time() - started < 10


async def test_a_slow_service_is_not_the_clients_fault() -> None:
    client = Client(0, *[1] * 8)
    body = client.exchange(CHUNKED, pace=Pace(seconds=0.1, min_bytes=100)).body
    for _ in range(8):
        await asyncio.sleep(0.03)
        assert await anext(body) == b"x"


async def test_connection_ends_after_an_answer_to_an_unread_body() -> None:
    server = Server([request(b"x" * 10, more=True), request(b"y" * 5)])
    exchange = server.exchange(CHUNKED)
    await exchange.send(START)
    await exchange.send(last(b"refused"))
    assert server.sent == [
        {**START, "headers": [(b"etag", b"x"), (b"connection", b"close")]},
        {"type": "http.response.body", "body": b"refused", "more_body": True},
        last(),
    ]
    # What the client was still sending has been taken, so that it sees the answer.
    assert exchange.body.finished
    assert exchange.status == 403
    assert exchange.sent_bytes == len(b"refused")


async def test_the_place_is_free_before_the_unread_body_is_waited_for() -> None:
    server = Server()
    exchange = server.exchange(CHUNKED)
    left: list[str] = []
    exchange.place.callback(left.append, "place")
    exchange.resources.callback(left.append, "resources")
    await exchange.send(START)
    await exchange.send({"type": "http.response.body", "body": b"ref", "more_body": True})
    assert left == []
    lingering = asyncio.create_task(exchange.send(last(b"used")))
    await eventually(lambda: server.received == 1, "the rest of the body is waited for")
    assert left == ["place"]
    assert server.sent[-1]["body"] == b"used"
    lingering.cancel()
    await exchange.close()
    assert left == ["place", "resources"]


async def test_a_place_that_is_held_outlasts_the_answer() -> None:
    exchange = Server([request(b"data")]).exchange(CHUNKED)
    left: list[str] = []
    exchange.place.callback(left.append, "place")
    exchange.hold_place()
    exchange.resources.callback(left.append, "work")
    await exchange.send(START)
    await exchange.send(last(b"late"))
    assert left == []
    await exchange.close()
    assert left == ["work", "place"]


@pytest.mark.parametrize("answered", [True, False])
async def test_the_place_is_given_back_once(answered: bool) -> None:
    exchange = Server().exchange()
    left: list[str] = []
    exchange.place.callback(left.append, "place")
    if answered:
        await exchange.send(START)
        await exchange.send(last(b"answer"))
        assert left == ["place"]
    await exchange.close()
    assert left == ["place"]


async def test_connection_stays_after_an_answer_to_a_read_body() -> None:
    server = Server([request(b"data")])
    exchange = server.exchange(CHUNKED)
    assert [piece async for piece in exchange.body] == [b"data"]
    await exchange.send(START)
    await exchange.send(last(b"answer"))
    assert server.sent == [START, last(b"answer")]


async def test_sending_to_a_client_that_has_gone_raises() -> None:
    server = Server([{"type": "http.disconnect"}])
    exchange = server.exchange()
    await exchange.send(START)
    piece = {"type": "http.response.body", "body": b"x", "more_body": True}

    async def send_for_ever() -> None:
        while True:
            await exchange.send(piece)
            await asyncio.sleep(0)

    with pytest.raises(ClientDisconnected):
        await asyncio.wait_for(send_for_ever(), 5)
    await exchange.close()


async def test_resources_are_closed_in_opposite_order() -> None:
    closed: list[str] = []
    exchange = Server().exchange()
    exchange.resources.callback(closed.append, "first")
    exchange.resources.callback(closed.append, "second")
    await exchange.close()
    assert closed == ["second", "first"]
