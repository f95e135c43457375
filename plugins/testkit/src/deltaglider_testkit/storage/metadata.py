"""Metadata: three groups of names, kept apart, replaced with the bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from deltaglider_core.interfaces.storage import (
    MAX_LISTED_VALUE,
    STORED_HEADERS,
    ObjectMetadata,
    StorageBackend,
)
from deltaglider_core.testing import body

from ._base import MIB, StorageTestBase, put

HEADERS = {
    "content-type": "application/zip; charset=utf-8",
    "cache-control": "max-age=3600, no-transform",
    "content-disposition": "attachment; filename=\"a b;'c'.zip\"",
    "content-encoding": "gzip",
    "content-language": "de, en",
    "expires": "Wed, 21 Oct 2026 07:28:00 GMT",
}
USER = {"name": "value", "with-dash": "a=b; c", "x.y_z~1": "", "quote": '"\\%41+ &<>'}


class MetadataTests(StorageTestBase):
    """What is stored beside the bytes comes back as it was given."""

    async def test_metadata(self, backend: StorageBackend, bucket: str) -> None:
        assert set(HEADERS) == set(STORED_HEADERS)
        given = ObjectMetadata(headers=HEADERS, user=USER)
        await put(backend, bucket, "k", metadata=given)
        async with await backend.get_object(bucket, "k") as reader:
            opened = reader.info
        for info in (await backend.head_object(bucket, "k"), opened):
            assert info.metadata is not None
            assert dict(info.metadata.headers) == HEADERS
            assert dict(info.metadata.user) == USER

    async def test_metadata_defaults_to_nothing(self, backend: StorageBackend, bucket: str) -> None:
        await put(backend, bucket, "k")
        info = await backend.head_object(bucket, "k")
        assert info.metadata is not None
        assert dict(info.metadata.headers) == {}
        assert dict(info.metadata.user) == {}

    async def test_metadata_of_two_kilobytes(self, backend: StorageBackend, bucket: str) -> None:
        """S3 allows 2 KB of user metadata, names and values together."""
        user = {f"name-{number:02d}": "v" * 120 for number in range(16)}
        assert sum(len(name) + len(value) for name, value in user.items()) == 2032
        await put(backend, bucket, "k", metadata=ObjectMetadata(user=user))
        info = await backend.head_object(bucket, "k")
        assert info.metadata is not None
        assert dict(info.metadata.user) == user

    async def test_metadata_is_replaced(self, backend: StorageBackend, bucket: str) -> None:
        await put(backend, bucket, "k", metadata=ObjectMetadata(headers=HEADERS, user=USER))
        await put(backend, bucket, "k", metadata=ObjectMetadata(user={"other": "1"}))
        info = await backend.head_object(bucket, "k")
        assert info.metadata is not None
        assert dict(info.metadata.headers) == {}
        assert dict(info.metadata.user) == {"other": "1"}

    async def test_internal_metadata_is_apart(self, backend: StorageBackend, bucket: str) -> None:
        """A client can neither see nor set an internal name."""
        names = ("testkit-note", "internal", "write-id")
        user = dict.fromkeys(names, "client")
        internal = dict.fromkeys(names, "ours") if self.keeps_internal_metadata else {}
        await put(backend, bucket, "k", metadata=ObjectMetadata(user=user, internal=internal))
        info = await backend.head_object(bucket, "k")
        assert info.metadata is not None
        assert dict(info.metadata.user) == user
        if self.keeps_internal_metadata:
            assert dict(info.metadata.internal) == internal
        else:
            assert "client" not in info.metadata.internal.values()

    @pytest.mark.parametrize("size", [0, 1, 3 * MIB])
    async def test_late_metadata(self, backend: StorageBackend, bucket: str, size: int) -> None:
        """They are asked for after the body has ended, never before; and then they are stored."""
        ended = False
        asked: list[bool] = []

        async def chunks() -> AsyncIterator[bytes]:
            nonlocal ended
            async for chunk in body(b"x" * size):
                yield chunk
            ended = True

        def late() -> dict[str, str]:
            asked.append(ended)
            return {"testkit-late": "known"}

        given = ObjectMetadata(user=USER, internal={"testkit-note": "ours"}, late=late)
        await backend.put_object(bucket, "k", chunks(), size=size, metadata=given)
        assert all(asked)
        info = await backend.head_object(bucket, "k")
        assert info.metadata is not None
        assert dict(info.metadata.user) == USER
        if backend.capabilities.late_metadata and self.keeps_internal_metadata:
            expected = {"testkit-note": "ours", "testkit-late": "known"}
            assert dict(info.metadata.internal) == expected

    async def test_listing_metadata(self, backend: StorageBackend, bucket: str) -> None:
        """Listings carry the metadata of a HEAD if that is declared, else none or the same."""
        await put(backend, bucket, "k", metadata=ObjectMetadata(headers=HEADERS, user=USER))
        (listed,) = (await backend.list_objects(bucket)).objects
        head = await backend.head_object(bucket, "k")
        if backend.capabilities.listing_metadata or listed.metadata is not None:
            assert listed.metadata == head.metadata

    async def test_long_internal_metadata(self, backend: StorageBackend, bucket: str) -> None:
        """Kept whole; a listing may leave out the long values, and nothing else."""
        if backend.capabilities.max_metadata_bytes is not None or not self.keeps_internal_metadata:
            return
        user = {"name": "value"}
        values = {"testkit-at": "a" * MAX_LISTED_VALUE, "testkit-long": "b" * 400_000}
        await put(backend, bucket, "k", metadata=ObjectMetadata(user=user, internal=values))
        tagged = backend.capabilities.object_tags
        if tagged:
            await backend.set_object_tags(bucket, "k", {"testkit": "1"})
        async with await backend.get_object(bucket, "k") as reader:
            opened = reader.info
        for info in (await backend.head_object(bucket, "k"), opened):
            assert info.metadata is not None
            assert dict(info.metadata.internal) == values
            assert dict(info.metadata.user) == user
            assert dict(info.metadata.tags) == ({"testkit": "1"} if tagged else {})
        (listed,) = (await backend.list_objects(bucket)).objects
        if backend.capabilities.listing_metadata or listed.metadata is not None:
            assert opened.metadata is not None
            assert listed.metadata in (opened.metadata, opened.metadata.listed())
