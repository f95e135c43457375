"""CopyObject: stored bytes where they can be copied, the object otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

from deltaglider_core.delta.policy import BucketPolicy, DeltaPolicy
from deltaglider_core.errors import (
    IntegrityError,
    NoSuchKey,
    PreconditionFailed,
    ServiceUnavailable,
)
from deltaglider_core.interfaces.storage import Condition, ObjectInfo
from deltaglider_core.testing import metadata

if TYPE_CHECKING:
    from .conftest import MakeWorld, World

SIZE = 100_000


async def put_versions(world: World) -> bytes:
    data = world.data(SIZE)
    await world.put("v/app-1.zip", data)
    second = world.version(data)
    await world.put("v/app-2.zip", second, user={"colour": "blue"}, internal={"write-id": "w"})
    return second


async def copy(world: World, source: str, target: str, **arguments: object) -> ObjectInfo:
    return await world.layer.copy_object(
        "bucket",
        source,
        "bucket",
        target,
        **arguments,  # type: ignore[arg-type]
    )


async def internal(world: World, key: str, bucket: str = "bucket") -> Mapping[str, str]:
    info = await world.inner.head_object(bucket, key)
    assert info.metadata is not None
    return info.metadata.internal


@pytest.mark.parametrize("stripped", [False, True])
async def test_a_delta_is_copied_as_it_is(world: World, stripped: bool) -> None:
    data = await put_versions(world)
    if stripped:
        await world.plant("v/app-2.zip", await world.stored("v/app-2.zip"))
    source = await world.layer.head_object("bucket", "v/app-2.zip")
    info = await copy(world, "v/app-2.zip", "w/x.zip")
    assert (info.key, info.size, info.etag) == ("w/x.zip", SIZE, source.etag)
    assert await world.stored("w/x.zip") == await world.stored("v/app-2.zip")
    assert await world.get("w/x.zip") == data
    kept = (await world.layer.head_object("bucket", "w/x.zip")).metadata
    assert kept is not None
    assert dict(kept.user) == ({} if stripped else {"colour": "blue"})
    assert "write-id" not in kept.internal
    assert len(await world.references()) == 1


async def test_a_delta_copied_where_none_is_taken_is_decoded(make_world: MakeWorld) -> None:
    policy = DeltaPolicy(buckets={"plain": BucketPolicy(compression=False)})
    world = await make_world(policy=policy)
    data = await put_versions(world)
    await world.inner.create_bucket("plain")
    await world.inner.create_bucket("other")
    await copy(world, "v/app-2.zip", "x.png")
    assert await world.stored("x.png") == data
    for bucket, form in (("plain", "verbatim"), ("other", "delta")):
        info = await world.layer.copy_object("bucket", "v/app-2.zip", bucket, "x.zip")
        assert info.size == SIZE
        assert (await internal(world, "x.zip", bucket))["form"] == form
        world.bucket = bucket
        assert await world.get("x.zip") == data
        world.bucket = "bucket"
    keys = world.memory.keys("other")
    # With a reference of its own, and the fact that makes listings look at it.
    assert keys[0] == ".deltaglider/layout/suffix/zip"
    assert keys[1].startswith(".deltaglider/refs/")
    assert keys[2:] == ["x.zip"]


async def test_a_verbatim_object_becomes_a_delta_under_a_name_that_takes_them(
    world: World,
) -> None:
    data = await put_versions(world)
    await world.put("x.png", world.version(data, seed=9))
    await copy(world, "x.png", "v/app-3.zip")
    assert await world.form("v/app-3.zip") == "delta"
    assert await world.get("v/app-3.zip") == world.version(data, seed=9)


@pytest.mark.parametrize("form", ["", "verbatim"])
async def test_a_verbatim_object_is_copied_on_the_backend(world: World, form: str) -> None:
    data = world.data(SIZE)
    await world.plant("x.png", data, {"form": form} if form else {})
    await copy(world, "x.png", "y.png")
    assert await world.stored("y.png") == data
    assert await world.form("y.png") == "verbatim"


async def test_wrapped_bytes_stay_wrapped(world: World) -> None:
    await put_versions(world)
    blob = await world.stored("v/app-2.zip")
    info = await world.put("a.bin2", blob)
    copied = await copy(world, "a.bin2", "b.bin2")
    assert (copied.size, copied.etag) == (info.size, info.etag)
    assert await world.form("b.bin2") == "wrapped"
    assert await world.get("b.bin2") == blob
    await copy(world, "a.bin2", "v/c.zip")
    assert await world.get("v/c.zip") == blob


@pytest.mark.parametrize("key", ["v/app-2.zip", "x.png"])
async def test_a_copy_onto_itself_replaces_metadata_only(world: World, key: str) -> None:
    data = await put_versions(world)
    await world.put("x.png", data)
    before = await world.stored(key)
    given = metadata(user={"new": "1"}, internal={"write-id": "w2", "form": "reference"})
    info = await copy(world, key, key, metadata=given)
    assert info.size == SIZE
    assert await world.stored(key) == before
    assert await world.get(key) == data
    shown = (await world.layer.head_object("bucket", key)).metadata
    assert shown is not None
    assert dict(shown.user) == {"new": "1"}
    assert dict(shown.internal) == {"write-id": "w2"}


async def test_a_reference_copied_by_hand_is_an_object(world: World) -> None:
    await put_versions(world)
    (reference,) = await world.references()
    await world.inner.copy_object("bucket", reference, "bucket", "by-hand.png")
    assert await world.get("by-hand.png") == world.data(SIZE)
    await copy(world, "by-hand.png", "again.png")
    assert await world.form("again.png") == "verbatim"
    assert await world.get("again.png") == world.data(SIZE)


async def test_a_rewrite_does_not_give_its_date_to_copies(world: World) -> None:
    await world.put(
        "a.zip",
        world.data(SIZE),
        internal={"modified": "2001-01-01T00:00:00.000000Z", "etag": "e-2"},
    )
    assert (await world.layer.head_object("bucket", "a.zip")).last_modified.year == 2001
    info = await copy(world, "a.zip", "b.zip")
    assert info.last_modified.year > 2001
    assert (await world.layer.head_object("bucket", "b.zip")).last_modified.year > 2001
    assert info.etag == "e-2"


@pytest.mark.parametrize("target", ["w/x.zip", "x.png", "v/app-2.zip"])
async def test_conditions(world: World, target: str) -> None:
    data = await put_versions(world)
    with pytest.raises(PreconditionFailed):
        await copy(world, "v/app-2.zip", target, source_etag="0" * 32)
    with pytest.raises(NoSuchKey):
        await copy(world, "nothing", target)
    await world.put(target, data)
    present = await world.layer.head_object("bucket", target)
    with pytest.raises(PreconditionFailed):
        await copy(world, "v/app-2.zip", target, condition=Condition(if_none_match="*"))
    with pytest.raises(PreconditionFailed):
        await copy(world, "v/app-2.zip", target, condition=Condition(if_match="0" * 32))
    await copy(
        world,
        "v/app-2.zip",
        target,
        source_etag=present.etag,
        condition=Condition(if_match=present.etag),
    )
    assert await world.get(target) == data


@pytest.mark.parametrize("target", ["w/x.zip", "x.png"])
@pytest.mark.parametrize("pinned", [False, True])
async def test_a_source_that_changes_meanwhile(world: World, target: str, pinned: bool) -> None:
    data = await put_versions(world)
    newer = world.version(data, seed=50)
    etag = (await world.layer.head_object("bucket", "v/app-2.zip")).etag

    async def overwrite(*, bucket: str, key: str) -> None:
        if key == "v/app-2.zip":
            world.memory.heal()
            await world.put("v/app-2.zip", newer)

    world.memory.after("head_object", overwrite)
    if pinned:
        with pytest.raises(PreconditionFailed):
            await copy(world, "v/app-2.zip", target, source_etag=etag)
        assert target not in world.memory.keys("bucket")
    else:
        await copy(world, "v/app-2.zip", target)
        assert await world.get(target) == newer


async def test_a_delta_without_its_reference_is_not_copied(
    world: World, make_world: MakeWorld
) -> None:
    await put_versions(world)
    (reference,) = await world.references()
    await world.inner.delete_object("bucket", reference)
    cold = await make_world(inner=world.inner)
    with pytest.raises(IntegrityError):
        await copy(cold, "v/app-2.zip", "w/x.zip")
    assert "w/x.zip" not in world.memory.keys("bucket")


@pytest.mark.parametrize("target", ["w/x.zip", "x.png"])
async def test_every_failing_request_leaves_no_half_copy(world: World, target: str) -> None:
    data = await put_versions(world)
    for method in ("head_object", "get_object", "read_chunk", "put_object", "list_objects"):
        for skip in range(4):
            world.memory.fail(method, ServiceUnavailable(), skip=skip)
            with contextlib.suppress(ServiceUnavailable):
                await copy(world, "v/app-2.zip", target)
            world.memory.heal()
            if target in world.memory.keys("bucket"):
                assert await world.get(target) == data
                await world.layer.delete_object("bucket", target)
    assert await world.get("v/app-2.zip") == data
