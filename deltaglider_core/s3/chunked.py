"""Decoder of the ``aws-chunked`` content encoding, signed and unsigned, with trailers.

Framing, after which the body ends::

    1000;chunk-signature=<64 hex>\\r\\n <4096 bytes> \\r\\n      (repeated)
    0;chunk-signature=<64 hex>\\r\\n
    x-amz-checksum-crc32c:sOO8/Q==\\r\\n                       (trailers)
    x-amz-trailer-signature:<64 hex>\\r\\n
    \\r\\n

Source: AWS, "Signature calculations for the Authorization header: transferring payload in
multiple chunks (chunked upload)", also "... with trailing headers". The examples there end a
trailer with ``\\n\\r\\n``, which is accepted.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import AsyncGenerator, AsyncIterator

from ..errors import IncompleteBody, InvalidArgument, SignatureDoesNotMatch
from ..interfaces.auth import PayloadSignature
from ..services import run_blocking

#: A signed chunk is held in memory until its signature has been verified, since no byte of a
#: forged one may pass. SDKs sign chunks of 64 KiB to 1 MiB.
MAX_SIGNED_CHUNK = 16 * 1024 * 1024
#: ``<16 hex>;chunk-signature=<64 hex>`` has 97 bytes.
MAX_HEADER_LINE = 256
#: AWS limits all headers of a request to 8 KB.
MAX_TRAILER_BYTES = 8 * 1024

#: Wire bytes decoded in one go on a worker thread: a megabyte of 8-byte chunks would hold the
#: event loop for a tenth of a second. Below INLINE_BYTES a thread costs more than it saves.
FEED_BYTES = 1024 * 1024
INLINE_BYTES = 64 * 1024
MAX_PIECE = 1024 * 1024

_HEADER = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?")
_TRAILER = re.compile(rb"([A-Za-z0-9!#$%&'*+.^_`|~-]+)[ \t]*:[ \t]*([ -~\t]*?)[ \t]*")
_SIGNATURE_TRAILER = "x-amz-trailer-signature"
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class ChunkDecoder:
    """The decoder without I/O: bytes of the wire in, verified bytes of the payload out.

    Args:
        decoded_length: Bytes of payload that must come, exactly.
        signature: Verifies chunks and trailer; None ignores signatures if there are any.
        trailer_signed: A trailer signature follows the trailers.
    """

    def __init__(
        self, *, decoded_length: int, signature: PayloadSignature | None, trailer_signed: bool
    ) -> None:
        self.trailers: dict[str, str] = {}
        self._left = decoded_length
        self._signature = signature
        self._trailer_signed = trailer_signed
        self._previous = signature.seed if signature is not None else ""
        self._buffer = bytearray()
        self._in_data = False
        self._in_trailer = False
        self._chunk_left = 0
        self._chunk_signature = ""
        self._chunk = bytearray()
        self._digest = hashlib.sha256()

    def feed(self, data: bytes | bytearray) -> bytes:
        """Decode the next bytes of the wire; returns payload that has been verified.

        Raises:
            InvalidArgument: The framing is malformed.
            IncompleteBody: More payload than declared, or less at the last chunk.
            SignatureDoesNotMatch: A chunk is forged.
        """
        self._buffer += data
        out = bytearray()
        position = 0
        while not self._in_trailer:
            step = self._data(position, out) if self._in_data else self._header(position)
            if step == 0:
                break
            position += step
        del self._buffer[:position]
        if self._in_trailer and len(self._buffer) > MAX_TRAILER_BYTES:
            raise _malformed("the trailers are too long")
        return bytes(out)

    def finish(self) -> None:
        """The wire has ended: verify what remains and set ``trailers``.

        Raises:
            IncompleteBody: It ended too early.
            InvalidArgument: The trailers are malformed.
            SignatureDoesNotMatch: They are forged.
        """
        if not self._in_trailer:
            raise IncompleteBody
        trailers = _parse_trailers(bytes(self._buffer))
        provided = trailers.pop(_SIGNATURE_TRAILER, None)
        if provided is not None and not self._trailer_signed:
            raise _malformed("an unexpected trailer signature")
        if self._signature is not None:
            if self._trailer_signed:
                self._verify_trailers(self._signature, trailers, provided)
            elif trailers:
                raise _malformed("trailers that no signature covers")
        self.trailers = trailers

    def _header(self, position: int) -> int:
        """Read the line in front of a chunk; returns its length, 0 if it is incomplete."""
        end = self._buffer.find(b"\r\n", position, position + MAX_HEADER_LINE)
        if end < 0:
            if len(self._buffer) - position >= MAX_HEADER_LINE:
                raise _malformed("a chunk header is too long")
            return 0
        match = _HEADER.fullmatch(self._buffer[position:end])
        if match is None:
            raise _malformed("a chunk header is malformed")
        size = int(match[1], 16)
        if self._signature is not None:
            if match[2] is None:
                raise _malformed("a chunk has no signature")
            if size > MAX_SIGNED_CHUNK:
                raise InvalidArgument(
                    f"A signed chunk must not exceed {MAX_SIGNED_CHUNK} bytes.",
                    fields={"ArgumentName": "chunk-size", "ArgumentValue": str(size)},
                )
            self._chunk_signature = match[2].decode("ascii")
        if size > self._left or (size == 0 and self._left):
            raise IncompleteBody
        self._left -= size
        self._chunk_left = size
        if size:
            self._in_data = True
        else:
            self._verify_chunk()
            self._in_trailer = True
        return end + 2 - position

    def _data(self, position: int, out: bytearray) -> int:
        """Take bytes of a chunk; returns how many were used, 0 if more must come first."""
        available = len(self._buffer) - position
        if self._chunk_left:
            taken = min(available, self._chunk_left)
            with memoryview(self._buffer) as view, view[position : position + taken] as piece:
                if self._signature is None:
                    out += piece
                else:
                    self._chunk += piece
                    self._digest.update(piece)
            self._chunk_left -= taken
            return taken
        if available < 2:
            return 0
        if self._buffer[position : position + 2] != b"\r\n":
            raise _malformed("a chunk is longer than its header says")
        if self._signature is not None:
            self._verify_chunk()
            out += self._chunk
            self._chunk = bytearray()
        self._in_data = False
        return 2

    def _verify_chunk(self) -> None:
        signature = self._signature
        if signature is None:
            return
        text = (
            f"AWS4-HMAC-SHA256-PAYLOAD\n{signature.timestamp}\n{signature.scope}\n"
            f"{self._previous}\n{_EMPTY_SHA256}\n{self._digest.hexdigest()}"
        )
        self._previous = _verify(signature, text, self._chunk_signature)
        self._digest = hashlib.sha256()

    def _verify_trailers(
        self, signature: PayloadSignature, trailers: dict[str, str], provided: str | None
    ) -> None:
        if provided is None:
            raise _malformed("the trailer signature is missing")
        lines = "".join(f"{name}:{value}\n" for name, value in trailers.items())
        text = (
            f"AWS4-HMAC-SHA256-TRAILER\n{signature.timestamp}\n{signature.scope}\n"
            f"{self._previous}\n{hashlib.sha256(lines.encode('ascii')).hexdigest()}"
        )
        _verify(signature, text, provided)


class AwsChunked:
    """The payload of an ``aws-chunked`` body, as an asynchronous iterator of bytes.

    Attributes:
        trailers: Lower-case names to values; complete once the iterator has ended.
    """

    def __init__(self, body: AsyncIterator[bytes], decoder: ChunkDecoder) -> None:
        self._decoder = decoder
        self._pieces = _decode(body, decoder)

    @property
    def trailers(self) -> dict[str, str]:
        return self._decoder.trailers

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next verified piece, 1 byte to 1 MiB. Raises what ``ChunkDecoder`` raises."""
        return await self._pieces.__anext__()

    async def aclose(self) -> None:
        """Stop decoding. Safe to call twice."""
        await self._pieces.aclose()


def decode_aws_chunked(
    body: AsyncIterator[bytes],
    *,
    decoded_length: int,
    signature: PayloadSignature | None,
    trailer_signed: bool,
) -> AwsChunked:
    """Decode an ``aws-chunked`` body while it arrives; see ``ChunkDecoder`` for arguments."""
    decoder = ChunkDecoder(
        decoded_length=decoded_length, signature=signature, trailer_signed=trailer_signed
    )
    return AwsChunked(body, decoder)


async def _decode(body: AsyncIterator[bytes], decoder: ChunkDecoder) -> AsyncGenerator[bytes, None]:
    wire = bytearray()
    async for data in body:
        wire += data
        if len(wire) >= FEED_BYTES:
            for piece in _slices(await run_blocking(decoder.feed, wire)):
                yield piece
            wire = bytearray()
    if len(wire) > INLINE_BYTES:
        rest = await run_blocking(decoder.feed, wire)
    else:
        rest = decoder.feed(wire)
    decoder.finish()
    for piece in _slices(rest):
        yield piece


def _slices(data: bytes) -> list[bytes]:
    if len(data) <= MAX_PIECE:
        return [data] if data else []
    return [data[start : start + MAX_PIECE] for start in range(0, len(data), MAX_PIECE)]


def _parse_trailers(section: bytes) -> dict[str, str]:
    """Read everything behind the last chunk, the closing empty line included."""
    *lines, rest = section.split(b"\n")
    if rest or not lines or lines.pop() != b"\r":
        raise IncompleteBody
    trailers: dict[str, str] = {}
    bare = False  # the line before ended with a bare LF; then an empty one belongs to it
    for line in lines:
        if line == b"\r" and bare:
            bare = False
            continue
        bare = not line.endswith(b"\r")
        match = _TRAILER.fullmatch(line.removesuffix(b"\r"))
        if match is None:
            raise _malformed("a trailer is malformed")
        name = match[1].decode("ascii").lower()
        if name in trailers:
            raise _malformed("a trailer occurs twice")
        trailers[name] = match[2].decode("ascii")
    return trailers


def _verify(signature: PayloadSignature, text: str, provided: str) -> str:
    expected = hmac.digest(signature.signing_key, text.encode("ascii"), "sha256").hex()
    if not hmac.compare_digest(expected, provided):
        raise SignatureDoesNotMatch(
            "The chunk or trailer signature we calculated does not match the one you provided."
        )
    return expected


def _malformed(reason: str) -> InvalidArgument:
    return InvalidArgument(f"The aws-chunked body is malformed: {reason}.")
