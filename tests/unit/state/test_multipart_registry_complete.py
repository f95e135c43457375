"""CompleteMultipartUpload, once and repeated, on one and on several processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from support.state_clock import ShiftedClock
from support.upload_node import BUCKET, Node, listed, open_node

from deltaglider_core.errors import (
    EntityTooSmall,
    InvalidPart,
    InvalidPartOrder,
    InvalidRequest,
    NoSuchKey,
    NoSuchUpload,
    PreconditionFailed,
    ServiceUnavailable,
)
from deltaglider_core.interfaces.storage import CompletedPart, Condition, ObjectInfo
from deltaglider_core.state import upload_completion
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.uploads import UploadChangedError
from deltaglider_core.state.writes import ActiveWrite
from deltaglider_core.testing import MemoryBackend, read

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


async def test_a_repeated_complete_gives_the_same_answer(
    nodes: list[Node], backend: MemoryBackend
) -> None:
    """For fifteen minutes, in any process, also after the key was overwritten and deleted."""
    one, two = nodes
    upload_id = await one.create()
    part, other = await one.part(upload_id, 1, b"x"), await one.part(upload_id, 2, b"y")
    first = await one.complete(upload_id, part)
    with ShiftedClock() as clock:
        clock.advance(840)
        await one.put("k", b"newer")
        again = await two.complete(upload_id, part)
        assert (again.key, again.size, again.etag) == (first.key, first.size, first.etag)
        assert again.last_modified == first.last_modified
        assert await read(await backend.get_object(BUCKET, "k")) == b"newer"
        await one.layer.delete_object(BUCKET, "k")
        assert (await two.complete(upload_id, part)).etag == first.etag
        with pytest.raises(NoSuchKey):
            await backend.head_object(BUCKET, "k")
        with pytest.raises(InvalidPart) as caught:
            await two.complete(upload_id, other)
        assert caught.value.fields["UploadId"] == upload_id
        clock.advance(120)
        with pytest.raises(NoSuchUpload):
            await two.complete(upload_id, part)
    kinds = [kind for kind, _ in await one.journaled()]
    assert kinds == ["ObjectCreated", "ObjectCreated", "ObjectDeleted"]
    assert await one.counted() == (0, 0)


async def test_refused_lists_leave_the_upload_open(node: Node, backend: MemoryBackend) -> None:
    upload_id = await node.create()
    one, two = await node.part(upload_id, 1, b"1"), await node.part(upload_id, 2, b"2")
    wrong = CompletedPart(part_number=1, etag="0" * 32)
    absent = CompletedPart(part_number=3, etag=one.etag)
    for parts, error in (
        ([wrong], InvalidPart),
        ([absent], InvalidPart),
        ([], InvalidPart),
        (listed(two, one), InvalidPartOrder),
        (listed(one, two), EntityTooSmall),
    ):
        with pytest.raises(error) as caught:
            await node.layer.complete_multipart_upload(BUCKET, "k", upload_id, parts)
        assert caught.value.fields.get("UploadId", upload_id) == upload_id
        assert await node.state_of(upload_id) == "open"
    assert (await node.journaled(), await node.intents()) == ([], 0)
    with pytest.raises(NoSuchKey):
        await backend.head_object(BUCKET, "k")
    assert (await node.complete(upload_id, two)).size == 1


async def test_a_refused_condition_leaves_the_upload_open(node: Node) -> None:
    await node.put("k", b"there")
    upload_id = await node.create()
    part = await node.part(upload_id, 1, b"x")
    with pytest.raises(PreconditionFailed):
        await node.layer.complete_multipart_upload(
            BUCKET, "k", upload_id, listed(part), condition=Condition(if_none_match="*")
        )
    assert await node.state_of(upload_id) == "open"
    assert await node.counted() == (1, 5)
    await node.complete(upload_id, part)
    assert await node.counted() == (1, 1)


class Gate:
    """Stops the backend at an object until it is opened."""

    def __init__(self, backend: MemoryBackend, key: str = "k", *, after: bool = False) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        self._key = key
        (backend.after if after else backend.before)("put_object", self._wait)

    async def _wait(self, bucket: str, key: str) -> None:
        if key == self._key:
            self.reached.set()
            await self.opened.wait()


async def test_what_is_refused_while_an_upload_is_completed(
    nodes: list[Node], backend: MemoryBackend
) -> None:
    one, two = nodes
    upload_id = await one.create()
    part, other = await one.part(upload_id, 1, b"x"), await one.part(upload_id, 2, b"y")
    gate = Gate(backend)
    completing = asyncio.create_task(one.complete(upload_id, part))
    await gate.reached.wait()
    assert await two.state_of(upload_id) == "completing"
    assert await two.visible() == [("k", upload_id)]
    with pytest.raises(InvalidRequest):
        await two.complete(upload_id, other)
    with pytest.raises(InvalidRequest):
        await two.part(upload_id, 3, b"z")
    with pytest.raises(InvalidRequest):
        await two.layer.abort_multipart_upload(BUCKET, "k", upload_id)
    gate.opened.set()
    assert (await completing).size == 1


async def test_the_same_complete_waits_for_the_first(
    nodes: list[Node], backend: MemoryBackend
) -> None:
    one, two = nodes
    upload_id = await one.create()
    part = await one.part(upload_id, 1, b"x")
    gate = Gate(backend)
    first = asyncio.create_task(one.complete(upload_id, part))
    await gate.reached.wait()
    second = asyncio.create_task(two.complete(upload_id, part))
    done, _ = await asyncio.wait({second}, timeout=0.1)
    assert not done
    gate.opened.set()
    assert (await second).etag == (await first).etag
    assert await one.journaled() == [("ObjectCreated", b"k")]


async def test_the_same_complete_goes_on_after_the_first_has_failed(
    nodes: list[Node], backend: MemoryBackend
) -> None:
    one, two = nodes
    upload_id = await one.create()
    part = await one.part(upload_id, 1, b"x")
    gate = Gate(backend)
    backend.fail("put_object", ServiceUnavailable("away"), key="k")
    first = asyncio.create_task(one.complete(upload_id, part))
    await gate.reached.wait()
    second = asyncio.create_task(two.complete(upload_id, part))
    gate.opened.set()
    with pytest.raises(ServiceUnavailable, match="away"):
        await first
    assert (await second).size == 1
    assert await one.journaled() == [("ObjectCreated", b"k")]


async def test_nobody_waits_for_ever(
    nodes: list[Node], backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_completion, "_PATIENCE_SECONDS", 0.05)
    one, two = nodes
    upload_id = await one.create()
    part = await one.part(upload_id, 1, b"x")
    gate = Gate(backend)
    first = asyncio.create_task(one.complete(upload_id, part))
    await gate.reached.wait()
    with pytest.raises(ServiceUnavailable):
        await two.complete(upload_id, part)
    gate.opened.set()
    await first


async def test_many_completes_at_once(nodes: list[Node]) -> None:
    one, two = nodes
    upload_id = await one.create()
    part = await one.part(upload_id, 1, b"x")
    answers = await asyncio.gather(
        *(node.complete(upload_id, part) for node in (one, two, one, two, one, two))
    )
    assert len({(info.etag, info.last_modified) for info in answers}) == 1
    assert await one.journaled() == [("ObjectCreated", b"k")]
    assert await one.counted() == (1, 1)


async def test_complete_or_abort(nodes: list[Node], backend: MemoryBackend) -> None:
    one, two = nodes
    for number in range(6):
        key = f"k{number}"
        upload_id = await one.create(key)
        part = await one.part(upload_id, 1, b"x", key)
        completed, aborted = await asyncio.gather(
            one.complete(upload_id, part, key=key),
            two.layer.abort_multipart_upload(BUCKET, key, upload_id),
            return_exceptions=True,
        )
        assert isinstance(completed, ObjectInfo) != (aborted is None)
        there = key in backend.keys(BUCKET)
        assert there == isinstance(completed, ObjectInfo)
    assert await one.intents() == 0
    objects, size = await one.counted()
    assert objects == size == len(await one.journaled())


async def test_a_lost_answer_of_complete(node: Node, backend: MemoryBackend) -> None:
    """A client library below us repeats what had happened and hears that the upload is gone."""
    upload_id = await node.create()
    part = await node.part(upload_id, 1, b"x")
    inner = node.layer.inner.complete_multipart_upload

    async def twice(*arguments: Any, **options: Any) -> ObjectInfo:
        await inner(*arguments, **options)
        raise NoSuchUpload

    node.layer.inner.complete_multipart_upload = twice  # type: ignore[method-assign]
    info = await node.complete(upload_id, part)
    assert info.size == 1
    assert await node.state_of(upload_id) == "done"
    assert await node.journaled() == [("ObjectCreated", b"k")]
    assert await node.counted() == (1, 1)
    assert (await node.complete(upload_id, part)).etag == info.etag


async def test_an_upload_that_the_backend_has_lost(node: Node, backend: MemoryBackend) -> None:
    upload_id = await node.create()
    part = await node.part(upload_id, 1, b"x")
    row = await node.row(upload_id)
    assert row is not None
    await backend.abort_multipart_upload(BUCKET, "k", row.inner)
    for call in (
        node.part(upload_id, 2, b"y"),
        node.layer.list_parts(BUCKET, "k", upload_id, max_parts=1),
        node.complete(upload_id, part),
    ):
        with pytest.raises(NoSuchUpload) as caught:
            await call
        assert caught.value.fields["UploadId"] == upload_id
    assert (await node.journaled(), await node.intents()) == ([], 0)
    await node.layer.abort_multipart_upload(BUCKET, "k", upload_id)
    assert await node.visible() == []


async def test_a_client_that_leaves_while_its_upload_is_completed(
    node: Node, backend: MemoryBackend
) -> None:
    upload_id = await node.create()
    part = await node.part(upload_id, 1, b"x")
    gate = Gate(backend, after=True)
    task = asyncio.create_task(node.complete(upload_id, part))
    await gate.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.opened.set()
    await node.state.journal.drain()
    assert (await node.complete(upload_id, part)).size == 1
    assert await node.journaled() == [("ObjectCreated", b"k")]


async def test_a_complete_that_was_overtaken_while_it_looked(
    nodes: list[Node], backend: MemoryBackend
) -> None:
    """Both have found the upload open; the parts are gone when the slower one asks for them."""
    one, two = nodes
    upload_id = await one.create()
    part = await one.part(upload_id, 1, b"x")
    row = await one.row(upload_id)
    assert row is not None
    answers: list[ObjectInfo] = []
    started = False

    async def overtake(bucket: str, key: str) -> None:
        nonlocal started
        if key.endswith(f"{row.inner}/upload") and not started:
            started = True
            answers.append(await one.complete(upload_id, part))

    backend.before("get_object", overtake)
    answers.append(await two.complete(upload_id, part))
    assert started
    assert answers[0].etag == answers[1].etag
    assert await one.journaled() == [("ObjectCreated", b"k")]


async def test_a_refused_complete_does_not_expose_the_one_under_way(
    node: Node, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both write under the id that the upload was given, and only one may."""
    upload_id = await node.create()
    part = await node.part(upload_id, 1, b"x")
    both, looked = asyncio.Event(), 0
    writing, go_on, refused = asyncio.Event(), asyncio.Event(), asyncio.Event()
    begin = node.state.journal.begin

    async def watched(*arguments: Any, **fields: Any) -> ActiveWrite:
        try:
            return await begin(*arguments, **fields)
        except UploadChangedError:
            refused.set()
            raise

    async def together(bucket: str, key: str) -> None:
        """Both find the upload open before one of them begins."""
        nonlocal looked
        looked += 1
        if looked == 2:
            both.set()
        await both.wait()

    async def hold(bucket: str, key: str) -> None:
        if key == "k":
            writing.set()
            await go_on.wait()

    monkeypatch.setattr(node.state.journal, "begin", watched)
    backend.before("list_objects", together)
    backend.before("put_object", hold)
    completes = [asyncio.create_task(node.complete(upload_id, part)) for _ in range(2)]
    await writing.wait()
    await refused.wait()
    await node.settle()
    assert await node.state_of(upload_id) == "completing"
    go_on.set()
    first, second = await asyncio.gather(*completes)
    assert first.etag == second.etag
    assert await node.journaled() == [("ObjectCreated", b"k")]
    assert await node.intents() == 0
