from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from deltaglider_core.http_protocol import BoundedHttpProtocol

LIMIT = 8 * 1024


class Protocol(BoundedHttpProtocol):
    max_head_bytes = LIMIT
    head_seconds = 0.3


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the length of the body."""
    length = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        length += len(event.get("body", b""))
        if not event.get("more_body", False):
            break
    body = b"%d" % length
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    config = uvicorn.Config(echo, http=Protocol, ws="none", lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: Protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def exchange(port: int, *pieces: bytes) -> bytes:
    """Send pieces, one at a time, and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


CLOSE = b"connection: close\r\n"


async def test_ordinary_requests(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n"
    reply = await exchange(port, head + b"\r\nabc" + head + CLOSE + b"\r\nabc")
    assert reply.count(b"HTTP/1.1 200") == 2


async def test_a_body_may_be_longer_than_a_head(port: int) -> None:
    size = LIMIT * 50
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n" % size + CLOSE + b"\r\n"
    reply = await exchange(port, head, bytes(size))
    assert reply.endswith(b"\r\n\r\n%d" % size)


async def test_chunks_may_be_many(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n" + CLOSE + b"\r\n"
    reply = await exchange(port, head, b"1\r\nx\r\n" * LIMIT, b"0\r\n\r\n")
    assert reply.endswith(b"\r\n\r\n%d" % LIMIT)


@pytest.mark.parametrize(
    "start",
    [
        b"GET /",
        b"GET / HTTP/1.1\r\nx-one: ",
        b"GET / HTTP/1.1\r\n" + b"x-many: y\r\n" * 200,
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nx-one: ",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-trailer: ",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1;extension=",
    ],
)
async def test_a_head_without_end_is_cut(port: int, start: bytes) -> None:
    reply = await exchange(port, start, *[b"y" * 4096] * 50)
    # Where the kernel reset the connection before the reply was read, there is none.
    assert reply == b"" or b"HTTP/1.1 431" in reply or reply.count(b"HTTP/1.1") <= 1
    assert b"\r\n\r\n1" not in reply, "the request was served"


async def test_431_is_readable(port: int) -> None:
    reply = await exchange(port, b"GET / HTTP/1.1\r\nx: " + b"y" * (LIMIT + 1))
    assert reply.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nhost: x\r\n", b"G"])
async def test_a_head_that_does_not_come_is_not_awaited(port: int, start: bytes) -> None:
    assert await exchange(port, start) == b""


async def test_a_slow_body_is_no_slow_head(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n" + CLOSE + b"\r\na")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(), Protocol.head_seconds * 2)
    writer.write(b"b")
    assert (await reader.read()).endswith(b"\r\n\r\n2")
    writer.close()


async def test_a_second_head_that_does_not_come(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200")
    writer.write(b"GET / HT")
    assert await asyncio.wait_for(reader.read(), 3) == b""
    writer.close()


async def test_other_versions_are_refused(port: int) -> None:
    for version in (b"2.0", b"0.9"):
        reply = await exchange(port, b"GET / HTTP/%s\r\nhost: x\r\n\r\n" % version)
        assert reply.startswith(b"HTTP/1.1 400 ")


# --- requests sent ahead ----------------------------------------------------------------------

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Held:
    """An application that answers nobody until it is told, and notes who leaves."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        self.begun.set()
        leaving = asyncio.create_task(receive())
        going_on = asyncio.create_task(self.go_on.wait())
        done, _ = await asyncio.wait({leaving, going_on}, return_when=asyncio.FIRST_COMPLETED)
        if leaving in done:
            self.left.set()
        else:
            await echo(scope, nothing_more, send)
        for task in (leaving, going_on):
            task.cancel()


async def nothing_more() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


@pytest.fixture
async def held() -> AsyncIterator[tuple[int, Held, list[Protocol]]]:
    """Port, application, and the connections that were made."""
    app = Held()
    config = uvicorn.Config(app, http=Protocol, ws="none", lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    made: list[Protocol] = []

    def make() -> Protocol:
        made.append(Protocol(config=config, server_state=state, app_state={}))
        return made[-1]

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], app, made
    server.close()
    await server.wait_closed()


async def test_some_requests_ahead_are_served(port: int) -> None:
    last = GET.replace(b"host: x\r\n", b"host: x\r\n" + CLOSE)
    reply = await exchange(port, GET * Protocol.max_pipelined + last)
    assert reply.count(b"HTTP/1.1 200") == Protocol.max_pipelined + 1


async def test_many_requests_ahead_end_the_connection(
    held: tuple[int, Held, list[Protocol]],
) -> None:
    port, app, made = held
    assert await exchange(port, GET * 5000) == b""
    await asyncio.wait_for(app.left.wait(), 10)
    assert len(made[0].pipeline) == 0


async def test_a_busy_request_learns_that_its_client_left(
    held: tuple[int, Held, list[Protocol]],
) -> None:
    port, app, _ = held
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET * 3)
    await asyncio.wait_for(app.begun.wait(), 10)
    writer.close()
    await asyncio.wait_for(app.left.wait(), 10)


async def test_no_400_in_the_middle_of_an_answer(held: tuple[int, Held, list[Protocol]]) -> None:
    port, app, _ = held
    assert await exchange(port, GET, b"\x00 no request\r\n\r\n") == b""
    assert await exchange(port, GET + b"\x00 no request\r\n\r\n") == b""
    await asyncio.wait_for(app.left.wait(), 10)
    assert (await exchange(port, b"\x00 no request\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
