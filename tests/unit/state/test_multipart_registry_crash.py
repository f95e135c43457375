"""Completes that were cut: by the death of their process, or by its being taken for dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from support.state_clock import ShiftedClock
from support.upload_node import BUCKET, Node, listed, open_node

from deltaglider_core.errors import InvalidRequest, NoSuchKey, NoSuchUpload, ServiceUnavailable
from deltaglider_core.interfaces.storage import Capabilities, Condition, ObjectInfo, PartInfo
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.testing import MemoryBackend, read

MOMENTS = ("before", "claimed", "after")


class Halted:
    """A process that stands still at one moment of its Complete.

    Args:
        moment: ``before`` the object is written, ``claimed`` (the backend's own record says that
            it is being written), or ``after`` it is there.
    """

    def __init__(self, backend: MemoryBackend, moment: str) -> None:
        self.reached = asyncio.Event()
        self.goes_on = asyncio.Event()
        self._armed = True
        self._end = "/upload" if moment == "claimed" else "k"
        (backend.before if moment == "before" else backend.after)("put_object", self._wait)

    async def _wait(self, bucket: str, key: str) -> None:
        if key.endswith(self._end) and self._armed:
            self._armed = False
            self.reached.set()
            await self.goes_on.wait()


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
async def nodes(place: DatabasePlace, backend: MemoryBackend) -> AsyncIterator[list[Node]]:
    """Two processes; the first one is going to die."""
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(open_node(place, backend)) for _ in range(2)]
        await found[0].layer.create_bucket(BUCKET)
        yield found


async def cut(
    node: Node, backend: MemoryBackend, moment: str
) -> tuple[str, PartInfo, Halted, asyncio.Task[ObjectInfo]]:
    """An upload whose Complete stands still."""
    upload_id = await node.create()
    part = await node.part(upload_id, 1, b"x")
    halted = Halted(backend, moment)
    task: asyncio.Task[ObjectInfo] = asyncio.create_task(node.complete(upload_id, part))
    await halted.reached.wait()
    return upload_id, part, halted, task


async def end(halted: Halted, task: asyncio.Task[ObjectInfo]) -> None:
    """Let what was taken for dead come back and finish, whatever it answers."""
    halted.goes_on.set()
    await asyncio.wait({task})


@pytest.mark.parametrize("moment", ["before", "claimed"])
async def test_death_before_the_commit(
    nodes: list[Node], backend: MemoryBackend, moment: str
) -> None:
    """The upload is open as soon as the intent is settled; the parts are still there."""
    dead, alive = nodes
    upload_id, part, halted, task = await cut(dead, backend, moment)
    with pytest.raises(InvalidRequest):
        await alive.layer.abort_multipart_upload(BUCKET, "k", upload_id)
    assert await alive.settle(dead) == 1
    assert await alive.state_of(upload_id) == "open"
    assert await alive.visible() == [("k", upload_id)]
    assert (await alive.complete(upload_id, part)).size == 1
    assert await alive.journaled() == [("ObjectCreated", b"k")]
    await end(halted, task)


async def test_death_before_the_commit_and_abort(nodes: list[Node], backend: MemoryBackend) -> None:
    dead, alive = nodes
    upload_id, _, halted, task = await cut(dead, backend, "before")
    await alive.settle(dead)
    await alive.layer.abort_multipart_upload(BUCKET, "k", upload_id)
    with pytest.raises(NoSuchUpload):
        await alive.part(upload_id, 2, b"y")
    await end(halted, task)


async def test_death_after_the_commit(nodes: list[Node], backend: MemoryBackend) -> None:
    """The object is there, so the upload is done, and a repetition hears so."""
    dead, alive = nodes
    upload_id, part, halted, task = await cut(dead, backend, "after")
    waiting = asyncio.create_task(alive.complete(upload_id, part))
    assert await alive.settle(dead) == 1
    info = await waiting
    assert (info.key, info.size, info.etag[-2:]) == ("k", 1, "-1")
    assert await alive.state_of(upload_id) == "done"
    assert await alive.journaled() == [("ObjectCreated", b"k")]
    assert await alive.counted() == (1, 1)
    assert (await alive.complete(upload_id, part)).etag == info.etag
    await end(halted, task)


async def test_death_after_the_commit_and_an_overwrite(
    nodes: list[Node], backend: MemoryBackend
) -> None:
    """Nobody was told that it happened, and nobody can see it any more: the newer object counts."""
    dead, alive = nodes
    upload_id, part, halted, task = await cut(dead, backend, "after")
    await alive.put("k", b"newer")
    await alive.settle(dead)
    assert await alive.counted() == (1, 5)
    assert await read(await backend.get_object(BUCKET, "k")) == b"newer"
    await end(halted, task)
    assert await alive.counted() == (1, 5)
    assert await read(await backend.get_object(BUCKET, "k")) == b"newer"
    assert await alive.intents() == 0
    assert (await alive.complete(upload_id, part)).size == 1
    assert await alive.counted() == (1, 5)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_process_that_was_taken_for_dead_and_comes_back(
    nodes: list[Node], backend: MemoryBackend, moment: str
) -> None:
    """One object, one event, one count; both clients hear the same."""
    paused, other = nodes
    upload_id, part, halted, task = await cut(paused, backend, moment)
    await other.settle(paused)
    info = await other.complete(upload_id, part)
    halted.goes_on.set()
    assert (await task).etag == info.etag
    await other.settle(paused)
    assert await other.state_of(upload_id) == "done"
    assert await other.journaled() == [("ObjectCreated", b"k")]
    assert await other.counted() == (1, 1)
    assert await other.intents() == 0


async def test_an_error_is_no_answer_to_the_settler(
    nodes: list[Node], backend: MemoryBackend
) -> None:
    """While the backend does not answer, the upload stays as it is."""
    dead, alive = nodes
    upload_id, part, halted, task = await cut(dead, backend, "after")
    backend.fail("head_object", ServiceUnavailable("away"), key="k")
    await alive.settle(dead)
    assert await alive.state_of(upload_id) == "completing"
    await alive.settle(dead)
    assert await alive.state_of(upload_id) == "done"
    assert (await alive.complete(upload_id, part)).size == 1
    await end(halted, task)


async def test_restart(place: DatabasePlace, backend: MemoryBackend) -> None:
    """Everything goes on where it was: an open upload, its parts, what was answered."""
    async with open_node(place, backend) as node:
        await node.layer.create_bucket(BUCKET)
        upload_id, finished = await node.create(), await node.create("finished")
        part = await node.part(upload_id, 1, b"x")
        last = await node.part(finished, 1, b"y", "finished")
        answer = await node.complete(finished, last, key="finished")
    async with open_node(place, backend) as node:
        assert await node.visible() == [("k", upload_id)]
        found = await node.layer.list_parts(BUCKET, "k", upload_id, max_parts=10)
        assert list(found.parts) == [part]
        assert (await node.complete(finished, last, key="finished")).etag == answer.etag
        assert (await node.complete(upload_id, part)).size == 1


class Late(MemoryBackend):
    """A service that may carry out a request whose sender has given up."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(conditional_writes=True, late_commits=True)


async def test_a_complete_whose_end_is_unknown(place: DatabasePlace) -> None:
    """It is neither done nor open until it is known; then it is done, without a repetition."""
    backend = Late()
    async with open_node(place, backend) as node:
        await node.layer.create_bucket(BUCKET)
        upload_id = await node.create()
        part = await node.part(upload_id, 1, b"x")
        row = await node.row(upload_id)
        assert row is not None
        real = node.layer.inner.complete_multipart_upload

        async def cut_off(*arguments: object, **options: object) -> None:
            raise ServiceUnavailable("the connection was lost")

        node.layer.inner.complete_multipart_upload = cut_off  # type: ignore[method-assign, assignment]
        with pytest.raises(ServiceUnavailable):
            await node.complete(upload_id, part)
        assert await node.state_of(upload_id) == "completing"
        await node.settle()
        assert await node.state_of(upload_id) == "completing"
        with pytest.raises(InvalidRequest):
            await node.layer.abort_multipart_upload(BUCKET, "k", upload_id)
        await real(BUCKET, "k", row.inner, listed(part), condition=Condition())
        with ShiftedClock() as clock:
            clock.advance(61)
            await node.settle()
            assert await node.state_of(upload_id) == "done"
            assert (await node.complete(upload_id, part)).size == 1
        assert await node.journaled() == [("ObjectCreated", b"k")]


async def test_a_complete_that_never_arrived(place: DatabasePlace) -> None:
    backend = Late()
    async with open_node(place, backend) as node:
        await node.layer.create_bucket(BUCKET)
        upload_id = await node.create()
        part = await node.part(upload_id, 1, b"x")
        backend.fail("put_object", ServiceUnavailable("away"), key="k")
        with pytest.raises(ServiceUnavailable, match="away"):
            await node.complete(upload_id, part)
        with pytest.raises(NoSuchKey):
            await backend.head_object(BUCKET, "k")
        with ShiftedClock() as clock:
            clock.advance(61)
            await node.settle()
            assert await node.state_of(upload_id) == "open"
            assert (await node.complete(upload_id, part)).size == 1
