"""Multipart uploads that the database knows: what clients see, on one and on several processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from support.upload_node import BUCKET, Node, open_node

from deltaglider_core.errors import (
    NoSuchBucket,
    NoSuchUpload,
    ReplayedRequest,
    S3Error,
)
from deltaglider_core.interfaces.storage import CompletedPart
from deltaglider_core.origin import Signature, origin
from deltaglider_core.state.errors import StateUnavailable
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.testing import MemoryBackend, metadata, read

PART = 5 * 1024 * 1024


@pytest.fixture
async def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
async def nodes(place: DatabasePlace, backend: MemoryBackend) -> AsyncIterator[list[Node]]:
    """Two processes."""
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(open_node(place, backend)) for _ in range(2)]
        await found[0].layer.create_bucket(BUCKET)
        yield found


@pytest.fixture
def node(nodes: list[Node]) -> Node:
    return nodes[0]


async def refused(node: Node, upload_id: str, error: type[S3Error], key: str = "k") -> None:
    """Every call that names the upload is refused alike, with the id that the client sent."""
    one = [CompletedPart(part_number=1, etag="0" * 32)]
    calls = (
        node.part(upload_id, 1, b"x", key),
        node.layer.list_parts(BUCKET, key, upload_id, max_parts=1),
        node.layer.complete_multipart_upload(BUCKET, key, upload_id, one),
        node.layer.abort_multipart_upload(BUCKET, key, upload_id),
    )
    for call in calls:
        with pytest.raises(error) as caught:
            await call
        assert caught.value.fields.get("UploadId") == upload_id


# --- what is recorded ---------------------------------------------------------------------


async def test_an_upload_from_its_begin_to_its_object(
    nodes: list[Node], backend: MemoryBackend
) -> None:
    """Each request goes to another process than the one before."""
    one, two = nodes
    upload_id = await one.create(metadata=metadata(user={"a": "1"}, internal={"write-id": "x"}))
    row = await two.row(upload_id)
    assert row is not None
    assert (row.state, row.key) == ("open", b"k")
    assert row.inner != upload_id
    assert await two.visible() == [("k", upload_id)]
    parts = [await two.part(upload_id, 1, b"1" * PART), await one.part(upload_id, 2, b"end")]
    found = await two.layer.list_parts(BUCKET, "k", upload_id, max_parts=10)
    assert list(found.parts) == parts
    assert await one.journaled() == []
    info = await two.complete(upload_id, *parts)
    assert (info.key, info.size) == ("k", PART + 3)
    head = await backend.head_object(BUCKET, "k")
    assert head.metadata is not None
    assert head.metadata.internal["write-id"] == row.write_id
    assert head.metadata.user == {"a": "1"}
    assert await one.journaled() == [("ObjectCreated", b"k")]
    assert await one.counted() == (1, PART + 3)
    assert await one.intents() == 0
    assert await one.visible() == []
    assert await read(await backend.get_object(BUCKET, "k")) == b"1" * PART + b"end"


async def test_abort_leaves_nothing(node: Node, backend: MemoryBackend) -> None:
    before = backend.keys(BUCKET)
    upload_id = await node.create()
    await node.part(upload_id, 1, b"x")
    await node.layer.abort_multipart_upload(BUCKET, "k", upload_id)
    await refused(node, upload_id, NoSuchUpload)
    assert await node.visible() == []
    assert backend.keys(BUCKET) == before
    assert (await node.journaled(), await node.intents()) == ([], 0)


async def test_uploads_that_are_none(node: Node) -> None:
    upload_id = await node.create()
    for strange in ("", "x", "..", "0" * 32, "F" * 32, "a\0b", "é", "0" * 2000):
        await refused(node, strange, NoSuchUpload)
    await refused(node, upload_id, NoSuchUpload, key="other")
    row = await node.row(upload_id)
    assert row is not None
    await refused(node, row.inner, NoSuchUpload)
    assert await node.visible() == [("k", upload_id)]


async def test_an_upload_belongs_to_its_bucket(node: Node) -> None:
    upload_id = await node.create()
    await node.layer.create_bucket("other")
    with pytest.raises(NoSuchUpload):
        await node.layer.list_parts("other", "k", upload_id, max_parts=1)
    assert (await node.layer.list_multipart_uploads("other")).uploads == ()
    with pytest.raises(NoSuchBucket):
        await node.layer.create_multipart_upload("absent", "k", metadata=metadata())
    with pytest.raises(NoSuchBucket):
        await node.layer.list_multipart_uploads("absent")


async def test_uploads_of_a_bucket_created_anew(node: Node, backend: MemoryBackend) -> None:
    """The ids of the old bucket mean nothing in the new one."""
    upload_id = await node.create()
    await node.layer.abort_multipart_upload(BUCKET, "k", await node.create())
    row = await node.row(upload_id)
    assert row is not None
    await backend.abort_multipart_upload(BUCKET, "k", row.inner)
    await backend.delete_object(BUCKET, ".deltaglider/id")
    await node.layer.delete_bucket(BUCKET)
    await node.layer.create_bucket(BUCKET)
    await refused(node, upload_id, NoSuchUpload)
    assert await node.visible() == []


# --- create -------------------------------------------------------------------------------


async def test_an_upload_that_cannot_be_recorded_is_dropped(
    node: Node, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = backend.keys(BUCKET)

    async def away(*arguments: Any, **options: Any) -> None:
        raise StateUnavailable("away")

    monkeypatch.setattr(node.state.database, "write", away)
    with pytest.raises(StateUnavailable):
        await node.create()
    assert backend.keys(BUCKET) == before


async def test_a_client_that_leaves_while_the_upload_is_created(
    node: Node, backend: MemoryBackend
) -> None:
    before = backend.keys(BUCKET)
    task = asyncio.create_task(node.create())

    def leave(bucket: str, key: str) -> None:
        if key.endswith("/upload"):
            task.cancel()

    backend.after("put_object", leave)
    with pytest.raises(asyncio.CancelledError):
        await task
    await node.state.journal.drain()
    assert backend.keys(BUCKET) == before
    assert await node.visible() == []


async def test_a_signature_opens_one_upload(node: Node, backend: MemoryBackend) -> None:
    def signed(request_id: str) -> Any:
        return origin(
            signature=Signature(digest=b"s" * 16, call="", request_id=request_id, window=60.0)
        )

    with signed("1"):
        upload_id = await node.create()
    before = backend.keys(BUCKET)
    with signed("2"), pytest.raises(ReplayedRequest):
        await node.create()
    assert backend.keys(BUCKET) == before
    assert await node.visible() == [("k", upload_id)]
