"""Checksums of multipart uploads and copies under the layer that records mutations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack

import pytest
from support.digests import composite, digest
from support.upload_node import BUCKET, Node, open_node

from deltaglider_core.errors import BadDigest, NoSuchUpload, QuotaExceeded
from deltaglider_core.interfaces.storage import Checksum, CompletedPart, ObjectMetadata
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.testing import MemoryBackend, body

CHOSEN = Checksum(algorithm="crc32", type="COMPOSITE")
CONTENTS = [b"1" * 5 * 1024 * 1024, b"end"]


@pytest.fixture
async def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
async def nodes(place: DatabasePlace, backend: MemoryBackend) -> AsyncIterator[list[Node]]:
    """Two processes; the bucket ``small`` has a quota of ten bytes."""
    async with AsyncExitStack() as stack:
        quotas: Mapping[str, int] = {"small": 10}
        found = [
            await stack.enter_async_context(open_node(place, backend, quotas)) for _ in range(2)
        ]
        await found[0].layer.create_bucket(BUCKET)
        await found[0].layer.create_bucket("small")
        yield found


async def test_any_process_knows_the_choice_and_the_parts(nodes: list[Node]) -> None:
    """Also after a Complete that failed, and when a Complete is repeated."""
    one, two = nodes
    upload_id = await one.layer.create_multipart_upload(
        BUCKET, "k", metadata=ObjectMetadata(), checksum=CHOSEN
    )
    page = await two.layer.list_parts(BUCKET, "k", upload_id, max_parts=0)
    assert (page.checksum, list(page.parts)) == (CHOSEN, [])
    shown = (await two.layer.list_multipart_uploads(BUCKET)).uploads
    assert [upload.checksum for upload in shown] == [CHOSEN]
    for number, data in enumerate(CONTENTS, 1):
        checksum = Checksum(algorithm="crc32", value=digest("crc32", data))
        await nodes[number % 2].layer.upload_part(
            BUCKET,
            "k",
            upload_id,
            number,
            body(data),
            size=len(data),
            checksum=lambda checksum=checksum: checksum,  # type: ignore[misc]
        )
    page = await one.layer.list_parts(BUCKET, "k", upload_id, max_parts=10)
    assert page.checksum == CHOSEN
    listed = [
        CompletedPart(
            part_number=part.part_number,
            etag=part.etag,
            checksums={"crc32": part.checksum.value if part.checksum else ""},
        )
        for part in page.parts
    ]
    whole = Checksum(algorithm="crc32", type="COMPOSITE", value=composite("crc32", CONTENTS))
    wrong = Checksum(algorithm="crc32", type="COMPOSITE", value=composite("crc32", [b"", b""]))
    with pytest.raises(BadDigest):
        await one.layer.complete_multipart_upload(BUCKET, "k", upload_id, listed, checksum=wrong)
    page = await two.layer.list_parts(BUCKET, "k", upload_id, max_parts=0)
    assert page.checksum == CHOSEN
    for node in (one, two, one):
        info = await node.layer.complete_multipart_upload(
            BUCKET, "k", upload_id, listed, checksum=whole
        )
        assert info.metadata is not None
        assert info.metadata.internal["checksum"] == str(whole)
    with pytest.raises(NoSuchUpload):
        await two.layer.list_parts(BUCKET, "k", upload_id, max_parts=0)


async def test_without_a_choice(nodes: list[Node]) -> None:
    upload_id = await nodes[0].create()
    page = await nodes[1].layer.list_parts(BUCKET, "k", upload_id, max_parts=0)
    assert page.checksum is None
    assert (await nodes[1].layer.list_multipart_uploads(BUCKET)).uploads[0].checksum is None


async def test_a_copy_looks_at_its_source_only_if_it_must(
    nodes: list[Node], backend: MemoryBackend
) -> None:
    """A caller that knows version and metadata has looked already; a quota needs the size."""
    layer = nodes[0].layer
    info = await nodes[0].put("k", b"content of 20 bytes!")
    for etag, metadata, bucket, looks in (
        (info.etag, ObjectMetadata(user={"a": "1"}), BUCKET, 0),
        (None, ObjectMetadata(), BUCKET, 1),
        (info.etag, None, BUCKET, 1),
    ):
        backend.calls.clear()
        await layer.copy_object(BUCKET, "k", bucket, "copy", source_etag=etag, metadata=metadata)
        assert backend.calls.count(("head_object", BUCKET, "k")) == looks
        assert backend.calls.count(("get_object", BUCKET, "k")) == 1
    with pytest.raises(QuotaExceeded):
        await layer.copy_object(
            BUCKET, "k", "small", "copy", source_etag=info.etag, metadata=ObjectMetadata()
        )
    assert await nodes[0].counted() == (2, 40)
    events = [kind for kind, _ in await nodes[0].journaled()]
    assert events == ["ObjectCreated", *["ObjectCopied"] * 3]
