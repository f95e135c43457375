"""Configurations of buckets: one document of each name, at once here and soon everywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import Connection
from support.layers import BUCKET, Node, StoreBackend, open_node
from support.state import OpenDatabase, put_fact

from deltaglider_core.errors import (
    BucketNotEmpty,
    NoSuchBucket,
    ReplayedRequest,
    ServiceUnavailable,
)
from deltaglider_core.origin import Signature, origin
from deltaglider_core.state import configurations, migrate
from deltaglider_core.state.bucket_registry import (
    Identity,
    drop_rows,
    insert_bucket,
    set_state,
)
from deltaglider_core.state.errors import StateUnavailable
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.snapshot import changed
from deltaglider_core.state.tables import bucket_configurations


@pytest.fixture
async def nodes(place: DatabasePlace) -> AsyncIterator[tuple[Node, Node]]:
    """Two processes on one backend, with a bucket."""
    backend = StoreBackend()
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(open_node(place, backend)) for _ in range(2)]
        await one.layer.create_bucket(BUCKET)
        yield one, other


async def test_put_get_delete(nodes: tuple[Node, Node]) -> None:
    one, other = (node.state.configurations for node in nodes)
    assert await one.get(BUCKET, "cors") is None
    assert one.current(BUCKET, "cors") is None
    await one.put(BUCKET, "cors", "<a>ü</a>")
    await one.put(BUCKET, "tagging", "<t/>")
    assert one.current(BUCKET, "cors") == "<a>ü</a>"  # in this process without waiting
    assert await other.get(BUCKET, "cors") == "<a>ü</a>"
    await nodes[1].state.snapshots.refresh()
    assert other.current(BUCKET, "cors") == "<a>ü</a>"
    await other.put(BUCKET, "cors", "<b/>")
    assert await one.get(BUCKET, "cors") == "<b/>"
    for _ in range(2):
        await one.put(BUCKET, "cors", None)
    await nodes[1].state.snapshots.refresh()
    for node in (one, other):
        assert await node.get(BUCKET, "cors") is node.current(BUCKET, "cors") is None
        assert await node.get(BUCKET, "tagging") == "<t/>"
    with pytest.raises(NoSuchBucket):
        await one.get("absent", "cors")
    with pytest.raises(NoSuchBucket):
        await one.put("absent", "cors", "<a/>")
    assert one.current("absent", "cors") is None


async def test_a_large_document(nodes: tuple[Node, Node]) -> None:
    document = "ü" * 256 * 1024
    await nodes[0].state.configurations.put(BUCKET, "cors", document)
    assert await nodes[1].state.configurations.get(BUCKET, "cors") == document


async def test_they_go_with_their_bucket(nodes: tuple[Node, Node]) -> None:
    one, other = nodes
    await one.state.configurations.put(BUCKET, "cors", "<a/>")
    assert await other.state.configurations.get(BUCKET, "cors") == "<a/>"  # knows the bucket now
    await one.layer.delete_bucket(BUCKET)
    await one.state.snapshots.refresh()
    assert one.state.configurations.current(BUCKET, "cors") is None
    await one.layer.create_bucket(BUCKET)
    assert await one.state.configurations.get(BUCKET, "cors") is None
    await other.state.configurations.put(BUCKET, "tagging", "<t/>")
    assert await other.state.configurations.get(BUCKET, "cors") is None
    while await one.state.database.write(drop_rows, scope="buckets"):
        pass
    assert await one.count(bucket_configurations) == 1


async def test_a_bucket_that_somebody_else_has_replaced(nodes: tuple[Node, Node]) -> None:
    """Its row stays while a write of it is not settled; the name stands for the newer bucket."""
    node, kept = nodes[0], nodes[0].state.configurations
    await kept.put(BUCKET, "cors", "<old/>")
    (number,) = node.state.snapshots.current().buckets

    def replace_it(connection: Connection) -> None:
        again = Identity(id="f" * 32, owner=node.state.deployment)
        newer = insert_bucket(connection, 0.0, BUCKET, again, "creating", complete=True)
        set_state(connection, newer, "active")
        changed(connection)

    await node.state.database.write(replace_it, scope="buckets")
    await node.state.snapshots.refresh()
    assert len(node.state.snapshots.current().buckets) == 2
    assert number in node.state.snapshots.current().buckets
    assert kept.current(BUCKET, "cors") is None


async def test_a_bucket_that_is_being_deleted(nodes: tuple[Node, Node]) -> None:
    """It may turn out not to be empty: what it has still counts, in all processes."""
    one, other = nodes
    kept = one.state.configurations
    await kept.put(BUCKET, "cors", "<a/>")
    await one.put("k")
    seen: list[object] = []

    async def look(**_: object) -> None:
        for node in nodes:
            await node.state.snapshots.refresh()
            seen.append(node.state.configurations.current(BUCKET, "cors"))
            seen.append(await node.state.configurations.get(BUCKET, "cors"))
        with pytest.raises(ServiceUnavailable, match="created or deleted"):
            await kept.put(BUCKET, "cors", None)

    one.backend.before("delete_bucket", look)
    with pytest.raises(BucketNotEmpty):
        await one.layer.delete_bucket(BUCKET)
    assert seen == ["<a/>"] * 4
    assert await kept.get(BUCKET, "cors") == "<a/>"
    assert await other.state.configurations.get(BUCKET, "cors") == "<a/>"
    await kept.put(BUCKET, "cors", None)
    assert await kept.get(BUCKET, "cors") is None


async def test_a_bucket_that_was_deleted(nodes: tuple[Node, Node]) -> None:
    """Its rows stay for a while, and show nobody anything."""
    node, kept = nodes[0], nodes[0].state.configurations
    await kept.put(BUCKET, "cors", "<a/>")
    (number,) = node.state.snapshots.current().buckets

    def settled(connection: Connection) -> None:
        set_state(connection, number, "deleted")
        changed(connection)

    await node.state.database.write(settled, scope=number)
    for process in nodes:
        await process.state.snapshots.refresh()
        assert process.state.configurations.current(BUCKET, "cors") is None
        assert await process.state.configurations.get(BUCKET, "cors") is None


async def test_a_signature_changes_something_once(nodes: tuple[Node, Node]) -> None:
    one, other = (node.state.configurations for node in nodes)

    def signed(request: str) -> Signature:
        return Signature(digest=b"d" * 16, call="", request_id=request, window=900.0)

    with origin(signature=signed("first")):
        await one.put(BUCKET, "cors", "<a/>")
    with origin(signature=signed("second")), pytest.raises(ReplayedRequest):
        await other.put(BUCKET, "cors", None)
    assert await one.get(BUCKET, "cors") == "<a/>"


async def test_what_is_not_known_is_an_error(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = nodes[0].state.configurations
    await kept.put(BUCKET, "cors", "<a/>")
    monkeypatch.setattr(nodes[0].state.snapshots, "_limit", -1.0)
    with pytest.raises(StateUnavailable):
        kept.current(BUCKET, "cors")
    with pytest.raises(StateUnavailable):
        await kept.put(BUCKET, "cors", None)
    assert await nodes[1].state.configurations.get(BUCKET, "cors") == "<a/>"


async def test_a_database_without_the_table_gets_it(
    place: DatabasePlace, open_database: OpenDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "HEAD", "0001")
        old = await open_database(place)
        await old.write(put_fact("old"))
        await old.aclose()
    database = await open_database(place)
    assert await database.read(configurations.load) == {}
