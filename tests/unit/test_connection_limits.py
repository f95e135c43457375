"""How many connections there are, how long they idle, and readers that stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from uvicorn.server import ServerState

from deltaglider_core.http_protocol import BoundedHttpProtocol
from deltaglider_core.limits import STATE_KEY, Limits
from deltaglider_core.s3.addressing import AUTHORITY
from deltaglider_core.settings import AdvancedSettings

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
PIECE = bytes(64 * 1024)


class App:
    """Answers ``/`` with a word, ``/endless`` for as long as somebody takes it."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self.sent = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["path"] != "/endless":
            headers = [(b"content-length", b"2")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"ok"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()
        leaving = asyncio.create_task(receive())
        while not leaving.done():
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            self.sent += len(PIECE)
            await asyncio.sleep(0)
        self.left.set()


class Service:
    """A listening server with limits."""

    def __init__(self, app: App, port: int, limits: Limits, registry: CollectorRegistry) -> None:
        self.app = app
        self.port = port
        self.limits = limits
        self._registry = registry

    def refused(self, limit: str) -> float | None:
        return self._registry.get_sample_value("deltaglider_http_refusals_total", {"limit": limit})

    async def connect(self, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, **options)


Start = Callable[..., Any]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(**settings: Any) -> Service:
            app, registry = App(), CollectorRegistry()
            config = uvicorn.Config(
                app, http=BoundedHttpProtocol, ws="none", lifespan="off", log_config=None
            )
            config.load()
            limits = Limits(AdvancedSettings(**settings), registry)
            state = ServerState()
            server = await asyncio.get_running_loop().create_server(
                lambda: BoundedHttpProtocol(
                    config=config, server_state=state, app_state={STATE_KEY: limits}
                ),
                "127.0.0.1",
                0,
            )
            stack.callback(server.close)
            return Service(app, server.sockets[0].getsockname()[1], limits, registry)

        yield start


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes = GET
) -> bytes:
    writer.write(request)
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), 10)


async def test_busy_connections_refuse_a_new_one(start: Start) -> None:
    service = await start(max_connections=2)
    busy = [await service.connect() for _ in range(2)]
    for _, writer in busy:
        writer.write(b"GET / HT")
        await writer.drain()
    reader, _ = await service.connect()
    answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"<Code>SlowDown</Code>" in answer
    assert b"retry-after: 1\r\n" in answer
    assert service.refused("connections") == 1
    # Those that were there are served.
    for connection in busy:
        assert (await ask(*connection, b"TP/1.1\r\nhost: x\r\n\r\n")).startswith(b"HTTP/1.1 200")
        connection[1].close()


async def test_an_idle_connection_makes_room_for_a_new_one(start: Start) -> None:
    service = await start(max_connections=2)
    first, second = await service.connect(), await service.connect()
    for connection in (first, second, first):
        assert await ask(*connection)
    third = await service.connect()
    assert await ask(*third)
    # The second had been idle for longest.
    assert await asyncio.wait_for(second[0].read(), 10) == b""
    assert await ask(*first)
    assert service.refused("connections") == 0
    for _, writer in (first, second, third):
        writer.close()


async def test_an_idle_connection_is_closed(start: Start) -> None:
    service = await start(keep_alive_seconds=1)
    reader, writer = await service.connect()
    assert await ask(reader, writer)
    assert len(service.limits.idle) == 1
    assert await asyncio.wait_for(reader.read(), 10) == b""
    assert service.limits.idle == {}
    writer.close()


async def test_a_reader_that_stops_is_cut_off(start: Start) -> None:
    service = await start(transfer_stall_seconds=0.2)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", service.port))
    connection.sendall(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n")
    await asyncio.wait_for(service.app.left.wait(), 10)
    assert service.refused("slow_reader") == 1
    connection.close()


async def test_a_slow_reader_that_goes_on_is_served(start: Start) -> None:
    service = await start(transfer_stall_seconds=0.3, transfer_stall_bytes=4096)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    connection.connect(("127.0.0.1", service.port))
    connection.setblocking(False)
    connection.sendall(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n")
    loop = asyncio.get_running_loop()
    until, taken = loop.time() + 1.2, 0
    while loop.time() < until:
        taken += len(await asyncio.wait_for(loop.sock_recv(connection, 8192), 10))
        await asyncio.sleep(0.05)
    assert not service.app.left.is_set()
    assert service.refused("slow_reader") == 0
    # Far less than what the buffers of the kernel take: what counts is what arrived.
    assert taken < service.app.sent
    connection.close()


async def test_a_closing_connection_does_not_wait_for_its_reader(start: Start) -> None:
    """An answer in full buffers, and then a reason to close: nobody waits for the rest."""
    service = await start(transfer_stall_seconds=0.2, keep_alive_seconds=1)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", service.port))
    # The second request is none, which closes the connection under the first.
    connection.sendall(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n" + b"\x00 no request\r\n\r\n")
    await asyncio.wait_for(service.app.left.wait(), 10)
    connection.close()


# --- request targets ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "authority", "raw_path", "query"),
    [
        ("/b/k?a=b", None, b"/b/k", b"a=b"),
        ("http://host.example:80/b/%20?a", b"host.example:80", b"/b/%20", b"a"),
        ("HTTPS://host.example", b"host.example", b"/", b""),
        ("http://host.example?x=/y", b"host.example", b"/", b"x=/y"),
        ("http://user@host.example/", b"user@host.example", b"/", b""),
        ("http:///k", b"", b"/k", b""),
        ("//host.example/b", None, b"//host.example/b", b""),
        ("*", None, b"*", b""),
    ],
)
async def test_request_targets(
    start: Start, target: str, authority: bytes | None, raw_path: bytes, query: bytes
) -> None:
    service = await start()
    reader, writer = await service.connect()
    assert await ask(reader, writer, f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    writer.close()
    (scope,) = service.app.scopes
    assert scope.get(AUTHORITY) == authority
    assert (scope["raw_path"], scope["query_string"]) == (raw_path, query)


@pytest.mark.parametrize(
    "target", ["/b/k#part", "http://host/#", "ftp://host/k", "k", "host:80", "?a"]
)
async def test_targets_that_are_none(start: Start, target: str) -> None:
    service = await start()
    reader, writer = await service.connect()
    writer.write(f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert service.app.scopes == []
    writer.close()
