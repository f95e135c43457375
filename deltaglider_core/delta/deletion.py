"""DeleteBucket where a bucket without visible objects still holds what is ours.

Nothing may be written meanwhile: a delta whose reference was just deleted would be lost. The
layer that records mutations sees to it that a bucket is deleted only while no mutation of it is
under way, and that none begins before the bucket is gone or has been given up.
"""

from __future__ import annotations

from ..errors import BucketNotEmpty
from ..interfaces.storage import RESERVED_PREFIX, StorageBackend
from ..tasks import bounded_map
from .hidden import any_visible
from .layout import LAYOUT_PREFIX, MARKER

#: Deletions under way at once.
_AT_ONCE = 8

_ID = f"{RESERVED_PREFIX}id"


async def delete_bucket(inner: StorageBackend, bucket: str) -> None:
    """Delete a bucket without visible objects.

    What an interrupted deletion leaves is always consistent: the marker of the layout goes
    before the facts that it vouches for, and the id, which says whose bucket this is, goes last.

    Raises:
        NoSuchBucket
        BucketNotEmpty: There are visible objects.
    """
    if await any_visible(inner, bucket):
        raise BucketNotEmpty(fields={"BucketName": bucket})
    await _delete_below(inner, bucket, RESERVED_PREFIX, keep=(LAYOUT_PREFIX, _ID))
    await inner.delete_object(bucket, MARKER)
    await _delete_below(inner, bucket, LAYOUT_PREFIX)
    await inner.delete_object(bucket, _ID)
    await inner.delete_bucket(bucket)


async def _delete_below(
    inner: StorageBackend, bucket: str, prefix: str, keep: tuple[str, ...] = ()
) -> None:
    async def delete(key: str) -> None:
        await inner.delete_object(bucket, key)

    after: str | None = ""
    while after is not None:
        page = await inner.list_objects(bucket, prefix=prefix, start_after=after)
        keys = [info.key for info in page.objects]
        await bounded_map(delete, [key for key in keys if not _is_kept(key, keep)], limit=_AT_ONCE)
        after = page.next_after


def _is_kept(key: str, keep: tuple[str, ...]) -> bool:
    return any(key == name or (name.endswith("/") and key.startswith(name)) for name in keep)
