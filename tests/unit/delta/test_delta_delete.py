"""DeleteObject and DeleteBucket: what is ours is no content."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from deltaglider_core.delta.layout import MARKER
from deltaglider_core.errors import (
    BucketNotEmpty,
    NoSuchBucket,
    NoSuchKey,
    PreconditionFailed,
    ServiceUnavailable,
)
from deltaglider_core.interfaces.storage import Condition
from deltaglider_core.testing import body, metadata

if TYPE_CHECKING:
    from .conftest import World

SIZE = 50_000
FACT = ".deltaglider/layout/suffix/zip"
ID = ".deltaglider/id"


async def empty_with_reference(world: World) -> bytes:
    """A bucket whose only object is gone; returns the bytes of the reference that stays."""
    data = world.data(SIZE)
    await world.put("app-1.zip", data)
    await world.layer.delete_object("bucket", "app-1.zip")
    assert world.memory.keys("bucket") == [FACT, *await world.references()]
    return data


async def test_delete_object(world: World) -> None:
    await world.put("app-1.zip", world.data(SIZE))
    await world.put("app-2.zip", world.version(world.data(SIZE)))
    assert await world.layer.delete_object("bucket", "app-1.zip") is True
    assert await world.layer.delete_object("bucket", "app-1.zip") is False
    with pytest.raises(NoSuchKey):
        await world.get("app-1.zip")
    assert await world.get("app-2.zip") == world.version(world.data(SIZE))


async def test_delete_object_on_its_logical_etag(world: World) -> None:
    info = await world.put("a.zip", world.data(SIZE))
    with pytest.raises(PreconditionFailed):
        await world.layer.delete_object("bucket", "a.zip", condition=Condition(if_match="0" * 32))
    wanted = Condition(if_match=info.etag)
    assert await world.layer.delete_object("bucket", "a.zip", condition=wanted) is True
    with pytest.raises(NoSuchKey):
        await world.layer.delete_object("bucket", "a.zip", condition=wanted)


async def test_delete_object_on_its_logical_size_and_date(world: World) -> None:
    await world.put("a.zip", world.data(SIZE))
    await world.put("b.zip", world.version(world.data(SIZE)))
    delete = world.layer.delete_object
    for key in ("a.zip", "b.zip"):
        info = await world.layer.head_object("bucket", key)
        stored = await world.memory.head_object("bucket", key)
        assert stored.size != info.size
        for wrong in (
            Condition(size=stored.size),
            Condition(last_modified=info.last_modified - timedelta(seconds=1)),
            Condition(if_match=info.etag, size=info.size + 1),
        ):
            with pytest.raises(PreconditionFailed):
                await delete("bucket", key, condition=wrong)
        right = Condition(if_match="*", last_modified=info.last_modified, size=info.size)
        assert await delete("bucket", key, condition=right) is True
        assert await delete("bucket", key, condition=Condition(size=1)) is False


async def test_a_damaged_object_can_be_deleted(world: World) -> None:
    await world.plant("a.zip", b"x", {"form": "delta"})
    assert await world.layer.delete_object("bucket", "a.zip") is True


async def test_a_bucket_with_objects_stays(world: World) -> None:
    await world.put("a.zip", world.data(SIZE))
    keys = world.memory.keys("bucket")
    with pytest.raises(BucketNotEmpty):
        await world.layer.delete_bucket("bucket")
    assert world.memory.keys("bucket") == keys


async def test_references_and_uploads_do_not_keep_a_bucket(world: World) -> None:
    await empty_with_reference(world)
    upload = await world.layer.create_multipart_upload("bucket", "k", metadata=metadata())
    await world.layer.upload_part("bucket", "k", upload, 1, body(b"part"), size=4)
    for number in range(1100):
        await world.plant(f".deltaglider/refs/x/{number:05}", b"")
    await world.layer.delete_bucket("bucket")
    with pytest.raises(NoSuchBucket):
        await world.inner.head_bucket("bucket")
    with pytest.raises(NoSuchBucket):
        await world.layer.delete_bucket("bucket")


async def test_an_empty_bucket_is_deleted_without_writing(world: World) -> None:
    await world.layer.delete_bucket("bucket")
    assert "put_object" not in [call[0] for call in world.memory.calls]


@pytest.mark.parametrize("method", ["list_objects", "delete_object", "delete_bucket"])
@pytest.mark.parametrize("skip", range(8))
async def test_a_failure_is_an_error_and_repeating_it_helps(
    world: World, method: str, skip: int
) -> None:
    await empty_with_reference(world)
    await world.plant(".deltaglider/refs/second", b"x")
    await world.plant(MARKER, b"")
    await world.plant(ID, b"{}")
    world.memory.fail(method, ServiceUnavailable(), skip=skip)
    failed = False
    try:
        await world.layer.delete_bucket("bucket")
    except ServiceUnavailable:
        failed = True
        world.memory.heal()
        left = set(world.memory.keys("bucket"))
        # What is left of the layout vouches for nothing that is missing, and the id goes last.
        assert MARKER not in left or FACT in left
        assert ID in left or not left
        await world.layer.delete_bucket("bucket")
    assert failed == (skip < {"list_objects": 4, "delete_object": 5, "delete_bucket": 1}[method])
    with pytest.raises(NoSuchBucket):
        await world.inner.head_bucket("bucket")


async def test_the_id_and_the_layout_go_last(world: World) -> None:
    await empty_with_reference(world)
    for key in (MARKER, ID, ".deltaglider/idle", ".deltaglider/layoutx", ".deltaglider/zzz"):
        await world.plant(key, b"")
    world.memory.calls.clear()
    await world.layer.delete_bucket("bucket")
    deleted = [key for method, _, key in world.memory.calls if method == "delete_object"]
    assert deleted[-3:] == [MARKER, FACT, ID]
    assert len(deleted) == 7


async def test_an_object_that_the_backend_finds_keeps_the_bucket(world: World) -> None:
    """Somebody else may write to the backend at any moment."""
    await empty_with_reference(world)

    async def write(*, bucket: str, key: str) -> None:
        await world.plant("foreign", b"x")

    world.memory.before("delete_bucket", write)
    with pytest.raises(BucketNotEmpty):
        await world.layer.delete_bucket("bucket")
    assert world.memory.keys("bucket") == ["foreign"]
