"""The decision about a PUT, and what it leaves behind on the backend."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from deltaglider_core.delta import spooling
from deltaglider_core.delta.policy import BucketPolicy, DeltaPolicy
from deltaglider_core.errors import (
    IncompleteBody,
    IntegrityError,
    InternalError,
    NoSuchKey,
    PreconditionFailed,
    ServiceUnavailable,
)
from deltaglider_core.interfaces.storage import ByteRange, Condition
from deltaglider_core.testing import body, broken_body, metadata

if TYPE_CHECKING:
    from .conftest import MakeWorld, World

SIZE = 100_000


async def test_versions_become_deltas_of_one_reference(world: World) -> None:
    first = world.data(SIZE)
    versions = {"v/app-1.zip": first}
    for number in range(2, 6):
        versions[f"v/app-{number}.zip"] = world.version(first, seed=number)
    for key, data in versions.items():
        info = await world.put(key, data)
        assert (info.key, info.size, info.etag) == (key, SIZE, hashlib.md5(data).hexdigest())
    (reference,) = await world.references()
    assert reference == f".deltaglider/refs/v/{hashlib.sha256(first).hexdigest()}"
    assert await world.stored(reference) == first
    for key, data in versions.items():
        assert await world.form(key) == "delta"
        assert len(await world.stored(key)) < SIZE / 20
        assert await world.get(key) == data
    assert world.metric("deltaglider_delta_decisions_total", {"decision": "reference"}) == 1
    assert world.metric("deltaglider_delta_decisions_total", {"decision": "delta"}) == 4
    assert world.metric("deltaglider_delta_bytes_saved_total") > 4 * SIZE * 0.9
    assert world.leases == 0


@pytest.mark.parametrize(
    "key", ["a.png", "a.tar.gz", "a.tgz", "zip", "dir.zip/name", "a.zip.zst", "noname"]
)
async def test_other_names_stay_verbatim(world: World, key: str) -> None:
    data = world.data(SIZE)
    info = await world.put(key, data)
    assert info.etag == hashlib.md5(data).hexdigest()
    assert await world.form(key) == "verbatim"
    assert await world.stored(key) == data == await world.get(key)
    assert await world.references() == []


@pytest.mark.parametrize("size", [0, 1, 15, 16, 4095])
async def test_small_objects_stay_verbatim(world: World, size: int) -> None:
    data = world.data(size)
    await world.put("a.zip", data)
    assert await world.stored("a.zip") == data == await world.get("a.zip")
    assert await world.form("a.zip") == "verbatim"


@pytest.mark.parametrize("size", [4096, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 32 * 1024])
async def test_sizes_around_a_window(world: World, size: int) -> None:
    data = world.data(size)
    await world.put("a-1.zip", data)
    await world.put("a-2.zip", world.version(data))
    assert await world.form("a-2.zip") == "delta"
    assert await world.get("a-2.zip") == world.version(data)


async def test_an_unknown_size_streams(world: World) -> None:
    data = world.data(SIZE)
    await world.put("a.zip", data, size=None)
    assert await world.form("a.zip") == "verbatim"
    assert await world.get("a.zip") == data


async def test_nothing_of_a_verbatim_upload_is_spooled(make_world: MakeWorld) -> None:
    world = await make_world(spool_bytes=0)
    data = world.data(SIZE)
    await world.put("a.zip", data)
    await world.put("a.png", data)
    assert await world.form("a.zip") == "verbatim"
    assert await world.get("a.zip") == data


async def test_an_unlike_object_of_a_known_family_stays_verbatim(world: World) -> None:
    await world.put("app-1.zip", world.data(SIZE, seed=1))
    other = world.data(SIZE, seed=99)
    await world.put("app-2.zip", other)
    assert await world.form("app-2.zip") == "verbatim"
    assert await world.stored("app-2.zip") == other
    assert len(await world.references()) == 1


async def test_every_family_gets_a_reference_up_to_a_number(world: World) -> None:
    for letter in "abcdefghijklmnopqrst":
        await world.put(f"{letter}.zip", world.data(5000, seed=ord(letter)))
    assert len(await world.references()) == 16
    assert await world.form("t.zip") == "verbatim"


async def test_an_object_equal_to_a_reference_of_another_family_uses_it(world: World) -> None:
    data = world.data(SIZE)
    await world.put("app.zip", data)
    await world.put("copy-of-it.bin", data)
    assert len(await world.references()) == 1
    assert await world.form("copy-of-it.bin") == "delta"


async def test_nested_deltaspaces_do_not_mix(world: World) -> None:
    await world.put("a/b/x.zip", world.data(SIZE, seed=1))
    await world.put("a/x.zip", world.data(SIZE, seed=2))
    await world.put("x.zip", world.data(SIZE, seed=3))
    assert len(await world.references()) == 3
    for key in ("a/b/x.zip", "a/x.zip", "x.zip"):
        assert await world.form(key) == "delta"


@pytest.mark.parametrize(
    ("policy", "delta"),
    [
        (DeltaPolicy(max_ratio=0.0), False),
        (DeltaPolicy(max_ratio=1.0), True),
        (DeltaPolicy(max_ratio=0.0, buckets={"bucket": BucketPolicy(max_ratio=0.5)}), True),
        (DeltaPolicy(buckets={"bucket": BucketPolicy(max_ratio=0.0)}), False),
        (DeltaPolicy(buckets={"bucket": BucketPolicy(compression=False)}), False),
        (DeltaPolicy(buckets={"other": BucketPolicy(compression=False)}), True),
        (DeltaPolicy(suffixes=(".bin",)), False),
        (DeltaPolicy(suffixes=()), False),
    ],
    ids=str,
)
async def test_policy_decides(make_world: MakeWorld, policy: DeltaPolicy, delta: bool) -> None:
    world = await make_world(policy=policy)
    await world.put("a.zip", world.data(SIZE))
    assert await world.form("a.zip") == ("delta" if delta else "verbatim")
    assert await world.get("a.zip") == world.data(SIZE)


async def test_a_ratio_that_is_just_reached_is_too_large(make_world: MakeWorld) -> None:
    probe = await make_world(policy=DeltaPolicy(max_ratio=1.0))
    await probe.put("a.zip", probe.data(SIZE))
    stored = len(await probe.stored("a.zip"))
    for ratio, form in ((stored / SIZE, "verbatim"), ((stored + 0.5) / SIZE, "delta")):
        world = await make_world(policy=DeltaPolicy(max_ratio=ratio))
        await world.put("a.zip", world.data(SIZE))
        assert await world.form("a.zip") == form
        assert len(await world.references()) == (form == "delta")


async def test_a_codec_that_fails_costs_the_delta_not_the_upload(world: World) -> None:
    await world.put("a-1.zip", world.data(SIZE))
    world.codec.error = RuntimeError("broken")
    await world.put("a-2.zip", world.version(world.data(SIZE)))
    await world.put("b.zip", world.data(SIZE, seed=8))
    assert await world.form("a-2.zip") == await world.form("b.zip") == "verbatim"
    assert len(await world.references()) == 1
    (first, _) = world.logged("encoding_failed")
    assert "broken" in str(first["reason"])


async def test_a_codec_that_encodes_wrongly_is_found_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(reference: bytes, window: bytes, *, size: int) -> bytes:
        return bytes(size)

    monkeypatch.setattr(world.codec, "decode_window", wrong)
    await world.put("a.zip", world.data(SIZE))
    assert await world.form("a.zip") == "verbatim"
    assert world.logged("encoding_failed")


async def test_without_a_codec_everything_is_verbatim(make_world: MakeWorld) -> None:
    world = await make_world(codecs={})
    await world.put("a.zip", world.data(SIZE))
    assert await world.form("a.zip") == "verbatim"
    assert await world.get("a.zip") == world.data(SIZE)


async def test_references_beyond_the_cache_are_used_and_not_kept(make_world: MakeWorld) -> None:
    world = await make_world(policy=DeltaPolicy(cache_bytes=SIZE - 1))
    data = world.data(SIZE)
    for number in range(2):
        await world.put(f"a-{number}.zip", world.version(data, seed=number))
        assert await world.form(f"a-{number}.zip") == "delta"
        assert await world.get(f"a-{number}.zip") == world.version(data, seed=number)
    assert list((world.services.cache_dir / "references").iterdir()) == []
    assert all(prepared.closed for prepared in world.codec.prepared)


async def test_two_first_uploads_at_once(world: World) -> None:
    one, two = world.data(SIZE), world.version(world.data(SIZE))
    await asyncio.gather(world.put("a-1.zip", one), world.put("a-2.zip", two))
    assert await world.get("a-1.zip") == one
    assert await world.get("a-2.zip") == two
    assert 1 <= len(await world.references()) <= 2
    assert await world.form("a-1.zip") == await world.form("a-2.zip") == "delta"


async def test_the_same_first_upload_twice_at_once(world: World) -> None:
    data = world.data(SIZE)
    await asyncio.gather(world.put("a-1.zip", data), world.put("a-2.zip", data))
    assert len(await world.references()) == 1
    assert await world.get("a-1.zip") == data == await world.get("a-2.zip")


async def test_overwriting_changes_the_form_at_once(world: World) -> None:
    data = world.data(SIZE)
    for value, form in (
        (data, "delta"),
        (world.data(SIZE, seed=5), "verbatim"),
        (world.version(data), "delta"),
        (b"small", "verbatim"),
    ):
        info = await world.put("a.zip", value)
        assert await world.form("a.zip") == form
        assert await world.get("a.zip") == value
        assert (await world.layer.head_object("bucket", "a.zip")).etag == info.etag
        page = await world.layer.list_objects("bucket")
        assert [(o.key, o.size, o.etag) for o in page.objects] == [("a.zip", len(value), info.etag)]


async def test_metadata_is_kept_and_ours_cannot_be_given(world: World) -> None:
    given = {"write-id": "w1", "form": "verbatim", "size": "1", "head": "9", "ref": "x"}
    await world.put("a.zip", world.data(SIZE), user={"colour": "blue"}, internal=given)
    stored = (await world.inner.head_object("bucket", "a.zip")).metadata
    assert stored is not None
    assert stored.internal["write-id"] == "w1"
    assert stored.internal["form"] == "delta"
    assert stored.internal["size"] == str(SIZE)
    shown = (await world.layer.head_object("bucket", "a.zip")).metadata
    assert shown is not None
    assert dict(shown.internal) == {"write-id": "w1"}
    assert dict(shown.user) == {"colour": "blue"}


@pytest.mark.parametrize("key", ["a.zip", "a.png"])
async def test_an_etag_that_the_caller_gives_is_the_objects(world: World, key: str) -> None:
    etag = "0" * 32 + "-3"
    info = await world.put(key, world.data(SIZE), internal={"etag": etag})
    assert info.etag == etag
    assert (await world.layer.head_object("bucket", key)).etag == etag
    assert (await world.layer.list_objects("bucket")).objects[0].etag == etag


# --- bad bodies -----------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a.zip", "a.png"])
@pytest.mark.parametrize("off", [-1, 1])
async def test_a_body_of_another_length_is_refused(world: World, key: str, off: int) -> None:
    await world.put(key, b"before")
    with pytest.raises(IncompleteBody):
        await world.put(key, world.data(SIZE), size=SIZE - off)
    assert await world.get(key) == b"before"
    assert await world.references() == []
    assert world.leases == 0


@pytest.mark.parametrize("key", ["a.zip", "a.png"])
@pytest.mark.parametrize("error", [ConnectionResetError("gone"), InternalError("bad digest")])
async def test_a_body_that_fails_stores_nothing(world: World, key: str, error: Exception) -> None:
    with pytest.raises(type(error)):
        await world.layer.put_object(
            "bucket",
            key,
            broken_body(world.data(SIZE), error),
            size=SIZE,
            metadata=metadata(),
        )
    assert world.memory.keys("bucket") == []
    assert world.leases == 0


async def test_a_cancelled_upload_stores_nothing_and_gives_its_room_back(world: World) -> None:
    reached = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield world.data(SIZE)
        reached.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(
        world.layer.put_object("bucket", "a.zip", endless(), size=2 * SIZE, metadata=metadata())
    )
    await reached.wait()
    assert world.leases > 0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.leases == 0
    assert world.memory.keys("bucket") == []


async def test_a_full_disk_in_the_spool_costs_the_delta_not_the_upload(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = spooling._Writer.append

    def full(self: Any, block: bytes) -> None:
        if self.size >= spooling.BLOCK:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, block)

    monkeypatch.setattr(spooling._Writer, "append", full)
    data = world.data(3 * spooling.BLOCK + 17)
    info = await world.put("a.zip", data, chunk_size=100_000)
    assert info.size == len(data)
    assert await world.form("a.zip") == "verbatim"
    assert await world.get("a.zip") == data
    assert world.logged("spool_full")
    assert world.leases == 0


async def test_a_full_disk_while_encoding_costs_the_delta_not_the_upload(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("deltaglider_core.delta.encoder._write_at", full)
    await world.put("a.zip", world.data(SIZE))
    assert await world.form("a.zip") == "verbatim"
    assert await world.references() == []


async def test_a_full_disk_in_the_cache_costs_the_delta_not_the_upload(
    make_world: MakeWorld, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.put("a-1.zip", world.data(SIZE))

    async def full(*_: object, **__: object) -> tuple[int, str]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("deltaglider_core.delta.cache.write_hashed", full)
    cold = await make_world(inner=world.inner)
    await cold.put("a-2.zip", world.version(world.data(SIZE)))
    assert await world.form("a-2.zip") == "verbatim"


# --- the reference --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["list_objects", "head_object"])
async def test_an_error_about_references_is_never_read_as_none(world: World, method: str) -> None:
    await world.put("a-1.zip", world.data(SIZE))
    before = world.memory.keys("bucket")
    world.memory.fail(method, ServiceUnavailable())
    with pytest.raises(ServiceUnavailable):
        await world.put("a-2.zip", world.version(world.data(SIZE)))
    assert world.memory.keys("bucket") == before
    assert world.leases == 0


async def test_an_error_when_a_reference_is_fetched_fails_the_upload(
    world: World, make_world: MakeWorld
) -> None:
    await world.put("a-1.zip", world.data(SIZE))
    cold = await make_world(inner=world.inner)
    world.memory.fail("get_object", ServiceUnavailable())
    with pytest.raises(ServiceUnavailable):
        await cold.put("a-2.zip", world.version(world.data(SIZE)))
    assert await cold.put("a-2.zip", world.version(world.data(SIZE)))
    assert await cold.form("a-2.zip") == "delta"


async def test_a_reference_that_is_damaged_is_not_used(world: World, make_world: MakeWorld) -> None:
    await world.put("a-1.zip", world.data(SIZE))
    (reference,) = await world.references()
    world.memory.corrupt("bucket", reference, world.data(SIZE, seed=7))
    cold = await make_world(inner=world.inner)
    data = world.version(world.data(SIZE))
    await cold.put("a-2.zip", data)
    assert await cold.form("a-2.zip") == "verbatim"
    assert await cold.get("a-2.zip") == data


async def test_a_reference_is_confirmed_on_the_backend_not_in_the_cache(world: World) -> None:
    await world.put("a-1.zip", world.data(SIZE))
    (reference,) = await world.references()
    data = world.version(world.data(SIZE))

    async def vanish(*, bucket: str, key: str) -> None:
        if key == reference:
            world.memory.heal()
            await world.inner.delete_object(bucket, reference)

    world.memory.before("head_object", vanish)
    await world.put("a-2.zip", data)
    assert await world.form("a-2.zip") == "verbatim"
    assert await world.get("a-2.zip") == data


async def test_a_failed_write_leaves_the_reference_and_the_error(world: World) -> None:
    world.memory.fail("put_object", ServiceUnavailable(), key="a.zip")
    with pytest.raises(ServiceUnavailable):
        await world.put("a.zip", world.data(SIZE))
    fact, *references = world.memory.keys("bucket")
    assert fact == ".deltaglider/layout/suffix/zip"
    assert references == await world.references() != []
    await world.put("a.zip", world.data(SIZE))
    assert await world.get("a.zip") == world.data(SIZE)
    assert len(await world.references()) == 1


async def test_foreign_names_among_the_references_are_ignored(world: World) -> None:
    for name in ("x", "a" * 64 + ".on." + "b" * 64, "A" * 64):
        await world.plant(f".deltaglider/refs/{name}", world.data(SIZE))
    await world.plant(".deltaglider/refs/" + "a" * 64, b"")
    await world.put("a.zip", world.data(SIZE))
    assert await world.form("a.zip") == "delta"


async def test_references_work_without_metadata_in_listings(
    make_world: MakeWorld, bare_backend: Any
) -> None:
    world = await make_world(inner=bare_backend)
    data = world.data(SIZE)
    await world.put("a-1.zip", data)
    await world.put("a-2.zip", world.version(data))
    assert await world.form("a-2.zip") == "delta"
    heads = [call for call in world.memory.calls if call[0] == "head_object"]
    await world.put("a-3.zip", world.version(data, seed=3))
    more = [call for call in world.memory.calls if call[0] == "head_object"][len(heads) :]
    assert len(more) == 1  # it is confirmed; its family is remembered
    assert await world.get("a-3.zip") == world.version(data, seed=3)


# --- conditions -----------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a.zip", "a.png"])
async def test_conditions_are_about_the_logical_etag(world: World, key: str) -> None:
    first, second = world.data(SIZE), world.version(world.data(SIZE))
    with pytest.raises(NoSuchKey):
        await world.put(key, first, condition=Condition(if_match="0" * 32))
    info = await world.put(key, first, condition=Condition(if_none_match="*"))
    with pytest.raises(PreconditionFailed):
        await world.put(key, second, condition=Condition(if_none_match="*"))
    with pytest.raises(PreconditionFailed):
        await world.put(key, second, condition=Condition(if_match="0" * 32))
    with pytest.raises(PreconditionFailed):
        await world.put(key, second, condition=Condition(if_none_match=info.etag))
    assert await world.get(key) == first
    await world.put(key, second, condition=Condition(if_match=info.etag))
    assert await world.get(key) == second
    await world.put(key, first, condition=Condition(if_none_match="0" * 32))
    assert await world.get(key) == first


async def test_a_condition_holds_against_a_writer_in_between(world: World) -> None:
    info = await world.put("a.zip", world.data(SIZE))

    async def overtake(*, bucket: str, key: str) -> None:
        if key == "a.zip":
            world.memory.heal()
            await world.plant("a.zip", b"other", {"form": "verbatim"})

    world.memory.before("put_object", overtake)
    with pytest.raises(PreconditionFailed):
        await world.put(
            "a.zip", world.version(world.data(SIZE)), condition=Condition(if_match=info.etag)
        )
    assert await world.get("a.zip") == b"other"


# --- magic ----------------------------------------------------------------------------------


async def test_bytes_that_begin_with_our_magic_are_wrapped(world: World) -> None:
    await world.put("a.zip", world.data(SIZE))
    blob = await world.stored("a.zip")
    for key, size in (("mirror/a.zip", -1), ("mirror/a.bin2", -1), ("mirror/b.bin2", None)):
        info = await world.put(key, blob, size=size)
        assert info.size == len(blob)
        assert await world.form(key) == "wrapped"
        assert await world.get(key) == blob
        assert await world.get(key, ByteRange(first=5, last=40)) == blob[5:41]
        assert await world.get(key, ByteRange(first=None, last=7)) == blob[-7:]
        head = await world.layer.head_object("bucket", key)
        assert (head.size, head.etag) == (info.size, info.etag)
        if size is not None:
            assert info.etag == hashlib.md5(blob).hexdigest()


async def test_a_large_blob_of_ours_can_be_a_reference_and_a_delta(world: World) -> None:
    await world.put("a.zip", world.data(SIZE))
    blob = await world.stored("a.zip") + world.data(SIZE, seed=4)
    await world.put("mirror/a-1.zip", blob)
    await world.put("mirror/a-2.zip", blob + b"more")
    assert await world.form("mirror/a-1.zip") == "delta"
    assert await world.get("mirror/a-1.zip") == blob
    assert await world.get("mirror/a-2.zip") == blob + b"more"


async def test_wrapping_without_spool_streams(make_world: MakeWorld) -> None:
    source = await make_world()
    await source.put("a.zip", source.data(SIZE))
    blob = await source.stored("a.zip")
    world = await make_world(spool_bytes=0)
    info = await world.put("a.zip", blob)
    assert await world.get("a.zip") == blob
    assert (await world.layer.head_object("bucket", "a.zip")).etag == info.etag


async def test_metadata_that_says_verbatim_over_our_magic_is_refused(world: World) -> None:
    await world.put("a.zip", world.data(SIZE))
    await world.plant("b.zip", await world.stored("a.zip"), {"form": "verbatim"})
    with pytest.raises(IntegrityError):
        await world.get("b.zip")
    with pytest.raises(IntegrityError):
        await world.get("b.zip", ByteRange(first=0, last=100))
    assert world.logged("object_unreadable")


async def test_magic_in_many_small_chunks_is_recognised(world: World) -> None:
    await world.put("a.zip", world.data(SIZE))
    blob = await world.stored("a.zip")
    await world.layer.put_object(
        "bucket", "b", body(blob, chunk_size=1), size=None, metadata=metadata()
    )
    assert await world.form("b") == "wrapped"
