"""The additional checksums of S3 as values: of an object, of a part, or what an upload is to have.

Source: AWS, "Checking object integrity in Amazon S3".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

#: Algorithms by lower-case name, with the length of their digests in bytes.
CHECKSUM_SIZES: Mapping[str, int] = {
    "crc32": 4,
    "crc32c": 4,
    "crc64nvme": 8,
    "sha1": 20,
    "sha256": 32,
    "sha512": 64,
    "md5": 16,
    "xxhash64": 8,
    "xxhash3": 8,
    "xxhash128": 16,
}

FULL_OBJECT = "FULL_OBJECT"
COMPOSITE = "COMPOSITE"

_TEXT = re.compile(
    r"([a-z0-9]{1,16}):(FULL_OBJECT|COMPOSITE)(?::([A-Za-z0-9+/]{1,88}={0,2})(-[1-9][0-9]{0,4})?)?"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Checksum:
    """A checksum of bytes.

    As text, which is how it is stored: ``crc32:FULL_OBJECT:DUoRhQ==``,
    ``sha256:COMPOSITE:<base64>-3``, and ``crc32:COMPOSITE`` for an upload in progress.

    Attributes:
        algorithm: One of ``CHECKSUM_SIZES``.
        type: ``FULL_OBJECT``, of the bytes; or ``COMPOSITE``, of the digests of the parts one
            after the other.
        value: The digest in base64, with ``-N`` behind a composite one of N parts; empty where
            only algorithm and type are meant.
    """

    algorithm: str
    type: str = FULL_OBJECT
    value: str = ""

    def __str__(self) -> str:
        kind = f"{self.algorithm}:{self.type}"
        return f"{kind}:{self.value}" if self.value else kind

    @classmethod
    def parse(cls, text: str) -> Checksum | None:
        """Inverse of ``str``; None for anything else, also a digest of the wrong length."""
        match = _TEXT.fullmatch(text)
        if match is None or match[1] not in CHECKSUM_SIZES:
            return None
        algorithm, kind, digest, count = match.groups()
        if digest is None:
            return cls(algorithm=algorithm, type=kind)
        try:
            size = len(base64.b64decode(digest, validate=True))
        except binascii.Error:
            return None
        if size != CHECKSUM_SIZES[algorithm] or (count is not None) != (kind == COMPOSITE):
            return None
        return cls(algorithm=algorithm, type=kind, value=digest + (count or ""))

    @property
    def digest(self) -> bytes:
        """The digest as bytes, big-endian."""
        return base64.b64decode(self.value.partition("-")[0])
