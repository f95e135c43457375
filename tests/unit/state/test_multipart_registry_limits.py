"""Multipart uploads that the database knows: quotas, bad input, and a state that is away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.upload_node import BUCKET, Node, open_node

from deltaglider_core.errors import InvalidArgument, QuotaExceeded
from deltaglider_core.interfaces.storage import CompletedPart
from deltaglider_core.origin import origin
from deltaglider_core.state.errors import StateUnavailable
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.testing import MemoryBackend, body, metadata


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
async def node(place: DatabasePlace, backend: MemoryBackend) -> AsyncIterator[Node]:
    async with open_node(place, backend) as found:
        await found.layer.create_bucket(BUCKET)
        yield found


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
