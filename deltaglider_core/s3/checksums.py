"""The additional checksums of S3: hashers, their encoding, and what a request claims.

Source: AWS, "Checking object integrity in Amazon S3" and "PutObject".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from awscrt import checksums as crt

from ..errors import InvalidRequest, NotImplementedS3

#: Algorithms by lower-case name, with the length of their digests in bytes.
DIGEST_SIZES = {"crc32": 4, "crc32c": 4, "crc64nvme": 8, "sha1": 20, "sha256": 32}

PREFIX = "x-amz-checksum-"
#: Headers with that prefix that carry no checksum.
_NOT_A_CHECKSUM = frozenset({"mode", "type", "algorithm"})


class Hasher(Protocol):
    """An incremental checksum."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""

    def digest(self) -> bytes:
        """The checksum of all bytes so far, big-endian."""


class _Crc:
    def __init__(self, function: Callable[[bytes, int], int], size: int) -> None:
        self._function = function
        self._size = size
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


def new_hasher(algorithm: str) -> Hasher:
    """An empty hasher for one of ``DIGEST_SIZES``. Raises ``ValueError`` for another."""
    match algorithm:
        case "crc32":
            return _Crc(crt.crc32, 4)
        case "crc32c":
            return _Crc(crt.crc32c, 4)
        case "crc64nvme":
            return _Crc(crt.crc64nvme, 8)
        case "sha1":
            return hashlib.sha1()
        case "sha256":
            return hashlib.sha256()
    raise ValueError(f"unknown checksum algorithm: {algorithm}")


def encode(digest: bytes) -> str:
    """A digest as S3 writes it: base64."""
    return base64.b64encode(digest).decode("ascii")


@dataclass(frozen=True, kw_only=True, slots=True)
class ChecksumClaim:
    """What a request says the checksum of its body is.

    Attributes:
        algorithm: One of ``DIGEST_SIZES``.
        digest: The promised digest; None where a trailer will bring it.
    """

    algorithm: str
    digest: bytes | None

    @property
    def name(self) -> str:
        """The header or trailer that carries it."""
        return PREFIX + self.algorithm


def decode_digest(name: str, value: str) -> bytes:
    """Decode the value of the header or trailer ``name``.

    Raises:
        InvalidRequest: Not base64, or not as long as the algorithm's digest.
    """
    try:
        digest = base64.b64decode(value.strip(" \t").encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        digest = b""
    if len(digest) != DIGEST_SIZES[name.removeprefix(PREFIX)]:
        raise InvalidRequest(f"Value for {name} header is invalid.")
    return digest


def find_claim(headers: Mapping[str, str]) -> ChecksumClaim | None:
    """Read the one checksum that a request may claim for its body.

    Args:
        headers: Lower-case names.

    Raises:
        InvalidRequest: Two checksums, a malformed one, an unknown trailer, or an algorithm
            header that contradicts them.
        NotImplementedS3: An algorithm that this service does not have.
    """
    claims = []
    for name, value in headers.items():
        algorithm = name.removeprefix(PREFIX)
        if algorithm != name and algorithm not in _NOT_A_CHECKSUM:
            _require_known(algorithm)
            claims.append(ChecksumClaim(algorithm=algorithm, digest=decode_digest(name, value)))
    for name in trailer_names(headers):
        claims.append(ChecksumClaim(algorithm=name.removeprefix(PREFIX), digest=None))
    if len(claims) > 1:
        raise InvalidRequest(
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
        )
    chosen = headers.get("x-amz-sdk-checksum-algorithm")
    if chosen is not None:
        chosen = chosen.strip(" \t").lower()
        _require_known(chosen)
        if not claims:
            raise InvalidRequest(
                "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* "
                "or x-amz-trailer headers were found."
            )
        if claims[0].algorithm != chosen:
            raise InvalidRequest("Value for x-amz-sdk-checksum-algorithm header is invalid.")
    return claims[0] if claims else None


def trailer_names(headers: Mapping[str, str]) -> list[str]:
    """The trailers that ``x-amz-trailer`` announces, lower-case; all are checksums.

    Raises:
        InvalidRequest: Another trailer.
        NotImplementedS3: The checksum of an algorithm that this service does not have.
    """
    names = []
    for piece in headers.get("x-amz-trailer", "").split(","):
        name = piece.strip(" \t").lower()
        if name:
            if not name.startswith(PREFIX):
                raise InvalidRequest(
                    "The value specified in the x-amz-trailer header is not supported"
                )
            _require_known(name.removeprefix(PREFIX))
            names.append(name)
    return names


def _require_known(algorithm: str) -> None:
    if algorithm not in DIGEST_SIZES:
        known = ", ".join(name.upper() for name in DIGEST_SIZES)
        raise NotImplementedS3(
            f"The checksum algorithm {algorithm.upper()} is not supported; use one of {known}."
        )
