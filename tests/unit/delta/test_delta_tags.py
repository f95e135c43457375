"""Tags of objects in every stored form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from deltaglider_core.interfaces.storage import CompletedPart, ObjectInfo, ObjectMetadata
from deltaglider_core.testing import body

from .conftest import World

TAGS = {"team": "ü 1", "empty": ""}


async def stored_as(world: World, form: str) -> str:
    """An object in this form; returns its key."""
    data = world.data(60_000)
    if form == "verbatim":
        await world.put("a.png", data, user={"m": "1"})
        return "a.png"
    if form == "foreign":
        await world.plant("a.png", data)
        return "a.png"
    await world.put("v/app-1.zip", data)
    if form == "delta":
        await world.put("v/app-2.zip", world.version(data), user={"m": "1"})
        return "v/app-2.zip"
    if form == "wrapped":
        await world.put("b.png", await world.stored("v/app-1.zip"), user={"m": "1"})
        return "b.png"
    await world.put("v/app-2.zip", world.version(data))
    await world.plant("raw.zip", await world.stored("v/app-2.zip"))  # a delta without metadata
    return "raw.zip"


@pytest.mark.parametrize("form", ["verbatim", "foreign", "delta", "wrapped", "raw"])
async def test_nothing_else_changes(world: World, form: str) -> None:
    key = await stored_as(world, form)
    before = await world.layer.head_object(world.bucket, key)
    physical = await world.inner.head_object(world.bucket, key)
    data = await world.get(key)
    assert before.metadata is not None
    assert physical.metadata is not None
    for tags in (TAGS, {"other": "1"}, {}):
        answer = await world.layer.set_object_tags(world.bucket, key, tags)
        assert answer == replace(before, metadata=replace(before.metadata, tags=tags))
        assert await world.layer.head_object(world.bucket, key) == answer
        assert await world.layer.get_object_tags(world.bucket, key) == tags
        now = await world.inner.head_object(world.bucket, key)
        assert now == replace(physical, metadata=replace(physical.metadata, tags=tags))
    assert await world.get(key) == data


@pytest.mark.parametrize("key", ["a.png", "v/app-2.zip"])
async def test_an_upload_and_its_copies(world: World, key: str) -> None:
    data = world.data(60_000)
    await world.put("v/app-1.zip", data)
    given = ObjectMetadata(user={"m": "1"}, tags=TAGS)
    await world.layer.put_object(
        world.bucket, key, body(world.version(data)), size=len(data), metadata=given
    )
    for target in ("copy.zip", "copy.png", key):
        info = await world.layer.copy_object(world.bucket, key, world.bucket, target)
        assert info.metadata is not None
        assert info.metadata.tags == TAGS
        assert await world.layer.get_object_tags(world.bucket, target) == TAGS
    other = replace(given, tags={"b": "2"})
    await world.layer.copy_object(world.bucket, key, world.bucket, "c.zip", metadata=other)
    assert await world.layer.get_object_tags(world.bucket, "c.zip") == {"b": "2"}


async def assembled(world: World, key: str, data: bytes) -> ObjectInfo:
    upload = await world.layer.create_multipart_upload(
        world.bucket, key, metadata=ObjectMetadata(tags=TAGS)
    )
    part = await world.layer.upload_part(world.bucket, key, upload, 1, body(data), size=len(data))
    listed = [CompletedPart(part_number=1, etag=part.etag)]
    return await world.layer.complete_multipart_upload(world.bucket, key, upload, listed)


async def test_a_rewrite_in_place_keeps_them(world: World) -> None:
    data = world.data(60_000)
    await world.put("v/app-1.zip", data)
    await assembled(world, "v/app-2.zip", world.version(data))
    assert await world.form("v/app-2.zip") == "delta"
    assert await world.layer.get_object_tags(world.bucket, "v/app-2.zip") == TAGS


async def test_tags_that_come_during_a_rewrite_are_not_lost(world: World) -> None:
    data = world.data(60_000)
    await world.put("v/app-1.zip", data)
    writes: list[str] = []

    async def tagged(**call: Any) -> None:
        if call["key"] == "v/app-2.zip":
            writes.append(call["key"])
            if len(writes) == 2:  # the first is the upload itself
                await world.inner.set_object_tags(world.bucket, call["key"], {"new": "1"})

    world.memory.before("put_object", tagged)
    await assembled(world, "v/app-2.zip", world.version(data))
    assert len(writes) == 2
    assert await world.layer.get_object_tags(world.bucket, "v/app-2.zip") == {"new": "1"}
    assert await world.form("v/app-2.zip") == "assembled"
    assert await world.get("v/app-2.zip") == world.version(data)
