"""Multipart uploads: stored as they come, then optimised in place."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from support.digests import digest

from deltaglider_core.backend_defaults.assembled import without_parts
from deltaglider_core.errors import PreconditionFailed, ServiceUnavailable
from deltaglider_core.interfaces.storage import ByteRange, CompletedPart, Condition, ObjectInfo
from deltaglider_core.part_table import PartTable
from deltaglider_core.testing import body, metadata, read

if TYPE_CHECKING:
    from .conftest import MakeWorld, World

SIZE = 100_000


async def upload(
    world: World, key: str, parts: list[bytes], condition: Condition | None = None
) -> ObjectInfo:
    given = metadata(user={"colour": "blue"}, internal={"write-id": "w"})
    upload_id = await world.layer.create_multipart_upload("bucket", key, metadata=given)
    done = []
    for number, data in enumerate(parts, 1):
        part = await world.layer.upload_part(
            "bucket", key, upload_id, number, body(data), size=len(data)
        )
        done.append(CompletedPart(part_number=number, etag=part.etag))
    return await world.layer.complete_multipart_upload(
        "bucket", key, upload_id, done, condition=condition
    )


def multipart_etag(parts: list[bytes]) -> str:
    whole = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts))
    return f"{whole.hexdigest()}-{len(parts)}"


async def check(world: World, key: str, data: bytes, etag: str, form: str) -> None:
    assert await world.form(key) == form
    head = await world.layer.head_object("bucket", key)
    assert (head.size, head.etag) == (len(data), etag)
    assert head.metadata is not None
    assert dict(head.metadata.user) == {"colour": "blue"}
    expected = {"write-id": "w"}
    if world.layer.inner.capabilities.late_metadata:
        expected["checksum"] = f"crc64nvme:FULL_OBJECT:{digest('crc64nvme', data)}"
    assert dict(without_parts(head.metadata).internal) == expected
    table = PartTable.from_text(head.metadata.internal["parts"])
    assert table is not None
    assert table.starts[-1] == len(data)
    listed = {info.key: info.etag for info in (await world.layer.list_objects("bucket")).objects}
    assert listed[key] == etag
    assert await world.get(key) == data
    assert await world.get(key, ByteRange(first=3, last=99)) == data[3:100]


@pytest.mark.parametrize("key", ["a.png", "a.zip"])
async def test_upload(world: World, key: str) -> None:
    data = world.data(SIZE)
    info = await upload(world, key, [data])
    assert (info.size, info.etag) == (SIZE, multipart_etag([data]))
    await check(world, key, data, info.etag, "delta" if key == "a.zip" else "assembled")
    assert world.leases == 0


async def test_the_same_decision_as_for_a_put(world: World) -> None:
    data = world.data(SIZE)
    await world.put("v/app-1.zip", data)
    await upload(world, "v/app-2.zip", [world.version(data)])
    assert await world.form("v/app-2.zip") == "delta"
    await upload(world, "v/app-3.zip", [world.data(SIZE, seed=9)])
    assert await world.form("v/app-3.zip") == "assembled"
    assert len(await world.references()) == 1


async def test_optimising_keeps_the_date(world: World) -> None:
    completed = {}

    async def note(*, bucket: str, key: str) -> None:
        if key == "a.zip" and "a.zip" not in completed:
            completed[key] = (await world.inner.head_object("bucket", key)).last_modified

    world.memory.after("put_object", note)
    info = await upload(world, "a.zip", [world.data(SIZE)])
    now = await world.layer.head_object("bucket", "a.zip")
    assert now.last_modified == info.last_modified == completed["a.zip"]
    assert (await world.inner.head_object("bucket", "a.zip")).last_modified > now.last_modified
    listed = (await world.layer.list_objects("bucket")).objects[0]
    assert listed.last_modified == now.last_modified


@pytest.mark.parametrize("method", ["get_object", "read_chunk", "list_objects", "put_object"])
async def test_a_failure_to_optimise_does_not_fail_the_upload(world: World, method: str) -> None:
    data = world.data(SIZE)

    async def completed(*, bucket: str, key: str) -> None:
        if key == "a.zip":
            about = None if method == "list_objects" else "a.zip"
            world.memory.fail(method, ServiceUnavailable(), times=99, key=about)

    world.memory.after("put_object", completed)
    info = await upload(world, "a.zip", [data])
    assert world.logged("optimise_failed")
    world.memory.heal()
    await check(world, "a.zip", data, info.etag, "assembled")
    assert world.leases == 0


async def test_an_overwrite_while_optimising_wins(world: World) -> None:
    count = 0

    async def overwrite(*, bucket: str, key: str) -> None:
        nonlocal count
        if key == "a.zip":
            count += 1
            if count == 2:
                world.memory.heal()
                await world.plant("a.zip", b"newer", {"form": "verbatim"})

    world.memory.before("put_object", overwrite)
    data = world.data(SIZE)
    info = await upload(world, "a.zip", [data])
    assert info.etag == multipart_etag([data])
    assert await world.get("a.zip") == b"newer"


async def test_without_conditional_writes_nothing_is_rewritten(
    make_world: MakeWorld, bare_backend: Any
) -> None:
    world = await make_world(inner=bare_backend)
    data = world.data(SIZE)
    info = await upload(world, "a.zip", [data])
    await check(world, "a.zip", data, info.etag, "assembled")


async def test_parts_that_begin_with_our_magic_are_wrapped(world: World) -> None:
    await world.put("v/a.zip", world.data(SIZE))
    blob = await world.stored("v/a.zip")
    for key in ("mirror/a.bin2", "mirror/b.zip"):
        info = await upload(world, key, [blob])
        await check(world, key, blob, info.etag, "wrapped")


async def test_bytes_that_could_not_be_wrapped_are_served_as_they_are(world: World) -> None:
    await world.put("v/a.zip", world.data(SIZE))
    blob = await world.stored("v/a.zip")
    given = metadata(user={"colour": "blue"}, internal={"write-id": "w"})
    upload_id = await world.layer.create_multipart_upload("bucket", "k", metadata=given)
    part = await world.layer.upload_part("bucket", "k", upload_id, 1, body(blob), size=len(blob))
    parts = [CompletedPart(part_number=1, etag=part.etag)]
    world.memory.fail("get_object", ServiceUnavailable(), key="k")
    info = await world.layer.complete_multipart_upload("bucket", "k", upload_id, parts)
    assert world.logged("optimise_failed")
    await check(world, "k", blob, info.etag, "assembled")
    middle = await world.layer.get_object("bucket", "k", byte_range=ByteRange(first=3, last=20))
    assert await read(middle) == blob[3:21]
    await world.layer.copy_object("bucket", "k", "bucket", "copy")
    assert await world.form("copy") == "assembled"
    assert await world.get("copy") == blob


async def test_conditions_are_about_the_logical_etag(world: World) -> None:
    data = world.data(SIZE)
    info = await upload(world, "a.zip", [data])
    with pytest.raises(PreconditionFailed):
        await upload(world, "a.zip", [data], Condition(if_none_match="*"))
    with pytest.raises(PreconditionFailed):
        await upload(world, "a.zip", [data], Condition(if_match="0" * 32))
    await upload(world, "a.zip", [data + b"x"], Condition(if_match=info.etag))
    assert await world.get("a.zip") == data + b"x"


async def test_optimise_leaves_what_is_not_the_given_version(world: World) -> None:
    data = world.data(SIZE)
    await world.plant("a.zip", data, {"form": "verbatim", "write-id": "w"})
    info = await world.layer.head_object("bucket", "a.zip")
    await world.plant("a.zip", data + b"x", {"form": "verbatim"})
    assert await world.layer.optimise("bucket", "a.zip", info) is None
    assert await world.form("a.zip") == "verbatim"
    info = await world.layer.head_object("bucket", "a.zip")
    done = await world.layer.optimise("bucket", "a.zip", info)
    assert done is not None
    assert (done.size, done.etag, done.last_modified) == (
        info.size,
        info.etag,
        info.last_modified,
    )
    assert await world.form("a.zip") == "delta"
    assert await world.layer.optimise("bucket", "a.zip", info) is None
    assert await world.get("a.zip") == data + b"x"
