"""What is known of a body only after its end, and checksums, through the delta layer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from deltaglider_core.delta.container import build_head
from deltaglider_core.delta.record import Record
from deltaglider_core.interfaces.storage import Capabilities, ObjectInfo, ObjectMetadata
from deltaglider_core.testing import MemoryBackend, body

if TYPE_CHECKING:
    from .conftest import MakeWorld, World

SIZE = 100_000
CHECKSUM = {"checksum": "crc32:FULL_OBJECT:AAAAAA=="}
COMPOSITE = {"checksum": "crc32:COMPOSITE:AAAAAA==-2", "parts": "1;5*2"}
#: Bytes that have to be wrapped.
MAGIC = build_head(Record(form="wrapped", size=1, etag="x"))


class Early(MemoryBackend):
    """Takes metadata before the body, as S3 does."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, late_metadata=False)

    async def put_object(self, *arguments: Any, metadata: ObjectMetadata, **options: Any) -> Any:
        assert metadata.late is None
        return await super().put_object(*arguments, metadata=metadata, **options)


async def put_late(world: World, key: str, data: bytes, *, sized: bool = True) -> ObjectInfo:
    """Store an object whose checksum is known after its body."""
    known: dict[str, str] = {}

    async def chunks() -> AsyncIterator[bytes]:
        async for chunk in body(data):
            yield chunk
        known.update(CHECKSUM)

    def late() -> Mapping[str, str]:
        assert known, "asked before the body has ended"
        return known

    given = ObjectMetadata(internal={"write-id": "w"}, late=late)
    size = len(data) if sized else None
    return await world.layer.put_object("bucket", key, chunks(), size=size, metadata=given)


async def kept(world: World, key: str) -> dict[str, str]:
    head = await world.layer.head_object("bucket", key)
    assert head.metadata is not None
    return dict(head.metadata.internal)


async def put_everything(world: World) -> dict[str, str]:
    """One object of each form and way; the form of each key."""
    first = world.data(SIZE)
    await put_late(world, "v/app-1.zip", first)
    await put_late(world, "v/app-2.zip", world.version(first))
    await put_late(world, "hopeless.zip", world.data(5000, seed=9))
    await put_late(world, "verbatim.txt", first)
    await put_late(world, "endless.zip", first, sized=False)
    await put_late(world, "magic.txt", MAGIC + first)
    await put_late(world, "magic.zip", MAGIC + world.data(5000, seed=8))
    await put_late(world, "tiny.zip", b"x")
    keys = [key for key in world.memory.keys("bucket") if not key.startswith(".")]
    return {key: await world.form(key) for key in keys}


async def test_late_metadata_of_every_form(world: World) -> None:
    forms = await put_everything(world)
    assert {"delta", "verbatim", "wrapped"} <= set(forms.values())
    assert (forms["v/app-2.zip"], forms["magic.txt"]) == ("delta", "wrapped")
    for key in forms:
        assert await kept(world, key) == {"write-id": "w", **CHECKSUM}


async def test_where_metadata_come_first(make_world: MakeWorld) -> None:
    """What was spooled is known before it is stored; the answer claims no more than that."""
    world = await make_world(inner=Early())
    await put_everything(world)
    for key in ("v/app-1.zip", "v/app-2.zip", "magic.txt"):
        assert CHECKSUM.items() <= (await kept(world, key)).items()
    for key in ("verbatim.txt", "endless.zip"):
        assert await kept(world, key) == {"write-id": "w"}
    info = await put_late(world, "verbatim.txt", b"x" * SIZE)
    assert info.metadata is not None
    assert info.metadata.late is None
    assert dict(info.metadata.internal) == {"write-id": "w"}


async def test_a_full_spool_loses_nothing(make_world: MakeWorld) -> None:
    world = await make_world(spool_bytes=1000)
    await put_late(world, "a.zip", world.data(SIZE))
    assert await kept(world, "a.zip") == {"write-id": "w", **CHECKSUM}


@pytest.mark.parametrize("internal", [CHECKSUM, COMPOSITE])
async def test_a_rewrite_keeps_them(world: World, internal: dict[str, str]) -> None:
    data = world.data(SIZE)
    await world.put("v/app-1.zip", data)
    await world.plant("v/app-2.zip", world.version(data), {"form": "verbatim", **internal})
    info = await world.layer.head_object("bucket", "v/app-2.zip")
    assert await world.layer.optimise("bucket", "v/app-2.zip", info) is not None
    assert await world.form("v/app-2.zip") == "delta"
    assert await kept(world, "v/app-2.zip") == internal


@pytest.mark.parametrize("target", ["v/app-2.zip", "v/app-9.zip", "other.txt"])
@pytest.mark.parametrize(
    ("internal", "expected"),
    [(CHECKSUM, CHECKSUM), (COMPOSITE, {}), ({"checksum": "nonsense", "parts": "1;x"}, {})],
)
async def test_a_copy_keeps_what_is_of_its_bytes(
    world: World, target: str, internal: dict[str, str], expected: dict[str, str]
) -> None:
    """A copy is stored as one: it has no parts, and no checksum that was made of theirs.

    Onto itself an object stays what it is.
    """
    data = world.data(SIZE)
    await world.put("v/app-1.zip", data)
    await world.put("v/app-2.zip", world.version(data), internal=internal)
    await world.layer.copy_object("bucket", "v/app-2.zip", "bucket", target)
    assert await kept(world, target) == (internal if target == "v/app-2.zip" else expected)
    assert await world.get(target) == world.version(data)
