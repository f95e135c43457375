"""Multipart uploads that the database knows: what clients see, on one and on several processes."""

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
    InvalidArgument,
    InvalidPart,
    InvalidPartOrder,
    InvalidRequest,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    PreconditionFailed,
    QuotaExceeded,
    ReplayedRequest,
    S3Error,
    ServiceUnavailable,
)
from deltaglider_core.interfaces.storage import CompletedPart, Condition, ObjectInfo
from deltaglider_core.origin import Signature, origin
from deltaglider_core.state import multipart
from deltaglider_core.state.errors import StateUnavailable
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.testing import MemoryBackend, body, metadata, read

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


# --- complete -----------------------------------------------------------------------------


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
    monkeypatch.setattr(multipart, "_PATIENCE_SECONDS", 0.05)
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


# --- quotas -------------------------------------------------------------------------------


@pytest.fixture
async def limited(place: DatabasePlace, backend: MemoryBackend) -> AsyncIterator[Node]:
    """A process whose bucket has a quota of ten bytes, and another bucket one of zero."""
    async with open_node(place, backend, {BUCKET: 10, "frozen": 0, "shown": 0}) as node:
        for name in (BUCKET, "frozen"):
            await node.layer.create_bucket(name)
        yield node


async def test_a_frozen_bucket_opens_no_upload(limited: Node, backend: MemoryBackend) -> None:
    before = backend.keys("frozen")
    with pytest.raises(QuotaExceeded):
        await limited.layer.create_multipart_upload("frozen", "k", metadata=metadata())
    with origin(bucket="shown"), pytest.raises(QuotaExceeded):
        await limited.create()
    assert backend.keys("frozen") == before


async def test_parts_that_cannot_fit_are_refused_unread(limited: Node) -> None:
    upload_id = await limited.create()
    await limited.put("there", b"1234")

    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    with pytest.raises(QuotaExceeded):
        await limited.layer.upload_part(BUCKET, "k", upload_id, 1, unread(), size=7)
    assert (await limited.part(upload_id, 1, b"123456")).size == 6


async def test_complete_counts_all_parts_against_the_quota(limited: Node) -> None:
    upload_id = await limited.create()
    one = await limited.part(upload_id, 1, b"1" * 10)
    await limited.put("there", b"1")
    with pytest.raises(QuotaExceeded):
        await limited.complete(upload_id, one)
    assert await limited.state_of(upload_id) == "open"
    assert await limited.counted() == (1, 1)
    await limited.layer.delete_object(BUCKET, "there")
    await limited.complete(upload_id, one)
    assert await limited.counted() == (1, 10)


async def test_the_sizes_of_parts_are_looked_up_once(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the caller knows them, the backend is not asked again."""
    upload_id = await node.create()
    part = await node.part(upload_id, 1, b"four")

    async def asked(*arguments: Any, **options: Any) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(node.layer.inner, "list_parts", asked)
    sized = [CompletedPart(part_number=1, etag=part.etag, size=4)]
    info = await node.layer.complete_multipart_upload(BUCKET, "k", upload_id, sized)
    assert info.size == 4


# --- the state is away --------------------------------------------------------------------


async def test_nothing_is_begun_without_the_state(
    node: Node, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = await node.create()
    part = await node.part(upload_id, 1, b"x")
    before = len(backend.calls)

    async def away(*arguments: Any, **options: Any) -> None:
        raise StateUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(node.state.database, "read", away)
        patch.setattr(node.state.database, "write", away)
        for call in (
            node.part(upload_id, 2, b"y"),
            node.complete(upload_id, part),
            node.layer.abort_multipart_upload(BUCKET, "k", upload_id),
            node.layer.list_parts(BUCKET, "k", upload_id, max_parts=1),
            node.layer.list_multipart_uploads(BUCKET),
        ):
            with pytest.raises(StateUnavailable):
                await call
    assert len(backend.calls) == before
    assert (await node.complete(upload_id, part)).size == 1


async def test_an_upload_id_marker_that_is_none(node: Node) -> None:
    for marker in ("x", "\0", "é", "0" * 33):
        with pytest.raises(InvalidArgument):
            await node.layer.list_multipart_uploads(BUCKET, key_marker="k", upload_id_marker=marker)


async def test_an_empty_page(node: Node) -> None:
    await node.create()
    page = await node.layer.list_multipart_uploads(BUCKET, max_uploads=0)
    assert (page.uploads, page.prefixes, page.next_marker) == ((), (), None)


async def test_a_part_whose_body_fails(node: Node) -> None:
    upload_id = await node.create()

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await node.layer.upload_part(BUCKET, "k", upload_id, 1, broken(), size=2)
    assert (await node.layer.list_parts(BUCKET, "k", upload_id, max_parts=1)).parts == ()
    await node.layer.upload_part(BUCKET, "k", upload_id, 1, body(b"xy"), size=2)
