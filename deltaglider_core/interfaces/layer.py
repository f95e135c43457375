"""A backend around another one: how quota, deltas and encryption are stacked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .backend import StorageBackend
from .checksums import Checksum
from .objects import (
    Body,
    BucketInfo,
    ByteRange,
    Capabilities,
    CompletedPart,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    ObjectPage,
    ObjectReader,
    PartInfo,
    PartPage,
    UploadPage,
)


class StorageLayer(StorageBackend):
    """A backend around another one. Forwards every method by name; override what you change.

    A test compares this class with ``StorageBackend``: a default that is not forwarded would
    silently read whole objects through this process.
    """

    def __init__(self, inner: StorageBackend) -> None:
        self.inner = inner

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    async def list_buckets(self) -> Sequence[BucketInfo]:
        return await self.inner.list_buckets()

    async def create_bucket(self, bucket: str) -> None:
        await self.inner.create_bucket(bucket)

    async def head_bucket(self, bucket: str) -> BucketInfo:
        return await self.inner.head_bucket(bucket)

    async def delete_bucket(self, bucket: str) -> None:
        await self.inner.delete_bucket(bucket)

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
        return await self.inner.put_object(
            bucket, key, body, size=size, metadata=metadata, condition=condition
        )

    async def get_object(
        self, bucket: str, key: str, *, byte_range: ByteRange | None = None
    ) -> ObjectReader:
        return await self.inner.get_object(bucket, key, byte_range=byte_range)

    async def head_object(self, bucket: str, key: str) -> ObjectInfo:
        return await self.inner.head_object(bucket, key)

    async def delete_object(
        self, bucket: str, key: str, *, condition: Condition | None = None
    ) -> bool:
        return await self.inner.delete_object(bucket, key, condition=condition)

    async def list_objects(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        start_after: str = "",
        max_keys: int = 1000,
    ) -> ObjectPage:
        return await self.inner.list_objects(
            bucket,
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
        return await self.inner.copy_object(
            source_bucket,
            source_key,
            bucket,
            key,
            source_etag=source_etag,
            metadata=metadata,
            condition=condition,
        )

    async def get_object_tags(self, bucket: str, key: str) -> Mapping[str, str]:
        return await self.inner.get_object_tags(bucket, key)

    async def set_object_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> ObjectInfo:
        return await self.inner.set_object_tags(bucket, key, tags)

    async def probe(self) -> None:
        await self.inner.probe()

    async def create_multipart_upload(
        self, bucket: str, key: str, *, metadata: ObjectMetadata, checksum: Checksum | None = None
    ) -> str:
        return await self.inner.create_multipart_upload(
            bucket, key, metadata=metadata, checksum=checksum
        )

    async def upload_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        part_number: int,
        body: Body,
        *,
        size: int | None,
        checksum: Callable[[], Checksum | None] | None = None,
    ) -> PartInfo:
        return await self.inner.upload_part(
            bucket, key, upload_id, part_number, body, size=size, checksum=checksum
        )

    async def list_parts(
        self, bucket: str, key: str, upload_id: str, *, part_number_marker: int = 0, max_parts: int
    ) -> PartPage:
        return await self.inner.list_parts(
            bucket, key, upload_id, part_number_marker=part_number_marker, max_parts=max_parts
        )

    async def list_multipart_uploads(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        upload_id_marker: str = "",
        max_uploads: int = 1000,
    ) -> UploadPage:
        return await self.inner.list_multipart_uploads(
            bucket,
            prefix=prefix,
            delimiter=delimiter,
            key_marker=key_marker,
            upload_id_marker=upload_id_marker,
            max_uploads=max_uploads,
        )

    async def complete_multipart_upload(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[CompletedPart],
        *,
        condition: Condition | None = None,
        checksum: Checksum | None = None,
    ) -> ObjectInfo:
        return await self.inner.complete_multipart_upload(
            bucket, key, upload_id, parts, condition=condition, checksum=checksum
        )

    async def abort_multipart_upload(self, bucket: str, key: str, upload_id: str) -> None:
        await self.inner.abort_multipart_upload(bucket, key, upload_id)
