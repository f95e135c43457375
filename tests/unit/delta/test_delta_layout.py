"""Layout facts: which keys a listing without metadata leaves in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.recorded_write import RecordedWrite, writing

from deltaglider_core.delta.layout import (
    LAYOUT_PREFIX,
    MARKER,
    MAX_FACTS,
    LayoutStore,
    fact_of,
    is_listed_wrongly,
)
from deltaglider_core.errors import BucketAlreadyOwnedByYou, ServiceUnavailable
from deltaglider_core.interfaces.storage import Capabilities, CompletedPart, ObjectInfo
from deltaglider_core.testing import MemoryBackend, body, metadata

if TYPE_CHECKING:
    from .conftest import MakeWorld, World

SIZE = 20_000
SUFFIX = f"{LAYOUT_PREFIX}suffix/"


@pytest.fixture
async def bare(make_world: MakeWorld, bare_backend: Any) -> World:
    """A bucket made by the layer, on a backend whose listings have no metadata."""
    world = await make_world(inner=bare_backend)
    await world.layer.create_bucket("made")
    world.bucket = "made"
    return world


def facts(world: World) -> set[str]:
    return {key for key in world.memory.keys("made") if key.startswith(SUFFIX)}


async def listed(world: World) -> dict[str, ObjectInfo]:
    page = await world.layer.list_objects(world.bucket)
    return {info.key: info for info in page.objects}


def asked(world: World) -> list[str]:
    """Keys that were asked for one by one since the calls were cleared."""
    return sorted(key for method, _, key in world.memory.calls if method == "head_object")


@pytest.mark.parametrize(
    ("key", "suffix"),
    [
        ("a.zip", "zip"),
        ("x.y/a.tar.GZ", "gz"),
        ("x.y/a", "%none"),
        ("a.", "%none"),
        (".hidden", "hidden"),
        ("a.b c/d", "%none"),
        ("a.b c", "b%20c"),
        ("a.%none", "%25none"),
        ("ü.Ü", "%C3%BC"),
        ("a." + "x" * 64, "x" * 64),
        ("a." + "x" * 65, "%long"),
        ("a." + "ü" * 11, "%long"),
    ],
)
def test_names(key: str, suffix: str) -> None:
    assert fact_of(key) == SUFFIX + suffix


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=300))
def test_any_key_has_a_short_ascii_fact(key: str) -> None:
    name = fact_of(key).removeprefix(SUFFIX)
    assert name.isascii()
    assert 0 < len(name) <= 64
    assert "/" not in name


@pytest.mark.parametrize(
    ("internal", "wrongly"),
    [
        ({}, False),
        ({"form": "verbatim", "sha256": "0"}, False),
        ({"form": "assembled"}, False),
        ({"form": "assembled", "etag": "x-2"}, True),
        ({"form": "verbatim", "etag": "x"}, True),
        ({"form": "delta"}, True),
        ({"form": "wrapped"}, True),
    ],
)
def test_what_needs_a_fact(internal: dict[str, str], wrongly: bool) -> None:
    assert is_listed_wrongly(internal) is wrongly


async def test_a_new_bucket_is_marked_and_asks_for_nothing(bare: World) -> None:
    assert bare.memory.keys("made") == [MARKER]
    await bare.put("a.png", bare.data(SIZE))
    await bare.put("b.zip", b"small")
    assert facts(bare) == set()
    bare.memory.calls.clear()
    shown = await listed(bare)
    assert set(shown) == {"a.png", "b.zip"}
    assert (shown["a.png"].stored_size, shown["a.png"].stored_as) == (SIZE, "passthrough")
    assert [call[0] for call in bare.memory.calls if call[0] != "list_objects"] == []


async def test_the_fact_is_there_before_the_object(bare: World) -> None:
    seen: list[bool] = []

    async def look(*, bucket: str, key: str) -> None:
        if key == "a.zip":
            seen.append(f"{SUFFIX}zip" in bare.memory.keys("made"))

    bare.memory.before("put_object", look)
    await bare.put("a.zip", bare.data(SIZE))
    assert await bare.form("a.zip") == "delta"
    assert seen == [True]
    bare.memory.calls.clear()
    assert (await listed(bare))["a.zip"].size == SIZE
    assert asked(bare) == ["a.zip"]


@pytest.mark.parametrize("way", ["put-wrapped", "put-etag", "multipart", "copy", "self-copy"])
async def test_every_way_of_writing_leaves_its_fact(bare: World, way: str) -> None:
    data = bare.data(SIZE)
    await bare.put("v/app.zip", data)
    before, key, size = facts(bare), "x.other", SIZE
    if way == "put-wrapped":
        blob = await bare.stored("v/app.zip")
        await bare.put(key, blob)
        assert await bare.form(key) == "wrapped"
        size = len(blob)
    elif way == "put-etag":
        await bare.put(key, data, internal={"etag": "e-2"})
    elif way == "multipart":
        upload = await bare.layer.create_multipart_upload("made", key, metadata=metadata())
        part = await bare.layer.upload_part("made", key, upload, 1, body(data), size=SIZE)
        await bare.layer.complete_multipart_upload(
            "made", key, upload, [CompletedPart(part_number=1, etag=part.etag)]
        )
    elif way == "copy":
        key = "w/x.JAR"
        await bare.layer.copy_object("made", "v/app.zip", "made", key)
    else:
        # A bucket that lost its facts, as a copy by somebody else has.
        await bare.inner.delete_object("made", f"{SUFFIX}zip")
        before, key = set(), "v/app.zip"
        await bare.layer.copy_object("made", key, "made", key, metadata=metadata(user={"a": "b"}))
    assert facts(bare) - before == {fact_of(key)}
    head = await bare.layer.head_object("made", key)
    shown = (await listed(bare))[key]
    assert (shown.size, shown.etag) == (head.size, head.etag) == (size, head.etag)


async def test_a_native_upload_needs_no_fact(make_world: MakeWorld, bare_backend: Any) -> None:
    class Native(type(bare_backend)):  # type: ignore[misc]
        @property
        def capabilities(self) -> Capabilities:
            return Capabilities(native_multipart=True)

    world = await make_world(inner=Native())
    upload = await world.layer.create_multipart_upload("bucket", "k.png", metadata=metadata())
    part = await world.layer.upload_part("bucket", "k.png", upload, 1, body(b"x"), size=1)
    done = [CompletedPart(part_number=1, etag=part.etag)]
    await world.layer.complete_multipart_upload("bucket", "k.png", upload, done)
    assert not [key for key in world.memory.keys("bucket") if key.startswith(LAYOUT_PREFIX)]


async def test_a_bucket_without_the_marker_is_trusted_in_nothing(bare: World) -> None:
    await bare.inner.delete_object("made", MARKER)
    await bare.put("a.zip", bare.data(SIZE))
    # A copy by hand under a suffix of which no fact speaks.
    await bare.inner.copy_object("made", "a.zip", "made", "b.other")
    bare.memory.calls.clear()
    shown = await listed(bare)
    assert shown["b.other"].size == shown["a.zip"].size == SIZE
    assert asked(bare) == ["a.zip", "b.other"]


async def test_an_older_bucket_is_not_marked(make_world: MakeWorld, bare_backend: Any) -> None:
    world = await make_world(inner=bare_backend)
    with pytest.raises(BucketAlreadyOwnedByYou):
        await world.layer.create_bucket("bucket")
    assert world.memory.keys("bucket") == []


async def test_a_bucket_that_only_seems_new_is_not_marked(bare_backend: Any) -> None:
    """Some services answer success for a bucket that the caller has already."""
    await bare_backend.create_bucket("b")
    await bare_backend.put_object("b", "k", body(b"x"), size=1, metadata=metadata())
    await LayoutStore(bare_backend).mark_new("b")
    assert bare_backend.keys("b") == ["k"]


@pytest.mark.parametrize("method", ["put_object", "list_objects"])
async def test_a_bucket_is_created_though_it_cannot_be_marked(world: World, method: str) -> None:
    world.memory.fail(method, ServiceUnavailable())
    await world.layer.create_bucket("made")
    assert world.memory.keys("made") == []
    assert world.logged("layout_not_marked")


@pytest.mark.parametrize("method", ["put_object", "list_objects"])
async def test_without_its_fact_nothing_is_stored(bare: World, method: str) -> None:
    key = f"{SUFFIX}other" if method == "put_object" else None
    bare.memory.fail(method, ServiceUnavailable(), key=key)
    with pytest.raises(ServiceUnavailable):
        await bare.put("x.other", bare.data(SIZE), internal={"etag": "e-2"})
    assert "x.other" not in bare.memory.keys("made")


async def test_facts_that_cannot_be_read_are_an_error(bare: World) -> None:
    await bare.put("a.png", b"x")
    bare.memory.fail("list_objects", ServiceUnavailable(), skip=1)
    with pytest.raises(ServiceUnavailable):
        await bare.layer.list_objects("made")


async def test_too_many_facts_put_everything_in_doubt(bare: World) -> None:
    for number in range(MAX_FACTS):
        await bare.plant(f"{SUFFIX}s{number:04}", b"")
    await bare.put("a.png", b"x")
    bare.memory.calls.clear()
    await listed(bare)
    assert asked(bare) == ["a.png"]
    count = len(facts(bare))
    await bare.put("x.other", bare.data(SIZE), internal={"etag": "e-2"})
    assert len(facts(bare)) == count  # one more would tell nobody anything
    assert (await listed(bare))["x.other"].etag == "e-2"


async def test_facts_are_read_after_the_page(bare: World) -> None:
    """A listing that shows an object sees its fact, whenever it was written."""
    await bare.put("b.png", b"x")

    async def write(*, bucket: str, key: str) -> None:
        bare.memory.heal()
        await bare.put("a.zip", bare.data(SIZE))

    bare.memory.before("list_objects", write)
    assert (await listed(bare))["a.zip"].size == SIZE


# --- the cache of writers ---------------------------------------------------------------------


async def test_facts_are_remembered_for_the_id_of_a_bucket(
    bare: World, make_world: MakeWorld
) -> None:
    other = await make_world(inner=bare.inner)
    other.bucket = "made"
    lists: list[int] = []
    for world, bucket_id in ((bare, "1"), (bare, "1"), (bare, "2"), (other, "1")):
        bare.memory.calls.clear()
        with writing(RecordedWrite(bucket_id=bucket_id * 32)):
            await world.put("x.o", b"x", internal={"etag": "e"})
        lists.append(sum(call[0] == "list_objects" for call in bare.memory.calls))
    assert lists == [1, 0, 1, 1]
    assert facts(bare) == {f"{SUFFIX}o"}


async def test_without_an_id_nothing_is_remembered(bare: World, make_world: MakeWorld) -> None:
    await bare.put("x.o", b"x", internal={"etag": "e"})
    await bare.layer.delete_object("made", "x.o")
    # Another process replaces the bucket by a new one of the same name.
    await (await make_world(inner=bare.inner)).layer.delete_bucket("made")
    await bare.layer.create_bucket("made")
    await bare.put("x.o", b"x", internal={"etag": "e"})
    assert (await listed(bare))["x.o"].etag == "e"


async def test_concurrent_writers_of_new_suffixes(bare: World) -> None:
    names: Sequence[str] = [f"x.s{number}" for number in range(20)]
    with writing(RecordedWrite()):
        await asyncio.gather(*(bare.put(name, b"x", internal={"etag": "e"}) for name in names))
    assert facts(bare) == {fact_of(name) for name in names}


async def test_a_fact_written_by_somebody_faster(world: World) -> None:
    """The same name never has other bytes, so the loser of the race is content."""

    async def faster(*, bucket: str, key: str) -> None:
        if key == f"{SUFFIX}o":
            world.memory.heal()
            await world.plant(key, b"")

    world.memory.before("put_object", faster)
    await world.put("x.o", b"x", internal={"etag": "e"})
    assert await world.get("x.o") == b"x"


async def test_memory_backends_too_have_facts(world: World) -> None:
    """Their buckets may move to a backend whose listings carry no metadata."""
    assert isinstance(world.inner, MemoryBackend)
    await world.put("a.zip", world.data(SIZE))
    assert f"{SUFFIX}zip" in world.memory.keys("bucket")
