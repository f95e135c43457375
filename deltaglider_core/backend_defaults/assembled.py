"""What the parts of an upload make together: checked, described, and its checksum found.

What is known of a part is the checksum that is stored with it, else the one that the client repeats
in its list, else none. Parts without a stored one are hashed while they are read for the object, so
nothing is believed that has not been seen, and nothing right is refused because it is not known.

The checksum of the object has to be stored with it. Where every part is known, or the client says
what the whole is, that is known before the first byte, and a body that turns out otherwise ends in
an error before its last bytes. Else it is known with the last byte: a backend with
``late_metadata`` stores it then, the object on another one has no checksum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..checksums import (
    DEFAULT_ALGORITHM,
    FAST_ALGORITHMS,
    Hasher,
    encode,
    is_possible,
    new_hasher,
    of_parts,
)
from ..errors import BadDigest, InvalidPart
from ..interfaces.checksums import COMPOSITE, FULL_OBJECT
from ..interfaces.storage import (
    Capabilities,
    Checksum,
    CompletedPart,
    ObjectMetadata,
    PartInfo,
)
from ..part_table import PartTable
from ..tasks import run_blocking
from .part_checks import check_checksums, check_parts
from .parts import part_fields
from .uploads import Record

#: Smaller chunks are hashed in place: a thread hop costs about as much.
_INLINE_BYTES = 256 * 1024

#: The checksums of so many parts are put together in well under a millisecond.
_INLINE_PARTS = 256


class Assembled:
    """The object to be, of which some things are known once its parts have been read.

    Args:
        stored: The parts that are there, by number.
        claimed: What the client says the checksum of the object is.
        capabilities: Of the backend. A table of parts that does not fit is left out.

    Attributes:
        etag: The multipart ETag.
        size: In bytes.
        metadata: Of the object: those of the upload, with ``etag``, ``parts`` (a ``PartTable``)
            and, where it is known, ``checksum`` in ``internal``, or in ``late``.

    Raises:
        InvalidPart, InvalidPartOrder, EntityTooSmall, InvalidRequest, BadDigest
    """

    def __init__(
        self,
        record: Record,
        parts: Sequence[CompletedPart],
        stored: Mapping[int, PartInfo],
        *,
        claimed: Checksum | None,
        capabilities: Capabilities,
    ) -> None:
        self.etag, self.size = check_parts(record.upload_id, parts, stored)
        self._upload_id = record.upload_id
        self._chosen = Checksum.parse(record.checksum)
        check_checksums(record.upload_id, parts, stored, self._chosen)
        default = Checksum(algorithm=DEFAULT_ALGORITHM)
        self._kind = self._chosen or replace(claimed or default, value="")
        self._claimed = claimed
        self._sizes = tuple(stored[part.part_number].size for part in parts)
        own = [self._of_kind(stored[part.part_number].checksum) for part in parts]
        self._unread = {
            part.part_number: index
            for index, (part, known) in enumerate(zip(parts, own, strict=True))
            if known is None
        }
        self._checksums = [
            known or self._told(part) for part, known in zip(parts, own, strict=True)
        ]
        self._promised = self._expected()
        self._room = capabilities.max_metadata_bytes
        self._late: Mapping[str, str] = {}
        missing = None in self._checksums
        told = any(self._checksums[index] is not None for index in self._unread.values())
        useful = capabilities.late_metadata or claimed is not None or told
        self._hashes = bool(self._unread) and useful
        internal = {**record.metadata.internal, "etag": self.etag}
        metadata = replace(record.metadata, internal=internal)
        self._base = metadata
        if missing and capabilities.late_metadata:
            self.metadata = replace(metadata, late=lambda: self._late)
        else:
            more = self._described(self._promised)
            self.metadata = replace(metadata, internal={**internal, **more})

    def hasher(self, part: CompletedPart) -> PartHasher | None:
        """What the bytes of a part are to be given to; None where its checksum is known."""
        if not self._hashes or part.part_number not in self._unread:
            return None
        return PartHasher(self._kind.algorithm)

    def hashed(self, part: CompletedPart, hasher: PartHasher) -> None:
        """Take the checksum of a part. Raises ``InvalidPart``: the client says another."""
        found = hasher.checksum()
        if part.checksums.get(found.algorithm, found.value) != found.value:
            raise InvalidPart(fields=part_fields(self._upload_id, part))
        self._checksums[self._unread[part.part_number]] = found

    async def finish(self) -> None:
        """All parts have been read. Raises ``BadDigest``: together they are not what was said."""
        if not self._hashes:
            return
        if len(self._sizes) <= _INLINE_PARTS:
            self._finish()
        else:
            await run_blocking(self._finish)

    def _finish(self) -> None:
        whole = self._whole()
        if self._promised is not None and whole != self._promised:
            raise _bad_digest(self._promised)
        self._late = self._described(whole)

    def _of_kind(self, checksum: Checksum | None) -> Checksum | None:
        """A checksum of a part, if it is of use for that of the object."""
        if checksum is None or checksum.algorithm != self._kind.algorithm:
            return None
        return checksum

    def _told(self, part: CompletedPart) -> Checksum | None:
        """What the client says of a part; its bytes will tell whether it is true."""
        value = part.checksums.get(self._kind.algorithm, "")
        told = replace(self._kind, type=FULL_OBJECT, value=value)
        return Checksum.parse(str(told)) if value else None

    def _whole(self) -> Checksum | None:
        return of_parts(self._kind, list(zip(self._checksums, self._sizes, strict=True)))

    def _expected(self) -> Checksum | None:
        """The checksum of the object as far as parts or client tell it before the bytes do."""
        whole, claimed = self._whole(), self._claimed
        if claimed is None:
            return whole
        if whole is None and self._is_claim_possible(claimed):
            whole = replace(claimed, value=claimed.value.partition("-")[0])
            if claimed.type == COMPOSITE:
                whole = replace(whole, value=f"{whole.value}-{len(self._sizes)}")
        if whole is None or not _agree(claimed, whole):
            raise _bad_digest(claimed)
        return whole

    def _is_claim_possible(self, claimed: Checksum) -> bool:
        kind = self._kind
        same = (claimed.algorithm, claimed.type) == (kind.algorithm, kind.type)
        return same and is_possible(kind.algorithm, kind.type)

    def _described(self, whole: Checksum | None) -> Mapping[str, str]:
        """The checksum and the table of the parts, as far as there is room."""
        found = {} if whole is None else {"checksum": str(whole)}
        tables = [PartTable(sizes=self._sizes)]
        digests = [each.digest for each in self._checksums if each is not None]
        if self._chosen is not None and whole is not None and len(digests) == len(self._sizes):
            algorithm = self._chosen.algorithm
            tables.insert(0, replace(tables[0], algorithm=algorithm, digests=b"".join(digests)))
        for table in tables:
            described = {**found, "parts": table.to_text()}
            if self._room is None:
                return described
            internal = {**self._base.internal, **described}
            if _bytes_of(replace(self._base, internal=internal)) <= self._room:
                return described
        return found


class PartHasher:
    """The checksum of the bytes of one part."""

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self._hasher: Hasher = new_hasher(algorithm)

    async def update(self, chunk: bytes) -> None:
        """Add bytes; many of them on a thread, unless the algorithm is fast."""
        if self._algorithm in FAST_ALGORITHMS or len(chunk) <= _INLINE_BYTES:
            self._hasher.update(chunk)
        else:
            await run_blocking(self._hasher.update, chunk)

    def checksum(self) -> Checksum:
        """That of all bytes so far."""
        return Checksum(algorithm=self._algorithm, value=encode(self._hasher.digest()))


def without_parts(metadata: ObjectMetadata) -> ObjectMetadata:
    """Metadata of an object without the table of its parts."""
    internal = {name: value for name, value in metadata.internal.items() if name != "parts"}
    return replace(metadata, internal=internal)


def _bad_digest(expected: Checksum) -> BadDigest:
    return BadDigest(
        f"The {expected.algorithm} you specified did not match the calculated checksum."
    )


def _agree(claimed: Checksum, whole: Checksum) -> bool:
    """Whether they are equal; clients leave the number of parts out, too."""
    return claimed.algorithm == whole.algorithm and claimed.value in (
        whole.value,
        whole.value.partition("-")[0],
    )


def _bytes_of(metadata: ObjectMetadata) -> int:
    fields = (metadata.headers, metadata.user, metadata.internal, metadata.tags)
    return sum(len(n.encode()) + len(v.encode()) for each in fields for n, v in each.items())
