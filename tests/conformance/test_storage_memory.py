"""The kit on the in-memory backend, and on one that has nothing but the ten methods."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

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
    StorageLayer,
)
from deltaglider_core.testing import MemoryBackend
from deltaglider_testkit import LayerConformance, StorageConformance


class BareBackend(StorageBackend):
    """Exactly the abstract methods; declares nothing, though its conditions are atomic."""

    def __init__(self) -> None:
        self._inner = MemoryBackend()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    async def list_buckets(self) -> Sequence[BucketInfo]:
        return await self._inner.list_buckets()

    async def create_bucket(self, bucket: str) -> None:
        await self._inner.create_bucket(bucket)

    async def head_bucket(self, bucket: str) -> BucketInfo:
        return await self._inner.head_bucket(bucket)

    async def delete_bucket(self, bucket: str) -> None:
        await self._inner.delete_bucket(bucket)

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
        return await self._inner.put_object(
            bucket, key, body, size=size, metadata=metadata, condition=condition
        )

    async def get_object(
        self, bucket: str, key: str, *, byte_range: ByteRange | None = None
    ) -> ObjectReader:
        return await self._inner.get_object(bucket, key, byte_range=byte_range)

    async def head_object(self, bucket: str, key: str) -> ObjectInfo:
        return await self._inner.head_object(bucket, key)

    async def delete_object(
        self, bucket: str, key: str, *, condition: Condition | None = None
    ) -> bool:
        return await self._inner.delete_object(bucket, key, condition=condition)

    async def list_objects(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        start_after: str = "",
        max_keys: int = 1000,
    ) -> ObjectPage:
        return await self._inner.list_objects(
            bucket,
            prefix=prefix,
            delimiter=delimiter,
            start_after=start_after,
            max_keys=max_keys,
        )


class TestMemoryBackend(StorageConformance):
    stores_in_memory = True

    @pytest.fixture
    def backend(self) -> StorageBackend:
        return MemoryBackend()


class TestBareBackend(StorageConformance):
    stores_in_memory = True

    @pytest.fixture
    def backend(self) -> StorageBackend:
        return BareBackend()


class TestPlainLayer(LayerConformance):
    """``StorageLayer`` itself changes nothing."""

    @pytest.fixture
    def wrap(self) -> type[StorageLayer]:
        return StorageLayer


def test_bare_backend_has_only_the_abstract_methods() -> None:
    public = {name for name in vars(BareBackend) if not name.startswith("_")}
    assert public == set(StorageBackend.__abstractmethods__)
