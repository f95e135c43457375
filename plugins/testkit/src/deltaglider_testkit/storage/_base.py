"""Fixtures and helpers that all storage tests share."""

from __future__ import annotations

import functools
import random
from typing import ClassVar

import pytest
import pytest_asyncio

from deltaglider_core.interfaces.storage import (
    RESERVED_PREFIX,
    ByteRange,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    StorageBackend,
)
from deltaglider_core.testing import body, read

MIB = 1024 * 1024
PART = 5 * MIB


@functools.lru_cache(maxsize=64)
def random_bytes(size: int, seed: int = 0) -> bytes:
    """Bytes that no compression shortens, equal in every run."""
    return random.Random(f"{size}:{seed}").randbytes(size)


class StorageTestBase:
    """Override ``backend``; the rest is built on it.

    Attributes:
        stores_in_memory: The backend keeps objects in memory by design: the memory tests
            are left out.
        keeps_internal_metadata: ``metadata.internal`` comes back as it was given. A layer
            that keeps names of its own in there sets it to False.
        logical_etags: HEAD and listings show the ETag that Complete answered. Backends
            without multipart uploads of their own show another one and carry Complete's in
            ``metadata.internal["etag"]``.
    """

    stores_in_memory: ClassVar[bool] = False
    keeps_internal_metadata: ClassVar[bool] = True
    logical_etags: ClassVar[bool] = False

    @pytest.fixture
    def backend(self) -> StorageBackend:
        """The backend under test, open."""
        raise NotImplementedError("override the fixture `backend`")

    @pytest_asyncio.fixture
    async def bucket(self, backend: StorageBackend) -> str:
        """An empty bucket."""
        await backend.create_bucket("testkit-one")
        return "testkit-one"


async def put(
    backend: StorageBackend,
    bucket: str,
    key: str,
    data: bytes = b"content",
    *,
    metadata: ObjectMetadata | None = None,
    condition: Condition | None = None,
) -> ObjectInfo:
    """Store bytes of known size."""
    return await backend.put_object(
        bucket,
        key,
        body(data),
        size=len(data),
        metadata=metadata or ObjectMetadata(),
        condition=condition,
    )


async def get(
    backend: StorageBackend, bucket: str, key: str, byte_range: ByteRange | None = None
) -> bytes:
    """Read an object."""
    return await read(await backend.get_object(bucket, key, byte_range=byte_range))


async def list_keys(backend: StorageBackend, bucket: str) -> list[str]:
    """The keys that clients see, in the order in which they are listed."""
    keys: list[str] = []
    after = ""
    while True:
        page = await backend.list_objects(bucket, start_after=after)
        keys += [info.key for info in page.objects if not info.key.startswith(RESERVED_PREFIX)]
        if page.next_after is None:
            return keys
        after = page.next_after
