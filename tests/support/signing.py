"""AWS Signature Version 4, written apart from the server and from the SDKs.

Tests sign with it what no SDK would send: forged chunks, shifted dates, both kinds of
credentials at once. The known-answer vectors of AWS are checked in ``test_signatures.py``.

Source: AWS, "Authenticating Requests: Using the Authorization Header", "Using Query
Parameters", "Transferring Payload in Multiple Chunks".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, unquote_to_bytes

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_CHUNKS_AND_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_CHUNKS_AND_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A request with its signature.

    Attributes:
        headers: All headers to send, the signature among them unless it is in ``target``.
        target: Path and query to send.
        signature: The seed of chunk signatures.
    """

    headers: Mapping[str, str]
    target: str
    signature: str
    timestamp: str
    scope: str
    key: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Signer:
    """Signs for one key pair.

    Args:
        host: Value of the ``Host`` header.
    """

    host: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"

    def sign(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        payload: str = EMPTY_SHA256,
        at: datetime | None = None,
    ) -> Signed:
        """Sign in the Authorization header.

        Args:
            target: Path and query, percent-encoded as they are sent.
            headers: Further headers; all of them are signed.
            payload: Value of ``x-amz-content-sha256``.
            at: Time of the signature; now unless given.
        """
        timestamp = (at or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        everything = {
            "host": self.host,
            "x-amz-content-sha256": payload,
            "x-amz-date": timestamp,
        } | {name.lower(): value for name, value in (headers or {}).items()}
        scope, key = self._scope(timestamp)
        signature = _signature(key, timestamp, scope, method, target, everything, payload)
        names = ";".join(sorted(everything))
        everything["authorization"] = (
            f"{ALGORITHM} Credential={self.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        return Signed(
            headers=everything,
            target=target,
            signature=signature,
            timestamp=timestamp,
            scope=scope,
            key=key,
        )

    def presign(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        expires: int | str = 300,
        at: datetime | None = None,
    ) -> Signed:
        """Sign in the query; ``headers`` are signed and have to be sent."""
        timestamp = (at or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        everything = {"host": self.host} | {n.lower(): v for n, v in (headers or {}).items()}
        scope, key = self._scope(timestamp)
        query = {
            "X-Amz-Algorithm": ALGORITHM,
            "X-Amz-Credential": f"{self.access_key}/{scope}",
            "X-Amz-Date": timestamp,
            "X-Amz-Expires": str(expires),
            "X-Amz-SignedHeaders": ";".join(sorted(everything)),
        }
        pairs = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        target = f"{target}{'&' if '?' in target else '?'}{pairs}"
        signature = _signature(key, timestamp, scope, method, target, everything, UNSIGNED_PAYLOAD)
        return Signed(
            headers=everything,
            target=f"{target}&X-Amz-Signature={signature}",
            signature=signature,
            timestamp=timestamp,
            scope=scope,
            key=key,
        )

    def _scope(self, timestamp: str) -> tuple[str, bytes]:
        day = timestamp[:8]
        key = b"AWS4" + self.secret_key.encode()
        for part in (day, self.region, "s3", "aws4_request"):
            key = _hmac(key, part)
        return f"{day}/{self.region}/s3/aws4_request", key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _signature(
    key: bytes,
    timestamp: str,
    scope: str,
    method: str,
    target: str,
    headers: Mapping[str, str],
    payload: str,
) -> str:
    path, _, query = target.partition("?")
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(query, keep_blank_values=True)
    )
    names = sorted(headers)
    canonical = "\n".join(
        (
            method,
            quote(unquote_to_bytes(path), safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{' '.join(headers[name].split())}" for name in names),
            "",
            ";".join(names),
            payload,
        )
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return _hmac(key, f"{ALGORITHM}\n{timestamp}\n{scope}\n{digest}").hex()


def chunk_signatures(seed: Signed, pieces: Iterable[bytes]) -> list[str]:
    """Signature of each piece; the last piece of a body is empty."""
    signatures = []
    previous = seed.signature
    for piece in pieces:
        text = "\n".join(
            (
                "AWS4-HMAC-SHA256-PAYLOAD",
                seed.timestamp,
                seed.scope,
                previous,
                EMPTY_SHA256,
                hashlib.sha256(piece).hexdigest(),
            )
        )
        previous = _hmac(seed.key, text).hex()
        signatures.append(previous)
    return signatures


def trailer_signature(seed: Signed, last_chunk: str, trailers: Mapping[str, str]) -> str:
    """Signature over the trailers, which follow the chunk signed ``last_chunk``."""
    lines = "".join(f"{name}:{value}\n" for name, value in trailers.items())
    text = "\n".join(
        (
            "AWS4-HMAC-SHA256-TRAILER",
            seed.timestamp,
            seed.scope,
            last_chunk,
            hashlib.sha256(lines.encode()).hexdigest(),
        )
    )
    return _hmac(seed.key, text).hex()


def signed_chunks(
    seed: Signed, pieces: Sequence[bytes], trailers: Mapping[str, str] | None = None
) -> bytes:
    """A body in aws-chunked framing with signatures, and with signed trailers if given."""
    signatures = chunk_signatures(seed, [*pieces, b""])
    body = bytearray()
    for piece, signature in zip([*pieces, b""], signatures, strict=True):
        body += b"%x;chunk-signature=%s\r\n" % (len(piece), signature.encode())
        body += piece + b"\r\n" if piece else b""
    if trailers is not None:
        signature = trailer_signature(seed, signatures[-1], trailers)
        for name, value in (*trailers.items(), ("x-amz-trailer-signature", signature)):
            body += f"{name}:{value}\r\n".encode()
    return bytes(body + b"\r\n")


def unsigned_chunks(pieces: Sequence[bytes], trailers: Mapping[str, str]) -> bytes:
    """A body in aws-chunked framing without signatures, with trailers."""
    body = bytearray()
    for piece in pieces:
        body += b"%x\r\n" % len(piece) + piece + b"\r\n"
    body += b"0\r\n"
    for name, value in trailers.items():
        body += f"{name}:{value}\r\n".encode()
    return bytes(body + b"\r\n")


def sha256_hex(data: bytes) -> str:
    """Value of ``x-amz-content-sha256`` of a body sent in one piece."""
    return hashlib.sha256(data).hexdigest()


def md5_base64(data: bytes) -> str:
    """Value of ``Content-MD5``."""
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def crc32_base64(data: bytes) -> str:
    """Value of ``x-amz-checksum-crc32``."""
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
