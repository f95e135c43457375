"""What the layer asks of the intent of a write: references held, keys kept to themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support.digests import digest
from support.recorded_write import RecordedWrite, writing

from deltaglider_core.errors import ServiceUnavailable
from deltaglider_core.interfaces.storage import CompletedPart, ObjectInfo
from deltaglider_core.part_table import PartTable
from deltaglider_core.testing import MemoryBackend, body, metadata

if TYPE_CHECKING:
    from .conftest import MakeWorld, World

SIZE = 50_000
WRITE_ID = "7" * 32


def on_call(world: World, method: str, note: Callable[[str], None]) -> None:
    """Call ``note(key)`` before each call of a method of the backend."""
    world.memory.before(method, lambda *, bucket, key: note(key))


async def first(world: World, key: str = "app-1.zip") -> tuple[bytes, str]:
    """Store a first version; returns its bytes and the key of its reference."""
    data = world.data(SIZE)
    await world.put(key, data)
    (reference,) = await world.references()
    return data, reference


async def upload(world: World, key: str, data: bytes, write: RecordedWrite) -> ObjectInfo:
    given = metadata(internal={"write-id": WRITE_ID})
    upload_id = await world.layer.create_multipart_upload("bucket", key, metadata=given)
    part = await world.layer.upload_part("bucket", key, upload_id, 1, body(data), size=len(data))
    parts = [CompletedPart(part_number=1, etag=part.etag)]
    with writing(write):
        return await world.layer.complete_multipart_upload("bucket", key, upload_id, parts)


# --- holding ----------------------------------------------------------------------------------


async def test_a_reference_is_held_before_it_is_used(make_world: MakeWorld) -> None:
    warm = await make_world()
    data, reference = await first(warm)
    world = await make_world(inner=warm.inner)
    write = RecordedWrite()
    held: dict[str, str | None] = {}
    on_call(world, "get_object", lambda key: held.setdefault(f"fetch {key}", write.held))
    on_call(world, "head_object", lambda key: held.setdefault(f"confirm {key}", write.held))
    on_call(world, "put_object", lambda key: held.setdefault(f"commit {key}", write.held))
    with writing(write):
        await world.put("app-2.zip", world.version(data))
    world.memory.heal()
    assert await world.form("app-2.zip") == "delta"
    assert write.asked == [("hold", reference, SIZE)]
    assert held == {
        f"fetch {reference}": reference,
        f"confirm {reference}": reference,
        "commit app-2.zip": reference,
    }


async def test_nothing_is_encoded_against_a_reference_that_is_refused(world: World) -> None:
    data, reference = await first(world)
    write = RecordedWrite(condemned={reference})
    with writing(write):
        await world.put("app-2.zip", world.version(data))
    assert await world.form("app-2.zip") == "delta"
    own = [key for key in await world.references() if key != reference]
    assert write.asked == [("hold", reference, SIZE), ("hold", own[0], SIZE)]
    await world.inner.delete_object("bucket", reference)
    await world.inner.delete_object("bucket", "app-1.zip")
    assert await world.get("app-2.zip") == world.version(data)


async def test_another_reference_is_taken_instead(world: World) -> None:
    data, older = await first(world)
    with writing(RecordedWrite(condemned={older})):
        await world.put("app-2.zip", world.version(data, seed=5))
    (newer,) = [key for key in await world.references() if key != older]
    write = RecordedWrite(condemned={newer})
    with writing(write):
        await world.put("app-3.zip", world.version(data))
    assert [reference for _, reference, _ in write.asked] == [newer, older]
    assert write.held == older
    await world.inner.delete_object("bucket", newer)
    assert await world.get("app-3.zip") == world.version(data)


async def test_a_condemned_reference_is_not_created_again(world: World) -> None:
    """Its deletion may be under way, and would take the new bytes with it."""
    data, reference = await first(world)
    for candidates in (True, False):
        if not candidates:
            await world.inner.delete_object("bucket", reference)
        write = RecordedWrite(condemned={reference})
        with writing(write):
            await world.put("app-9.zip", data)
        assert await world.form("app-9.zip") == "verbatim"
        assert write.asked == [("hold", reference, SIZE)]
    assert await world.references() == []


async def test_a_new_reference_is_registered_before_its_bytes(world: World) -> None:
    write = RecordedWrite()
    registered: list[bool] = []
    on_call(
        world,
        "put_object",
        lambda key: registered.append(write.held == key) if "/refs/" in key else None,
    )
    with writing(write):
        await world.put("app-1.zip", world.data(SIZE))
    assert registered == [True]
    assert [method for method, _, _ in write.asked] == ["hold"]


async def test_refusals_without_end_store_the_object_as_it_is(world: World) -> None:
    data = world.data(SIZE)
    for number in range(8):
        await world.plant_reference(world.version(data, seed=number), "app-0.zip")
    write = RecordedWrite(condemned=set(await world.references()))
    with writing(write):
        await world.put("app-1.zip", world.data(SIZE, seed=77))
    assert await world.form("app-1.zip") == "verbatim"
    assert len(write.asked) == 4
    assert await world.get("app-1.zip") == world.data(SIZE, seed=77)


@pytest.mark.parametrize("known", [True, False])
async def test_a_state_that_cannot_be_asked_refuses_the_write(world: World, known: bool) -> None:
    data = world.data(SIZE)
    if known:
        await first(world)
    before = world.memory.keys("bucket")
    with writing(RecordedWrite(down=True)), pytest.raises(ServiceUnavailable):
        await world.put("app-2.zip", world.version(data))
    assert world.memory.keys("bucket") == before
    assert world.leases == 0


async def test_what_is_no_delta_asks_for_nothing(world: World) -> None:
    with writing(RecordedWrite(down=True)):
        await world.put("a.png", world.data(SIZE))
        await world.put("a.zip", b"small")
        await world.get("a.png")
        await world.layer.delete_object("bucket", "a.png")
    assert world.memory.keys("bucket") == ["a.zip"]


# --- copies -----------------------------------------------------------------------------------


async def test_a_copy_holds_before_it_confirms(world: World) -> None:
    _, reference = await first(world)
    write = RecordedWrite()
    held: list[str | None] = []
    on_call(
        world,
        "head_object",
        lambda key: held.append(write.held) if key == reference else None,
    )
    with writing(write):
        await world.layer.copy_object("bucket", "app-1.zip", "bucket", "w/copy.zip")
    assert write.asked == [("hold", reference, SIZE)]
    assert held == [reference]
    assert await world.form("w/copy.zip") == "delta"


@pytest.mark.parametrize("target", ["w/copy.zip", "app-1.zip", "copy.png"])
async def test_a_delta_with_a_condemned_reference_is_copied_as_what_it_is(
    world: World, target: str
) -> None:
    data, reference = await first(world)
    write = RecordedWrite(condemned={reference})
    with writing(write):
        await world.layer.copy_object("bucket", "app-1.zip", "bucket", target)
    assert write.held != reference
    if target != "app-1.zip":
        await world.inner.delete_object("bucket", "app-1.zip")
    await world.inner.delete_object("bucket", reference)
    assert await world.get(target) == data


async def test_a_copy_without_metadata_of_its_own_has_the_id_of_its_write(world: World) -> None:
    await world.put("a.zip", world.data(SIZE), internal={"write-id": "1" * 32})
    await world.put("a.png", world.data(SIZE), internal={"write-id": "1" * 32})
    for source, target in (("a.zip", "b.zip"), ("a.png", "b.png"), ("a.zip", "c.png")):
        with writing(RecordedWrite(write_id=WRITE_ID)):
            info = await world.layer.copy_object("bucket", source, "bucket", target)
        assert info.metadata is not None
        head = await world.layer.head_object("bucket", target)
        assert head.metadata is not None
        assert head.metadata.internal == info.metadata.internal == {"write-id": WRITE_ID}


# --- rewrites ---------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_rewrite_is_alone_while_it_commits(world: World, wrapped: bool) -> None:
    data, _ = await first(world, "v/app-1.zip")
    sent = await world.stored("v/app-1.zip") if wrapped else world.version(data)
    write = RecordedWrite()
    alone: list[bool] = []
    on_call(
        world,
        "put_object",
        lambda key: alone.append(write.is_alone) if key == "v/app-2.zip" else None,
    )
    info = await upload(world, "v/app-2.zip", sent, write)
    assert alone == [False, True]  # the upload itself, then what it becomes
    assert await world.form("v/app-2.zip") == ("wrapped" if wrapped else "delta")
    assert not write.is_alone
    stored = await world.inner.head_object("bucket", "v/app-2.zip")
    assert info == await world.layer.head_object("bucket", "v/app-2.zip")
    assert (info.stored_size, info.stored_as) == (
        stored.size,
        "passthrough" if wrapped else "delta",
    )
    assert info.metadata is not None
    parts = PartTable(sizes=[info.size]).to_text()
    checksum = f"crc64nvme:FULL_OBJECT:{digest('crc64nvme', sent)}"
    assert info.metadata.internal == {
        "write-id": WRITE_ID,
        "parts": parts,
        "checksum": checksum,
    }


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_rewrite_gives_way_to_any_other_write(world: World, wrapped: bool) -> None:
    data, _ = await first(world, "v/app-1.zip")
    sent = await world.stored("v/app-1.zip") if wrapped else world.version(data)
    write = RecordedWrite(undisturbed=False)
    info = await upload(world, "v/app-2.zip", sent, write)
    assert ("alone", "", 0) in write.asked
    assert await world.form("v/app-2.zip") == "assembled"
    assert (info.stored_size, info.stored_as) == (len(sent), "passthrough")
    assert await world.get("v/app-2.zip") == sent
    assert world.leases == 0


async def test_a_rewrite_that_cannot_be_alone_leaves_the_upload(world: World) -> None:
    data, _ = await first(world, "v/app-1.zip")
    info = await upload(world, "v/app-2.zip", world.version(data), RecordedWrite(down=True))
    assert world.logged("optimise_failed")
    assert info.size == SIZE
    assert await world.form("v/app-2.zip") == "assembled"


async def test_wrapping_leaves_a_copy_onto_itself_alone(world: World) -> None:
    """The same bytes have the same ETag, so only the look at the last moment tells."""
    await first(world, "v/app-1.zip")
    blob = await world.stored("v/app-1.zip")
    done = False

    async def change(*, bucket: str, key: str) -> None:
        nonlocal done
        if key == "v/app-2.zip" and not done and world.memory.calls[-1][0] == "head_object":
            done = True
            info = await world.inner.head_object("bucket", key)
            await world.inner.copy_object(
                "bucket", key, "bucket", key, metadata=metadata(user={"new": "1"})
            )
            assert info.etag == (await world.inner.head_object("bucket", key)).etag

    async def arm(*, bucket: str, key: str) -> None:
        if key == "v/app-2.zip":
            world.memory.before("head_object", change)

    world.memory.after("put_object", arm)
    await upload(world, "v/app-2.zip", blob, RecordedWrite())
    assert done
    head = await world.layer.head_object("bucket", "v/app-2.zip")
    assert head.metadata is not None
    assert dict(head.metadata.user) == {"new": "1"}


# --- what is reported -------------------------------------------------------------------------


@pytest.mark.parametrize("bare", [False, True])
async def test_stored_facts_are_reported_everywhere(
    make_world: MakeWorld, bare_backend: Any, bare: bool
) -> None:
    world = await make_world(inner=bare_backend if bare else None)
    data = world.data(SIZE)
    written = {
        "v/1.zip": await world.put("v/1.zip", data),
        "v/2.zip": await world.put("v/2.zip", world.version(data)),
        "v/3.png": await world.put("v/3.png", data),
    }
    blob = await world.stored("v/2.zip")
    written["v/4.other"] = await world.put("v/4.other", blob)
    written["v/5.zip"] = await world.layer.copy_object("bucket", "v/2.zip", "bucket", "v/5.zip")
    written["v/6.png"] = await world.layer.copy_object("bucket", "v/2.zip", "bucket", "v/6.png")
    await world.plant("v/7.png", b"foreign")
    written["v/7.png"] = await world.layer.head_object("bucket", "v/7.png")
    await world.plant("v/8.zip", blob)
    written["v/8.zip"] = await world.layer.head_object("bucket", "v/8.zip")
    listed = {info.key: info for info in (await world.layer.list_objects("bucket")).objects}
    assert listed.keys() == written.keys()
    for key, info in written.items():
        stored = await world.inner.head_object("bucket", key)
        form = "delta" if key in ("v/1.zip", "v/2.zip", "v/5.zip", "v/8.zip") else "passthrough"
        async with await world.layer.get_object("bucket", key) as reader:
            opened = reader.info
        for each in (info, listed[key], opened, await world.layer.head_object("bucket", key)):
            assert (each.stored_size, each.stored_as) == (stored.size, form), key
    assert written["v/2.zip"].size == SIZE


async def test_a_layer_below_may_know_better(make_world: MakeWorld) -> None:
    """Encryption, for example, stores more bytes than it shows."""

    class Larger(MemoryBackend):
        async def head_object(self, bucket: str, key: str) -> ObjectInfo:
            info = await super().head_object(bucket, key)
            return replace(info, stored_size=info.size + 28)

    world = await make_world(inner=Larger())
    await world.put("a.zip", world.data(SIZE))
    head = await world.layer.head_object("bucket", "a.zip")
    assert head.stored_size == len(await world.stored("a.zip")) + 28
    assert head.stored_as == "delta"


async def test_a_new_reference_saves_nothing_by_itself(world: World) -> None:
    data, _ = await first(world)
    assert world.metric("deltaglider_delta_bytes_saved_total") == 0
    info = await world.put("app-2.zip", world.version(data))
    assert info.stored_size is not None
    assert world.metric("deltaglider_delta_bytes_saved_total") == SIZE - info.stored_size > 0
