"""Checksums as a client computes them, apart from what the server uses where that is possible."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Sequence

from awscrt import checksums


def _raw(algorithm: str, data: bytes) -> bytes:
    found: bytes
    match algorithm:
        case "crc32":
            found = zlib.crc32(data).to_bytes(4, "big")
        case "crc32c":
            found = checksums.crc32c(data).to_bytes(4, "big")
        case "crc64nvme":
            found = checksums.crc64nvme(data).to_bytes(8, "big")
        case "xxhash64":
            found = checksums.XXHash.compute_xxhash64(data)
        case "xxhash3":
            found = checksums.XXHash.compute_xxhash3_64(data)
        case "xxhash128":
            found = checksums.XXHash.compute_xxhash3_128(data)
        case _:
            found = hashlib.new(algorithm, data).digest()
    return found


def digest(algorithm: str, data: bytes) -> str:
    """The value of ``x-amz-checksum-<algorithm>``."""
    return base64.b64encode(_raw(algorithm, data)).decode()


def composite(algorithm: str, parts: Sequence[bytes]) -> str:
    """The same of a multipart object of the type COMPOSITE."""
    joined = b"".join(_raw(algorithm, part) for part in parts)
    return f"{digest(algorithm, joined)}-{len(parts)}"
