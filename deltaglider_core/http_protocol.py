"""HTTP/1.1 on a connection: uvicorn's protocol with the bounds that it lacks.

The parser keeps every header in memory until the head of a request is complete, and nothing
limits its length or its time. Nobody has been authenticated by then, so a few connections
could take all memory or all file descriptors. Requests sent ahead of their answers take memory
without a limit as well: eighteen bytes become some kilobytes of Python objects.

Source: RFC 9110 sections 15.5.9 and 15.5.15 (URI and fields too large), RFC 9112 section 9.5.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

#: Bytes of a request line and headers together, and of what stands between two pieces of a
#: body. AWS takes 8 KB of headers; a presigned URL carries up to as much again.
MAX_HEAD_BYTES = 64 * 1024
#: Seconds in which a head must be complete, from its first byte or the start of the connection.
HEAD_SECONDS = 30.0
#: Requests that may wait on a connection for the answer to another one. SDKs send none ahead.
MAX_PIPELINED = 16

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"connection: close\r\ncontent-length: 0\r\n\r\n"
)


class UnsupportedVersionError(ValueError):
    """The client speaks another version of HTTP; the parser answers 400."""


class TooManyRequestsError(ValueError):
    """The client sends more requests ahead than ``MAX_PIPELINED``; the connection ends."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """Refuses heads that are too long or too slow, and too many requests sent ahead.

    Otherwise uvicorn's protocol.
    """

    max_head_bytes = MAX_HEAD_BYTES
    head_seconds = HEAD_SECONDS
    max_pipelined = MAX_PIPELINED

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Bytes since the parser last came to the end of something.
        self._pending_bytes = 0
        self._in_head = True
        self._head_timer: asyncio.TimerHandle | None = None
        # The request being answered; ``cycle`` is the one that was received last.
        self._active: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)
        # uvicorn tells the last request only, which with others before it is not the one that
        # is being answered: that one would go on for nobody, and write to a closed socket.
        self.pipeline.clear()
        if self._active is not None and not self._active.response_complete:
            self._active.disconnected = True
            self._active.message_event.set()

    def data_received(self, data: bytes) -> None:
        self._pending_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._pending_bytes > self.max_head_bytes:
            self._refuse()
        elif self._in_head and self._pending_bytes and self._head_timer is None:
            self._start_timer()

    # --- parser callbacks -----------------------------------------------------------------

    def on_headers_complete(self) -> None:
        self._pending_bytes = 0
        self._in_head = False
        self._stop_timer()
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise UnsupportedVersionError(version)
        waiting = len(self.pipeline)
        if waiting >= self.max_pipelined:
            raise TooManyRequestsError
        super().on_headers_complete()
        if len(self.pipeline) == waiting:
            self._active = self.cycle

    def on_body(self, body: bytes) -> None:
        self._pending_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._pending_bytes = 0
        self._in_head = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self.pipeline:
            self._active = self.pipeline[-1][0]
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        if self._answering:
            # In the middle of another answer it would be read as a part of that one.
            self.transport.close()
        else:
            super().send_400_response(msg)

    # --- bounds ---------------------------------------------------------------------------

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self) -> None:
        self.logger.warning("Request head of more than %d bytes refused.", self.max_head_bytes)
        if not self._answering:
            self.transport.write(_TOO_LARGE)
        self.transport.close()

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._on_timeout)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_timeout(self) -> None:
        self._head_timer = None
        if self._answering:
            # The next request on a connection that is still busy with the one before.
            self._start_timer()
        elif not self.transport.is_closing():
            self.transport.close()


__all__ = ["HEAD_SECONDS", "MAX_HEAD_BYTES", "MAX_PIPELINED", "BoundedHttpProtocol"]
