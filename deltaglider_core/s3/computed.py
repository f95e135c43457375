"""A body whose checksum is computed while it passes: what a copy needs.

Source: AWS, "CopyObject" (``x-amz-checksum-algorithm``), "UploadPartCopy".
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from ..checksums import FAST_ALGORITHMS, encode, new_hasher, of_parts
from ..interfaces.checksums import FULL_OBJECT
from ..interfaces.storage import Body, Checksum, ObjectInfo
from ..services import run_blocking
from .checksums import stored_checksum
from .parts import table_of
from .payload import INLINE_BYTES


class Computed:
    """A body and its checksum.

    Attributes:
        checksum: Of all bytes; None before the body has ended.
    """

    def __init__(self, body: Body, algorithm: str) -> None:
        self.checksum: Checksum | None = None
        self._body = body
        self._algorithm = algorithm

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes, unchanged."""
        hasher = new_hasher(self._algorithm)
        slow = self._algorithm not in FAST_ALGORITHMS
        async for chunk in self._body:
            if slow and len(chunk) > INLINE_BYTES:
                await run_blocking(hasher.update, chunk)
            else:
                hasher.update(chunk)
            yield chunk
        self.checksum = Checksum(algorithm=self._algorithm, value=encode(hasher.digest()))

    async def drain(self) -> None:
        """Read to the end for the checksum alone."""
        async for _ in self.chunks():
            pass

    def internal(self) -> dict[str, str]:
        """What is stored of it with an object."""
        return {} if self.checksum is None else {"checksum": str(self.checksum)}


@dataclass(frozen=True, kw_only=True, slots=True)
class ChecksumOfCopy:
    """Where a copy has its checksum from.

    Attributes:
        known: It need not be computed.
        algorithm: It has to be, from the bytes; None without need.
    """

    known: Checksum | None = None
    algorithm: str | None = None


def checksum_of_copy(source: ObjectInfo, wanted: str | None, *, itself: bool) -> ChecksumOfCopy:
    """What a copy of an object is to have: always one of the whole under another name.

    Args:
        wanted: Algorithm that the client asks for; None for the source's.
        itself: The object is copied onto itself. It keeps its parts, and with them a checksum
            that was made of theirs.
    """
    kept = stored_checksum(source)
    algorithm = wanted or (None if kept is None else kept.algorithm)
    if kept is None or kept.algorithm != algorithm:
        return ChecksumOfCopy(algorithm=algorithm)
    if itself or kept.type == FULL_OBJECT:
        return ChecksumOfCopy(known=kept)
    combined = _combined(source, kept.algorithm)
    return ChecksumOfCopy(known=combined, algorithm=None if combined else algorithm)


def _combined(source: ObjectInfo, algorithm: str) -> Checksum | None:
    """The checksum of the whole from those of the parts, where the algorithm allows it."""
    table = table_of(source)
    if table is None or table.algorithm != algorithm:
        return None
    parts = [(table.checksum(number), size) for number, size in enumerate(table.sizes, 1)]
    return of_parts(Checksum(algorithm=algorithm), parts)
