"""Listings: objects as clients see them, our keys never, pages exact."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaglider_core.delta.hidden import any_visible, list_visible
from deltaglider_core.delta.layout import MARKER
from deltaglider_core.errors import NoSuchBucket, ServiceUnavailable
from deltaglider_core.interfaces.storage import ObjectInfo, ObjectPage, StorageBackend
from deltaglider_core.testing import MemoryBackend, body, metadata

if TYPE_CHECKING:
    from .conftest import MakeWorld, World

SIZE = 20_000
HIDDEN = (".deltaglider/refs/a/1", ".deltaglider/refs/a/2", ".deltaglider/id")


def entries(page: ObjectPage) -> list[str]:
    return sorted([info.key for info in page.objects] + list(page.prefixes))


def model(keys: Sequence[str], prefix: str, delimiter: str) -> list[str]:
    """All entries of a listing of the visible keys."""
    found = set()
    for key in keys:
        if key.startswith(prefix) and not key.startswith(".deltaglider/"):
            head, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            found.add(prefix + head + cut if cut else key)
    return sorted(found)


async def walk(backend: StorageBackend, prefix: str, delimiter: str, size: int) -> list[str]:
    """All entries, page by page; checks each page on the way."""
    seen: list[str] = []
    after = ""
    for _ in range(1000):
        page = await list_visible(
            backend,
            "b",
            prefix=prefix,
            delimiter=delimiter,
            start_after=after,
            max_keys=size,
        )
        found = entries(page)
        assert len(found) <= size
        seen += found
        if page.next_after is None:
            return seen
        assert len(found) == size
        assert page.next_after == found[-1] > after
        after = page.next_after
    raise AssertionError("the listing does not end")


NAMES = st.sampled_from(
    [
        *HIDDEN,
        ".deltaglider",
        ".deltaglider0",
        ".deltaglider.txt",
        ".demo",
        ".d/e",
        "-",
        ".",
        "a",
        "a/b",
        "a/c/d",
        "ä",
        "\U0010ffff",
        ".deltaglide",
        "/x",
    ]
)


@settings(deadline=None, max_examples=150)
@given(
    keys=st.sets(NAMES),
    prefix=st.sampled_from(["", ".", ".d", ".deltaglider", ".deltaglider/", "a", "a/", "-"]),
    delimiter=st.sampled_from(["", "/", "e", "d", "glider/", "g"]),
    size=st.sampled_from([1, 2, 7, 1000]),
)
async def test_pages_equal_those_of_a_bucket_without_our_keys(
    keys: set[str], prefix: str, delimiter: str, size: int
) -> None:
    backend = MemoryBackend()
    await backend.create_bucket("b")
    for key in keys:
        await backend.put_object("b", key, body(b"x"), size=1, metadata=metadata())
    assert await walk(backend, prefix, delimiter, size) == model(sorted(keys), prefix, delimiter)
    assert await any_visible(backend, "b", prefix) == bool(model(sorted(keys), prefix, ""))


async def test_many_hidden_keys_are_skipped_not_read(world: World) -> None:
    for number in range(3000):
        await world.plant(f".deltaglider/refs/x/{number:04}", b"")
    await world.put("zebra", b"x")
    world.memory.calls.clear()
    page = await world.layer.list_objects("bucket", max_keys=10)
    assert entries(page) == ["zebra"]
    assert len(world.memory.calls) <= 3


async def test_listing_our_prefix_is_empty_but_needs_the_bucket(world: World) -> None:
    await world.put("a.zip", world.data(SIZE))
    for prefix in (".deltaglider/", ".deltaglider/refs/"):
        assert await world.layer.list_objects("bucket", prefix=prefix) == ObjectPage()
        with pytest.raises(NoSuchBucket):
            await world.layer.list_objects("nowhere", prefix=prefix)


async def fill(world: World) -> dict[str, tuple[int, str]]:
    data = world.data(SIZE)
    facts = {}
    for key, value in {
        "a/app-1.zip": data,
        "a/app-2.zip": world.version(data),
        "a/other.png": data,
        "b.zip": b"small",
        "z.bin": world.data(SIZE, seed=9),
    }.items():
        info = await world.put(key, value)
        facts[key] = (len(value), info.etag)
    return facts


def shown(objects: Sequence[ObjectInfo]) -> dict[str, tuple[int, str]]:
    return {info.key: (info.size, info.etag) for info in objects}


@pytest.mark.parametrize("bare", [False, True])
async def test_entries_show_objects(make_world: MakeWorld, bare_backend: Any, bare: bool) -> None:
    world = await make_world(inner=bare_backend if bare else None)
    facts = await fill(world)
    assert shown((await world.layer.list_objects("bucket")).objects) == facts
    page = await world.layer.list_objects("bucket", delimiter="/")
    assert page.prefixes == ("a/",)
    assert shown(page.objects) == {k: v for k, v in facts.items() if "/" not in k}


@pytest.mark.parametrize("bare", [False, True])
async def test_lost_attributes_are_found_in_listings(
    make_world: MakeWorld, bare_backend: Any, bare: bool
) -> None:
    world = await make_world(inner=bare_backend if bare else None)
    facts = await fill(world)
    await world.plant("a/app-2.zip", await world.stored("a/app-2.zip"))
    assert shown((await world.layer.list_objects("bucket")).objects) == facts


async def test_listing_metadata_is_not_asked_for_twice(world: World) -> None:
    await fill(world)
    world.memory.calls.clear()
    await world.layer.list_objects("bucket", prefix="a/")
    assert [call[0] for call in world.memory.calls] == ["list_objects"]


async def test_without_listing_metadata_only_doubtful_suffixes_are_asked_for(
    make_world: MakeWorld, bare_backend: Any
) -> None:
    world = await make_world(inner=bare_backend)
    await world.plant(MARKER, b"")
    await fill(world)
    world.memory.calls.clear()
    await world.layer.list_objects("bucket")
    heads = sorted(key for method, _, key in world.memory.calls if method == "head_object")
    assert heads == ["a/app-1.zip", "a/app-2.zip", "b.zip", "z.bin"]


async def test_look_ups_are_bounded(make_world: MakeWorld, bare_backend: Any) -> None:
    world = await make_world(inner=bare_backend)
    for number in range(40):
        await world.put(f"{number:02}.zip", b"x")
    running = most = 0

    async def enter(*, bucket: str, key: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)

    async def leave(*, bucket: str, key: str) -> None:
        nonlocal running
        running -= 1

    world.memory.before("head_object", enter)
    world.memory.after("head_object", leave)
    page = await world.layer.list_objects("bucket")
    assert len(page.objects) == 40
    assert 1 < most <= 8


async def test_an_object_that_vanishes_meanwhile_is_left_out(
    make_world: MakeWorld, bare_backend: Any
) -> None:
    world = await make_world(inner=bare_backend)
    facts = await fill(world)

    async def vanish(*, bucket: str, key: str) -> None:
        if key == "b.zip":
            await world.inner.delete_object("bucket", "b.zip")

    world.memory.before("head_object", vanish)
    del facts["b.zip"]
    assert shown((await world.layer.list_objects("bucket")).objects) == facts


async def test_an_error_is_an_error(make_world: MakeWorld, bare_backend: Any) -> None:
    world = await make_world(inner=bare_backend)
    await fill(world)
    for method in ("list_objects", "head_object"):
        world.memory.fail(method, ServiceUnavailable())
        with pytest.raises(ServiceUnavailable):
            await world.layer.list_objects("bucket")
    assert len((await world.layer.list_objects("bucket")).objects) == 5


async def test_one_damaged_object_does_not_hide_the_others(world: World) -> None:
    facts = await fill(world)
    await world.plant("a/app-2.zip", b"\x00" * 20, {"form": "delta", "size": "x"})
    found = shown((await world.layer.list_objects("bucket")).objects)
    assert found.keys() == facts.keys()
    assert found["a/app-2.zip"][0] == 20
    assert world.logged("object_unreadable")
    assert await world.layer.delete_object("bucket", "a/app-2.zip") is True
