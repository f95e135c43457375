"""The layer that records mutations: one intent, one event, exact sums, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, update
from support.eventually import eventually
from support.layers import BUCKET, LateBackend, Node, StoreBackend, body, open_node

from deltaglider_core.errors import (
    BucketAlreadyOwnedByYou,
    BucketNotEmpty,
    IncompleteBody,
    MissingContentLength,
    NoSuchBucket,
    NoSuchKey,
    PreconditionFailed,
    QuotaExceeded,
    ReplayedRequest,
    ServiceUnavailable,
)
from deltaglider_core.interfaces.storage import Condition, ObjectMetadata
from deltaglider_core.interfaces.writes import current_write
from deltaglider_core.origin import Signature, origin
from deltaglider_core.settings import AdvancedSettings
from deltaglider_core.state.bucket_registry import BucketRegistry
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.tables import buckets, intents, signatures
from deltaglider_core.state.upkeep import Upkeep
from deltaglider_core.testing.memory import MemoryBackend


@pytest.fixture
async def node(place: DatabasePlace) -> AsyncIterator[Node]:
    async with open_node(place, StoreBackend(), quotas={"small": 100}) as opened:
        await opened.layer.create_bucket(BUCKET)
        yield opened


def gate(backend: MemoryBackend, method: str, key: str) -> tuple[asyncio.Event, asyncio.Event]:
    """Hold the first call of ``method`` for ``key``: (reached, go on)."""
    reached, free = asyncio.Event(), asyncio.Event()

    async def hold(**call: Any) -> None:
        if call["key"] == key and not reached.is_set():
            reached.set()
            await free.wait()

    backend.before(method, hold)
    return reached, free


# --- one after the other --------------------------------------------------------------------


async def test_each_mutation_has_one_event_and_counts(node: Node) -> None:
    first = await node.put("a", b"12345")
    await node.put("a", b"123")
    await node.put("b", b"1")
    await node.layer.copy_object(BUCKET, "a", BUCKET, "c")
    assert await node.layer.delete_object(BUCKET, "b") is True
    assert await node.layer.delete_object(BUCKET, "b") is False
    assert await node.events() == [
        ("ObjectCreated", "a"),
        ("ObjectCreated", "a"),
        ("ObjectCreated", "b"),
        ("ObjectCopied", "c"),
        ("ObjectDeleted", "b"),
    ]
    found = await node.state.events.read(0, 10)
    assert found[0].payload == {
        "content_length": 5,
        "storage_type": "passthrough",
        "etag": first.etag,
    }
    assert found[3].payload["source_key"] == "a"
    usage = await node.usage()
    assert (usage.objects, usage.size, usage.stored, usage.pending) == (2, 6, 6, 0)
    await node.check_sums()


async def test_the_write_id_is_on_the_object_and_in_the_event(node: Node) -> None:
    await node.put("k")
    info = await node.layer.head_object(BUCKET, "k")
    assert info.metadata is not None
    (event,) = await node.state.events.read(0, 10)
    assert event.write_id == info.metadata.internal["write-id"]
    assert len(event.write_id) == 32


async def test_the_layers_below_see_the_intent(node: Node) -> None:
    seen: list[str] = []

    def look(**_: Any) -> None:
        write = current_write.get()
        if write is not None:
            seen.append(write.write_id)

    node.backend.before("put_object", look)
    await node.put("k")
    (event,) = await node.state.events.read(0, 10)
    assert seen == [event.write_id]
    assert current_write.get() is None


async def test_a_refused_write_leaves_nothing(node: Node) -> None:
    await node.put("k", b"old")
    with pytest.raises(PreconditionFailed):
        await node.put("k", b"new!", condition=Condition(if_none_match="*"))
    with pytest.raises(NoSuchKey):
        await node.put("other", condition=Condition(if_match="etag"))
    with pytest.raises(NoSuchBucket):
        await node.layer.put_object("nowhere", "k", body(b""), size=0, metadata=ObjectMetadata())
    assert await node.events() == [("ObjectCreated", "k")]
    assert await node.pending() == 0
    await node.check_sums()


async def test_a_cut_body_leaves_nothing(node: Node) -> None:
    class Cut(Exception):
        pass

    async def cut() -> AsyncIterator[bytes]:
        yield b"begin"
        raise Cut

    for data, error in ((cut(), Cut), (body(b"short"), IncompleteBody)):
        with pytest.raises(error):
            await node.layer.put_object(BUCKET, "k", data, size=10, metadata=ObjectMetadata())
    assert await node.pending() == 0
    assert await node.events() == []


# --- answers that are lost ------------------------------------------------------------------


def lose_answer(backend: MemoryBackend, method: str, error: Exception) -> None:
    """Carry out the next call and raise nevertheless."""
    lost = []

    def lose(**call: Any) -> None:
        if not call["key"].startswith(".deltaglider/") and not lost:
            lost.append(call)
            raise error

    backend.after(method, lose)


async def late_node(stack: AsyncExitStack, place: DatabasePlace) -> Node:
    opened = await stack.enter_async_context(open_node(place, LateBackend()))
    await opened.layer.create_bucket(BUCKET)
    return opened


async def test_a_write_whose_answer_was_lost_succeeds(place: DatabasePlace) -> None:
    async with AsyncExitStack() as stack:
        node = await late_node(stack, place)
        lose_answer(node.backend, "put_object", ServiceUnavailable("timeout"))
        info = await node.put("k", b"data!")
        assert info.size == 5
        assert await node.events() == [("ObjectCreated", "k")]
        assert await node.pending() == 0
        await node.check_sums()


async def test_the_echo_of_a_write_is_not_its_refusal(place: DatabasePlace) -> None:
    """A client library that repeats a PUT whose answer was lost gets 412 for its own object."""
    async with AsyncExitStack() as stack:
        node = await late_node(stack, place)
        lose_answer(node.backend, "put_object", PreconditionFailed())
        await node.put("k", condition=Condition(if_none_match="*"))
        assert await node.events() == [("ObjectCreated", "k")]
        assert await node.pending() == 0


async def test_a_write_that_arrives_late_is_found_later(place: DatabasePlace) -> None:
    async with AsyncExitStack() as stack:
        node = await late_node(stack, place)
        sent: list[Any] = []
        real = node.backend.put_object

        async def hang(bucket: str, key: str, data: Any, **options: Any) -> Any:
            if key != "k" or sent:
                return await real(bucket, key, data, **options)
            sent.append((b"".join([chunk async for chunk in data]), options))
            raise ServiceUnavailable("timeout")

        node.backend.put_object = hang  # type: ignore[method-assign]
        with pytest.raises(ServiceUnavailable):
            await node.put("k", b"late")
        assert await node.state.settle_own() == 0  # not due yet
        assert (await node.usage()).pending == 1
        data, options = sent[0]
        await real(BUCKET, "k", body(data), **options)
        await node.state.database.write(
            lambda c: c.execute(update(intents).values(due=0.0)) and None
        )
        assert await node.state.settle_own() == 1
        assert await node.events() == [("ObjectCreated", "k")]
        await node.check_sums()
        assert await node.pending() == 0


async def test_a_write_that_never_arrives_is_forgotten(place: DatabasePlace) -> None:
    async with AsyncExitStack() as stack:
        node = await late_node(stack, place)
        node.backend.fail("put_object", ServiceUnavailable("timeout"), key="k")
        with pytest.raises(ServiceUnavailable):
            await node.put("k", b"late")
        await node.state.database.write(
            lambda c: c.execute(update(intents).values(due=0.0)) and None
        )
        assert await node.state.settle_own() == 1
        assert await node.events() == []
        assert await node.pending() == 0
        await node.check_sums()


async def test_a_stored_object_of_a_failing_disk_is_counted_and_not_acknowledged(
    node: Node,
) -> None:
    lose_answer(node.backend, "put_object", OSError("fsync failed"))
    with pytest.raises(OSError, match="fsync"):
        await node.put("k", b"data!")
    assert await node.events() == [("ObjectCreated", "k")]
    assert await node.pending() == 0
    await node.check_sums()


async def test_a_delete_whose_answer_was_lost_is_settled(node: Node) -> None:
    await node.put("k")
    lose_answer(node.backend, "delete_object", ServiceUnavailable("timeout"))
    with pytest.raises(ServiceUnavailable):
        await node.layer.delete_object(BUCKET, "k")
    assert await node.state.settle_own() == 1
    assert await node.events() == [("ObjectCreated", "k"), ("ObjectDeleted", "k")]
    await node.check_sums()


async def test_a_delete_that_did_not_happen_has_no_event(node: Node) -> None:
    await node.put("k")
    node.backend.fail("delete_object", ServiceUnavailable("busy"))
    with pytest.raises(ServiceUnavailable):
        await node.layer.delete_object(BUCKET, "k")
    await node.state.settle_own()
    assert await node.events() == [("ObjectCreated", "k")]
    assert await node.pending() == 0
    await node.check_sums()


async def test_an_error_of_a_look_is_not_absence(node: Node) -> None:
    lose_answer(node.backend, "put_object", ServiceUnavailable("timeout"))
    node.backend.fail("head_object", ServiceUnavailable("down"), times=3, key="k")
    with pytest.raises(ServiceUnavailable):
        await node.put("k")
    for _ in range(2):
        await node.state.settle_own()
        assert await node.pending() == 1
        assert await node.events() == []
    await node.state.settle_own()
    assert await node.events() == [("ObjectCreated", "k")]
    assert await node.pending() == 0


async def test_a_cancelled_write_is_settled(node: Node) -> None:
    committed = asyncio.Event()

    async def stay(**call: Any) -> None:
        if call["key"] == "k":
            committed.set()
            await asyncio.Event().wait()

    node.backend.after("put_object", stay)
    task = asyncio.create_task(node.put("k"))
    await committed.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await node.state.journal.drain()
    assert await node.events() == [("ObjectCreated", "k")]
    assert await node.pending() == 0
    await node.check_sums()


# --- at once --------------------------------------------------------------------------------


async def test_writers_of_one_key_are_counted_once(node: Node) -> None:
    sizes = [1, 20, 300, 4000]
    await asyncio.gather(*(node.put("k", b"x" * size) for size in sizes))
    assert await node.events() == [("ObjectCreated", "k")] * 4
    assert (await node.usage()).objects == 1
    assert await node.pending() == 0
    await node.check_sums()


@pytest.mark.parametrize("slow_one_wins", [True, False])
async def test_the_row_is_what_the_backend_has_whoever_settles_last(
    node: Node, slow_one_wins: bool
) -> None:
    reached, free = gate(node.backend, "put_object", "k")
    if not slow_one_wins:
        node.backend.heal()
        reached, free = asyncio.Event(), asyncio.Event()

        async def hold(**call: Any) -> None:
            if call["key"] == "k" and not reached.is_set():
                reached.set()
                await free.wait()

        node.backend.after("put_object", hold)
    slow = asyncio.create_task(node.put("k", b"slow write"))
    await reached.wait()
    await node.put("k", b"fast")
    free.set()
    await slow
    info = await node.backend.head_object(BUCKET, "k")
    assert info.size == (10 if slow_one_wins else 4)
    assert (await node.usage()).size == info.size
    assert await node.pending() == 0
    await node.check_sums()


async def test_a_look_that_was_overtaken_is_repeated(node: Node) -> None:
    """HEAD of one writer, then another one writes and settles, then the first one settles."""
    reached, free = gate(node.backend, "put_object", "k")
    first = asyncio.create_task(node.put("k", b"first"))
    await reached.wait()
    looked, go_on = asyncio.Event(), asyncio.Event()

    async def after_head(**call: Any) -> None:
        if call["key"] == "k" and not looked.is_set():
            looked.set()
            await go_on.wait()

    node.backend.after("head_object", after_head)
    second = asyncio.create_task(node.put("k", b"second one"))
    await looked.wait()  # the second has written and looked; now the first comes in between
    free.set()
    await first
    go_on.set()
    await second
    assert await node.pending() == 0
    assert (await node.usage()).size == (await node.backend.head_object(BUCKET, "k")).size
    await node.check_sums()


async def test_put_and_delete_at_once(node: Node) -> None:
    await node.put("k", b"old")
    reached, free = gate(node.backend, "put_object", "k")
    slow = asyncio.create_task(node.put("k", b"new one"))
    await reached.wait()
    assert await node.layer.delete_object(BUCKET, "k") is True
    assert (await node.usage()).objects == 0
    free.set()
    await slow
    assert [kind for kind, _ in await node.events()] == [
        "ObjectCreated",
        "ObjectDeleted",
        "ObjectCreated",
    ]
    await node.check_sums()


async def test_a_rewrite_is_alone_at_its_key(node: Node) -> None:
    order: list[str] = []
    inside = asyncio.Event()

    async def rewrite(**call: Any) -> None:
        write = current_write.get()
        if call["key"] != "k" or write is None or order:
            return
        order.append("begin")
        async with write.alone() as kept:
            assert kept
            inside.set()
            for _ in range(20):
                await asyncio.sleep(0.01)
                assert order == ["begin"]
            order.append("end")

    node.backend.after("put_object", rewrite)
    first = asyncio.create_task(node.put("k", b"one"))
    await inside.wait()
    second = asyncio.create_task(node.put("k", b"two"))
    await asyncio.gather(first, second)
    assert order == ["begin", "end"]
    await node.check_sums()


async def test_a_rewrite_yields_to_another_writer(node: Node) -> None:
    answers: list[bool] = []
    reached, free = asyncio.Event(), asyncio.Event()

    async def rewrite(**call: Any) -> None:
        write = current_write.get()
        if call["key"] == "k" and write is not None and not reached.is_set():
            reached.set()
            await free.wait()
            async with write.alone() as kept:
                answers.append(kept)

    node.backend.after("put_object", rewrite)
    first = asyncio.create_task(node.put("k", b"one"))
    await reached.wait()
    await node.put("k", b"two")
    free.set()
    await first
    assert answers == [False]
    await node.check_sums()


# --- quotas ---------------------------------------------------------------------------------


async def small(node: Node, key: str, size: int) -> None:
    await node.layer.put_object(
        "small", key, body(b"x" * size), size=size, metadata=ObjectMetadata()
    )


async def test_a_quota_counts_what_is_replaced(node: Node) -> None:
    await node.layer.create_bucket("small")
    await small(node, "a", 60)
    await small(node, "b", 40)
    await small(node, "a", 60)
    with pytest.raises(QuotaExceeded, match="100 bytes"):
        await small(node, "a", 61)
    with pytest.raises(QuotaExceeded):
        await small(node, "c", 1)
    await node.layer.delete_object("small", "b")
    await small(node, "c", 40)
    assert (await node.usage("small")).size == 100
    assert await node.pending() == 0


async def test_racing_writers_cannot_pass_a_quota(node: Node) -> None:
    await node.layer.create_bucket("small")
    results = await asyncio.gather(
        *(small(node, f"k{number}", 30) for number in range(10)), return_exceptions=True
    )
    assert sum(result is None for result in results) == 3
    assert all(result is None or isinstance(result, QuotaExceeded) for result in results)
    assert (await node.usage("small")).size == 90


async def test_a_delete_between_does_not_open_the_quota(node: Node) -> None:
    await node.layer.create_bucket("small")
    await small(node, "a", 90)
    reached, free = gate(node.backend, "put_object", "a")
    replacing = asyncio.create_task(small(node, "a", 90))
    await reached.wait()
    await node.layer.delete_object("small", "a")
    with pytest.raises(QuotaExceeded):
        await small(node, "b", 20)
    free.set()
    await replacing
    assert (await node.usage("small")).size == 90


async def test_a_quota_needs_a_length_and_zero_freezes(place: DatabasePlace) -> None:
    async with open_node(place, StoreBackend(), quotas={"frozen": 0, BUCKET: 10}) as node:
        await node.layer.create_bucket("frozen")
        await node.layer.create_bucket(BUCKET)
        with pytest.raises(QuotaExceeded, match="quota of the bucket is 0"):
            await node.layer.put_object(
                "frozen", "empty", body(b""), size=0, metadata=ObjectMetadata()
            )
        await node.layer.delete_object("frozen", "empty")
        with pytest.raises(MissingContentLength):
            await node.layer.put_object(
                BUCKET, "k", body(b"x"), size=None, metadata=ObjectMetadata()
            )
        assert await node.pending() == 0


# --- signatures -----------------------------------------------------------------------------


def signed(request: str, *, call: str = "", digest: bytes = b"0123456789abcdef") -> Signature:
    return Signature(digest=digest, call=call, request_id=request, window=900.0)


async def test_a_signature_changes_something_once(node: Node) -> None:
    with origin(signature=signed("R1")):
        await node.put("a")
        await node.put("b")  # the same request may touch many keys
    with origin(signature=signed("R2")), pytest.raises(ReplayedRequest):
        await node.put("c")
    with origin(signature=signed("R2")), pytest.raises(ReplayedRequest):
        await node.layer.delete_object(BUCKET, "a")
    with origin(signature=signed("R2")), pytest.raises(ReplayedRequest):
        await node.layer.delete_bucket(BUCKET)
    with origin(signature=signed("R2")), pytest.raises(ReplayedRequest):
        await node.layer.create_bucket("another")
    assert [key for _, key in await node.events()] == ["a", "b"]


async def test_a_refused_request_may_be_sent_again(node: Node) -> None:
    await node.put("k")
    with origin(signature=signed("R1")), pytest.raises(PreconditionFailed):
        await node.put("k", condition=Condition(if_none_match="*"))
    with origin(signature=signed("R2")):
        await node.put("k")


async def test_two_calls_of_one_sdk_in_the_same_second(node: Node) -> None:
    with origin(signature=signed("R1", call="call-1")):
        await node.layer.delete_object(BUCKET, "k")
    with origin(signature=signed("R2", call="call-2")):
        await node.layer.delete_object(BUCKET, "k")
    with origin(signature=signed("R3", call="call-1")), pytest.raises(ReplayedRequest):
        await node.layer.delete_object(BUCKET, "k")


# --- buckets --------------------------------------------------------------------------------


async def test_a_bucket_is_not_deleted_under_a_write(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries, forget = [], BucketRegistry.forget

    def refused(registry: BucketRegistry, name: str) -> None:
        tries.append(name)
        forget(registry, name)

    reached, free = gate(node.backend, "put_object", "k")
    writing = asyncio.create_task(node.put("k"))
    await reached.wait()
    # What is remembered of the bucket is forgotten each time that it cannot be deleted.
    monkeypatch.setattr(BucketRegistry, "forget", refused)
    deleting = asyncio.create_task(node.layer.delete_bucket(BUCKET))
    await eventually(lambda: len(tries) > 1, "it has tried, and tried again")
    assert not deleting.done()
    free.set()
    await writing
    with pytest.raises(BucketNotEmpty):
        await deleting
    assert (await node.layer.head_object(BUCKET, "k")).size == 4
    await node.put("l")
    await node.check_sums()


async def test_no_write_begins_in_a_bucket_that_is_being_deleted(node: Node) -> None:
    reached, free = asyncio.Event(), asyncio.Event()

    async def hold(**_: Any) -> None:
        reached.set()
        await free.wait()

    node.backend.before("delete_bucket", hold)
    deleting = asyncio.create_task(node.layer.delete_bucket(BUCKET))
    await reached.wait()
    with pytest.raises((ServiceUnavailable, NoSuchBucket)):
        await node.put("k")
    free.set()
    await deleting
    with pytest.raises(NoSuchBucket):
        await node.put("k")
    assert await node.pending() == 0


async def test_a_bucket_created_anew_is_another_one(node: Node) -> None:
    await node.put("k", b"12345")
    await node.layer.delete_object(BUCKET, "k")
    await node.layer.delete_bucket(BUCKET)
    await node.layer.create_bucket(BUCKET)
    await node.put("l", b"1")
    usage = await node.usage()
    assert (usage.objects, usage.size, usage.complete) == (1, 1, True)
    ids = await node.state.database.read(
        lambda c: c.execute(select(buckets.c.id, buckets.c.state)).all()
    )
    assert sorted(row.state for row in ids) == ["active", "deleted"]
    await Upkeep(node.state, AdvancedSettings()).drop_buckets()
    assert await node.count(buckets) == 1


async def test_a_bucket_whose_creation_got_no_answer_is_there(place: DatabasePlace) -> None:
    async with open_node(place, LateBackend()) as node:

        def lose(**_: Any) -> None:
            raise ServiceUnavailable("timeout")

        node.backend.after("create_bucket", lose)
        await node.layer.create_bucket(BUCKET)
        await node.put("k")
        assert (await node.usage()).complete
        assert await node.pending() == 0


async def test_a_bucket_with_objects_of_others_is_not_completely_known(
    place: DatabasePlace,
) -> None:
    backend = StoreBackend()
    await backend.create_bucket(BUCKET)
    await backend.put_object(BUCKET, "old", body(b"123"), size=3, metadata=ObjectMetadata())
    async with open_node(place, backend) as node:
        await node.put("new", b"1")
        usage = await node.usage()
        assert (usage.objects, usage.complete) == (1, False)
        # What nobody counted is told when it goes, and nothing becomes negative.
        await node.layer.delete_object(BUCKET, "old")
        assert ("ObjectDeleted", "old") in await node.events()
        assert (await node.usage()).size == 1


async def test_a_bucket_that_is_created_again_keeps_everything(node: Node) -> None:
    await node.put("k", b"12345")
    upload = await node.layer.create_multipart_upload(BUCKET, "u", metadata=ObjectMetadata())
    with pytest.raises(BucketAlreadyOwnedByYou):
        await node.layer.create_bucket(BUCKET)
    await Upkeep(node.state, AdvancedSettings()).drop_buckets()
    usage = await node.usage()
    assert (usage.objects, usage.size) == (1, 5)
    page = await node.layer.list_multipart_uploads(BUCKET)
    assert [found.upload_id for found in page.uploads] == [upload]
    await node.put("l")
    await node.check_sums()


async def test_a_creation_without_an_answer_keeps_a_bucket_that_was_there(node: Node) -> None:
    await node.put("k", b"12345")
    node.backend.fail("create_bucket", ServiceUnavailable("busy"))
    await node.layer.create_bucket(BUCKET)
    await Upkeep(node.state, AdvancedSettings()).drop_buckets()
    await node.put("l", b"1")
    usage = await node.usage()
    assert (usage.objects, usage.size) == (2, 6)


async def test_one_failure_of_many_does_not_free_the_signature(node: Node) -> None:
    many = replace(signed("R1"), returnable=False)
    await node.put("a")
    await node.put("z")
    with origin(signature=many):
        await node.layer.delete_object(BUCKET, "a")
        with pytest.raises(PreconditionFailed):
            await node.layer.delete_object(BUCKET, "z", condition=Condition(if_match="other"))
    await node.put("a")
    with origin(signature=replace(many, request_id="R2")), pytest.raises(ReplayedRequest):
        await node.layer.delete_object(BUCKET, "a")
    assert (await node.layer.head_object(BUCKET, "a")).size == 4


async def test_a_clock_ahead_does_not_widen_the_grace_of_one_second(node: Node) -> None:
    first = replace(signed("R1", call="call-1"), window=1200.0)
    with origin(signature=first):
        await node.put("k")
    database = node.state.database

    def later(connection: Any) -> None:
        """Let the claim be ten seconds old."""
        row = connection.execute(select(signatures)).one()
        request, call, seen = row.request.split(":")
        connection.execute(
            update(signatures).values(request=f"{request}:{call}:{float(seen) - 10:.3f}")
        )

    await database.write(later)
    # The window of a signature that is dated ahead shrinks while time goes on.
    again = replace(first, request_id="R2", call="call-2", window=1190.0)
    with origin(signature=again), pytest.raises(ReplayedRequest):
        await node.put("k")


async def test_a_refused_conditional_delete_leaves_no_doubt(place: DatabasePlace) -> None:
    async with AsyncExitStack() as stack:
        node = await late_node(stack, place)
        await node.put("k")
        with pytest.raises(PreconditionFailed):
            await node.layer.delete_object(BUCKET, "k", condition=Condition(if_match="other"))
        assert await node.pending() == 0
        await node.layer.delete_object(BUCKET, "k")
        await node.layer.delete_bucket(BUCKET)


async def test_a_part_may_replace_what_the_quota_holds(node: Node) -> None:
    await node.layer.create_bucket("small")
    await small(node, "k", 90)
    upload = await node.layer.create_multipart_upload("small", "k", metadata=ObjectMetadata())
    await node.layer.upload_part("small", "k", upload, 1, body(b"x" * 95), size=95)
    with pytest.raises(QuotaExceeded):
        await node.layer.upload_part("small", "k", upload, 2, body(b"x" * 101), size=101)
