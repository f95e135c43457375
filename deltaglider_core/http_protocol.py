"""HTTP/1.1 on a connection: uvicorn's protocol with the bounds that it lacks.

The parser keeps every header in memory until the head of a request is complete, and nothing
limits its length or its time. Nobody has been authenticated by then, so a few connections
could take all memory or all file descriptors. Requests sent ahead of their answers take memory
without a limit as well: eighteen bytes become some kilobytes of Python objects. A client that
asks for an object and does not read it would keep the object open for ever.

Source: RFC 9110 sections 15.5.9 and 15.5.15 (URI and fields too large), RFC 9112 section 9.5
(connection failures and timeouts).
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import sys
import termios
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from .http_framing import FramingProtocol, RequestHeadError, error_answer
from .limits import RETRY_AFTER_SECONDS, STATE_KEY
from .log import get_logger
from .s3.wire import Pace

if TYPE_CHECKING:
    from .limits import Limits

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

_TOO_MANY_CONNECTIONS = error_answer(
    503,
    "SlowDown",
    "This server has as many connections as it can serve. Please reduce your request rate.",
    b"retry-after: %d" % RETRY_AFTER_SECONDS,
)

_log = get_logger("http")


class TooManyRequestsError(RequestHeadError):
    """The client sends more requests ahead than ``MAX_PIPELINED``; the connection ends."""


class BoundedHttpProtocol(FramingProtocol):
    """Refuses heads that are too long or too slow, and too many requests sent ahead.

    Cuts off clients that do not read their answers, and keeps no more connections than the
    limits of the process, which it finds in the state of the lifespan.
    """

    max_head_bytes = MAX_HEAD_BYTES
    head_seconds = HEAD_SECONDS
    max_pipelined = MAX_PIPELINED

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Bytes since the parser last came to the end of something.
        self._pending_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        # The request being answered; ``cycle`` is the one that was received last.
        self._active: RequestResponseCycle | None = None
        self._limits: Limits | None = self.app_state.get(STATE_KEY)
        if self._limits is not None:
            self.timeout_keep_alive = self._limits.keep_alive_seconds
        self._output_timer: asyncio.TimerHandle | None = None
        self._output_left = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._is_one_too_many():
            self._write_answer(_TOO_MANY_CONNECTIONS)
            self._close()
        else:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_output_timer()
        self._set_idle(False)
        super().connection_lost(exc)
        # uvicorn tells the last request only, which with others before it is not the one that
        # is being answered: that one would go on for nobody, and write to a closed socket.
        self.pipeline.clear()
        if self._active is not None and not self._active.response_complete:
            self._active.disconnected = True
            self._active.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            # TLS hands on what arrives while it closes, and nobody may ask for more by then.
            return
        self._set_idle(False)
        self._pending_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._pending_bytes > self.max_head_bytes:
            self._refuse()
        elif self._in_head and self._pending_bytes and self._head_timer is None:
            self._start_timer()

    # --- parser callbacks -----------------------------------------------------------------

    def _begin_request(self) -> None:
        self._pending_bytes = 0
        self._stop_timer()
        waiting = len(self.pipeline)
        if waiting >= self.max_pipelined:
            raise TooManyRequestsError(f"More than {waiting} requests were sent ahead.")
        super()._begin_request()
        if len(self.pipeline) == waiting:
            self._active = self.cycle

    def on_body(self, body: bytes) -> None:
        self._pending_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._pending_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self.pipeline:
            self._active = self.pipeline[-1][0]
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_output()
        elif self.timeout_keep_alive_task is not None:
            self._set_idle(True)

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def shutdown(self) -> None:
        if self._answering:
            super().shutdown()
        elif self.scheme == "https" and not self._unread_bytes():
            # An orderly end of TLS waits for the client's, and one that is idle does not listen.
            self.transport.abort()
        else:
            self._close()

    # --- readers --------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_output()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_output_timer()

    def _close(self) -> None:
        """Close when everything has been sent, which the client may never let happen."""
        if not self.transport.is_closing():
            super()._close()
            self._watch_output()

    def _watch_output(self) -> None:
        if self._output_timer is None:
            self._output_left = self._unread_bytes()
            self._output_timer = self.loop.call_later(self._pace.seconds, self._check_output)

    def _check_output(self) -> None:
        self._output_timer = None
        before = self._output_left
        self._watch_output()
        if before - self._output_left < self._pace.min_bytes:
            self._stop_output_timer()
            _log.warning(
                "A client does not read its answer; the connection is cut.",
                client=self.client[0] if self.client else "",
                unread_bytes=self._output_left,
            )
            if self._limits is not None:
                self._limits.refused("slow_reader")
            self.transport.abort()

    def _unread_bytes(self) -> int:
        """Bytes of the answer that the client has not acknowledged.

        Those that the kernel holds are counted: it takes more only when a third of its buffer,
        which may be megabytes, is free, so a slow reader shows no progress on this side of it.
        """
        unread = self.transport.get_write_buffer_size()
        connection = self.transport.get_extra_info("socket")
        if connection is not None and sys.platform == "linux":
            try:
                # On a socket this is SIOCOUTQ, see tcp(7).
                packed = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
            except OSError:  # closed meanwhile, or no TCP
                return unread
            unread += struct.unpack("i", packed)[0]
        return unread

    def _stop_output_timer(self) -> None:
        if self._output_timer is not None:
            self._output_timer.cancel()
            self._output_timer = None

    @property
    def _pace(self) -> Pace:
        return self._limits.pace if self._limits is not None else Pace()

    # --- number of connections ------------------------------------------------------------

    def _is_one_too_many(self) -> bool:
        """Whether there is no room for this connection, and no idle one to make some."""
        limits = self._limits
        if limits is None or len(self.connections) <= limits.max_connections:
            return False
        if limits.idle:
            longest = next(iter(limits.idle))
            longest._set_idle(False)
            longest._close()
            return False
        limits.refused("connections")
        return True

    def _set_idle(self, idle: bool) -> None:
        if self._limits is None:
            return
        if idle:
            self._limits.idle[self] = None
        else:
            self._limits.idle.pop(self, None)

    # --- bounds ---------------------------------------------------------------------------

    def _refuse(self) -> None:
        self.logger.warning("Request head of more than %d bytes refused.", self.max_head_bytes)
        if not self._answering:
            self._write_answer(_TOO_LARGE)
        self._close()

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
        else:
            self._close()


__all__ = ["HEAD_SECONDS", "MAX_HEAD_BYTES", "MAX_PIPELINED", "BoundedHttpProtocol"]
