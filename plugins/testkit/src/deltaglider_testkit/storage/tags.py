"""Object tags: stored with the object and replaced without it, or not declared at all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from deltaglider_core.errors import NoSuchBucket, NoSuchKey, NotImplementedS3
from deltaglider_core.interfaces.storage import (
    CompletedPart,
    ObjectInfo,
    ObjectMetadata,
    StorageBackend,
)
from deltaglider_core.testing import body

from ._base import StorageTestBase, get, put

TAGS = {"team": "bücher + mehr", "a/b:c=d@e.f_g-h+i": "", "κλειδί": "値 1"}
#: Ten tags of the greatest length.
LARGEST = {f"{number}" + "ü" * 127: "値" * 256 for number in range(10)}
GIVEN = ObjectMetadata(headers={"content-type": "text/x"}, user={"m": "1"}, tags=TAGS)


async def tags_of(backend: StorageBackend, bucket: str, key: str) -> dict[str, str]:
    """Read them in both ways, which must agree."""
    found = dict(await backend.get_object_tags(bucket, key))
    info = await backend.head_object(bucket, key)
    assert info.metadata is not None
    assert dict(info.metadata.tags) == found
    return found


def possible(backend: StorageBackend, tags: Mapping[str, str]) -> Sequence[Mapping[str, str]]:
    """What may come back of tags: all; or none, where ``object_tags`` is not declared."""
    return [tags] if backend.capabilities.object_tags else [tags, {}]


async def set_tags(
    backend: StorageBackend, bucket: str, key: str, tags: Mapping[str, str]
) -> ObjectInfo | None:
    """Set them; None where a backend that does not declare ``object_tags`` cannot."""
    try:
        return await backend.set_object_tags(bucket, key, tags)
    except NotImplementedS3:
        assert not backend.capabilities.object_tags, "object_tags is declared"
        return None


class TagTests(StorageTestBase):
    """A backend that declares ``object_tags`` keeps the tags it is given, and can change them.

    No client's tags reach another one, which may lose them, but neither change them nor anything
    beside them.
    """

    async def test_tags(self, backend: StorageBackend, bucket: str) -> None:
        await put(backend, bucket, "k", metadata=GIVEN)
        await put(backend, bucket, "large", metadata=ObjectMetadata(tags=LARGEST))
        found = await tags_of(backend, bucket, "k")
        assert found in possible(backend, TAGS)
        assert await tags_of(backend, bucket, "large") in possible(backend, LARGEST)
        async with await backend.get_object(bucket, "k") as reader:
            assert reader.info.metadata is not None
            assert dict(reader.info.metadata.tags) == found
            assert dict(reader.info.metadata.user) == GIVEN.user
        await put(backend, bucket, "k", metadata=ObjectMetadata(user={"m": "2"}))
        assert await tags_of(backend, bucket, "k") == {}

    async def test_tags_of_a_copy(self, backend: StorageBackend, bucket: str) -> None:
        await put(backend, bucket, "k", metadata=GIVEN)
        await backend.copy_object(bucket, "k", bucket, "kept")
        assert await tags_of(backend, bucket, "kept") in possible(backend, TAGS)
        other = replace(GIVEN, tags={"b": "2"})
        await backend.copy_object(bucket, "k", bucket, "given", metadata=other)
        assert await tags_of(backend, bucket, "given") in possible(backend, other.tags)

    async def test_tags_of_an_upload(self, backend: StorageBackend, bucket: str) -> None:
        upload = await backend.create_multipart_upload(bucket, "k", metadata=GIVEN)
        part = await backend.upload_part(bucket, "k", upload, 1, body(b"data"), size=4)
        listed = [CompletedPart(part_number=1, etag=part.etag)]
        await backend.complete_multipart_upload(bucket, "k", upload, listed)
        assert await tags_of(backend, bucket, "k") in possible(backend, TAGS)

    async def test_set_tags(self, backend: StorageBackend, bucket: str) -> None:
        """Nothing else of the object changes, and nothing of others."""
        await put(backend, bucket, "k", b"data", metadata=GIVEN)
        await put(backend, bucket, "k/below", metadata=GIVEN)
        before = await backend.head_object(bucket, "k")
        assert before.metadata is not None
        for tags in ({"b": "2"}, LARGEST, {}, TAGS):
            answer = await set_tags(backend, bucket, "k", tags)
            if answer is None:
                assert await backend.head_object(bucket, "k") == before
                return
            after = await backend.head_object(bucket, "k")
            assert after == answer
            assert after == replace(before, metadata=replace(before.metadata, tags=tags))
            assert await tags_of(backend, bucket, "k") == tags
        assert await get(backend, bucket, "k") == b"data"
        assert await tags_of(backend, bucket, "k/below") == TAGS

    async def test_set_tags_of_nothing(self, backend: StorageBackend, bucket: str) -> None:
        for name, error in ((bucket, NoSuchKey), ("testkit-absent", NoSuchBucket)):
            with pytest.raises((error, NotImplementedS3)) as caught:
                await backend.set_object_tags(name, "absent", TAGS)
            assert isinstance(caught.value, error) or not backend.capabilities.object_tags
        with pytest.raises(NoSuchKey):
            await backend.get_object_tags(bucket, "absent")
        with pytest.raises(NoSuchKey):
            await backend.head_object(bucket, "absent")

    async def test_tags_beside_a_writer(self, backend: StorageBackend, bucket: str) -> None:
        """What was stored stays stored, in whole, whatever tags are set meanwhile."""
        await put(backend, bucket, "k", b"first", metadata=ObjectMetadata(user={"n": "first"}))
        written = asyncio.Event()

        async def tag(number: int) -> None:
            while not written.is_set():
                await set_tags(backend, bucket, "k", {"set": str(number)})
                await asyncio.sleep(0)

        taggers = [asyncio.create_task(tag(number)) for number in range(3)]
        try:
            for number in range(24):
                n = str(number)
                metadata = ObjectMetadata(user={"n": n}, tags={"put": n})
                await put(backend, bucket, "k", n.encode(), metadata=metadata)
                await asyncio.sleep(0)
                info = await backend.head_object(bucket, "k")
                assert await get(backend, bucket, "k") == n.encode()
                assert info.metadata is not None
                assert dict(info.metadata.user) == {"n": n}
                found = dict(info.metadata.tags)
                assert len(found) == 1 or found in possible(backend, {"put": n})
                assert found.get("put", n) == n
        finally:
            written.set()
            await asyncio.gather(*taggers)


__all__ = ["TagTests"]
