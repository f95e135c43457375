"""The storage backend ``filesystem``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deltaglider_core.errors import InternalError, InvalidArgument, NoSuchKey, ServiceUnavailable
from deltaglider_core.interfaces.storage import (
    Body,
    BucketInfo,
    ByteRange,
    Capabilities,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    ObjectPage,
    ObjectReader,
    StorageBackend,
)
from deltaglider_core.services import Clock

from . import buckets
from .commit import delete
from .directories import Root
from .listing import list_page
from .objects import read_info, to_ns
from .opening import open_root
from .paths import key_bytes
from .reading import Opened, open_for_reading, reader
from .settings import FsSettings
from .snapshots import Snapshots
from .tagging import set_tags
from .threads import in_thread
from .writing import Copy, Upload

_CAPABILITIES = Capabilities(
    conditional_writes=True,
    conditional_deletes=True,
    listing_metadata=True,
    server_side_copy=True,
    late_commits=False,
    late_metadata=True,
    object_tags=True,
)


class FsBackend(StorageBackend):
    """Objects as files below one directory; see ``create``."""

    def __init__(self, root: Root, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._snapshots = Snapshots(root.codec)

    @classmethod
    async def create(cls, settings: FsSettings, clock: Clock) -> FsBackend:
        """Create and check the root directory, and remove what dead processes left in it.

        Raises:
            ConfigurationError: The directory cannot hold objects; the message says why.
        """
        return cls(await in_thread(open_root, settings.path, discard=Root.close), clock)

    async def aclose(self) -> None:
        """Release the root directory."""
        await in_thread(self._root.close)

    @property
    def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    async def probe(self) -> None:
        try:
            await in_thread(self._root.check_place)
            await self.list_buckets()
        except InternalError as error:
            raise ServiceUnavailable(error.text) from error

    # --- buckets --------------------------------------------------------------------------

    async def list_buckets(self) -> Sequence[BucketInfo]:
        return await in_thread(buckets.list_buckets, self._root)

    async def create_bucket(self, bucket: str) -> None:
        await in_thread(buckets.create_bucket, self._root, bucket, to_ns(self._clock.now()))

    async def head_bucket(self, bucket: str) -> BucketInfo:
        return await in_thread(buckets.head_bucket, self._root, bucket)

    async def delete_bucket(self, bucket: str) -> None:
        await in_thread(buckets.delete_bucket, self._root, bucket)

    # --- objects --------------------------------------------------------------------------

    async def put_object(
        self,
        bucket: str,
        key: str,
        body: Body,
        *,
        size: int | None,
        metadata: ObjectMetadata,
        condition: Condition | None = None,
    ) -> ObjectInfo:
        upload = Upload(
            self._root,
            bucket,
            key,
            metadata=metadata,
            condition=condition,
            now=self._clock.now,
        )
        return await upload.store(body, size)

    async def get_object(
        self, bucket: str, key: str, *, byte_range: ByteRange | None = None
    ) -> ObjectReader:
        return reader(
            await in_thread(
                open_for_reading, self._root, bucket, key, byte_range, discard=Opened.discard
            )
        )

    async def head_object(self, bucket: str, key: str) -> ObjectInfo:
        return await in_thread(self._head, bucket, key)

    def _head(self, bucket: str, key: str) -> ObjectInfo:
        names = self._root.codec.key_names(key_bytes(key))
        with self._root.open_bucket(bucket) as opened:
            info = read_info(opened, key, names)
        if info is None:
            raise NoSuchKey(fields={"Key": key})
        return info

    async def delete_object(
        self, bucket: str, key: str, *, condition: Condition | None = None
    ) -> bool:
        return await in_thread(self._delete, bucket, key, condition)

    def _delete(self, bucket: str, key: str, condition: Condition | None) -> bool:
        names = self._root.codec.key_names(key_bytes(key))
        with self._root.open_bucket(bucket) as opened:
            return delete(opened, names, condition)

    async def list_objects(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        start_after: str = "",
        max_keys: int = 1000,
    ) -> ObjectPage:
        if max_keys < 1:
            raise InvalidArgument("A page has at least one entry.")
        return await in_thread(self._list, bucket, prefix, delimiter, start_after, max_keys)

    def _list(
        self, bucket: str, prefix: str, delimiter: str, start_after: str, max_keys: int
    ) -> ObjectPage:
        with self._root.open_bucket(bucket) as opened:
            return list_page(
                opened,
                self._snapshots,
                prefix=prefix,
                delimiter=delimiter,
                start_after=start_after,
                max_keys=max_keys,
            )

    async def copy_object(
        self,
        source_bucket: str,
        source_key: str,
        bucket: str,
        key: str,
        *,
        source_etag: str | None = None,
        metadata: ObjectMetadata | None = None,
        condition: Condition | None = None,
    ) -> ObjectInfo:
        copy = Copy(self._root, source_bucket, source_key, bucket, key)
        return await copy.run(
            source_etag=source_etag, metadata=metadata, condition=condition, now=self._clock.now
        )

    async def set_object_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> ObjectInfo:
        return await in_thread(self._set_tags, bucket, key, tags)

    def _set_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> ObjectInfo:
        names = self._root.codec.key_names(key_bytes(key))
        with self._root.open_bucket(bucket) as opened:
            return set_tags(opened, key, names, tags)
