"""The body of a request: deframed, measured and verified while it streams.

Source: AWS, "PutObject", "Authenticating requests (AWS Signature Version 4)" for the values
of ``x-amz-content-sha256``, and RFC 1864 for ``Content-MD5``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass

from ..checksums import FAST_ALGORITHMS, Hasher, encode, new_hasher
from ..context import S3Request
from ..errors import (
    BadDigest,
    EntityTooLarge,
    IncompleteBody,
    InvalidArgument,
    InvalidDigest,
    InvalidRequest,
    MissingContentLength,
    NotImplementedS3,
    S3Error,
    XAmzContentSHA256Mismatch,
)
from ..interfaces.auth import PayloadSignature, Principal
from ..interfaces.storage import Checksum
from ..services import run_blocking
from .checksums import ChecksumClaim, decode_digest, find_claim
from .chunked import AwsChunked, decode_aws_chunked
from .sigv4_evidence import UNSIGNED_PAYLOAD

#: Blocks handed on are about this large, so that consumers make few thread hops.
BLOCK_BYTES = 1024 * 1024
#: Smaller blocks are hashed in place: a thread hop costs about as much as 64 KiB of MD5. So are
#: all that need nothing but a fast CRC.
INLINE_BYTES = 256 * 1024

_HEX_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_LENGTH = re.compile(r"[0-9]{1,18}")

#: Here ``x-amz-checksum-*`` describes the assembled object, not the XML of the request.
_CHECKSUM_OF_OBJECT = frozenset({"complete_multipart_upload"})


@dataclass(frozen=True, kw_only=True, slots=True)
class _Mode:
    """What ``x-amz-content-sha256`` says about the body."""

    chunked: bool = False
    signed: bool = False
    trailer: bool = False
    sha256: str | None = None


_MODES = {
    UNSIGNED_PAYLOAD: _Mode(),
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER": _Mode(chunked=True, trailer=True),
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": _Mode(chunked=True, signed=True),
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": _Mode(chunked=True, signed=True, trailer=True),
}


def open_payload(request: S3Request, principal: Principal, *, max_size: int | None) -> Payload:
    """Check what the headers say about the body; nothing is read before iteration.

    Args:
        principal: Its ``payload`` verifies signed chunks; without it they are only deframed.
        max_size: Most bytes of payload, or None.

    Raises:
        MissingContentLength: The size is not declared.
        EntityTooLarge: It exceeds ``max_size``.
        InvalidDigest: ``Content-MD5`` is no MD5.
        InvalidArgument, InvalidRequest, NotImplementedS3: Headers that contradict each other,
            are malformed or are not supported.
    """
    headers = request.headers
    mode = _mode(headers)
    size = _size(headers, mode)
    if max_size is not None and size > max_size:
        raise EntityTooLarge(fields={"ProposedSize": str(size), "MaxSizeAllowed": str(max_size)})
    md5 = _content_md5(headers)
    claim = None if request.operation in _CHECKSUM_OF_OBJECT else find_claim(headers)
    if mode.trailer and "x-amz-trailer" not in headers:
        raise InvalidRequest("Missing required header for this request: x-amz-trailer")
    if claim is not None and claim.digest is None and not mode.trailer:
        raise InvalidRequest("x-amz-trailer needs a body with trailers (x-amz-content-sha256).")
    signature = principal.payload
    if not mode.signed or (signature is not None and not signature.signing_key):
        signature = None
    source = _source(request.body, size=size, mode=mode, signature=signature)
    return Payload(source, size=size, sha256=mode.sha256, md5=md5, claim=claim)


class Payload:
    """The payload of a request, as an asynchronous iterator of bytes.

    The last block is held back until everything has been verified, so a consumer never sees
    a complete body that fails. After the end, ``checksum``, ``checksums`` and ``md5`` are set.

    Attributes:
        size: Declared length in bytes; the iterator ends without an error only after just
            this many.
        claimed: Algorithm of the checksum that the request claims, or None.
        checksum: The one that ``compute`` asked for. Known before the end if a header claims it:
            nothing comes of a body that it does not fit.
        checksums: The one that the request claims, verified; else the computed one. Lower-case
            algorithm to base64.
        md5: In hex, if ``Content-MD5`` asked for it.
    """

    def __init__(
        self,
        source: AsyncIterator[bytes],
        *,
        size: int,
        sha256: str | None,
        md5: bytes | None,
        claim: ChecksumClaim | None,
    ) -> None:
        self.size = size
        self.claimed = None if claim is None else claim.algorithm
        self.checksum: Checksum | None = None
        self.checksums: dict[str, str] = {}
        self.md5: str | None = None
        self._source = source
        self._claim = claim
        self._expected_sha256 = sha256
        self._expected_md5 = md5
        self._sha256 = hashlib.sha256() if sha256 is not None else None
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 is not None else None
        self._hasher = new_hasher(claim.algorithm) if claim is not None else None
        self._hashers = [h for h in (self._sha256, self._md5, self._hasher) if h is not None]
        self._slow = self._sha256 is not None or self._md5 is not None
        self._slow = self._slow or self.claimed not in {None, *FAST_ALGORITHMS}
        self._algorithm: str | None = None
        self._computed: Hasher | None = None
        self._blocks = self._run()

    def compute(self, algorithm: str) -> None:
        """Ask for the checksum of that algorithm, before the first block is read."""
        self._algorithm = algorithm
        claim = self._claim
        if claim is not None and claim.algorithm == algorithm:
            self._computed = self._hasher
            if claim.digest is not None:
                self.checksum = Checksum(algorithm=algorithm, value=encode(claim.digest))
            return
        self._computed = new_hasher(algorithm)
        self._hashers.append(self._computed)
        self._slow = self._slow or algorithm not in FAST_ALGORITHMS

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next block.

        Raises:
            IncompleteBody: Fewer or more bytes than declared, or the client went away.
            BadDigest, XAmzContentSHA256Mismatch, SignatureDoesNotMatch: A check failed.
            InvalidArgument, InvalidRequest: Malformed framing or trailers.
        """
        return await self._blocks.__anext__()

    def internal(self) -> dict[str, str]:
        """What is stored of it with an object, as far as it is known: see ``checksum``."""
        return {} if self.checksum is None else {"checksum": str(self.checksum)}

    async def aclose(self) -> None:
        """Stop reading. Safe to call twice."""
        await self._blocks.aclose()

    async def _run(self) -> AsyncGenerator[bytes, None]:
        received = 0
        held = b""
        async for block in _blocks(self._source):
            received += len(block)
            if received > self.size:
                raise IncompleteBody
            if held:
                yield held
            if self._slow and len(block) > INLINE_BYTES:
                await run_blocking(self._update, block)
            else:
                self._update(block)
            held = block
        if received != self.size:
            raise IncompleteBody
        self._verify()
        if held:
            yield held

    def _update(self, block: bytes) -> None:
        for hasher in self._hashers:
            hasher.update(block)

    def _verify(self) -> None:
        if self._sha256 is not None and self._expected_sha256 is not None:
            computed = self._sha256.hexdigest()
            if not hmac.compare_digest(computed, self._expected_sha256):
                raise XAmzContentSHA256Mismatch(
                    fields={
                        "ClientComputedContentSHA256": self._expected_sha256,
                        "S3ComputedContentSHA256": computed,
                    }
                )
        if self._md5 is not None and self._expected_md5 is not None:
            if not hmac.compare_digest(self._md5.digest(), self._expected_md5):
                raise BadDigest(
                    "The Content-MD5 you specified did not match what we received.",
                    fields={
                        "ExpectedDigest": encode(self._expected_md5),
                        "CalculatedDigest": encode(self._md5.digest()),
                    },
                )
            self.md5 = self._md5.hexdigest()
        self._verify_checksum(self._trailers())
        if self._algorithm is not None and self._computed is not None:
            value = encode(self._computed.digest())
            self.checksum = Checksum(algorithm=self._algorithm, value=value)
            if self._claim is None:
                self.checksums[self._algorithm] = value

    def _trailers(self) -> Mapping[str, str]:
        trailers = self._source.trailers if isinstance(self._source, AwsChunked) else {}
        announced = self._claim is not None and self._claim.digest is None
        expected = {self._claim.name} if self._claim is not None and announced else set()
        if trailers.keys() != expected:
            raise InvalidRequest("The trailers are not those that x-amz-trailer announced.")
        return trailers

    def _verify_checksum(self, trailers: Mapping[str, str]) -> None:
        claim = self._claim
        if claim is None or self._hasher is None:
            return
        digest = claim.digest
        if digest is None:
            digest = decode_digest(claim.name, trailers[claim.name])
        computed = self._hasher.digest()
        if not hmac.compare_digest(computed, digest):
            raise BadDigest(
                f"The {claim.algorithm.upper()} you specified did not match the calculated "
                "checksum."
            )
        self.checksums[claim.algorithm] = encode(computed)


async def read_limited(payload: Payload, limit: int) -> bytes:
    """Read a whole small body, such as XML. Raises ``EntityTooLarge`` before reading."""
    if payload.size > limit:
        raise EntityTooLarge(
            fields={"ProposedSize": str(payload.size), "MaxSizeAllowed": str(limit)}
        )
    return b"".join([block async for block in payload])


async def read_optional(request: S3Request, principal: Principal, limit: int) -> bytes:
    """Read the body of an operation that may have none, and then need not declare a length.

    Raises what ``open_payload`` and ``read_limited`` raise.
    """
    if "content-length" not in request.headers and "transfer-encoding" not in request.headers:
        return b""
    return await read_limited(open_payload(request, principal, max_size=limit), limit)


def _mode(headers: Mapping[str, str]) -> _Mode:
    value = headers.get("x-amz-content-sha256")
    encoded = "aws-chunked" in [
        coding.strip(" \t").lower() for coding in headers.get("content-encoding", "").split(",")
    ]
    if value is None:
        # SDKs frame unsigned requests too, and then have no signer to name the mode.
        return _MODES["STREAMING-UNSIGNED-PAYLOAD-TRAILER" if encoded else UNSIGNED_PAYLOAD]
    value = value.strip(" \t")
    if value.startswith("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"):
        raise NotImplementedS3("SigV4A is not supported. Please use AWS4-HMAC-SHA256.")
    mode = _MODES.get(value)
    if mode is None and _HEX_SHA256.fullmatch(value):
        mode = _Mode(sha256=value.lower())
    if mode is None:
        raise InvalidArgument(
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, "
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, "
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
            fields={"ArgumentName": "x-amz-content-sha256", "ArgumentValue": value},
        )
    if encoded and not mode.chunked:
        raise InvalidArgument(
            "Content-Encoding aws-chunked needs a STREAMING- value of x-amz-content-sha256.",
            fields={"ArgumentName": "x-amz-content-sha256", "ArgumentValue": value},
        )
    return mode


def _size(headers: Mapping[str, str], mode: _Mode) -> int:
    name = "x-amz-decoded-content-length" if mode.chunked else "content-length"
    value = headers.get(name)
    if value is None:
        raise MissingContentLength(f"You must provide the {name} header." if mode.chunked else None)
    if not _LENGTH.fullmatch(value.strip(" \t")):
        raise InvalidArgument(
            f"The value of {name} is not a valid length.",
            fields={"ArgumentName": name, "ArgumentValue": value},
        )
    return int(value)


def _content_md5(headers: Mapping[str, str]) -> bytes | None:
    value = headers.get("content-md5")
    if value is None:
        return None
    try:
        digest = base64.b64decode(value.strip(" \t").encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        digest = b""
    if len(digest) != 16:
        raise InvalidDigest(fields={"Content-MD5": value})
    return digest


def _source(
    body: AsyncIterator[bytes], *, size: int, mode: _Mode, signature: PayloadSignature | None
) -> AsyncIterator[bytes]:
    wire = _wire(body)
    if not mode.chunked:
        return wire
    return decode_aws_chunked(
        wire,
        decoded_length=size,
        signature=signature,
        trailer_signed=mode.signed and mode.trailer,
    )


async def _wire(body: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    try:
        async for data in body:
            yield data
    except S3Error:
        raise
    except Exception as error:
        raise IncompleteBody from error


async def _blocks(source: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Join small pieces; large ones pass as they are."""
    pending = bytearray()
    async for piece in source:
        if not pending and len(piece) >= BLOCK_BYTES:
            yield piece
            continue
        pending += piece
        if len(pending) >= BLOCK_BYTES:
            yield bytes(pending)
            pending = bytearray()
    if pending:
        yield bytes(pending)
