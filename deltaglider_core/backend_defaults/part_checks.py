"""What a client lists in CompleteMultipartUpload, held against the parts that are there."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Mapping, Sequence

from ..errors import EntityTooSmall, InvalidPart, InvalidPartOrder, InvalidRequest
from ..interfaces.checksums import COMPOSITE
from ..interfaces.storage import Checksum, CompletedPart, PartInfo
from .parts import part_fields

#: Every part but the last: AWS, "Amazon S3 multipart upload limits".
MIN_PART_SIZE = 5 * 1024 * 1024


def check_parts(
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


def check_checksums(
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
