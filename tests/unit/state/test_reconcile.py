"""Counting anew, on a bucket that others changed, and while writers go on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from sqlalchemy import select, update
from support.layers import BUCKET, Node, StoreBackend, body, open_node

from deltaglider_core.errors import NoSuchBucket, OperationAborted, ServiceUnavailable
from deltaglider_core.interfaces.storage import ObjectMetadata
from deltaglider_core.settings import AdvancedSettings
from deltaglider_core.state import reconcile as module
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.reconcile import Progress, reconcile
from deltaglider_core.state.tables import buckets, leases, objects
from deltaglider_core.state.upkeep import Upkeep


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 7)
    monkeypatch.setattr(module, "_AT_ONCE", 3)


@pytest.fixture
async def node(place: DatabasePlace) -> AsyncIterator[Node]:
    async with open_node(place, StoreBackend()) as opened:
        await opened.layer.create_bucket(BUCKET)
        yield opened


async def behind(node: Node, key: str, size: int) -> None:
    """Write as somebody else does, past us."""
    await node.backend.put_object(
        BUCKET, key, body(b"x" * size), size=size, metadata=ObjectMetadata()
    )


async def scan(node: Node) -> Progress:
    return await reconcile(HidingLayer(node), node.state, BUCKET, lambda _: None)


class HidingLayer:
    """The layer with a backend that hides what is ours, as the delta layer does."""

    def __init__(self, node: Node) -> None:
        self.registry = node.layer.registry
        self.inner = self
        self._backend = node.backend

    async def list_objects(
        self, bucket: str, *, prefix: str = "", start_after: str, max_keys: int
    ) -> Any:
        if not prefix:
            start_after = max(start_after, ".deltaglider/\U0010ffff")
        return await self._backend.list_objects(
            bucket, prefix=prefix, start_after=start_after, max_keys=max_keys
        )


async def test_what_others_did_is_counted(node: Node) -> None:
    for number in range(20):
        await node.put(f"k{number:02}", b"x" * number)
    for number in range(0, 20, 2):
        await node.backend.delete_object(BUCKET, f"k{number:02}")
    await behind(node, "k01", 100)
    for number in range(15):
        await behind(node, f"new{number:02}", 10)
    done = await scan(node)
    assert (done.objects, done.corrected, done.dropped) == (25, 16, 10)
    await node.check_sums()
    assert await scan(node) == Progress(objects=25, key=done.key)


async def test_a_bucket_with_objects_is_known_after_a_scan(place: DatabasePlace) -> None:
    backend = StoreBackend()
    await backend.create_bucket(BUCKET)
    async with open_node(place, backend) as node:
        for number in range(30):
            await behind(node, f"old{number:02}", 10)
        await node.put("new", b"1")
        assert not (await node.usage()).complete
        await scan(node)
        usage = await node.usage()
        assert (usage.objects, usage.size, usage.complete) == (31, 301, True)
        await node.check_sums()


async def test_references_of_before_are_counted(node: Node) -> None:
    for number in range(10):
        await behind(node, f".deltaglider/refs/{number:064x}", 100)
    await scan(node)
    usage = await node.usage()
    assert (usage.objects, usage.size, usage.stored) == (0, 0, 1000)


async def test_a_bucket_that_lost_its_id_counts_once(node: Node) -> None:
    await node.put("k", b"12345")
    await node.backend.delete_object(BUCKET, ".deltaglider/id")
    node.layer.registry.forget(BUCKET)
    await node.put("l", b"1")
    assert (await node.usage()).objects == 1
    await scan(node)
    usage = await node.usage()
    assert (usage.objects, usage.size) == (2, 6)
    await node.check_sums()


async def test_an_emptied_bucket(node: Node) -> None:
    for number in range(30):
        await node.put(f"k{number:02}")
    for number in range(30):
        await node.backend.delete_object(BUCKET, f"k{number:02}")
    done = await scan(node)
    assert (done.objects, done.dropped) == (0, 30)
    assert (await node.usage()).objects == 0


async def test_writers_during_a_scan(node: Node) -> None:
    chance = random.Random(5)
    for number in range(60):
        await behind(node, f"k{number:02}", number)
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            key = f"k{chance.randrange(80):02}"
            if chance.random() < 0.4:
                await node.layer.delete_object(BUCKET, key)
            else:
                await node.put(key, b"y" * chance.randrange(50))

    writers = [asyncio.create_task(write()) for _ in range(4)]
    for _ in range(4):
        await scan(node)
    stop.set()
    await asyncio.gather(*writers)
    await node.check_sums()
    left = await node.state.database.read(
        lambda c: c.execute(select(objects).where(objects.c.size.is_(None))).all()
    )
    assert left == []


@pytest.mark.parametrize("change", ["put", "delete"])
async def test_a_page_that_is_old_changes_nothing(node: Node, change: str) -> None:
    """The object is changed through us between the listing and the comparison."""
    await node.put("k", b"old")
    changed = []

    async def overtake(**_: Any) -> None:
        if not changed:
            changed.append(True)
            if change == "put":
                await node.put("k", b"much longer than before")
            else:
                await node.layer.delete_object(BUCKET, "k")

    node.backend.after("list_objects", overtake)
    await scan(node)
    assert changed
    await node.check_sums()


async def test_an_error_is_not_an_empty_bucket(node: Node) -> None:
    for number in range(20):
        await node.put(f"k{number:02}")
    node.backend.fail("list_objects", ServiceUnavailable("down"), skip=1)
    with pytest.raises(ServiceUnavailable):
        await scan(node)
    assert (await node.usage()).objects == 20
    await scan(node)
    await node.check_sums()
    with pytest.raises(NoSuchBucket):
        await reconcile(HidingLayer(node), node.state, "nowhere", lambda _: None)


async def test_one_scan_at_a_time_and_abandoned_ones_end(place: DatabasePlace) -> None:
    backend = StoreBackend()
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(open_node(place, backend))
        second = await stack.enter_async_context(open_node(place, backend))
        await first.layer.create_bucket(BUCKET)
        await first.put("k")
        reached, free = asyncio.Event(), asyncio.Event()

        async def hold(**_: Any) -> None:
            reached.set()
            await free.wait()

        backend.before("list_objects", hold)
        scanning = asyncio.create_task(scan(first))
        await reached.wait()
        with pytest.raises(OperationAborted):
            await scan(second)
        await second.layer.delete_object(BUCKET, "k")
        database = second.state.database

        def tombstones(connection: Any) -> int:
            return len(connection.execute(select(objects.c.size)).all())

        assert await database.read(tombstones) == 1
        upkeep = Upkeep(second.state, AdvancedSettings())
        await upkeep.end_scans()  # it is running
        assert await database.read(tombstones) == 1
        await database.write(lambda c: c.execute(update(leases).values(expires=0.0)) and None)
        await upkeep.end_scans()
        assert await database.read(tombstones) == 0
        assert not await database.read(lambda c: c.execute(select(buckets.c.scanning)).scalar())
        free.set()
        with pytest.raises(ServiceUnavailable):  # it has lost its lease
            await scanning
        await first.check_sums()
