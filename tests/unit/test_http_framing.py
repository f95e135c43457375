from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from deltaglider_core.http_framing import (
    RequestHeadError,
    check_transfer_encoding,
    error_answer,
)
from deltaglider_core.http_protocol import BoundedHttpProtocol

Fields = list[tuple[bytes, bytes]]


class Recorder:
    """An application that reads every body, and notes what it was asked."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bytes, Fields]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            body += event.get("body", b"")
            more = event.get("more_body", False)
        self.seen.append((scope["method"], scope["path"], body, scope["headers"]))
        headers = [] if scope["path"] == "/unknown-length" else [(b"content-length", b"6")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["path"] == "/fails":
            raise RuntimeError("after the head")
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    def requests(self) -> list[tuple[str, str, bytes]]:
        return [request[:3] for request in self.seen]


class Server:
    """A server whose connections are read strictly."""

    def __init__(self, port: int, app: Recorder) -> None:
        self.port = port
        self.app = app

    async def exchange(self, *pieces: bytes) -> bytes:
        """Send pieces, each as a segment of its own, and read until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                # What is written next would otherwise be read together with this.
                for _ in range(10):
                    await asyncio.sleep(0)
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    app = Recorder()
    config = uvicorn.Config(
        app, http=BoundedHttpProtocol, ws="none", lifespan="off", log_config=None
    )
    config.load()
    state = ServerState()
    listener = await asyncio.get_running_loop().create_server(
        lambda: BoundedHttpProtocol(config=config, server_state=state, app_state={}),
        "127.0.0.1",
        0,
    )
    yield Server(listener.sockets[0].getsockname()[1], app)
    listener.close()
    await listener.wait_closed()


LAST = b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
INNER = b"GET /inner HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 10.66.66.66\r\n\r\n"


# --- Upgrade ----------------------------------------------------------------------------------

UPGRADES = {
    "any": b"Connection: Upgrade\r\nUpgrade: x\r\n",
    "java": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n",
    "websocket": b"upgrade: websocket\r\nconnection: keep-alive, upgrade\r\n",
    "many": b"Upgrade: a\r\nConnection: Upgrade\r\nUPGRADE: b, c\r\n",
}


def put(path: bytes, fields: bytes, body: bytes, *, chunked: bool = False) -> tuple[bytes, bytes]:
    """Head and body as they go over the wire."""
    framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % len(body)
    head = b"PUT %b HTTP/1.1\r\nhost: x\r\n%b%b\r\n\r\n" % (path, fields, framing)
    return head, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("fields", UPGRADES.values(), ids=UPGRADES)
async def test_an_upgrade_is_ignored(server: Server, fields: bytes, chunked: bool) -> None:
    """However the bytes are cut: the body is a body, and the next request the next one."""
    head, body = put(b"/k", fields, INNER, chunked=chunked)
    whole = head + body
    ways = [[whole + LAST], [head, body, LAST], [head, body + LAST], [head + body[:9], body[9:]]]
    ways[3].append(LAST)
    ways += [[whole[:cut], whole[cut:] + LAST] for cut in range(1, len(whole), 7)]
    for pieces in ways:
        server.app.seen.clear()
        answers = await server.exchange(*pieces)
        assert answers.count(b"HTTP/1.1 200 ") == 2
        assert server.app.requests() == [("PUT", "/k", INNER), ("GET", "/last", b"")]


async def test_upgrades_one_byte_at_a_time(server: Server) -> None:
    head, body = put(b"/k", UPGRADES["any"], b"body")
    data = head + body + LAST
    await server.exchange(*(data[i : i + 1] for i in range(len(data))))
    assert server.app.requests() == [("PUT", "/k", b"body"), ("GET", "/last", b"")]


async def test_many_upgrades_in_one_segment(server: Server) -> None:
    pairs = [
        put(b"/%d" % number, UPGRADES["any"], UPGRADES["any"], chunked=number % 2 == 0)
        for number in range(8)
    ]
    answers = await server.exchange(b"".join(head + body for head, body in pairs) + LAST)
    assert answers.count(b"HTTP/1.1 200 ") == 9
    bodies = [body for _, _, body in server.app.requests()]
    assert bodies == [UPGRADES["any"]] * 8 + [b""]


async def test_every_field_is_seen_although_the_upgrade_is_ignored(server: Server) -> None:
    """A signature may cover it."""
    fields = (
        b"X-One: a\r\nUpgrade: h2c\r\nX-Two:\r\nConnection: close, Upgrade\r\nX-Two: \xc3\xa9\r\n"
    )
    await server.exchange(b"GET /a%20b?c=d&e HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n")
    assert server.app.seen[0][:2] == ("GET", "/a b")
    assert server.app.seen[0][3] == [
        (b"host", b"x"),
        (b"x-one", b"a"),
        (b"upgrade", b"h2c"),
        (b"x-two", b""),
        (b"connection", b"close, Upgrade"),
        (b"x-two", b"\xc3\xa9"),
    ]


async def test_the_next_head_has_no_fields_of_an_upgrade(server: Server) -> None:
    head, body = put(b"/k", UPGRADES["any"], b"body")
    await server.exchange(head + body + LAST)
    assert server.app.seen[1][3] == [(b"host", b"x"), (b"connection", b"close")]


async def test_an_upgrade_in_an_http_1_0_request(server: Server) -> None:
    head = b"PUT /k HTTP/1.0\r\ncontent-length: 4\r\n" + UPGRADES["any"] + b"\r\n"
    answers = await server.exchange(head, b"body")
    assert answers.endswith(b"\r\n\r\nonetwo")
    assert server.app.requests() == [("PUT", "/k", b"body")]


async def test_an_upgrade_with_bad_framing_is_refused(server: Server) -> None:
    head = b"PUT /k HTTP/1.1\r\ntransfer-encoding: identity\r\n" + UPGRADES["any"] + b"\r\n"
    assert (await server.exchange(head + INNER)).startswith(b"HTTP/1.1 400 ")
    assert server.app.seen == []


@pytest.mark.parametrize("fields", [b"", UPGRADES["any"]], ids=["plain", "upgrade"])
async def test_a_tunnel_is_refused(server: Server, fields: bytes) -> None:
    head = b"CONNECT x:80 HTTP/1.1\r\nhost: x:80\r\n" + fields + b"\r\n"
    answer = await server.exchange(head + INNER)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"no proxy" in answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert server.app.seen == []


# --- trailers ---------------------------------------------------------------------------------

SPOOFED = (
    b"X-Forwarded-For: 10.1.2.3\r\nX-Amz-Acl: public-read\r\nHost: other\r\nExpect: 100-continue"
)


async def test_trailers_are_no_headers(server: Server) -> None:
    head = b"PUT /k HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    for pieces in (
        [head + b"4\r\nbody\r\n0\r\n" + SPOOFED + b"\r\n\r\n" + LAST],
        [head, b"4\r\nbody\r\n0\r\n" + SPOOFED + b"\r\n\r\n" + LAST],
        [head + b"4\r\nbody\r\n0\r\n", SPOOFED + b"\r\n\r\n", LAST],
    ):
        server.app.seen.clear()
        answers = await server.exchange(*pieces)
        assert answers.count(b"HTTP/1.1 200 ") == 2
        assert b" 100 " not in answers
        assert server.app.seen == [
            ("PUT", "/k", b"body", [(b"host", b"x"), (b"transfer-encoding", b"chunked")]),
            ("GET", "/last", b"", [(b"host", b"x"), (b"connection", b"close")]),
        ]


async def test_an_upgrade_in_a_trailer_is_none(server: Server) -> None:
    head = b"PUT /k HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    await server.exchange(head + b"4\r\nbody\r\n0\r\n" + UPGRADES["any"] + b"\r\n" + LAST)
    assert server.app.requests() == [("PUT", "/k", b"body"), ("GET", "/last", b"")]


async def test_trailers_without_end_are_cut(server: Server) -> None:
    head = b"PUT /k HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n"
    # More than the one read that may come together with the head, and a limit.
    endless = [b"x-trailer: y\r\n" * 1000] * 40
    with contextlib.suppress(ConnectionError):  # reset, for there was more to read
        assert await server.exchange(head, *endless) == b""
    assert server.app.seen == []


# --- transfer codings -------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"chunked", b" Chunked", b"\t CHUNKED"])
async def test_chunked_alone_is_served(server: Server, value: bytes) -> None:
    head = b"PUT /k HTTP/1.1\r\nhost: x\r\ntransfer-encoding:" + value + b"\r\n\r\n"
    await server.exchange(head + b"4\r\nbody\r\n0\r\n\r\n" + LAST)
    assert server.app.requests() == [("PUT", "/k", b"body"), ("GET", "/last", b"")]


REFUSED = {
    b"identity": 400,
    b"xchunked": 400,
    b"chunkedx": 400,
    b"chunked;a=b": 400,
    b'"chunked"': 400,
    b"'chunked'": 400,
    b"chunked, identity": 400,
    b"chunked, chunked": 400,
    b"chunked,": 400,
    b",chunked": 400,
    b"": 400,
    b"gzip": 400,
    b"gzip;q=1, chunked": 400,
    b"chunked\r\nTransfer-Encoding: chunked": 400,
    b"chunked\r\nTransfer-Encoding: identity": 400,
    b"identity\r\nTransfer-Encoding: chunked": 501,
    b"gzip\r\nTransfer-Encoding: chunked": 501,
    b"gzip, chunked": 501,
    b"foo,\tGZip, Chunked": 501,
}


@pytest.mark.parametrize("value", REFUSED)
async def test_other_transfer_encodings_are_refused(server: Server, value: bytes) -> None:
    head = b"DELETE /k HTTP/1.1\r\nhost: x\r\ntransfer-encoding: " + value + b"\r\n\r\n"
    for pieces in ([head + b"0\r\n\r\n" + INNER], [head, b"0\r\n\r\n", INNER]):
        try:
            answer = await server.exchange(*pieces)
        except ConnectionError:  # the last piece came after the end
            assert len(pieces) > 1
        else:
            assert answer.startswith(b"HTTP/1.1 %d " % REFUSED[value])
            assert answer.count(b"HTTP/1.1 ") == 1
            assert b"\r\nconnection: close\r\n" in answer
        assert server.app.seen == []


@pytest.mark.parametrize(
    "head",
    [
        b"PUT /k HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
        b"PUT /k HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
        b"PUT /k HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"PUT /k HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: identity\r\n\r\n",
        b"PUT /k HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n",
        b"PUT /k HTTP/1.1\r\ncontent-length: 5, 5\r\n\r\n",
        b"PUT /k HTTP/1.1\r\ncontent-length:\r\n\r\n",
    ],
)
async def test_lengths_that_can_be_read_in_two_ways(server: Server, head: bytes) -> None:
    answer = await server.exchange(head + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"<Code>BadRequest</Code>" in answer
    assert server.app.seen == []


def test_what_was_wrong_is_said_and_bounded() -> None:
    with pytest.raises(RequestHeadError) as caught:
        check_transfer_encoding("1.1", [(b"transfer-encoding", b"\r<\xff>" + b"x" * 5000)])
    text = str(caught.value)
    assert text.startswith(r"'\r<\xff>xxx")
    assert len(text) < 250
    answer = error_answer(400, "BadRequest", text)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head
    assert b"&lt;" in body
    assert b"<\\xff>" not in body


# --- answers to HTTP/1.0 ----------------------------------------------------------------------


async def test_an_answer_of_unknown_length_to_http_1_0(server: Server) -> None:
    head, _, body = (await server.exchange(b"GET /unknown-length HTTP/1.0\r\n\r\n")).partition(
        b"\r\n\r\n"
    )
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body == b"onetwo"


@pytest.mark.parametrize(
    ("request_line", "end"),
    [
        (b"GET /k HTTP/1.0", b"content-length: 6\r\nconnection: close\r\n\r\nonetwo"),
        (b"HEAD /unknown-length HTTP/1.0", b"connection: close\r\n\r\n"),
        (b"HEAD /k HTTP/1.0", b"content-length: 6\r\nconnection: close\r\n\r\n"),
        (b"GET /unknown-length HTTP/1.1", b"chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"),
    ],
)
async def test_other_answers_stay_as_they_are(
    server: Server, request_line: bytes, end: bytes
) -> None:
    answer = await server.exchange(request_line + b"\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert answer.endswith(end)


async def test_an_answer_to_http_1_0_that_fails_ends(server: Server) -> None:
    answer = await server.exchange(b"GET /fails HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")


async def test_http_1_0_knows_no_100_continue(server: Server) -> None:
    head = b"PUT /k HTTP/%b\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n"
    assert (await server.exchange(head % b"1.0", b"body")).startswith(b"HTTP/1.1 200 ")
    answer = await server.exchange(head % b"1.1", b"body" + LAST)
    assert answer.startswith(b"HTTP/1.1 100 ")
