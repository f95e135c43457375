"""How long an answer may take, and what becomes of work that takes longer."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from deltaglider_core.errors import GatewayTimeout, NoSuchKey
from deltaglider_core.s3 import deadline
from deltaglider_core.s3.deadline import answer_in_time
from deltaglider_core.s3.response import S3Response
from deltaglider_core.s3.wire import Exchange
from deltaglider_core.tasks import run_blocking

SECONDS = 0.1
DONE = S3Response(status=204)


class Sender:
    """A client that sends a piece of its body whenever the test says so."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def receive(self) -> dict[str, Any]:
        piece = await self.pieces.get()
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}

    async def send(self, message: dict[str, Any]) -> None:
        raise AssertionError("nothing is sent here")

    def exchange(self) -> Exchange:
        scope = {"type": "http", "headers": [(b"transfer-encoding", b"chunked")]}
        return Exchange(scope, self.receive, self.send)


async def test_an_answer_in_time_and_an_error_in_time() -> None:
    async def answer() -> S3Response:
        return DONE

    async def fail() -> S3Response:
        raise NoSuchKey

    exchange = Sender().exchange()
    assert await answer_in_time(answer(), exchange, SECONDS) is DONE
    with pytest.raises(NoSuchKey):
        await answer_in_time(fail(), exchange, SECONDS)


async def test_late_work_is_cancelled_and_cleans_up() -> None:
    cleaned = False

    async def work() -> S3Response:
        nonlocal cleaned
        try:
            await asyncio.Event().wait()
        finally:
            cleaned = True
        return DONE

    with pytest.raises(GatewayTimeout) as caught:
        await answer_in_time(work(), Sender().exchange(), SECONDS)
    assert cleaned
    assert caught.value.status == 504


async def test_work_that_ends_while_it_is_cancelled_is_answered() -> None:
    async def work() -> S3Response:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return DONE
        raise AssertionError

    assert await answer_in_time(work(), Sender().exchange(), SECONDS) is DONE


async def test_a_thread_that_hangs_holds_the_exchange_but_not_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deadline, "CANCEL_SECONDS", 0.01)
    hanging, ended = threading.Event(), False

    def hang() -> None:
        nonlocal ended
        hanging.wait(20)
        ended = True

    async def work() -> S3Response:
        await run_blocking(hang)
        return DONE

    exchange = Sender().exchange()
    # Neither the end of the answer nor that of the exchange gives its place to another request.
    exchange.place.callback(lambda: places.append(ended))
    places: list[bool] = []
    with pytest.raises(GatewayTimeout):
        await answer_in_time(work(), exchange, SECONDS)
    await exchange.place.aclose()
    closing = asyncio.create_task(exchange.close())
    await asyncio.wait({closing}, timeout=0.05)
    assert not closing.done()
    assert not ended
    assert places == []
    hanging.set()
    await asyncio.wait_for(closing, 10)
    assert ended
    assert places == [True]


async def test_the_stream_of_a_late_answer_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "CANCEL_SECONDS", 0.01)
    closed, go_on = asyncio.Event(), asyncio.Event()

    class Stream:
        def __aiter__(self) -> Stream:
            return self

        async def __anext__(self) -> bytes:
            raise StopAsyncIteration

        async def aclose(self) -> None:
            closed.set()

    async def work() -> S3Response:
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        return S3Response(stream=Stream())

    exchange = Sender().exchange()
    with pytest.raises(GatewayTimeout):
        await answer_in_time(work(), exchange, SECONDS)
    go_on.set()
    await exchange.close()
    assert closed.is_set()


async def test_time_in_which_the_client_sends_does_not_count() -> None:
    sender = Sender()
    exchange = sender.exchange()

    async def work() -> S3Response:
        size = sum([len(piece) async for piece in exchange.body])
        return S3Response(body=b"%d" % size)

    async def send() -> None:
        for _ in range(4):
            await asyncio.sleep(SECONDS * 0.8)
            sender.pieces.put_nowait(b"piece")
        sender.pieces.put_nowait(b"")

    sending = asyncio.create_task(send())
    response = await answer_in_time(work(), exchange, SECONDS)
    assert response.body == b"20"
    await sending


async def test_after_the_body_the_clock_runs_longer_for_a_large_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deadline, "STORED_BYTES_PER_SECOND", 1000)
    sender = Sender()
    exchange = sender.exchange()
    for piece in (b"x" * 200, b""):
        sender.pieces.put_nowait(piece)

    async def work(seconds: float) -> S3Response:
        [piece async for piece in exchange.body]
        await asyncio.sleep(seconds)
        return DONE

    started = asyncio.get_running_loop().time()
    with pytest.raises(GatewayTimeout):
        await answer_in_time(work(20), exchange, SECONDS)
    assert asyncio.get_running_loop().time() - started >= SECONDS + 0.2
    monkeypatch.setattr(deadline, "STORED_BYTES_PER_SECOND", 10)
    assert await answer_in_time(work(SECONDS + 0.05), exchange, SECONDS) is DONE


async def test_a_cancelled_request_cancels_its_work() -> None:
    begun, cancelled = asyncio.Event(), False

    async def work() -> S3Response:
        nonlocal cancelled
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise
        raise AssertionError

    request = asyncio.create_task(answer_in_time(work(), Sender().exchange(), 20))
    await begun.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert cancelled
