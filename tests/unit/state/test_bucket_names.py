"""A name stands for one bucket at a time: which of them counts is what the backend has."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select
from support.layers import BUCKET, Node, StoreBackend, open_node

from deltaglider_core.errors import BucketAlreadyOwnedByYou
from deltaglider_core.state.bucket_registry import ID_KEY
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.tables import buckets


@pytest.fixture
async def node(place: DatabasePlace) -> AsyncIterator[Node]:
    async with open_node(place, StoreBackend()) as opened:
        await opened.layer.create_bucket(BUCKET)
        await opened.put("there", b"12345")
        yield opened


async def states(node: Node) -> list[str]:
    """Of all rows with the name, oldest first."""
    query = select(buckets.c.state).where(buckets.c.name == BUCKET).order_by(buckets.c.number)
    return list(await node.state.database.read(lambda c: c.scalars(query).all()))


async def test_creating_a_bucket_that_is_there_changes_nothing(node: Node) -> None:
    for _ in range(2):
        with pytest.raises(BucketAlreadyOwnedByYou):
            await node.layer.create_bucket(BUCKET)
        assert await states(node) == ["active"]
    await node.put("more", b"123")
    usage = await node.usage()
    assert (usage.objects, usage.size) == (2, 8)
    await node.check_sums()


async def test_a_creation_that_failed_changes_nothing(node: Node) -> None:
    """Nobody knows whether it reached the backend, and the bucket is there anyway."""

    def fail(**_: object) -> None:
        raise OSError("no answer")

    node.backend.before("create_bucket", fail)
    await node.layer.create_bucket(BUCKET)
    assert await states(node) == ["active"]
    assert (await node.usage()).objects == 1


async def test_one_that_was_created_anew_by_others_takes_its_place(node: Node) -> None:
    """The objects that were counted in the old one are in no bucket any more."""
    await node.backend.delete_object(BUCKET, "there")
    await node.backend.delete_object(BUCKET, ID_KEY)
    await node.backend.delete_bucket(BUCKET)
    await node.layer.create_bucket(BUCKET)
    assert await states(node) == ["deleted", "active"]
    await node.put("new", b"123")
    usage = await node.usage()
    assert (usage.objects, usage.size) == (1, 3)
