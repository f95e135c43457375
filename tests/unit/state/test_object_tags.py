"""Tags of objects under the state layer: neither counted nor told, and never lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select
from support.layers import BUCKET, Node, StoreBackend, open_node

from deltaglider_core.errors import (
    NoSuchBucket,
    NoSuchKey,
    QuotaExceeded,
    ReplayedRequest,
    ServiceUnavailable,
    SlowDown,
)
from deltaglider_core.interfaces.storage import ObjectMetadata
from deltaglider_core.interfaces.writes import current_write
from deltaglider_core.origin import Signature, origin
from deltaglider_core.state import writes
from deltaglider_core.state.kinds import keeps_off
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.tables import intents, signatures

TAGS = {"a": "1"}


@pytest.fixture
async def node(place: DatabasePlace) -> AsyncIterator[Node]:
    async with open_node(place, StoreBackend(), quotas={"frozen": 0, "small": 3}) as opened:
        await opened.layer.create_bucket(BUCKET)
        await opened.put("k")
        yield opened


async def tags(node: Node, key: str = "k") -> dict[str, str]:
    return dict(await node.layer.get_object_tags(BUCKET, key))


def signed(request: str) -> Signature:
    return Signature(digest=b"d" * 16, call="", request_id=request, window=900.0)


async def test_no_event_and_no_usage(node: Node) -> None:
    before, usage = await node.layer.head_object(BUCKET, "k"), await node.usage()
    info = await node.layer.set_object_tags(BUCKET, "k", TAGS)
    assert info.metadata is not None
    assert before.metadata is not None
    assert await tags(node) == dict(info.metadata.tags) == TAGS
    assert info.metadata.internal == before.metadata.internal  # the write id stays
    assert info.last_modified == before.last_modified
    assert await node.events() == [("ObjectCreated", "k")]
    assert await node.usage() == usage
    assert await node.pending() == 0
    await node.check_sums()


async def test_a_copy_takes_them_along(node: Node) -> None:
    await node.layer.set_object_tags(BUCKET, "k", TAGS)
    await node.layer.copy_object(BUCKET, "k", BUCKET, "copy")
    assert await tags(node, "copy") == TAGS


async def test_what_is_refused(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoSuchKey):
        await node.layer.set_object_tags(BUCKET, "absent", TAGS)
    with pytest.raises(NoSuchBucket):
        await node.layer.set_object_tags("absent", "k", TAGS)
    with origin(bucket="frozen"), pytest.raises(QuotaExceeded):
        await node.layer.set_object_tags(BUCKET, "k", TAGS)
    node.backend.fail("set_object_tags", ServiceUnavailable("the backend is away"))
    with pytest.raises(ServiceUnavailable, match="backend"):
        await node.layer.set_object_tags(BUCKET, "k", TAGS)
    with monkeypatch.context() as patch:
        patch.setattr(node.state.snapshots, "_limit", -1.0)
        with pytest.raises(ServiceUnavailable, match="state database"):
            await node.layer.set_object_tags(BUCKET, "k", TAGS)
    assert await tags(node) == {}
    assert await node.pending() == 0
    # What lies above a quota already does not grow by tags.
    with origin(bucket="small"):
        await node.layer.set_object_tags(BUCKET, "k", TAGS)
    assert await tags(node) == TAGS


async def test_a_signature_changes_tags_once(node: Node) -> None:
    with origin(signature=signed("first")):
        await node.layer.set_object_tags(BUCKET, "k", TAGS)
    with origin(signature=signed("second")), pytest.raises(ReplayedRequest):
        await node.layer.set_object_tags(BUCKET, "k", {"a": "2"})
    assert await tags(node) == TAGS
    assert await node.count(signatures) == 1


async def test_a_signature_whose_change_failed_can_be_used_again(node: Node) -> None:
    with origin(signature=signed("first")), pytest.raises(NoSuchKey):
        await node.layer.set_object_tags(BUCKET, "absent", TAGS)
    with origin(signature=signed("second")):
        await node.layer.set_object_tags(BUCKET, "k", TAGS)
    assert await tags(node) == TAGS


async def test_tags_wait_for_a_rewrite_in_place(node: Node) -> None:
    """The rewrite takes the metadata over that it read: tags that came between would be lost."""
    order: list[str] = []
    running: list[asyncio.Task[Any]] = []

    async def rewrite(**call: Any) -> None:
        write = current_write.get()
        if call["key"] != "other" or write is None:
            return
        async with write.alone() as undisturbed:
            assert undisturbed
            setting = node.layer.set_object_tags(BUCKET, "other", TAGS)
            running.append(asyncio.create_task(setting))
            await asyncio.sleep(0.1)  # it polls, and has had its chance several times over
            order.append("rewritten")

    await node.layer.set_object_tags(BUCKET, "k", {})
    node.backend.before("set_object_tags", lambda **_: order.append("tags"))
    node.backend.after("put_object", rewrite)
    await node.put("other")
    await asyncio.gather(*running)
    assert order == ["rewritten", "tags"]
    assert await tags(node, "other") == TAGS
    assert await node.pending() == 0


async def test_no_rewrite_in_place_beside_tags(node: Node) -> None:
    alone: list[bool] = []

    async def during(**_: Any) -> None:
        async def look(**call: Any) -> None:
            write = current_write.get()
            if call["key"] == "k" and write is not None:
                async with write.alone() as undisturbed:
                    alone.append(undisturbed)

        node.backend.after("put_object", look)
        await node.put("k", b"newer")

    node.backend.before("set_object_tags", during)
    await node.layer.set_object_tags(BUCKET, "k", TAGS)
    assert alone == [False]
    assert await node.pending() == 0
    assert [kind for kind, _ in await node.events()] == ["ObjectCreated", "ObjectCreated"]
    await node.check_sums()


# --- beside a copy of the object onto itself --------------------------------------------------


async def restate(node: Node) -> None:
    given = ObjectMetadata(user={"new": "1"})
    await node.layer.copy_object(BUCKET, "k", BUCKET, "k", metadata=given)


async def test_tags_wait_for_a_copy_onto_itself(node: Node) -> None:
    """The copy takes the tags over that it read: others that came between would be lost."""
    order: list[str] = []
    running: list[asyncio.Task[Any]] = []

    async def during(**_: Any) -> None:
        running.append(asyncio.create_task(node.layer.set_object_tags(BUCKET, "k", TAGS)))
        await asyncio.sleep(0.1)  # it polls, and has had its chance several times over
        order.append("copied")

    node.backend.before("set_object_tags", lambda **_: order.append("tags"))
    node.backend.before("put_object", during)
    await restate(node)
    await asyncio.gather(*running)
    assert order == ["copied", "tags"]
    assert await tags(node) == TAGS
    assert await node.pending() == 0
    await node.check_sums()


async def test_a_copy_onto_itself_waits_for_tags(node: Node) -> None:
    order: list[str] = []
    running: list[asyncio.Task[Any]] = []

    async def during(**_: Any) -> None:
        running.append(asyncio.create_task(restate(node)))
        await asyncio.sleep(0.1)
        order.append("tags")

    node.backend.before("get_object", lambda **_: order.append("copied"))
    node.backend.before("set_object_tags", during)
    await node.layer.set_object_tags(BUCKET, "k", TAGS)
    await asyncio.gather(*running)
    assert order == ["tags", "copied"]
    assert await node.pending() == 0
    assert await node.events() == [("ObjectCreated", "k"), ("ObjectCopied", "k")]
    await node.check_sums()


async def test_nothing_else_waits_for_a_copy_onto_itself(node: Node) -> None:
    async def during(*, key: str, **_: Any) -> None:
        node.backend.heal()
        await node.put("k", b"newer")
        await node.layer.copy_object(BUCKET, "k", BUCKET, "other")
        await node.layer.set_object_tags(BUCKET, "other", TAGS)
        await node.layer.delete_object(BUCKET, "k")

    node.backend.before("put_object", during)
    async with asyncio.timeout(10):
        await restate(node)
    assert await node.pending() == 0
    await node.check_sums()


async def test_copies_onto_itself_follow_one_another(node: Node) -> None:
    """The last one wins, as with uploads, and tags have their turn between them."""
    changes = [restate(node) for _ in range(8)]
    await asyncio.gather(*changes, node.layer.set_object_tags(BUCKET, "k", TAGS))
    assert [kind for kind, _ in await node.events()] == ["ObjectCreated"] + 8 * ["ObjectCopied"]
    assert await node.pending() == 0
    await node.check_sums()


async def test_tags_do_not_wait_for_ever(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "_PATIENCE_SECONDS", 0.05)

    async def during(**_: Any) -> None:
        with pytest.raises(SlowDown, match="rewritten"):
            await node.layer.set_object_tags(BUCKET, "k", TAGS)

    node.backend.before("put_object", during)
    await restate(node)
    assert await tags(node) == {}
    await node.layer.set_object_tags(BUCKET, "k", TAGS)
    assert await tags(node) == TAGS
    assert await node.pending() == 0


@pytest.mark.parametrize(
    ("kind", "state", "exclusive", "newcomer", "expected"),
    [
        ("tags", "open", False, "restate", True),
        ("restate", "open", False, "tags", True),
        ("restate", "doubt", False, "tags", True),  # it may still be carried out
        ("restate", "recheck", False, "tags", False),
        ("restate", "open", False, "restate", True),
        ("restate", "recheck", False, "restate", False),
        ("tags", "open", False, "tags", False),
        ("put", "open", False, "restate", False),
        ("restate", "open", False, "put", False),
        ("put", "open", True, "put", True),
    ],
)
def test_who_keeps_whom_off(
    kind: str, state: str, exclusive: bool, newcomer: str, expected: bool
) -> None:
    assert keeps_off(kind, state, exclusive, newcomer) is expected


async def test_tags_whose_end_could_not_be_recorded(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise ServiceUnavailable("the state is away")

    journal = node.state.journal
    with monkeypatch.context() as patch:
        patch.setattr(journal, "end", fail)
        with pytest.raises(ServiceUnavailable):
            await node.layer.set_object_tags(BUCKET, "k", TAGS)
    (left,) = await node.state.database.read(lambda c: c.execute(select(intents)).all())
    assert (left.kind, left.event) == ("tags", None)
    journal.active.remove(left.write_id)  # as the process that began it would have died
    assert await node.state.settle_own() == 1
    assert await node.pending() == 0
    assert await tags(node) == TAGS
    assert await node.events() == [("ObjectCreated", "k")]
    await node.check_sums()
