"""DeleteObject and DeleteBucket: references are not content, and none is lost to a PUT."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from deltaglider_core.delta import deletion
from deltaglider_core.errors import (
    BucketNotEmpty,
    NoSuchBucket,
    NoSuchKey,
    PreconditionFailed,
    S3Error,
    ServiceUnavailable,
)
from deltaglider_core.interfaces.storage import Condition
from deltaglider_core.testing import FakeClock, MemoryBackend, body, metadata

if TYPE_CHECKING:
    from .conftest import MakeWorld, World

SIZE = 50_000


async def empty_with_reference(world: World) -> bytes:
    """A bucket whose only object is gone; returns the bytes of the reference that stays."""
    data = world.data(SIZE)
    await world.put("app-1.zip", data)
    await world.layer.delete_object("bucket", "app-1.zip")
    assert len(world.memory.keys("bucket")) == 1
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
    assert await world.layer.delete_object("bucket", "a.zip", condition=wanted) is False


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


@pytest.mark.parametrize("method", ["list_objects", "delete_object", "delete_bucket", "put_object"])
@pytest.mark.parametrize("skip", range(6))
async def test_a_failure_is_an_error_and_repeating_it_helps(
    world: World, method: str, skip: int
) -> None:
    await empty_with_reference(world)
    await world.plant(".deltaglider/refs/second", b"x")
    world.memory.fail(method, ServiceUnavailable(), skip=skip)
    try:
        await world.layer.delete_bucket("bucket")
    except ServiceUnavailable:
        world.memory.heal()
        notices = [key for key in world.memory.keys("bucket") if "deleting" in key]
        assert len(notices) == (method == "delete_object" and skip == 2)
        for key in notices:  # its own deletion failed: others respect it until it is too old
            with pytest.raises(ServiceUnavailable):
                await world.layer.delete_bucket("bucket")
            await world.inner.delete_object("bucket", key)
        await world.layer.delete_bucket("bucket")
    with pytest.raises(NoSuchBucket):
        await world.inner.head_bucket("bucket")


# Every call of DeleteBucket and every call of PutObject is a place where the other one may
# run as a whole. Whatever the order: what was acknowledged can be read.


def hook_once(action: Callable[[], object], skip: int) -> Callable[..., object]:
    """A hook that runs ``action`` at the call number ``skip``, and nothing while it runs."""
    seen = 0

    async def hook(*, bucket: str, key: str) -> None:
        nonlocal seen
        seen += 1
        if seen == skip + 1:
            await action()  # type: ignore[misc]

    return hook


METHODS = ("list_objects", "put_object", "head_object", "delete_object", "delete_bucket")


async def read_back(world: World, make_world: MakeWorld, data: bytes) -> None:
    """Read with a cold cache, so that a missing reference shows."""
    cold = await make_world(inner=world.inner)
    assert await cold.get("app-2.zip") == data


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("skip", range(5))
async def test_an_upload_inside_a_bucket_deletion(
    world: World, make_world: MakeWorld, method: str, when: str, skip: int
) -> None:
    data = world.version(await empty_with_reference(world))
    stored = False

    async def upload() -> None:
        nonlocal stored
        try:
            await world.put("app-2.zip", data)
        except S3Error:
            return
        stored = True

    getattr(world.memory, when)(method, hook_once(upload, skip))
    try:
        await world.layer.delete_bucket("bucket")
    except BucketNotEmpty:
        assert stored
    world.memory.heal()
    if stored:
        await read_back(world, make_world, data)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("skip", range(5))
@pytest.mark.parametrize("copying", [False, True])
async def test_a_bucket_deletion_inside_an_upload(
    world: World, make_world: MakeWorld, method: str, when: str, skip: int, copying: bool
) -> None:
    data = world.version(await empty_with_reference(world))
    if copying:
        await world.put("app-1.zip", data)

    async def delete() -> None:
        try:
            if copying:
                await world.layer.delete_object("bucket", "app-1.zip")
            await world.layer.delete_bucket("bucket")
        except S3Error:
            return

    getattr(world.memory, when)(method, hook_once(delete, skip))
    try:
        if copying:
            await world.layer.copy_object("bucket", "app-1.zip", "bucket", "app-2.zip")
        else:
            await world.put("app-2.zip", data)
    except (NoSuchBucket, NoSuchKey):
        return
    world.memory.heal()
    await read_back(world, make_world, data)


async def test_a_deletion_that_stands_still_between_two_steps(
    world: World, make_world: MakeWorld
) -> None:
    """The upload commits after the look of the deleter and before its deletions."""
    data = world.version(await empty_with_reference(world))
    lists = 0

    async def upload(*, bucket: str, key: str) -> None:
        nonlocal lists
        lists += 1
        if lists == 4:  # nothing visible, something internal, nothing visible (two pages): now
            world.memory.heal()
            await world.put("app-2.zip", data)

    world.memory.after("list_objects", upload)
    with pytest.raises(BucketNotEmpty):
        await world.layer.delete_bucket("bucket")
    assert await world.form("app-2.zip") == "verbatim"
    assert world.logged("reference_lost")
    assert await world.references() == []
    await read_back(world, make_world, data)


async def test_a_notice_left_by_a_dead_process_expires(make_world: MakeWorld) -> None:
    world = await make_world(inner=MemoryBackend(clock := FakeClock()))
    await world.plant(f"{deletion.NOTICES_PREFIX}dead", b"")
    await world.put("a-1.zip", world.data(SIZE))
    assert await world.form("a-1.zip") == "verbatim"
    fake = world.services.clock
    assert isinstance(fake, FakeClock)
    for each in (clock, fake):
        each.advance(timedelta(hours=2).total_seconds())
    await world.put("a-2.zip", world.version(world.data(SIZE)))
    assert await world.form("a-2.zip") == "delta"
    await world.layer.delete_object("bucket", "a-1.zip")
    await world.layer.delete_object("bucket", "a-2.zip")
    await world.layer.delete_bucket("bucket")


async def test_a_deletion_that_takes_too_long_stops(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await empty_with_reference(world)
    monkeypatch.setattr(deletion, "_DELETE_SECONDS", -1.0)
    with pytest.raises(ServiceUnavailable):
        await world.layer.delete_bucket("bucket")
    assert len(world.memory.keys("bucket")) == 1
