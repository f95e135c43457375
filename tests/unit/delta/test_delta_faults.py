"""Every request to the backend fails once, or for ever: nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from deltaglider_core.errors import InsufficientStorage, ServiceUnavailable

if TYPE_CHECKING:
    from .conftest import MakeWorld, World

SIZE = 40_000
METHODS = ("list_objects", "head_object", "get_object", "read_chunk", "put_object", "delete_object")


@pytest.mark.parametrize("times", [1, 1000])
@pytest.mark.parametrize("skip", range(4))
@pytest.mark.parametrize("method", METHODS)
async def test_put(world: World, make_world: MakeWorld, method: str, skip: int, times: int) -> None:
    before, data = world.data(SIZE), world.version(world.data(SIZE))
    await world.put("app-1.zip", before)
    await world.put("app-2.zip", b"older")
    kept = set(world.memory.keys("bucket"))
    cold = await make_world(inner=world.inner)
    world.memory.fail(method, ServiceUnavailable(), skip=skip, times=times)
    acknowledged = True
    try:
        await cold.put("app-2.zip", data)
    except ServiceUnavailable:
        acknowledged = False
    world.memory.heal()
    assert set(world.memory.keys("bucket")) == kept
    found = await (await make_world(inner=world.inner)).get("app-2.zip")
    # An error after the commit leaves the new object: it was not acknowledged, but is whole.
    assert found == data or (not acknowledged and found == b"older")
    assert await world.get("app-1.zip") == before
    assert cold.leases == 0


@pytest.mark.parametrize("key", ["app-2.zip", "x.png"])
async def test_a_full_backend_stores_nothing(world: World, key: str) -> None:
    await world.put("app-1.zip", world.data(SIZE))
    world.memory.fail("put_object", InsufficientStorage(), times=1000)
    with pytest.raises(InsufficientStorage):
        await world.put(key, world.version(world.data(SIZE)))
    with pytest.raises(InsufficientStorage):
        await world.put("other/" + key, world.data(SIZE))
    world.memory.heal()
    assert [k for k in world.memory.keys("bucket") if not k.startswith(".")] == ["app-1.zip"]


@pytest.mark.parametrize("times", [1, 1000])
@pytest.mark.parametrize("method", METHODS)
async def test_every_look_up_is_right_or_an_error(world: World, method: str, times: int) -> None:
    data = world.data(SIZE)
    await world.put("app-1.zip", data)
    await world.plant("app-2.zip", await world.stored("app-1.zip"))
    for skip in range(3):
        for key in ("app-1.zip", "app-2.zip"):
            world.memory.fail(method, ServiceUnavailable(), skip=skip, times=times)
            with contextlib.suppress(ServiceUnavailable):
                assert (await world.layer.head_object("bucket", key)).size == SIZE
                page = await world.layer.list_objects("bucket")
                assert [info.size for info in page.objects] == [SIZE, SIZE]
                assert await world.get(key) == data
            world.memory.heal()
