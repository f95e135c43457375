"""The edge between ASGI and the S3 endpoint: what Falcon and uvicorn leave to the application.

- A request body is asked for only when an operation reads it, so that ``Expect:
  100-continue`` gets its answer before the body is sent (RFC 9110 section 10.1.1). Falcon asks
  for the first event before it routes; it gets an empty one here.
- A response to a request whose body was not read ends the connection, and lingers first:
  closing a socket with unread data makes the kernel reset it, and the client would lose the
  answer (RFC 9112 section 9.6).
- ASGI servers ignore what is sent to a client that has gone; here it raises, so that nothing
  is decoded for nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ..errors import IncompleteBody, RequestTimeout

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = dict[str, Any]

#: How much of an unread body is discarded, and for how long, before the connection is closed.
LINGER_BYTES = 64 * 1024 * 1024
LINGER_SECONDS = 5.0


class ClientDisconnected(Exception):
    """The client closed the connection while it was being answered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How slow a client may be while a body is under way.

    A body that comes in has ``seconds`` to begin with. Waiting for the client uses them up, and
    each byte gives back what it may take, but never more than there was at first. So a client
    is cut only if it is slower than ``min_bytes`` in ``seconds``, however it cuts its body into
    pieces, and what it sent before does not let it stop for longer.

    Attributes:
        seconds: In which ``min_bytes`` have to pass; time in which the client waits for us does
            not count.
        min_bytes: At least 1.
    """

    seconds: float = 60.0
    min_bytes: int = 16 * 1024


class WireBody:
    """The request body as it comes over the wire.

    Attributes:
        finished: All of it has come.
        disconnected: The client went away before.
        received_bytes: So far, framing included.
        waiting: Whether somebody waits for the client at this moment.
        last_event: When the client was last waited for, on the clock of the event loop.
    """

    def __init__(self, receive: Receive, *, present: bool, pace: Pace) -> None:
        self._receive = receive
        self._pace = pace
        self._seconds_left = self._pace.seconds
        self.finished = not present
        self.disconnected = False
        self.received_bytes = 0
        self.waiting = False
        self.last_event = 0.0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next piece, never empty.

        Raises:
            IncompleteBody: The client went away.
            RequestTimeout: The client is slower than its pace, or has stopped.
        """
        while not self.finished:
            if self.disconnected:
                raise IncompleteBody
            event = await self._event()
            if event["type"] == "http.disconnect":
                self.disconnected = True
                raise IncompleteBody
            self.finished = not event.get("more_body", False)
            data: bytes = event.get("body", b"")
            if data:
                self.received_bytes += len(data)
                pace = self._pace
                earned = len(data) * pace.seconds / pace.min_bytes
                self._seconds_left = min(self._seconds_left + earned, pace.seconds)
                return data
        raise StopAsyncIteration

    async def _event(self) -> Message:
        """The next event of the server, within what is left of the client's time."""
        clock = asyncio.get_running_loop().time
        started = clock()
        self.waiting = True
        try:
            async with asyncio.timeout(self._seconds_left):
                return await self._receive()
        except TimeoutError:
            raise RequestTimeout from None
        finally:
            self.waiting = False
            self.last_event = clock()
            self._seconds_left -= self.last_event - started

    async def discard(self, max_bytes: int, seconds: float) -> None:
        """Read and drop what is left, up to a limit in bytes and time; never raises."""
        try:
            async with asyncio.timeout(seconds):
                async for piece in self:
                    max_bytes -= len(piece)
                    if max_bytes < 0:
                        return
        except (TimeoutError, IncompleteBody, RequestTimeout):
            return


class Exchange:
    """One request and its response, between the server and the application.

    Attributes:
        body: The request body.
        status: Status sent, 0 before.
        sent_bytes: Body bytes sent.
        operation: Set by the endpoint, for metrics and the log.
        log_fields: Set by the endpoint, added to the line in the log.
        resources: Closed when the exchange ends, however it ends.
        place: Closed when the last byte of the answer has been handed over, or with
            ``resources``: what is needed no longer, while a client still has its time to read
            the answer.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, *, pace: Pace | None = None
    ) -> None:
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        present = b"transfer-encoding" in headers or length.strip() not in (b"0", b"")
        # The aws CLI (1.x) expects the 100 for an empty body too. A final answer in its place
        # spoils its connection: it reads the next answer wrongly, and hangs. So an empty body
        # that is expected is welcomed when it is read, and a refusal ends the connection.
        present = present or headers.get(b"expect", b"").lower() == b"100-continue"
        self.body = WireBody(receive, present=present, pace=pace or Pace())
        self.status = 0
        self.sent_bytes = 0
        self.operation = "unknown"
        client = scope.get("client")
        self.log_fields: dict[str, Any] = {"client": client[0] if client else ""}
        self.resources = contextlib.AsyncExitStack()
        self.place = contextlib.AsyncExitStack()
        self.started = time.perf_counter()
        self._receive = receive
        self._send = send
        self._first = True
        self._closing = False
        self._watcher: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """ASGI receive for the framework: an empty first event, then the real ones."""
        if self._first:
            self._first = False
            return {"type": "http.request", "body": b"", "more_body": not self.body.finished}
        return await self._receive()

    async def send(self, message: Message) -> None:
        """ASGI send for the framework.

        Raises:
            ClientDisconnected: The client has gone; there is nobody to send to.
        """
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if not self.body.finished:
                self._closing = True
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await self._send(message)
            return
        more = message.get("more_body", False)
        self.sent_bytes += len(message.get("body", b""))
        if more and self.body.finished:
            self._watch()
        if self._watcher is not None and self._watcher.done():
            raise ClientDisconnected
        if not more and self._closing:
            await self._send({**message, "more_body": True})
            await self.place.aclose()
            await self.body.discard(LINGER_BYTES, LINGER_SECONDS)
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)
        if not more:
            await self.place.aclose()

    def hold_place(self) -> None:
        """Keep ``place`` until ``resources`` are closed, for work that outlasts its answer.

        What is pushed to ``resources`` afterwards is closed before it.
        """
        self.resources.push_async_exit(self.place.pop_all())

    def _watch(self) -> None:
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._wait_for_disconnect())

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def close(self) -> None:
        """Free everything; called once, after the application returned or raised."""
        if self._watcher is not None:
            self._watcher.cancel()
        try:
            await self.resources.aclose()
        finally:
            await self.place.aclose()
