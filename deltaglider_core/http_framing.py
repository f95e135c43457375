"""Where a request on a connection begins and ends: uvicorn's protocol, read strictly.

A proxy in front of this server has read the same bytes before. Whatever the two read in
different ways lets a client hide a request from the proxy, or give itself the headers that only
the proxy may set; so what can be read in two ways is refused before anything runs.

Source: RFC 9112 sections 2.3 (version), 3.2 (request target), 6.1 and 6.3 (transfer codings and
the length of a message) and 7.1.2 (trailer fields), RFC 9110 sections 7.8 (a server may ignore
``Upgrade``) and 10.1.1 (``Expect`` in HTTP/1.0).
"""

from __future__ import annotations

import http
import re
from collections.abc import Iterable
from typing import Any
from xml.sax.saxutils import escape

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from .s3.addressing import AUTHORITY

_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?]*)(/[^?]*)?(\?.*)?")

#: A name of a transfer coding, which is a token (RFC 9110 section 5.6.2).
_CODING = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

#: Bytes of what a client sent that an error text repeats.
_QUOTED_BYTES = 100


class RequestHeadError(ValueError):
    """A request that is not to be read further: it is answered, and the connection closed.

    Attributes:
        status: Of the answer.
        code: S3 error code of the answer.
    """

    status = 400
    code = "BadRequest"


class UnsupportedVersionError(RequestHeadError):
    """The client speaks another version of HTTP."""


class RequestTargetError(RequestHeadError):
    """The request target has a form that this server does not serve."""


class TunnelError(RequestHeadError):
    """The client wants the connection to become something else than HTTP."""


class TransferEncodingError(RequestHeadError):
    """``Transfer-Encoding`` does not tell where the body ends."""


class UnsupportedCodingError(RequestHeadError):
    """The body has a transfer coding beside ``chunked``."""

    status = 501
    code = "NotImplemented"


class FramingProtocol(HttpToolsProtocol):
    """Reads requests strictly, ignores ``Upgrade``, and never sends chunks to HTTP/1.0.

    The parser stops at the end of a head that asks for an upgrade and takes the declared body
    for the next request. Such a head is given to a new parser without its ``Upgrade`` field.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        # A head without its ``Upgrade``, to be parsed again, and the fields it came with.
        self._to_repeat = b""
        self._all_fields: list[tuple[bytes, bytes]] | None = None

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if not isinstance(cause, RequestHeadError):
                cause = RequestHeadError("An error occurred when parsing the HTTP request.")
            self._reject(cause)

    def _parse(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
            else:
                return
            # Not in the handler: the context of what is raised here tells what was wrong.
            head, self._to_repeat = self._to_repeat, b""
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.parser.feed_data(head)

    # --- parser callbacks -----------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        # After the head these are trailer fields, which nobody checked and nobody may trust.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise UnsupportedVersionError(
                f"HTTP/{version} is not spoken here. Please use HTTP/1.1."
            )
        if self.parser.should_upgrade():
            self._set_upgrade_aside(version)
            return
        if self._all_fields is not None:
            # A signature may cover what was taken out for the parser.
            self.headers[:] = self._all_fields
            self._all_fields = None
        self._in_head = False
        check_transfer_encoding(version, self.headers)
        self._read_target()
        if version == "1.0":
            self.expect_100_continue = False
        self._begin_request()

    def on_message_complete(self) -> None:
        if not self._to_repeat:
            self._in_head = True
            if self.cycle is not None and not self.parser.should_keep_alive():
                # A trailer may say so, and the parser reads nothing after it.
                self.cycle.keep_alive = False
            super().on_message_complete()

    def _begin_request(self) -> None:
        """Start, or queue, the request whose head was read."""
        super().on_headers_complete()

    def _set_upgrade_aside(self, version: str) -> None:
        method = self.parser.get_method()
        if method == b"CONNECT" or self._all_fields is not None:
            raise TunnelError("This server is no proxy. Please send requests to it directly.")
        lines = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
        lines += [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        self._to_repeat = b"\r\n".join((*lines, b"", b""))
        self._all_fields = self.headers

    def _read_target(self) -> None:
        """Keep the authority of a target in absolute form, and go on with its path.

        Raises:
            RequestTargetError: It has a fragment, or is no target of a server.
        """
        if b"#" in self.url:
            raise RequestTargetError(
                "The request target has a fragment. Please encode # as %23 where it is meant."
            )
        if self.url.startswith(b"/") or self.url == b"*":
            return
        match = _ABSOLUTE.fullmatch(self.url)
        if match is None:
            raise RequestTargetError("The request target is neither a path nor an http URL.")
        self.scope[AUTHORITY] = match[1]  # type: ignore[literal-required]
        self.url = (match[2] or b"/") + (match[3] or b"")

    # --- answers --------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if cycle.scope["http_version"] == "1.0":
            app = ended_by_close(app, cycle)
        super()._start_asgi_task(cycle, app)

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _reject(self, error: RequestHeadError) -> None:
        self.logger.warning("HTTP request refused: %s", error)
        if not self._answering:
            # In the middle of another answer it would be read as a part of that one.
            self._write_answer(error_answer(error.status, error.code, str(error)))
        self._close()

    def _write_answer(self, answer: bytes) -> None:
        """Write a whole answer, with the headers that every answer here has."""
        status, _, rest = answer.partition(b"\r\n")
        common = (b"%s: %s\r\n" % pair for pair in self.server_state.default_headers)
        self.transport.write(b"".join((status, b"\r\n", *common, rest)))

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def check_transfer_encoding(version: str, fields: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse every ``Transfer-Encoding`` but ``chunked``, alone, in HTTP/1.1.

    The parser takes more than that, and refuses some of the rest only after the head.
    ``Content-Length`` beside it is refused by the parser itself.

    Args:
        version: Of HTTP, e.g. ``1.1``.
        fields: Names in lower case, and values.

    Raises:
        TransferEncodingError: The end of the body cannot be told.
        UnsupportedCodingError: The body would have to be decoded.
    """
    values = [value.strip(b" \t").lower() for name, value in fields if name == b"transfer-encoding"]
    if not values or (values == [b"chunked"] and version == "1.1"):
        return
    if version != "1.1":
        raise TransferEncodingError(f"HTTP/{version} has no Transfer-Encoding.")
    together = b", ".join(values)
    *others, last = (coding.strip(b" \t") for coding in together.split(b","))
    quoted = repr(together[:_QUOTED_BYTES])[1:]
    advice = "Please send Transfer-Encoding: chunked, or Content-Length."
    if last == b"chunked" and all(
        coding != b"chunked" and _CODING.fullmatch(coding) for coding in others
    ):
        raise UnsupportedCodingError(
            f"The transfer coding {quoted} implies functionality that is not implemented. {advice}"
        )
    raise TransferEncodingError(f"{quoted} does not tell where the body ends. {advice}")


def ended_by_close(app: Any, cycle: RequestResponseCycle) -> Any:
    """Wrap an application so that an answer of unknown length ends with the connection.

    HTTP/1.0 knows no chunks, which uvicorn sends to every client (RFC 9112 section 6.1).

    Args:
        app: ASGI application.
        cycle: Of the one request that the result is called for; it closes the connection.
    """
    unknown_length = False

    async def run(scope: Any, receive: Any, send: Any) -> None:
        async def send_plain(message: Any) -> None:
            nonlocal unknown_length
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message.get("headers", ())}
                if b"content-length" not in names:
                    unknown_length = True
                    cycle.chunked_encoding = False
            elif unknown_length:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, send_plain)

    return run


def error_answer(status: int, code: str, message: str, *fields: bytes) -> bytes:
    """An S3 error as a whole HTTP answer after which the connection is closed.

    Args:
        status: HTTP status.
        code: S3 error code.
        message: For the user.
        fields: More header fields, such as ``b"retry-after: 1"``.
    """
    body = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>".encode()
    lines = (
        f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}".encode(),
        b"content-type: application/xml",
        *fields,
        b"connection: close",
        b"content-length: %d" % len(body),
    )
    return b"\r\n".join((*lines, b"", body))


__all__ = [
    "FramingProtocol",
    "RequestHeadError",
    "check_transfer_encoding",
    "ended_by_close",
    "error_answer",
]
