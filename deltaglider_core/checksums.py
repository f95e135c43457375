"""Computing the additional checksums of S3: of bytes, and of an object from those of its parts.

The CRCs and XXHash come from the AWS Common Runtime, which uses the instructions of the CPU and
gives up the GIL; the rest from OpenSSL.

Source: AWS, "Checking object integrity in Amazon S3".
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from awscrt import checksums as crt

from .interfaces.checksums import COMPOSITE, FULL_OBJECT, Checksum

#: What S3 computes where a client names no algorithm.
DEFAULT_ALGORITHM = "crc64nvme"

#: Algorithms that take some 20 us per MiB: to hand them to a thread would cost more.
FAST_ALGORITHMS = frozenset({"crc32c", "crc64nvme"})

#: CRCs of parts combine into the one of the whole: ``(crc, crc of what follows, its length)``.
_COMBINE: Mapping[str, Callable[[int, int, int], int]] = {
    "crc32": crt.combine_crc32,
    "crc32c": crt.combine_crc32c,
    "crc64nvme": crt.combine_crc64nvme,
}


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


class _XxHash:
    def __init__(self, state: crt.XXHash) -> None:
        self._state = state

    def update(self, data: bytes, /) -> None:
        self._state.update(data)

    def digest(self) -> bytes:
        digest: bytes = self._state.finalize()
        return digest


_HASHERS: Mapping[str, Callable[[], Hasher]] = {
    "crc32": lambda: _Crc(crt.crc32, 4),
    "crc32c": lambda: _Crc(crt.crc32c, 4),
    "crc64nvme": lambda: _Crc(crt.crc64nvme, 8),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "xxhash64": lambda: _XxHash(crt.XXHash.new_xxhash64()),
    "xxhash3": lambda: _XxHash(crt.XXHash.new_xxhash3_64()),
    "xxhash128": lambda: _XxHash(crt.XXHash.new_xxhash3_128()),
}


def new_hasher(algorithm: str) -> Hasher:
    """An empty hasher for one of ``CHECKSUM_SIZES``. Raises ``KeyError`` for another."""
    return _HASHERS[algorithm]()


def encode(digest: bytes) -> str:
    """A digest as S3 writes it: base64."""
    return base64.b64encode(digest).decode("ascii")


def default_type(algorithm: str) -> str:
    """The type of an upload for which the client chose only the algorithm."""
    return FULL_OBJECT if algorithm == "crc64nvme" else COMPOSITE


def is_possible(algorithm: str, kind: str) -> bool:
    """Whether a multipart object can have a checksum of this type.

    One over the whole needs an algorithm whose values combine; CRC64NVME is only ever that.
    """
    return algorithm in _COMBINE if kind == FULL_OBJECT else algorithm != "crc64nvme"


def of_parts(upload: Checksum, parts: Sequence[tuple[Checksum | None, int]]) -> Checksum | None:
    """The checksum of an object from those of its parts and their sizes in bytes.

    Some 10 ms for 10,000 parts.

    Args:
        upload: Algorithm and type.

    Returns:
        None if a part has no checksum of that algorithm, if there is no part, or if such a
        checksum is not possible.
    """
    if not is_possible(upload.algorithm, upload.type):
        return None
    digests = [
        part.digest for part, _ in parts if part is not None and part.algorithm == upload.algorithm
    ]
    if not digests or len(digests) != len(parts):
        return None
    if upload.type == COMPOSITE:
        hasher = new_hasher(upload.algorithm)
        hasher.update(b"".join(digests))
        value = f"{encode(hasher.digest())}-{len(digests)}"
        return Checksum(algorithm=upload.algorithm, type=COMPOSITE, value=value)
    combine, crc = _COMBINE[upload.algorithm], 0
    for digest, (_, size) in zip(digests, parts, strict=True):
        crc = combine(crc, int.from_bytes(digest, "big"), size)
    value = encode(crc.to_bytes(len(digests[0]), "big"))
    return Checksum(algorithm=upload.algorithm, value=value)
