"""What dead processes leave is settled by others, also in large numbers and by several at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from sqlalchemy import select, update
from support.layers import BUCKET, LateBackend, Node, StoreBackend, body, open_node

from deltaglider_core.errors import ServiceUnavailable
from deltaglider_core.interfaces.storage import ObjectMetadata
from deltaglider_core.state import examiner
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.tables import buckets, intents
from deltaglider_core.testing.memory import MemoryBackend

DEAD = frozenset({"d" * 32})


@pytest.fixture
async def nodes(place: DatabasePlace) -> AsyncIterator[tuple[Node, Node]]:
    """Two processes on one database and one backend."""
    backend = StoreBackend()
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(open_node(place, backend))
        second = await stack.enter_async_context(open_node(place, backend))
        await first.layer.create_bucket(BUCKET)
        yield first, second
        await wake_up()


async def die(node: Node, work: Any, *, method: str, when: str, key: str) -> None:
    """Begin something and stop for ever before or after a call, as a killed process does."""
    reached, free = asyncio.Event(), asyncio.Event()

    async def stay(**call: Any) -> None:
        if call["key"] == key and not reached.is_set():
            reached.set()
            await free.wait()

    getattr(node.backend, when)(method, stay)
    task = asyncio.create_task(work)
    await reached.wait()
    node.backend.heal()
    await node.state.database.write(
        lambda c: c.execute(update(intents).values(process=next(iter(DEAD)))) and None
    )
    abandoned.append((task, free))


#: Kept, since a task that nobody has would be collected.
abandoned: list[tuple[asyncio.Task[Any], asyncio.Event]] = []


async def wake_up() -> None:
    """Let the dead go on, so that they end; nobody looks at what they do."""
    while abandoned:
        task, free = abandoned.pop()
        free.set()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("when", "expected"), [("before", []), ("after", [("ObjectCreated", "k")])]
)
async def test_a_put_that_was_cut(
    nodes: tuple[Node, Node], when: str, expected: list[tuple[str, str]]
) -> None:
    first, second = nodes
    await die(first, first.put("k", b"12345"), method="put_object", when=when, key="k")
    assert (await second.usage()).pending == 1
    assert await second.state._settle(DEAD) == 1
    assert await second.events() == expected
    assert await second.pending() == 0
    await second.check_sums()
    if expected:
        (event,) = await second.state.events.read(0, 10)
        assert event.payload["content_length"] == 5
        assert event.payload["storage_type"] == "passthrough"


@pytest.mark.parametrize(("when", "told"), [("before", 0), ("after", 1)])
async def test_a_delete_that_was_cut(nodes: tuple[Node, Node], when: str, told: int) -> None:
    first, second = nodes
    await first.put("k")
    deleting = first.layer.delete_object(BUCKET, "k")
    await die(first, deleting, method="delete_object", when=when, key="k")
    await second.state._settle(DEAD)
    assert (await second.events()).count(("ObjectDeleted", "k")) == told
    await second.check_sums()


async def test_a_delete_of_nothing_that_was_cut_has_no_event(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    deleting = first.layer.delete_object(BUCKET, "k")
    await die(first, deleting, method="delete_object", when="after", key="k")
    await second.state._settle(DEAD)
    assert await second.events() == []


async def test_writing_over_what_a_dead_process_left(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    await die(first, first.put("k", b"dead"), method="put_object", when="after", key="k")
    await second.put("k", b"alive and longer")
    await second.state._settle(DEAD)
    assert ("ObjectCreated", "k") in await second.events()
    assert await second.pending() == 0
    await second.check_sums()


async def test_two_processes_settle_at_once(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    for number in range(5):
        key = f"k{number}"
        await die(first, first.put(key), method="put_object", when="after", key=key)
    await asyncio.gather(first.state._settle(DEAD), second.state._settle(DEAD))
    assert sorted(await second.events()) == [("ObjectCreated", f"k{n}") for n in range(5)]
    assert await second.pending() == 0
    await second.check_sums()


async def test_a_process_that_was_taken_for_dead_and_wakes_up(nodes: tuple[Node, Node]) -> None:
    """Its write arrives after somebody found that it had not happened."""
    first, second = nodes
    reached, free = asyncio.Event(), asyncio.Event()

    async def pause(**call: Any) -> None:
        if call["key"] == "k" and not reached.is_set():
            reached.set()
            await free.wait()

    first.backend.before("put_object", pause)
    sleeping = asyncio.create_task(first.put("k", b"woke up"))
    await reached.wait()
    assert await second.state._settle(frozenset({first.state.processes.id})) == 1
    assert await second.pending() == 0
    free.set()
    await sleeping
    assert await second.events() == [("ObjectCreated", "k")]
    assert await second.pending() == 0
    await second.check_sums()


async def test_a_process_that_wakes_up_after_its_write_was_settled(
    nodes: tuple[Node, Node],
) -> None:
    first, second = nodes
    reached, free = asyncio.Event(), asyncio.Event()

    async def pause(**call: Any) -> None:
        if call["key"] == "k" and not reached.is_set():
            reached.set()
            await free.wait()

    first.backend.after("put_object", pause)
    sleeping = asyncio.create_task(first.put("k", b"woke up"))
    await reached.wait()
    await second.state._settle(frozenset({first.state.processes.id}))
    assert await second.events() == [("ObjectCreated", "k")]
    free.set()
    await sleeping
    assert await second.events() == [("ObjectCreated", "k")], "told twice"
    assert await second.pending() == 0
    await second.check_sums()


async def test_what_a_backend_does_not_answer_stays(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    await die(first, first.put("k"), method="put_object", when="after", key="k")
    second.backend.fail("head_object", ServiceUnavailable("down"), times=2)
    for _ in range(2):
        await second.state._settle(DEAD)
        assert await second.pending() == 1
        assert await second.events() == []
    await second.state._settle(DEAD)
    assert await second.events() == [("ObjectCreated", "k")]


async def test_one_that_cannot_be_settled_does_not_hold_up_others(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examiner, "BATCH", 2)
    monkeypatch.setattr(examiner.waiting, "__defaults__", (2,))
    first, second = nodes
    for number in range(6):
        key = f"k{number}"
        await die(first, first.put(key), method="put_object", when="after", key=key)
    for key in ("k0", "k3"):
        second.backend.fail("head_object", ServiceUnavailable("poison"), times=100, key=key)
    await second.state._settle(DEAD)
    assert len(await second.events()) == 4
    second.backend.heal()
    await second.state._settle(DEAD)
    assert len(await second.events()) == 6
    await second.check_sums()


async def test_a_backend_behind_a_network_has_time_to_commit(place: DatabasePlace) -> None:
    backend = LateBackend()
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(open_node(place, backend))
        second = await stack.enter_async_context(open_node(place, backend))
        await first.layer.create_bucket(BUCKET)
        await die(first, first.put("k"), method="put_object", when="before", key="k")
        await second.state._settle(DEAD)
        row = await second.state.database.read(lambda c: c.execute(select(intents)).one())
        assert row.state == "doubt"
        now = second.state.database.now
        seconds = row.due - await second.state.database.read(now)
        assert 50 < seconds <= 60
        assert await second.state._settle(DEAD) == 0
        # It does arrive, with the write id of the dead process.
        await backend.put_object(
            BUCKET,
            "k",
            body(b"late"),
            size=4,
            metadata=ObjectMetadata(internal={"write-id": row.write_id}),
        )
        await second.state.database.write(
            lambda c: c.execute(update(intents).values(due=0.0)) and None
        )
        await second.state._settle(DEAD)
        assert await second.events() == [("ObjectCreated", "k")]
        await second.check_sums()
        await wake_up()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_creation_that_was_cut(place: DatabasePlace, when: str) -> None:
    async with AsyncExitStack() as stack:
        backend = StoreBackend()
        first = await stack.enter_async_context(open_node(place, backend))
        second = await stack.enter_async_context(open_node(place, backend))
        creating = first.layer.create_bucket(BUCKET)
        await die(first, creating, method="create_bucket", when=when, key="")
        await second.state._settle(DEAD)
        assert await second.pending() == 0
        if when == "before":
            assert await second.count(buckets) == 0
            await second.layer.create_bucket(BUCKET)
        await second.put("k")
        assert (await second.usage()).complete
        await second.check_sums()
        await wake_up()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_deletion_that_was_cut(nodes: tuple[Node, Node], when: str) -> None:
    first, second = nodes
    backend: MemoryBackend = first.backend
    real = backend.delete_bucket
    reached, free = asyncio.Event(), asyncio.Event()

    async def stay(bucket: str) -> None:
        if when == "after":
            await real(bucket)
        reached.set()
        await free.wait()

    backend.delete_bucket = stay  # type: ignore[method-assign]
    abandoned.append((asyncio.create_task(first.layer.delete_bucket(BUCKET)), free))
    await reached.wait()
    backend.delete_bucket = real  # type: ignore[method-assign]
    await first.state.database.write(
        lambda c: c.execute(update(intents).values(process=next(iter(DEAD)))) and None
    )
    await second.state._settle(DEAD)
    assert await second.pending() == 0
    if when == "after":
        await second.layer.create_bucket(BUCKET)
    await second.put("k")
    await second.check_sums()


async def test_a_delete_that_is_repeated_before_the_first_is_settled(
    nodes: tuple[Node, Node],
) -> None:
    """The process died after the object was gone; its client asks again and finds nothing."""
    first, second = nodes
    await first.put("k")
    deleting = first.layer.delete_object(BUCKET, "k")
    await die(first, deleting, method="delete_object", when="after", key="k")
    assert await second.layer.delete_object(BUCKET, "k") is False
    assert (await second.events()).count(("ObjectDeleted", "k")) == 1
    await second.put("k", b"again")
    await second.state._settle(DEAD)
    assert [kind for kind, _ in await second.events()] == [
        "ObjectCreated",
        "ObjectDeleted",
        "ObjectCreated",
    ]
    await second.check_sums()


async def test_a_delete_that_was_cut_before_another_one_did_it(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    await first.put("k")
    deleting = first.layer.delete_object(BUCKET, "k")
    await die(first, deleting, method="delete_object", when="before", key="k")
    assert await second.layer.delete_object(BUCKET, "k") is True
    await second.state._settle(DEAD)
    assert (await second.events()).count(("ObjectDeleted", "k")) == 1
    await second.check_sums()


async def test_two_deletes_at_once_tell_once(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    await first.put("k")
    for _ in range(5):
        removed = await asyncio.gather(
            *(node.layer.delete_object(BUCKET, "k") for node in (first, second) * 3)
        )
        assert sum(removed) == 1
        await first.put("k")
    kinds = [kind for kind, _ in await first.events()]
    assert kinds.count("ObjectDeleted") == 5
    assert kinds.count("ObjectCreated") == 6
    await first.check_sums()


@pytest.mark.parametrize("missing", ["bucket", "id"])
async def test_a_disk_that_is_not_mounted_has_not_lost_the_write(
    nodes: tuple[Node, Node], missing: str
) -> None:
    first, second = nodes
    await first.put("k", b"1234")
    await die(first, first.put("k", b"x" * 20), method="put_object", when="after", key="k")
    backend = second.backend
    there = backend._buckets[BUCKET]
    if missing == "bucket":
        del backend._buckets[BUCKET]
    else:
        identity = there.objects.pop(".deltaglider/id")
    await second.state._settle(DEAD)
    assert await second.pending() == 1
    backend._buckets[BUCKET] = there
    if missing == "id":
        there.objects[".deltaglider/id"] = identity
    await second.state._settle(DEAD)
    assert [kind for kind, _ in await second.events()] == ["ObjectCreated"] * 2
    assert await second.pending() == 0
    await second.check_sums()
