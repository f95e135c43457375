"""A listening socket for TLS that bounds how many handshakes are under way.

An event loop shows a connection to its protocol only after the handshake. Until then it would
count nowhere, although it takes a file descriptor and some memory, and nobody is known yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from .limits import STATE_KEY
from .log import get_logger

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    from .limits import Limits

#: Seconds without accepting when the system has no descriptors for another connection.
RETRY_SECONDS = 1.0


class TlsListener(asyncio.AbstractServer):
    """Accepts connections and begins TLS on them.

    More handshakes at a time than ``Limits.max_connections`` there are none: who comes then is
    closed without an answer, which would need a handshake as well.

    Args:
        loop: Where it runs.
        factory: Makes the protocol of a connection, which has the limits in its ``app_state``.
        context: What to begin TLS with.
        handshake_seconds: That a client has.
        sock: Bound; closed with this.
        backlog: Connections that wait to be accepted.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Callable[[], HttpToolsProtocol],
        context: ssl.SSLContext,
        handshake_seconds: float,
        *,
        sock: socket.socket,
        backlog: int = 100,
    ) -> None:
        self._loop = loop
        self._factory = factory
        self._context = context
        self._handshake_seconds = handshake_seconds
        self._socket = sock
        self._backlog = backlog
        self._retry: asyncio.TimerHandle | None = None
        self._serving = False
        self._handshakes: set[asyncio.Task[None]] = set()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def is_serving(self) -> bool:
        return self._serving

    async def serve_forever(self) -> None:
        await self.start_serving()
        try:
            await self._loop.create_future()
        finally:
            self.close()
            await self.wait_closed()

    async def start_serving(self) -> None:
        if not self._serving:
            self._socket.setblocking(False)
            self._socket.listen(self._backlog)
            self._serving = True
            self._listen()

    def close(self) -> None:
        """Accept no more, and end the handshakes; connections go on."""
        if not self._serving:
            return
        self._serving = False
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        for handshake in self._handshakes:
            handshake.cancel()

    async def wait_closed(self) -> None:
        """Wait for the handshakes that ``close`` ended."""
        if self._handshakes:
            await asyncio.wait(self._handshakes)

    def _listen(self) -> None:
        self._retry = None
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another process was faster, or the client has left
        except OSError as error:
            get_logger().error("no connection can be accepted", error=str(error))
            self._loop.remove_reader(self._socket)
            self._retry = self._loop.call_later(RETRY_SECONDS, self._listen)
            return
        protocol = self._factory()
        limits: Limits | None = protocol.app_state.get(STATE_KEY)
        if limits is not None and len(self._handshakes) >= limits.max_connections:
            limits.refused("connections")
            connection.close()
            return
        connection.setblocking(False)
        handshake = self._loop.create_task(self._shake_hands(connection, protocol))
        self._handshakes.add(handshake)
        handshake.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, connection: socket.socket, protocol: HttpToolsProtocol) -> None:
        # A client that fails has been cut by the loop; it speaks no TLS, or left, or was too slow.
        with contextlib.suppress(OSError):
            await self._loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._handshake_seconds,
            )


__all__ = ["RETRY_SECONDS", "TlsListener"]
