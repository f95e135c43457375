"""Sweeping: what is ended, what is kept, and what an error does not decide."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, tzinfo

import pytest
from sqlalchemy import delete, update
from support.state_clock import ShiftedClock
from support.upload_node import BUCKET, Node, open_node

from deltaglider_core.backend_defaults import uploads as backend_uploads
from deltaglider_core.errors import NoSuchUpload, ServiceUnavailable
from deltaglider_core.interfaces.storage import ObjectMetadata
from deltaglider_core.state import upload_sweep
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.tables import buckets, uploads
from deltaglider_core.testing import FakeClock, MemoryBackend, body

IDLE = 3600.0
#: Beyond the idle time and what is forgiven of it; both by so much that a slow test is no matter.
SLACK = 60.0
OVER = IDLE + 600.0 + SLACK


class Time:
    """The clocks of the database and of the backend, moved together."""

    def __init__(self, database: ShiftedClock) -> None:
        self.backend = FakeClock(datetime.now(UTC))
        self._database = database

    def advance(self, seconds: float) -> None:
        self._database.advance(seconds)
        self.backend.advance(seconds)


@pytest.fixture
def time() -> Iterator[Time]:
    with ShiftedClock() as clock:
        yield Time(clock)


@pytest.fixture
def backend(time: Time) -> MemoryBackend:
    return MemoryBackend(time.backend)


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


async def sweep(node: Node) -> int:
    return await node.layer.multipart.sweep(idle_seconds=IDLE)


def left(backend: MemoryBackend) -> list[str]:
    """What is in the bucket besides what says which bucket it is."""
    return [key for key in backend.keys(BUCKET) if key != ".deltaglider/id"]


async def test_an_idle_upload_is_aborted(node: Node, backend: MemoryBackend, time: Time) -> None:
    idle = await node.create()
    await node.part(idle, 1, b"x")
    time.advance(OVER - 2 * SLACK)
    fresh = await node.create("fresh")
    assert await sweep(node) == 0
    time.advance(2 * SLACK)
    assert await sweep(node) == 1
    assert await node.visible() == [("fresh", fresh)]
    with pytest.raises(NoSuchUpload):
        await node.part(idle, 2, b"y")
    assert len(left(backend)) == 1
    assert await node.journaled() == []


async def test_an_upload_without_parts_is_aborted(node: Node, time: Time) -> None:
    await node.create()
    time.advance(OVER)
    assert await sweep(node) == 1
    assert await node.visible() == []


async def test_a_new_part_keeps_an_old_upload(node: Node, time: Time) -> None:
    upload_id = await node.create()
    time.advance(OVER)
    part = await node.part(upload_id, 1, b"x")
    assert await sweep(node) == 0
    time.advance(IDLE - SLACK)
    assert await sweep(node) == 0
    await node.complete(upload_id, part)


async def test_a_part_that_took_long_keeps_its_upload(node: Node, time: Time) -> None:
    """The database knows when it began, the backend when it ended."""
    upload_id = await node.create()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        time.advance(OVER)

    await node.layer.upload_part(BUCKET, "k", upload_id, 1, slow(), size=1)
    assert await sweep(node) == 0
    time.advance(IDLE + SLACK)
    assert await sweep(node) == 1


async def test_a_part_that_is_on_its_way_keeps_its_upload(
    nodes: list[Node], backend: MemoryBackend, time: Time
) -> None:
    """It arrives after the sweeper has looked at the parts, before the sweeper decides."""
    node, other = nodes
    upload_id = await node.create()
    time.advance(OVER)
    arrived = False

    async def arrive(bucket: str, key: str) -> None:
        nonlocal arrived
        if not arrived:
            arrived = True
            await other.part(upload_id, 1, b"x")

    backend.after("list_objects", arrive)
    assert await sweep(node) == 0
    assert arrived
    assert await node.visible() == [("k", upload_id)]


async def test_a_part_that_comes_too_late_is_refused_unread(
    node: Node, backend: MemoryBackend, time: Time
) -> None:
    upload_id = await node.create()
    time.advance(OVER)
    read = node.state.database.read

    async def overtaken(function: object) -> object:
        found = await read(function)  # type: ignore[arg-type, var-annotated]
        node.state.database.read = read  # type: ignore[method-assign]
        assert await sweep(node) == 1
        return found

    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    await node.layer.registry.resolve(BUCKET)
    node.state.database.read = overtaken  # type: ignore[method-assign, assignment]
    with pytest.raises(NoSuchUpload):
        await node.layer.upload_part(BUCKET, "k", upload_id, 1, unread(), size=1)
    assert left(backend) == []


async def test_sweep_during_complete(nodes: list[Node], backend: MemoryBackend, time: Time) -> None:
    """An upload that was idle for long and is being completed now loses nothing."""
    one, two = nodes
    upload_id = await one.create()
    part = await one.part(upload_id, 1, b"x")
    swept: list[int] = []

    async def sweep_now(bucket: str, key: str) -> None:
        if key in ("k", f".deltaglider/uploads/{row.inner}/00001") and len(swept) < 3:
            swept.append(await sweep(two))

    row = await one.row(upload_id)
    assert row is not None
    time.advance(OVER)
    for method in ("get_object", "read_chunk", "put_object"):
        backend.before(method, sweep_now)
    assert (await one.complete(upload_id, part)).size == 1
    assert swept == [0, 0, 0]
    assert await one.state_of(upload_id) == "done"
    assert await one.counted() == (1, 1)


async def test_complete_or_sweep(nodes: list[Node], time: Time) -> None:
    """Of both at once, exactly one wins, and an aborted upload gives no object."""
    one, two = nodes
    for number in range(5):
        key = f"k{number}"
        upload_id = await one.create(key)
        part = await one.part(upload_id, 1, b"x", key)
        time.advance(OVER)
        completed, swept = await asyncio.gather(
            one.complete(upload_id, part, key=key), sweep(two), return_exceptions=True
        )
        state = await one.state_of(upload_id)
        if isinstance(completed, NoSuchUpload):
            assert (state, swept) == ("aborted", 1)
        else:
            assert not isinstance(completed, BaseException)
            assert (state, swept) == ("done", 0)
    objects, _ = await one.counted()
    assert objects == len(await one.journaled())


async def test_two_sweepers_at_once(nodes: list[Node], backend: MemoryBackend, time: Time) -> None:
    for number in range(4):
        await nodes[0].part(await nodes[0].create(), number + 1, b"x")
    time.advance(OVER)
    assert sum(await asyncio.gather(*(sweep(node) for node in nodes))) == 4
    assert left(backend) == []


# --- what is over -------------------------------------------------------------------------


async def test_what_is_over_is_forgotten_in_time(node: Node, time: Time) -> None:
    done, aborted = await node.create(), await node.create()
    await node.complete(done, await node.part(done, 1, b"x"))
    await node.layer.abort_multipart_upload(BUCKET, "k", aborted)
    time.advance(900 - SLACK)
    await sweep(node)
    assert (await node.state_of(done), await node.state_of(aborted)) == ("done", "aborted")
    time.advance(2 * SLACK)
    assert await sweep(node) == 0
    assert (await node.state_of(done), await node.state_of(aborted)) == (None, None)


async def test_many_finished_uploads_are_forgotten(
    node: Node, monkeypatch: pytest.MonkeyPatch, time: Time
) -> None:
    """Also if they do not fit into one transaction."""
    monkeypatch.setattr(upload_sweep, "_BATCH", 2)
    for key in "abcdefg":
        await node.layer.abort_multipart_upload(BUCKET, key, await node.create(key))
        upload_id = await node.create(key)
        await node.complete(upload_id, await node.part(upload_id, 1, b"x", key), key=key)
    time.advance(900 + SLACK)
    await sweep(node)
    assert await node.rows(uploads.select()) == []


async def test_parts_that_could_not_be_deleted_at_once(
    node: Node, backend: MemoryBackend, time: Time
) -> None:
    upload_id = await node.create()
    await node.part(upload_id, 1, b"x")
    backend.fail("get_object", ServiceUnavailable("away"), times=1000)
    await node.layer.abort_multipart_upload(BUCKET, "k", upload_id)
    assert await node.state_of(upload_id) == "aborted"
    assert len(left(backend)) == 2
    time.advance(900 + SLACK)
    await sweep(node)
    assert await node.state_of(upload_id) == "aborted", "an error is no answer"
    backend.heal()
    await sweep(node)
    assert await node.state_of(upload_id) is None
    assert left(backend) == []


# --- errors -------------------------------------------------------------------------------


async def test_an_error_while_looking_for_parts_keeps_the_upload(
    node: Node, backend: MemoryBackend, time: Time
) -> None:
    """One bad upload does not keep others from their end."""
    bad, good = await node.create("bad"), await node.create("good")
    row = await node.row(bad)
    assert row is not None
    time.advance(OVER)
    record = f".deltaglider/uploads/{row.inner}/upload"
    backend.fail("get_object", ServiceUnavailable("away"), times=1000, key=record)
    assert await sweep(node) == 1
    assert await node.visible() == [("bad", bad)]
    assert await node.state_of(good) == "aborted"
    backend.heal()
    assert await sweep(node) == 1


async def test_a_bucket_that_does_not_answer_keeps_its_uploads(
    node: Node, backend: MemoryBackend, time: Time
) -> None:
    upload_id = await node.create()
    time.advance(OVER)
    backend.fail("get_object", ServiceUnavailable("away"), times=1000, key=".deltaglider/id")
    assert await sweep(node) == 0
    assert await node.state_of(upload_id) == "open"


async def test_another_bucket_of_the_name_is_left_alone(
    node: Node, backend: MemoryBackend, time: Time
) -> None:
    """Somebody has deleted the bucket and made another one, or it is on another backend."""
    upload_id = await node.create()
    time.advance(OVER)
    await backend.put_object(
        BUCKET,
        ".deltaglider/id",
        body(b'{"format": 1, "id": "%s", "owner": "%s"}' % (b"0" * 32, b"0" * 32)),
        size=None,
        metadata=ObjectMetadata(),
    )
    before = len(backend.calls)
    assert await sweep(node) == 0
    assert await node.state_of(upload_id) == "open"
    assert {(name, key) for name, _, key in backend.calls[before:]} == {
        ("get_object", ".deltaglider/id"),
        ("read_chunk", ".deltaglider/id"),
    }


# --- uploads that only the backend knows --------------------------------------------------


async def test_what_a_crash_has_left_on_the_backend(
    node: Node, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch, time: Time
) -> None:
    class Now(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Now:
            return cls.fromtimestamp(time.backend.now().timestamp(), tz)

    monkeypatch.setattr(backend_uploads, "datetime", Now)
    lost = await backend.create_multipart_upload(BUCKET, "lost", metadata=ObjectMetadata())
    time.advance(IDLE - SLACK)
    known = await node.create()
    recent = await backend.create_multipart_upload(BUCKET, "recent", metadata=ObjectMetadata())
    assert await sweep(node) == 0
    time.advance(2 * SLACK)
    assert await sweep(node) == 1
    found = {item.upload_id for item in (await backend.list_multipart_uploads(BUCKET)).uploads}
    row = await node.row(known)
    assert row is not None
    assert found == {recent, row.inner}
    assert lost not in found


async def test_many_unknown_uploads(
    node: Node, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch, time: Time
) -> None:
    monkeypatch.setattr(upload_sweep, "_BATCH", 2)
    for key in "aabcde":
        await backend.create_multipart_upload(BUCKET, key, metadata=ObjectMetadata())
    time.advance(IDLE - SLACK)
    upload_id = await node.create("b")
    time.advance(2 * SLACK)
    assert await sweep(node) == 6
    assert len((await backend.list_multipart_uploads(BUCKET)).uploads) == 1
    assert await node.visible() == [("b", upload_id)]


async def test_uploads_in_the_bucket_of_another_deployment(
    node: Node, backend: MemoryBackend, time: Time
) -> None:
    """They may well be in its database."""
    await backend.create_multipart_upload(BUCKET, "theirs", metadata=ObjectMetadata())
    await node.state.database.write(
        lambda c: c.execute(update(buckets).values(owner="f" * 32)).rowcount
    )
    time.advance(OVER)
    assert await sweep(node) == 0
    assert len((await backend.list_multipart_uploads(BUCKET)).uploads) == 1


async def test_an_unknown_upload_that_cannot_be_looked_up(
    node: Node, backend: MemoryBackend, time: Time
) -> None:
    """A listing that fails ends nothing, in this bucket."""
    await node.create()
    await node.state.database.write(lambda c: c.execute(delete(uploads)).rowcount)
    time.advance(OVER)
    backend.fail("list_objects", ServiceUnavailable("away"), times=1)
    assert await sweep(node) == 0
    assert len((await backend.list_multipart_uploads(BUCKET)).uploads) == 1
    assert await sweep(node) == 1
