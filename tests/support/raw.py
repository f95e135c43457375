"""HTTP spoken by hand, for requests that no client library would send."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from xml.etree import ElementTree as ET

from support.server import ServerProcess
from support.signing import Signed, Signer, sha256_hex

SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A response: header names in lower case.

    Attributes:
        complete: False if the connection ended before the announced end of the body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False, default=b"")
    complete: bool = True

    @property
    def code(self) -> str:
        """The S3 error code, or an empty text."""
        return self.element("Code") if b"<Error>" in self.body else ""

    def element(self, name: str) -> str:
        """Text of the first XML element of that name, in any namespace."""
        for element in ET.fromstring(self.body).iter():
            if element.tag.rpartition("}")[2] == name:
                return element.text or ""
        raise AssertionError(f"no <{name}> in {self.body!r}")


class Connection:
    """A TCP connection to a server, one byte at a time if need be."""

    def __init__(self, server: ServerProcess, *, receive_buffer: int | None = None) -> None:
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(SECONDS)
        self._socket.connect(("127.0.0.1", server.port))
        self._pending = b""
        self.method = "GET"

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def local_port(self) -> int:
        """TCP port of this end."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Close both directions."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def send_head(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        """Send the request line and the headers."""
        self.method = method
        lines = [f"{method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items())]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n")

    def receive_some(self) -> bytes:
        """The next bytes, whatever they are; empty at the end."""
        try:
            return self._socket.recv(65536)
        except ConnectionResetError:
            return b""

    def is_silent(self, seconds: float) -> bool:
        """Whether the server says nothing for so long."""
        self._socket.settimeout(seconds)
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(SECONDS)
        self._pending += data
        return False

    def answer(self) -> Answer:
        """Read one response; an interim one (1xx) has no body."""
        while b"\r\n\r\n" not in self._pending:
            data = self.receive_some()
            if not data:
                raise ConnectionError(f"the connection ended without an answer: {self._pending!r}")
            self._pending += data
        head, _, self._pending = self._pending.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        match = re.match(r"HTTP/1\.1 (\d{3})", first)
        if match is None:
            raise AssertionError(f"not a status line: {first!r}")
        status = int(match[1])
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if status < 200 or status in (204, 304) or self.method == "HEAD":
            return Answer(status=status, headers=headers)
        if headers.get("transfer-encoding") == "chunked":
            body, complete = self._chunked()
        else:
            body, complete = self._exactly(int(headers.get("content-length", 0)))
        return Answer(status=status, headers=headers, body=body, complete=complete)

    def _exactly(self, size: int) -> tuple[bytes, bool]:
        body = bytearray(self._pending)
        while len(body) < size:
            data = self.receive_some()
            if not data:
                self._pending = b""
                return bytes(body), False
            body += data
        self._pending = bytes(body[size:])
        return bytes(body[:size]), True

    def _chunked(self) -> tuple[bytes, bool]:
        body = bytearray()
        while True:
            while b"\r\n" not in self._pending:
                data = self.receive_some()
                if not data:
                    return bytes(body), False
                self._pending += data
            size_text, _, self._pending = self._pending.partition(b"\r\n")
            size = int(size_text, 16)
            data, complete = self._exactly(size + 2)
            body += data[:size]
            if not complete or size == 0:
                return bytes(body), complete


class RawClient:
    """Signed requests, sent as they are told.

    Args:
        server: Where to connect, and as whom.
    """

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.signer = Signer(
            host=f"127.0.0.1:{server.port}",
            access_key=server.access_key,
            secret_key=server.secret_key,
        )

    def connect(self, *, receive_buffer: int | None = None) -> Connection:
        """Open a connection."""
        return Connection(self.server, receive_buffer=receive_buffer)

    def request(
        self,
        method: str,
        target: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        payload: str | None = None,
        at: datetime | None = None,
        signer: Signer | None = None,
    ) -> Answer:
        """Sign and send a request on a connection of its own; read the answer."""
        signed = (signer or self.signer).sign(
            method,
            target,
            headers=headers,
            payload=sha256_hex(body) if payload is None else payload,
            at=at,
        )
        return self.send(method, signed, body)

    def send(
        self, method: str, signed: Signed, body: bytes = b"", extra: Mapping[str, str] | None = None
    ) -> Answer:
        """Send what is signed; ``extra`` headers are added, or replace signed ones."""
        headers = dict(signed.headers) | {n.lower(): v for n, v in (extra or {}).items()}
        if (body or method in ("PUT", "POST")) and not {
            "content-length",
            "transfer-encoding",
        } & headers.keys():
            headers["content-length"] = str(len(body))
        return self.send_unsigned(method, signed.target, headers, body)

    def send_unsigned(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Answer:
        """Send headers and body just as they are."""
        with self.connect() as connection:
            connection.send_head(method, target, headers)
            if body:
                connection.send(body)
            return connection.answer()
