"""Copies of objects onto themselves: they undo nothing, and leave an object what it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from deltaglider_core.errors import NoSuchKey, PreconditionFailed
from deltaglider_core.interfaces.storage import (
    CompletedPart,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    StorageBackend,
)
from deltaglider_core.testing import body

if TYPE_CHECKING:
    from .conftest import MakeWorld, World

SIZE = 60_000
KEPT = ObjectMetadata(user={"new": "1"}, tags={"seen": "before"}, tags_of_source=True)
FORMS = ("verbatim", "delta", "wrapped", "reference")


async def stored_as(world: World, form: str) -> tuple[str, bytes]:
    """An object in this form: its key and its bytes."""
    data = world.data(SIZE)
    await world.put("v/app-1.zip", data)
    if form == "delta":
        await world.put("v/app-2.zip", world.version(data))
        return "v/app-2.zip", world.version(data)
    if form == "wrapped":
        blob = await world.stored("v/app-1.zip")
        await world.put("b.png", blob)
        return "b.png", blob
    if form == "reference":
        (reference,) = await world.references()
        await world.inner.copy_object("bucket", reference, "bucket", "by-hand.png")
        return "by-hand.png", data
    await world.put("a.png", data)
    return "a.png", data


async def onto_itself(
    world: World, key: str, metadata: ObjectMetadata = KEPT, condition: Condition | None = None
) -> ObjectInfo:
    etag = (await world.layer.head_object("bucket", key)).etag
    return await world.layer.copy_object(
        "bucket", key, "bucket", key, source_etag=etag, metadata=metadata, condition=condition
    )


def once_before_the_commit(world: World, key: str, act: Callable[[], Awaitable[object]]) -> None:
    async def hook(*, bucket: str, key: str, wanted: str = key) -> None:
        if key == wanted:
            world.memory.heal()
            await act()

    world.memory.before("put_object", hook)


async def tags(world: World, key: str) -> dict[str, str]:
    return dict(await world.layer.get_object_tags("bucket", key))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("condition", [None, Condition(if_match="*")])
async def test_what_is_written_meanwhile_stays(
    world: World, form: str, condition: Condition | None
) -> None:
    key, _ = await stored_as(world, form)
    assert await world.form(key) == form
    newer = world.data(SIZE, seed=7)
    once_before_the_commit(world, key, lambda: world.put(key, newer))
    with pytest.raises(PreconditionFailed):
        await onto_itself(world, key, condition=condition)
    assert await world.get(key) == newer


@pytest.mark.parametrize("form", FORMS)
async def test_what_is_deleted_meanwhile_stays_deleted(world: World, form: str) -> None:
    key, _ = await stored_as(world, form)
    once_before_the_commit(world, key, lambda: world.layer.delete_object("bucket", key))
    with pytest.raises(NoSuchKey):
        await onto_itself(world, key)
    assert key not in world.memory.keys("bucket")


@pytest.mark.parametrize("form", ["verbatim", "delta", "wrapped"])
async def test_the_same_bytes_written_meanwhile(world: World, form: str) -> None:
    """Their ETag is the same: the copy is made of them, and has their tags."""
    key, data = await stored_as(world, form)

    async def again() -> None:
        given = ObjectMetadata(user={"other": "1"}, tags={"new": "tag"})
        await world.layer.put_object("bucket", key, body(data), size=len(data), metadata=given)

    once_before_the_commit(world, key, again)
    await onto_itself(world, key)
    assert await tags(world, key) == {"new": "tag"}
    info = await world.layer.head_object("bucket", key)
    assert info.metadata is not None
    assert dict(info.metadata.user) == {"new": "1"}
    assert await world.get(key) == data


async def test_it_does_not_try_for_ever(world: World) -> None:
    key, data = await stored_as(world, "verbatim")
    puts = 0

    async def again(*, bucket: str, key: str) -> None:
        nonlocal puts
        puts += 1
        await world.inner.delete_object(bucket, key)
        world.memory._commit(bucket, key, data, ObjectMetadata(), None)

    world.memory.before("put_object", again)
    with pytest.raises(PreconditionFailed):
        await onto_itself(world, key)
    assert 1 < puts < 10
    assert await world.get(key) == data


async def test_conditions_of_the_client_hold_as_well(world: World) -> None:
    key, data = await stored_as(world, "delta")
    etag = (await world.layer.head_object("bucket", key)).etag
    for refused in (Condition(if_match="0" * 32), Condition(if_none_match="*")):
        with pytest.raises(PreconditionFailed):
            await onto_itself(world, key, condition=refused)
    await onto_itself(world, key, condition=Condition(if_match=etag))
    assert await world.get(key) == data


async def test_which_tags_it_has(world: World) -> None:
    """Those of the version that is copied, unless the client replaces them."""
    key, _ = await stored_as(world, "delta")
    await world.layer.set_object_tags("bucket", key, {"legal": "hold"})
    await onto_itself(world, key)
    assert await tags(world, key) == {"legal": "hold"}
    await onto_itself(world, key, replace(KEPT, tags_of_source=False))
    assert await tags(world, key) == {"seen": "before"}


async def test_without_conditions_on_the_backend(
    make_world: MakeWorld, bare_backend: StorageBackend
) -> None:
    world = await make_world(inner=bare_backend)
    key, data = await stored_as(world, "delta")
    await onto_itself(world, key)
    assert await world.get(key) == data


# --- what stays -------------------------------------------------------------------------------

CHECKSUM = "crc32:COMPOSITE:AAAAAA==-2"


async def uploaded(world: World, form: str) -> str:
    """A multipart object in this form."""
    first = world.data(SIZE)
    await world.put("v/app-1.zip", first)
    key = "v/app-2.zip" if form == "delta" else "b.png"
    data = await world.stored("v/app-1.zip") if form == "wrapped" else world.version(first)
    given = ObjectMetadata(internal={"checksum": CHECKSUM})
    upload_id = await world.layer.create_multipart_upload("bucket", key, metadata=given)
    part = await world.layer.upload_part("bucket", key, upload_id, 1, body(data), size=len(data))
    listed = [CompletedPart(part_number=1, etag=part.etag)]
    await world.layer.complete_multipart_upload("bucket", key, upload_id, listed)
    assert await world.form(key) == form
    return key


@pytest.mark.parametrize("form", ["assembled", "delta", "wrapped"])
@pytest.mark.parametrize("given", [None, KEPT])
async def test_an_upload_in_parts_stays_one(
    world: World, form: str, given: ObjectMetadata | None
) -> None:
    key = await uploaded(world, form)
    before = await world.layer.head_object("bucket", key)
    assert before.etag.endswith("-1")
    assert before.metadata is not None
    assert before.metadata.internal.keys() >= {"parts", "checksum"}
    copied = await world.layer.copy_object("bucket", key, "bucket", key, metadata=given)
    after = await world.layer.head_object("bucket", key)
    assert copied.etag == after.etag == before.etag
    assert after.metadata is not None
    for name in ("parts", "checksum"):
        assert after.metadata.internal[name] == before.metadata.internal[name]
    if given is not None:
        assert after.metadata.user == given.user
    # Another checksum in place of its own.
    other = replace(KEPT, internal={"checksum": "sha1:FULL_OBJECT:AAAA"})
    await onto_itself(world, key, other)
    last = await world.layer.head_object("bucket", key)
    assert last.metadata is not None
    assert last.metadata.internal["checksum"] == "sha1:FULL_OBJECT:AAAA"
    assert (last.etag, last.metadata.internal["parts"]) == (
        before.etag,
        before.metadata.internal["parts"],
    )
