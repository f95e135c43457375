"""Checksums of parts and wholes in the default multipart uploads, on backends of every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from support.digests import composite, digest

from deltaglider_core.errors import BadDigest, InvalidPart, InvalidPartOrder, InvalidRequest
from deltaglider_core.interfaces.storage import (
    Capabilities,
    Checksum,
    CompletedPart,
    ObjectMetadata,
    ObjectPage,
)
from deltaglider_core.part_table import PartTable
from deltaglider_core.testing import MemoryBackend, body

PART = 5 * 1024 * 1024
CONTENTS = [b"1" * PART, b"2" * PART, b"end"]
WHOLE = b"".join(CONTENTS)
COMPOSITE = Checksum(algorithm="crc32", type="COMPOSITE")


class Bare(MemoryBackend):
    """Listings carry no metadata."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, listing_metadata=False)

    async def list_objects(self, *arguments: Any, **options: Any) -> ObjectPage:
        page = await super().list_objects(*arguments, **options)
        return replace(page, objects=[replace(info, metadata=None) for info in page.objects])


class Early(MemoryBackend):
    """Takes metadata before the body, as S3 does."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, late_metadata=False)

    async def put_object(self, *arguments: Any, metadata: ObjectMetadata, **options: Any) -> Any:
        assert metadata.late is None
        return await super().put_object(*arguments, metadata=metadata, **options)


class Narrow(MemoryBackend):
    """Has little room for metadata."""

    room = 0

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, max_metadata_bytes=self.room)


async def stored(
    backend: MemoryBackend, chosen: Checksum | None, *, late: bool = True
) -> tuple[str, list[CompletedPart]]:
    """An upload with its parts; ``late``: their checksums are known after their bodies only."""
    await backend.create_bucket("b")
    upload_id = await backend.create_multipart_upload(
        "b", "k", metadata=ObjectMetadata(user={"a": "1"}), checksum=chosen
    )
    algorithm = "crc64nvme" if chosen is None else chosen.algorithm
    parts = []
    for number, data in enumerate(CONTENTS, 1):
        known: list[Checksum] = []
        checksum = Checksum(algorithm=algorithm, value=digest(algorithm, data))

        async def pieces(
            data: bytes = data, checksum: Checksum = checksum, known: list[Checksum] = known
        ) -> AsyncIterator[bytes]:
            yield data
            known.append(checksum)

        if not late:
            known.append(checksum)
        await backend.upload_part(
            "b",
            "k",
            upload_id,
            number,
            pieces(),
            size=len(data),
            checksum=lambda known=known: known[0] if known else None,  # type: ignore[misc]
        )
    page = await backend.list_parts("b", "k", upload_id, max_parts=10)
    assert page.checksum == chosen
    for part in page.parts:
        checksums = {} if part.checksum is None else {algorithm: part.checksum.value}
        parts.append(
            CompletedPart(part_number=part.part_number, etag=part.etag, checksums=checksums)
        )
    return upload_id, parts


async def internal(backend: MemoryBackend) -> dict[str, str]:
    head = await backend.head_object("b", "k")
    assert head.metadata is not None
    return dict(head.metadata.internal)


@pytest.mark.parametrize("kind", [MemoryBackend, Bare])
@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, f"crc64nvme:FULL_OBJECT:{digest('crc64nvme', WHOLE)}"),
        (COMPOSITE, f"crc32:COMPOSITE:{composite('crc32', CONTENTS)}"),
        (Checksum(algorithm="crc32c"), f"crc32c:FULL_OBJECT:{digest('crc32c', WHOLE)}"),
        (
            Checksum(algorithm="sha256", type="COMPOSITE"),
            f"sha256:COMPOSITE:{composite('sha256', CONTENTS)}",
        ),
    ],
)
async def test_the_checksum_of_the_object(
    kind: type[MemoryBackend], chosen: Checksum | None, expected: str
) -> None:
    backend = kind()
    upload_id, parts = await stored(backend, chosen)
    uploads = (await backend.list_multipart_uploads("b")).uploads
    assert [upload.checksum for upload in uploads] == [chosen]
    claimed = Checksum.parse(expected)
    for _ in range(2):  # a repetition is answered from the record
        info = await backend.complete_multipart_upload("b", "k", upload_id, parts, checksum=claimed)
        assert info.metadata is not None
        assert info.metadata.internal["checksum"] == expected
    found = await internal(backend)
    assert found["checksum"] == expected
    table = PartTable.from_text(found["parts"])
    assert table is not None
    assert list(table.sizes) == [len(data) for data in CONTENTS]
    first = None if chosen is None else digest(chosen.algorithm, CONTENTS[0])
    assert (table.checksum(1) and table.checksum(1).value) == first  # type: ignore[union-attr]


async def test_what_does_not_fit_is_refused() -> None:
    backend = MemoryBackend()
    upload_id, parts = await stored(backend, COMPOSITE)
    wrong = digest("crc32", b"other")
    refused: list[tuple[type[Exception], list[CompletedPart], Checksum | None]] = [
        (InvalidRequest, [replace(parts[0], checksums={}), *parts[1:]], None),
        (InvalidRequest, [replace(parts[0], checksums={"sha1": wrong}), *parts[1:]], None),
        (InvalidPart, [replace(parts[0], checksums={"crc32": wrong}), *parts[1:]], None),
        (InvalidPartOrder, parts[1:], None),
        (BadDigest, parts, replace(COMPOSITE, value=f"{wrong}-3")),
        (BadDigest, parts, Checksum(algorithm="crc32c", value=digest("crc32c", WHOLE))),
    ]
    for error, listed, claimed in refused:
        with pytest.raises(error):
            await backend.complete_multipart_upload("b", "k", upload_id, listed, checksum=claimed)
    assert (await backend.list_objects("b", delimiter="/")).objects == ()
    value = composite("crc32", CONTENTS).removesuffix("-3")
    await backend.complete_multipart_upload(
        "b", "k", upload_id, parts, checksum=replace(COMPOSITE, value=value)
    )


@pytest.mark.parametrize(
    ("chosen", "whole"),
    [
        (Checksum(algorithm="crc32"), digest("crc32", WHOLE)),
        (Checksum(algorithm="sha256", type="COMPOSITE"), composite("sha256", CONTENTS)),
        (None, digest("crc64nvme", WHOLE)),
    ],
)
async def test_where_metadata_come_first(chosen: Checksum | None, whole: str) -> None:
    """Checksums in trailers come too late; the parts are hashed when they are read anyway."""
    kind = chosen or Checksum(algorithm="crc64nvme")
    right = replace(kind, value=whole)
    other = digest(kind.algorithm, b"other")
    wrong = replace(kind, value=f"{other}-3" if kind.type == "COMPOSITE" else other)
    told = [{kind.algorithm: digest(kind.algorithm, data)} for data in CONTENTS]
    for late in (False, True):
        # What the client says of the parts, and of the whole; what the object then has.
        cases: list[tuple[bool, Checksum | None]] = [(True, right), (True, None)]
        if kind.type == "FULL_OBJECT":
            cases += [(False, right), (False, None)]
        for tells, claimed in cases:
            backend = Early()
            upload_id, parts = await stored(backend, chosen, late=late)
            assert all(bool(part.checksums) != late for part in parts)
            if tells:
                parts = [replace(p, checksums=c) for p, c in zip(parts, told, strict=True)]
                false = [*parts[:2], replace(parts[2], checksums={kind.algorithm: other})]
                with pytest.raises(InvalidPart):
                    await backend.complete_multipart_upload("b", "k", upload_id, false)
            with pytest.raises(BadDigest):
                await backend.complete_multipart_upload("b", "k", upload_id, parts, checksum=wrong)
            assert (await backend.list_objects("b", delimiter="/")).objects == ()
            for _ in range(2):
                info = await backend.complete_multipart_upload(
                    "b", "k", upload_id, parts, checksum=claimed
                )
                assert info.metadata is not None
                known = not late or tells or claimed is not None
                assert info.metadata.internal.get("checksum") == (str(right) if known else None)
            found = await internal(backend)
            assert found.get("checksum") == (str(right) if known else None)
            assert found["parts"].startswith(f"1;{PART}*2,3")
            assert (";" in found["parts"][2:]) == (chosen is not None and (tells or not late))


@pytest.mark.parametrize("kind", [MemoryBackend, Early])
@pytest.mark.parametrize(
    "claimed",
    [
        Checksum(algorithm="crc32", value=digest("crc32", WHOLE)),
        Checksum(algorithm="crc32", type="COMPOSITE", value=composite("crc32", CONTENTS)),
        Checksum(algorithm="sha256", type="COMPOSITE", value=composite("sha256", CONTENTS)[:-2]),
    ],
)
async def test_parts_of_which_nothing_is_known(
    kind: type[MemoryBackend], claimed: Checksum
) -> None:
    """An upload without a choice, parts without checksums: the claim says what to compute."""
    backend = kind()
    await backend.create_bucket("b")
    upload_id = await backend.create_multipart_upload("b", "k", metadata=ObjectMetadata())
    parts = []
    for number, data in enumerate(CONTENTS, 1):
        part = await backend.upload_part("b", "k", upload_id, number, body(data), size=len(data))
        assert part.checksum is None
        parts.append(CompletedPart(part_number=number, etag=part.etag))
    impossible = Checksum(algorithm="sha256", value=digest("sha256", WHOLE))
    short = replace(claimed, value=digest(claimed.algorithm, CONTENTS[0]))
    for wrong in (short, impossible):
        with pytest.raises(BadDigest):
            await backend.complete_multipart_upload("b", "k", upload_id, parts, checksum=wrong)
    if claimed.type == "COMPOSITE":
        miscounted = replace(claimed, value=claimed.value.partition("-")[0] + "-2")
        with pytest.raises(BadDigest):
            await backend.complete_multipart_upload("b", "k", upload_id, parts, checksum=miscounted)
    await backend.complete_multipart_upload("b", "k", upload_id, parts, checksum=claimed)
    value = claimed.value.partition("-")[0] + ("-3" if claimed.type == "COMPOSITE" else "")
    assert (await internal(backend))["checksum"] == str(replace(claimed, value=value))


@pytest.mark.parametrize(
    ("room", "parts"), [(1000, f"1;{PART}*2,3;crc32:"), (100, f"1;{PART}*2,3"), (80, "")]
)
async def test_where_there_is_little_room(
    monkeypatch: pytest.MonkeyPatch, room: int, parts: str
) -> None:
    backend = Narrow()
    monkeypatch.setattr(backend, "room", room)
    upload_id, listed = await stored(backend, COMPOSITE)
    await backend.complete_multipart_upload("b", "k", upload_id, listed)
    found = await internal(backend)
    assert found["checksum"] == f"crc32:COMPOSITE:{composite('crc32', CONTENTS)}"
    text = found.get("parts", "")
    assert text.startswith(parts)
    assert ("crc32:" in text) == (room == 1000)


async def test_damaged_checksums_count_as_none() -> None:
    backend = MemoryBackend()
    upload_id, _ = await stored(backend, None)
    damaged = ObjectMetadata(internal={"checksum": "crc64nvme:FULL_OBJECT:###"})
    name = f".deltaglider/uploads/{upload_id}/00001"
    data = CONTENTS[0]
    await backend.put_object("b", name, body(data), size=len(data), metadata=damaged)
    page = await backend.list_parts("b", "k", upload_id, max_parts=10)
    assert [part.checksum is None for part in page.parts] == [True, False, False]
    parts = [CompletedPart(part_number=p.part_number, etag=p.etag) for p in page.parts]
    await backend.complete_multipart_upload("b", "k", upload_id, parts)
    expected = f"crc64nvme:FULL_OBJECT:{digest('crc64nvme', WHOLE)}"
    assert (await internal(backend))["checksum"] == expected
