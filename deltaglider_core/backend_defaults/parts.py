"""The parts of an upload: finding them with their checksums.

The checksum of a part is internal metadata of the object that holds it: durable together with the
bytes, and there for every process.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace

from ..errors import (
    NoSuchKey,
)
from ..interfaces.storage import (
    Checksum,
    CompletedPart,
    ObjectInfo,
    PartInfo,
    StorageBackend,
)
from ..tasks import bounded_map
from .uploads import (
    CONCURRENCY,
    MAX_PART_NUMBER,
    PART_NAME,
    folder,
    iter_objects,
    part_key,
)


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
