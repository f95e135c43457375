"""Reading: the right bytes or an error, whatever happened to what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deltaglider_core.delta import container
from deltaglider_core.delta.policy import DeltaPolicy
from deltaglider_core.errors import (
    IntegrityError,
    InvalidRange,
    NoSuchBucket,
    NoSuchKey,
    S3Error,
    ServiceUnavailable,
)
from deltaglider_core.interfaces.storage import ByteRange, ObjectMetadata
from deltaglider_core.testing import read

if TYPE_CHECKING:
    from .conftest import MakeWorld, World

SIZE = 100_000
RANGES = (
    ByteRange(first=0, last=0),
    ByteRange(first=0, last=15),
    ByteRange(first=0, last=16 * 1024 - 1),
    ByteRange(first=16 * 1024 - 1, last=16 * 1024),
    ByteRange(first=20_000, last=70_000),
    ByteRange(first=SIZE - 1, last=None),
    ByteRange(first=0, last=None),
    ByteRange(first=50_000, last=10 * SIZE),
    ByteRange(first=None, last=1),
    ByteRange(first=None, last=10 * SIZE),
)


async def put_versions(world: World) -> bytes:
    """Two versions; returns the bytes of ``app-2.zip``, a delta with seven windows."""
    data = world.data(SIZE)
    await world.put("app-1.zip", data)
    second = world.version(data, edits=40)
    await world.put("app-2.zip", second)
    assert await world.form("app-2.zip") == "delta"
    return second


async def strip(world: World, key: str) -> None:
    """Lose all attributes, as a copy by some other tool does."""
    await world.plant(key, await world.stored(key))


@pytest.mark.parametrize("byte_range", RANGES, ids=str)
@pytest.mark.parametrize("stripped", [False, True])
async def test_ranges(world: World, byte_range: ByteRange, stripped: bool) -> None:
    data = await put_versions(world)
    if stripped:
        await strip(world, "app-2.zip")
    reader = await world.layer.get_object("bucket", "app-2.zip", byte_range=byte_range)
    start, stop = byte_range.resolve(SIZE)
    assert (reader.start, reader.stop, reader.info.size) == (start, stop, SIZE)
    assert await read(reader) == data[start:stop]


@pytest.mark.parametrize("key", ["app-2.zip", "plain.png", "wrapped.bin2"])
@pytest.mark.parametrize("stripped", [False, True])
async def test_ranges_beyond_the_object(world: World, key: str, stripped: bool) -> None:
    data = await put_versions(world)
    await world.put("plain.png", data)
    await world.put("wrapped.bin2", await world.stored("app-2.zip"))
    size = (await world.layer.head_object("bucket", key)).size
    if stripped:
        await strip(world, key)
    for beyond in (
        ByteRange(first=size, last=None),
        ByteRange(first=10 * size, last=20 * size),
        ByteRange(first=None, last=0),
    ):
        with pytest.raises(InvalidRange) as caught:
            await world.get(key, beyond)
        assert caught.value.size == size


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(first=st.integers(0, SIZE + 10), length=st.integers(1, SIZE), key=st.sampled_from("dvw"))
async def test_any_range_of_any_form(world: World, first: int, length: int, key: str) -> None:
    names = {"d": "app-2.zip", "v": "plain.png", "w": "wrapped.bin2"}
    if not world.memory.keys("bucket"):
        data = await put_versions(world)
        await world.put("plain.png", data)
        await world.put("wrapped.bin2", await world.stored("app-2.zip") + data)
    whole = await world.get(names[key])
    span = ByteRange(first=first, last=first + length - 1)
    if first >= len(whole):
        with pytest.raises(InvalidRange):
            await world.get(names[key], span)
    else:
        assert await world.get(names[key], span) == whole[first : first + length]


async def test_a_verbatim_object_costs_one_request(world: World) -> None:
    await world.put("plain.png", world.data(SIZE))
    for byte_range in (None, ByteRange(first=5, last=9), ByteRange(first=None, last=3)):
        world.memory.calls.clear()
        await world.get("plain.png", byte_range)
        assert [call[0] for call in world.memory.calls if call[0] != "read_chunk"] == ["get_object"]


async def test_a_range_fetches_only_its_windows(make_world: MakeWorld) -> None:
    world = await make_world(policy=DeltaPolicy(max_ratio=1.0))
    data = world.data(2_000_000)
    # Every other 16 KiB differ, so the delta has about a megabyte.
    other = world.data(2_000_000, seed=9)
    mixed = b"".join(
        (data if at % 32768 else other)[at : at + 16384] for at in range(0, len(data), 16384)
    )
    await world.put("a-1.zip", data)
    await world.put("a-2.zip", mixed)
    assert len(await world.stored("a-2.zip")) > 900_000
    read_bytes = 0
    original = world.memory._chunks

    async def counting(*arguments: Any) -> Any:
        nonlocal read_bytes
        async for chunk in original(*arguments):
            read_bytes += len(chunk)
            yield chunk

    world.memory._chunks = counting  # type: ignore[method-assign]
    span = ByteRange(first=1_500_000, last=1_500_100)
    assert await world.get("a-2.zip", span) == mixed[1_500_000:1_500_101]
    assert read_bytes < 250_000


# --- lost and contradicting attributes ------------------------------------------------------


async def test_a_delta_without_attributes_is_decoded(world: World) -> None:
    data = await put_versions(world)
    before = await world.layer.head_object("bucket", "app-2.zip")
    await strip(world, "app-2.zip")
    assert await world.get("app-2.zip") == data
    after = await world.layer.head_object("bucket", "app-2.zip")
    assert (after.size, after.etag) == (before.size, before.etag)
    (_, listed) = (await world.layer.list_objects("bucket")).objects
    assert (listed.size, listed.etag) == (before.size, before.etag)


async def test_wrapped_bytes_without_attributes_are_unwrapped(world: World) -> None:
    await put_versions(world)
    blob = await world.stored("app-2.zip")
    info = await world.put("copy.bin2", blob)
    await strip(world, "copy.bin2")
    assert await world.get("copy.bin2") == blob
    assert (await world.layer.head_object("bucket", "copy.bin2")).etag == info.etag


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 5000])
async def test_objects_of_somebody_else_are_served_as_they_are(world: World, size: int) -> None:
    data = world.data(size)
    await world.plant("foreign.zip", data)
    assert await world.get("foreign.zip") == data
    assert (await world.layer.head_object("bucket", "foreign.zip")).size == size
    assert [o.size for o in (await world.layer.list_objects("bucket")).objects] == [size]
    if size:
        assert await world.get("foreign.zip", ByteRange(first=size - 1, last=None)) == data[-1:]


async def test_a_long_head_is_read_in_two_steps(world: World) -> None:
    deep = "d" * 200 + "/" + "ü" * 300
    await world.put(f"{deep}/a.zip", world.data(SIZE))
    await strip(world, f"{deep}/a.zip")
    assert (await world.layer.head_object("bucket", f"{deep}/a.zip")).size == SIZE
    assert await world.get(f"{deep}/a.zip") == world.data(SIZE)


@pytest.mark.parametrize(
    "change",
    [
        {"form": "unknown"},
        {"form": "wrapped"},
        {"form": "verbatim"},
        {"size": "1"},
        {"size": "-1"},
        {"size": ""},
        {"size": "9" * 30},
        {"head": "0"},
        {"head": "1"},
        {"head": "99999999"},
        {"head": "x"},
        {"sha256": "0" * 64},
        {"sha256": "zz"},
        {"etag": 'a"\r\n'},
        {"modified": "soon"},
    ],
    ids=str,
)
async def test_attributes_that_contradict_the_bytes_are_refused(
    world: World, change: Mapping[str, str]
) -> None:
    await put_versions(world)
    info = await world.inner.head_object("bucket", "app-2.zip")
    assert info.metadata is not None
    blob = await world.stored("app-2.zip")
    await world.plant("app-2.zip", blob, {**info.metadata.internal, **change})
    for byte_range in (None, ByteRange(first=0, last=100)):
        with pytest.raises(IntegrityError):
            await world.get("app-2.zip", byte_range)
    listed = (await world.layer.list_objects("bucket")).objects
    assert [o.key for o in listed] == ["app-1.zip", "app-2.zip"]


async def test_attributes_of_a_delta_over_other_bytes_are_refused(world: World) -> None:
    await put_versions(world)
    info = await world.inner.head_object("bucket", "app-2.zip")
    assert info.metadata is not None
    for data in (world.data(SIZE), b"", b"short"):
        await world.plant("app-2.zip", data, info.metadata.internal)
        for byte_range in (None, ByteRange(first=0, last=100)):
            with pytest.raises(IntegrityError):
                await world.get("app-2.zip", byte_range)


# --- damage ---------------------------------------------------------------------------------


async def read_all(world: World, key: str, byte_range: ByteRange | None = None) -> bytes:
    """What a client has received when the read ends, also by an error."""
    received = b""
    try:
        async with await world.layer.get_object("bucket", key, byte_range=byte_range) as reader:
            async for chunk in reader:
                received += chunk
    except IntegrityError:
        return received + b"!"
    return received


def regions(blob: bytes) -> Mapping[str, range]:
    """The kinds of bytes in a delta with one group."""
    head = container.parse_head(blob[: container.head_length(blob)])
    index = head.length + head.groups[0].offset
    windows = index + head.groups[0].frame_size
    record = 24 + len(head.record.to_json())
    return {
        "frame": range(0, 8),
        "magic": range(8, 16),
        "version": range(16, 20),
        "record": range(20, record),
        "root": range(record, head.length - 32),
        "checksum": range(head.length - 32, head.length),
        "stream header": range(head.length, index),
        "index": range(index, windows),
        "windows": range(windows, len(blob)),
    }


@pytest.mark.parametrize(
    "region",
    [
        "frame",
        "magic",
        "version",
        "record",
        "root",
        "checksum",
        "stream header",
        "index",
        "windows",
    ],
)
@pytest.mark.parametrize("stripped", [False, True])
async def test_damage_never_gives_a_wrong_byte(world: World, region: str, stripped: bool) -> None:
    data = await put_versions(world)
    if stripped:
        await strip(world, "app-2.zip")
    blob = await world.stored("app-2.zip")
    area = regions(blob)[region]
    refused = 0
    for position in area[:: max(1, len(area) // 12)]:
        damaged = bytearray(blob)
        damaged[position] ^= 0x41
        world.memory.corrupt("bucket", "app-2.zip", bytes(damaged))
        got = await read_all(world, "app-2.zip")
        if stripped and region in ("frame", "magic") and got == bytes(damaged):
            continue  # without attributes and without magic it is somebody else's object
        span = ByteRange(first=30_000, last=60_000)
        part = await read_all(world, "app-2.zip", span)
        if region == "stream header":
            assert got == data  # only stock tools read it
            continue
        refused += got.endswith(b"!")
        assert data.startswith(got.removesuffix(b"!"))
        assert data[30_000:60_001].startswith(part.removesuffix(b"!"))
    if region not in ("stream header", "frame", "magic"):
        assert refused > 0


@pytest.mark.parametrize("cut", [1, 100, 1000, -8])
async def test_a_cut_or_longer_object_is_refused(world: World, cut: int) -> None:
    data = await put_versions(world)
    info = await world.inner.head_object("bucket", "app-2.zip")
    blob = await world.stored("app-2.zip")
    changed = blob[:-cut] if cut > 0 else blob + b"x" * -cut
    assert info.metadata is not None
    await world.plant("app-2.zip", changed, info.metadata.internal)
    assert (await read_all(world, "app-2.zip")).endswith(b"!")
    world.memory.corrupt("bucket", "app-2.zip", blob[: -abs(cut)])
    got = await read_all(world, "app-2.zip")
    assert got.endswith(b"!")
    assert data.startswith(got[:-1])


async def test_a_damaged_reference_is_never_used(world: World, make_world: MakeWorld) -> None:
    data = await put_versions(world)
    (reference,) = await world.references()
    good = await world.stored(reference)
    for bad in (world.data(SIZE, seed=3), good[:-1], b"x" + good[:-1], b""):
        cold = await make_world(inner=world.inner)
        world.memory.corrupt("bucket", reference, bad)
        assert await read_all(cold, "app-2.zip") == b"!"
        assert cold.metric("deltaglider_cache_size_bytes") == 0
        world.memory.corrupt("bucket", reference, good)
        assert await cold.get("app-2.zip") == data


async def test_a_missing_reference_is_an_error_and_not_a_404(
    world: World, make_world: MakeWorld
) -> None:
    await put_versions(world)
    (reference,) = await world.references()
    await world.inner.delete_object("bucket", reference)
    cold = await make_world(inner=world.inner)
    with pytest.raises(IntegrityError) as caught:
        await cold.get("app-2.zip")
    assert caught.value.status == 500
    assert reference in str(cold.logged("object_unreadable")[0]["reason"])


async def test_a_missing_codec_is_named_and_nothing_is_served(
    world: World, make_world: MakeWorld
) -> None:
    await put_versions(world)
    other = await make_world(inner=world.inner, codecs={})
    for byte_range in (None, ByteRange(first=0, last=3)):
        with pytest.raises(IntegrityError):
            await other.get("app-2.zip", byte_range)
    reason = str(other.logged("object_unreadable")[0]["reason"])
    assert "'block'" in reason
    assert "deltaglider-codec-block" in reason
    assert (await other.layer.head_object("bucket", "app-2.zip")).size == SIZE
    with pytest.raises(IntegrityError):
        await other.layer.copy_object("bucket", "app-2.zip", "bucket", "x.png")


async def test_a_codec_that_raises_anything_is_an_integrity_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_versions(world)

    def fails(*_: object, **__: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(world.codec, "decode_window", fails)
    with pytest.raises(IntegrityError):
        await world.get("app-2.zip")


async def test_a_codec_that_gives_other_bytes_is_found_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_versions(world)
    for result in (bytes(SIZE), b""):
        monkeypatch.setattr(
            world.codec, "decode_window", lambda *_, size, result=result: result[:size]
        )
        assert await read_all(world, "app-2.zip") == b"!"


# --- overwriting, errors and cancellation while reading ---------------------------------------


async def test_an_overwrite_during_a_read_changes_nothing(world: World) -> None:
    data = await put_versions(world)
    reader = await world.layer.get_object("bucket", "app-2.zip")
    async with reader:
        received = await anext(aiter(reader))
        await world.put("app-2.zip", b"new")
        async for chunk in reader:
            received += chunk
    assert received == data
    assert await world.get("app-2.zip") == b"new"


@pytest.mark.parametrize("after", [1, 2])
async def test_an_overwrite_between_ranged_requests_starts_again(world: World, after: int) -> None:
    data = await put_versions(world)
    newer = world.version(data, seed=77)
    seen = 0

    async def overwrite(*, bucket: str, key: str) -> None:
        nonlocal seen
        seen += key == "app-2.zip"
        if key == "app-2.zip" and seen == after:
            await world.put("app-2.zip", newer)

    world.memory.after("get_object", overwrite)
    got = await world.get("app-2.zip", ByteRange(first=100, last=40_000))
    assert got == (newer if after == 1 else data)[100:40_001]


async def test_an_object_that_changes_for_ever_is_a_503(world: World) -> None:
    data = await put_versions(world)
    count = 0

    async def overwrite(*, bucket: str, key: str) -> None:
        nonlocal count
        if key == "app-2.zip":
            count += 1
            await world.put("app-2.zip", world.version(data, seed=100 + count))

    world.memory.after("get_object", overwrite)
    with pytest.raises(ServiceUnavailable):
        await world.get("app-2.zip", ByteRange(first=100, last=40_000))


async def test_deleting_during_a_ranged_read_is_a_404(world: World) -> None:
    await put_versions(world)

    async def delete(*, bucket: str, key: str) -> None:
        await world.inner.delete_object("bucket", "app-2.zip")

    world.memory.after("get_object", delete)
    with pytest.raises(NoSuchKey):
        await world.get("app-2.zip", ByteRange(first=100, last=40_000))


async def test_absent_is_absent(world: World) -> None:
    for byte_range in (None, ByteRange(first=0, last=1)):
        with pytest.raises(NoSuchKey):
            await world.get("nothing", byte_range)
    with pytest.raises(NoSuchKey):
        await world.layer.head_object("bucket", "nothing")
    with pytest.raises(NoSuchBucket):
        await world.layer.head_object("other", "nothing")


async def test_every_failing_request_is_an_error_and_the_next_read_works(
    world: World, make_world: MakeWorld
) -> None:
    data = await put_versions(world)
    for byte_range in (None, ByteRange(first=20_000, last=40_000)):
        for method in ("get_object", "read_chunk", "head_object"):
            for skip in range(4):
                cold = await make_world(inner=world.inner)
                world.memory.fail(method, ServiceUnavailable(), skip=skip)
                try:
                    got = await cold.get("app-2.zip", byte_range)
                except ServiceUnavailable:
                    pass
                else:
                    assert got == (data if byte_range is None else data[20_000:40_001])
                world.memory.heal()
                assert await cold.get("app-2.zip") == data


async def test_a_reader_that_is_closed_early_frees_everything(world: World) -> None:
    await put_versions(world)
    for byte_range in (None, ByteRange(first=10, last=90_000)):
        reader = await world.layer.get_object("bucket", "app-2.zip", byte_range=byte_range)
        await reader.aclose()
        await reader.aclose()
        reader = await world.layer.get_object("bucket", "app-2.zip", byte_range=byte_range)
        async with reader:
            await anext(aiter(reader))
    assert all(not entry.pins for entry in world.layer._opener._engine.cache._entries.values())


async def test_a_cancelled_read_frees_everything(world: World, make_world: MakeWorld) -> None:
    data = await put_versions(world)
    cold = await make_world(inner=world.inner)
    waiting = asyncio.Event()

    async def wait(*, bucket: str, key: str) -> None:
        if key.startswith(".deltaglider/"):
            waiting.set()
            await asyncio.Event().wait()

    world.memory.before("get_object", wait)
    task = asyncio.create_task(cold.get("app-2.zip"))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    world.memory.heal()
    await cold.layer._opener._engine.cache.aclose()
    assert await cold.get("app-2.zip") == data


async def test_many_reads_at_once_share_one_fetch(world: World, make_world: MakeWorld) -> None:
    data = await put_versions(world)
    cold = await make_world(inner=world.inner)
    world.memory.calls.clear()
    assert set(await asyncio.gather(*(cold.get("app-2.zip") for _ in range(8)))) == {data}
    fetched = [c for c in world.memory.calls if c[0] == "get_object" and ".deltaglider" in c[2]]
    assert len(fetched) == 1


async def test_head_reports_lost_metadata_as_empty(world: World) -> None:
    await put_versions(world)
    info = await world.layer.head_object("bucket", "app-2.zip")
    assert info.metadata == ObjectMetadata()


async def test_errors_of_integrity_do_not_tell_clients_why() -> None:
    error: S3Error = IntegrityError("reference x is missing")
    assert (error.code, error.status) == ("InternalError", 500)
