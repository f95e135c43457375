"""The parts of an upload: finding them with their checksums, and what they make together.

The checksum of a part is internal metadata of the object that holds it: durable together with the
bytes, and there for every process.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..checksums import DEFAULT_ALGORITHM, of_parts
from ..errors import (
    BadDigest,
    EntityTooSmall,
    InvalidPart,
    InvalidPartOrder,
    InvalidRequest,
    NoSuchKey,
)
from ..interfaces.checksums import COMPOSITE
from ..interfaces.storage import (
    Checksum,
    CompletedPart,
    ObjectInfo,
    ObjectMetadata,
    PartInfo,
    StorageBackend,
)
from ..part_table import PartTable
from ..tasks import bounded_map
from .uploads import (
    CONCURRENCY,
    MAX_PART_NUMBER,
    PART_NAME,
    Record,
    folder,
    iter_objects,
    part_key,
)

#: Every part but the last: AWS, "Amazon S3 multipart upload limits".
MIN_PART_SIZE = 5 * 1024 * 1024


async def iter_parts(
    backend: StorageBackend, bucket: str, upload_id: str, marker: int = 0
) -> AsyncGenerator[PartInfo, None]:
    """Parts with a number above ``marker``, in order, with their checksums.

    A backend whose listings carry no metadata is asked for each part.
    """

    async def described(info: ObjectInfo) -> ObjectInfo:
        with contextlib.suppress(NoSuchKey):  # gone since: what was listed is told
            now = await backend.head_object(bucket, info.key)
            if now.etag == info.etag:
                return replace(info, metadata=now.metadata)
        return info

    prefix = folder(upload_id)
    start_after = part_key(upload_id, min(max(marker, 0), MAX_PART_NUMBER))
    bare: list[ObjectInfo] = []
    async with contextlib.aclosing(iter_objects(backend, bucket, prefix, start_after)) as found:
        async for info in found:
            if not PART_NAME.fullmatch(info.key.removeprefix(prefix)):
                continue
            if info.metadata is not None:
                yield _part_of(prefix, info)
                continue
            bare.append(info)
            if len(bare) == CONCURRENCY:
                for each in await bounded_map(described, bare, limit=CONCURRENCY):
                    yield _part_of(prefix, each)
                bare = []
    for each in await bounded_map(described, bare, limit=CONCURRENCY):
        yield _part_of(prefix, each)


def _part_of(prefix: str, info: ObjectInfo) -> PartInfo:
    internal = {} if info.metadata is None else info.metadata.internal
    checksum = Checksum.parse(internal.get("checksum", ""))
    return PartInfo(
        part_number=int(info.key.removeprefix(prefix)),
        etag=info.etag,
        size=info.size,
        last_modified=info.last_modified,
        checksum=checksum if checksum is not None and checksum.value else None,
    )


async def present_parts(
    backend: StorageBackend, bucket: str, upload_id: str, parts: Sequence[CompletedPart]
) -> Mapping[int, PartInfo]:
    """Those of the listed parts that are there, by number."""
    wanted = {part.part_number for part in parts}
    return {
        part.part_number: part
        async for part in iter_parts(backend, bucket, upload_id)
        if part.part_number in wanted
    }


def part_fields(upload_id: str, part: CompletedPart) -> dict[str, str]:
    """What an error says of a part."""
    return {"UploadId": upload_id, "PartNumber": str(part.part_number), "ETag": part.etag}


@dataclass(frozen=True, kw_only=True, slots=True)
class Assembled:
    """What the parts of an upload make together.

    Attributes:
        etag: The multipart ETag.
        size: In bytes.
        metadata: Of the object: those of the upload, with ``etag``, ``parts`` (a ``PartTable``)
            and, where it is known, ``checksum`` in ``internal``.
    """

    etag: str
    size: int
    metadata: ObjectMetadata


def assemble(
    record: Record,
    parts: Sequence[CompletedPart],
    stored: Mapping[int, PartInfo],
    *,
    claimed: Checksum | None,
    max_metadata_bytes: int | None,
) -> Assembled:
    """Check the listed parts and put together what is known of the object before its bytes.

    Args:
        claimed: What the client says the checksum of the object is.
        max_metadata_bytes: What the backend takes; a table that does not fit is left out.

    Raises:
        InvalidPart, InvalidPartOrder, EntityTooSmall, InvalidRequest, BadDigest
    """
    etag, size = _check_parts(record.upload_id, parts, stored)
    chosen = Checksum.parse(record.checksum)
    _check_checksums(record.upload_id, parts, stored, chosen)
    found = [stored[part.part_number] for part in parts]
    whole = of_parts(
        chosen or Checksum(algorithm=DEFAULT_ALGORITHM),
        [(part.checksum, part.size) for part in found],
    )
    if claimed is not None and (whole is None or not _agree(claimed, whole)):
        raise BadDigest(
            f"The {claimed.algorithm} you specified did not match the calculated checksum."
        )
    internal = {**record.metadata.internal, "etag": etag}
    if whole is not None:
        internal["checksum"] = str(whole)
    metadata = replace(record.metadata, internal=internal)
    tables = [PartTable(sizes=tuple(part.size for part in found))]
    if chosen is not None and whole is not None:
        digests = b"".join(part.checksum.digest for part in found if part.checksum is not None)
        tables.insert(0, replace(tables[0], algorithm=chosen.algorithm, digests=digests))
    for each in tables:
        described = replace(metadata, internal={**internal, "parts": each.to_text()})
        if max_metadata_bytes is None or _bytes_of(described) <= max_metadata_bytes:
            return Assembled(etag=etag, size=size, metadata=described)
    return Assembled(etag=etag, size=size, metadata=metadata)


def without_parts(metadata: ObjectMetadata) -> ObjectMetadata:
    """Metadata of an object without the table of its parts."""
    internal = {name: value for name, value in metadata.internal.items() if name != "parts"}
    return replace(metadata, internal=internal)


def _agree(claimed: Checksum, whole: Checksum) -> bool:
    """Whether they are equal; clients leave the number of parts out, too."""
    return claimed.algorithm == whole.algorithm and claimed.value in (
        whole.value,
        whole.value.partition("-")[0],
    )


def _bytes_of(metadata: ObjectMetadata) -> int:
    fields = (metadata.headers, metadata.user, metadata.internal, metadata.tags)
    return sum(len(n.encode()) + len(v.encode()) for each in fields for n, v in each.items())


def _check_parts(
    upload_id: str, parts: Sequence[CompletedPart], stored: Mapping[int, PartInfo]
) -> tuple[str, int]:
    """Return the multipart ETag and the size of the object to be.

    Raises:
        InvalidPart, InvalidPartOrder, EntityTooSmall
    """
    if not parts:
        raise InvalidPart("You must specify at least one part.", fields={"UploadId": upload_id})
    for previous, part in itertools.pairwise(parts):
        if part.part_number <= previous.part_number:
            raise InvalidPartOrder(fields={"UploadId": upload_id})
    for part in parts:
        info = stored.get(part.part_number)
        if info is None or info.etag != part.etag:
            raise InvalidPart(fields=part_fields(upload_id, part))
    for part in parts[:-1]:
        size = stored[part.part_number].size
        if size < MIN_PART_SIZE:
            raise EntityTooSmall(
                fields={
                    "ProposedSize": str(size),
                    "MinSizeAllowed": str(MIN_PART_SIZE),
                    "PartNumber": str(part.part_number),
                    "ETag": part.etag,
                }
            )
    digest = hashlib.md5(b"".join(_raw_md5(part.etag) for part in parts), usedforsecurity=False)
    size = sum(stored[part.part_number].size for part in parts)
    return f"{digest.hexdigest()}-{len(parts)}", size


def _check_checksums(
    upload_id: str,
    parts: Sequence[CompletedPart],
    stored: Mapping[int, PartInfo],
    chosen: Checksum | None,
) -> None:
    """Hold what the client says of each part against what is known of it.

    A checksum made of those of the parts needs all of them, and numbers from 1 without a gap.

    Raises:
        InvalidPart, InvalidPartOrder, InvalidRequest
    """
    composite = chosen is not None and chosen.type == COMPOSITE
    for index, part in enumerate(parts, 1):
        if composite and chosen is not None and chosen.algorithm not in part.checksums:
            raise InvalidRequest(
                f"The upload was created using a {chosen.algorithm} checksum. The complete "
                "request must include the checksum for each part. It was missing for part "
                f"{part.part_number} in the request."
            )
        if composite and part.part_number != index:
            raise InvalidPartOrder(fields={"UploadId": upload_id})
        known = stored[part.part_number].checksum
        if known is not None and part.checksums.get(known.algorithm, known.value) != known.value:
            raise InvalidPart(fields=part_fields(upload_id, part))


def _raw_md5(etag: str) -> bytes:
    """The sixteen bytes by which a part enters the multipart ETag.

    An ETag that is no MD5 (an encrypting service, a backend with opaque ETags) is hashed: the
    result still names this very content and still looks like a multipart ETag to clients.
    """
    with contextlib.suppress(ValueError):
        if len(etag) == 32 and len(raw := bytes.fromhex(etag)) == 16:
            return raw
    return hashlib.md5(etag.encode(), usedforsecurity=False).digest()
