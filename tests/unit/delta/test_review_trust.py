"""What must hold when local disks fail, and when a rewrite meets a change that no ETag shows."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deltaglider_core.delta import cache as cache_module
from deltaglider_core.delta import encoder
from deltaglider_core.delta.bodies import file_chunks
from deltaglider_core.delta.cache import ReferenceFile, open_verified
from deltaglider_core.delta.encoder import EncodingFailedError, encode
from deltaglider_core.delta.policy import DeltaPolicy
from deltaglider_core.delta.spooling import Spooled, spool_body
from deltaglider_core.errors import ServiceUnavailable
from deltaglider_core.interfaces.codec import EncodedWindow
from deltaglider_core.interfaces.storage import CompletedPart, ObjectInfo, ObjectReader
from deltaglider_core.services import run_blocking
from deltaglider_core.testing import MemoryBackend, body, metadata

if TYPE_CHECKING:
    from .conftest import BlockPrepared, MakeWorld, World

SIZE = 40_000


def references_of(world: World) -> Path:
    return world.services.cache_dir / "references"


def damage(path: Path, length: int = SIZE) -> None:
    """Other bytes in the same file, as a failing disk gives them."""
    with path.open("r+b") as file:
        file.write(bytes(length))


def open_files() -> list[str]:
    return [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]


async def read_all(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def complete(world: World, key: str, data: bytes, user: dict[str, str]) -> ObjectInfo:
    upload = await world.layer.create_multipart_upload("bucket", key, metadata=metadata(user=user))
    part = await world.layer.upload_part("bucket", key, upload, 1, body(data), size=len(data))
    parts = [CompletedPart(part_number=1, etag=part.etag)]
    return await world.layer.complete_multipart_upload("bucket", key, upload, parts)


# --- a rewrite in place and a change of metadata alone --------------------------------------


@pytest.mark.parametrize("during", ["encode", "put_object"])
async def test_new_metadata_of_the_same_bytes_survives_optimising(
    world: World, during: str
) -> None:
    """The backend's ETag is that of the bytes: a condition on it holds after a copy onto itself."""
    base = world.data(SIZE)
    await world.put("app-1.zip", base)
    loop, encode_window = asyncio.get_running_loop(), world.codec.encode_window
    changed = False

    async def change(bucket: str = "", key: str = "app-2.zip") -> None:
        nonlocal changed
        if not changed and key == "app-2.zip":
            changed = True
            await world.layer.copy_object(
                "bucket", key, "bucket", key, metadata=metadata(user={"version": "new"})
            )

    def slowly(prepared: BlockPrepared, target: bytes) -> EncodedWindow:
        asyncio.run_coroutine_threadsafe(change(), loop).result()
        return encode_window(prepared, target)

    async def watch(bucket: str, key: str) -> None:
        if key == "app-2.zip":
            world.memory.heal()
            if during == "encode":
                world.codec.encode_window = slowly  # type: ignore[method-assign]
            else:
                world.memory.before("put_object", change)

    world.memory.after("put_object", watch)
    data = world.version(base)
    await complete(world, "app-2.zip", data, {"version": "old"})
    assert changed
    info = await world.layer.head_object("bucket", "app-2.zip")
    assert info.metadata is not None
    assert info.metadata.user == {"version": "new"}
    assert await world.get("app-2.zip") == data


# --- the cache directory --------------------------------------------------------------------


async def test_a_cached_file_that_rots_is_fetched_again(world: World) -> None:
    base = world.data(SIZE)
    await world.put("app-1.zip", base)
    damage(references_of(world) / hashlib.sha256(base).hexdigest())
    assert await world.get("app-1.zip") == base


async def test_rot_found_in_the_middle_of_a_read_is_gone_for_the_next(world: World) -> None:
    base = world.data(SIZE)
    await world.put("app-1.zip", base)
    async with await world.layer.get_object("bucket", "app-1.zip") as reader:
        chunks = aiter(reader)
        await anext(chunks)
        for path in references_of(world).iterdir():
            damage(path)
        with pytest.raises(ServiceUnavailable):
            await read_all(chunks)
    assert await world.get("app-1.zip") == base


@pytest.mark.parametrize("length", [3000, SIZE])
async def test_no_delta_is_made_against_a_cached_file_that_rotted(
    world: World, make_world: MakeWorld, tmp_path: Path, length: int
) -> None:
    """Encoder and check read the same wrong bytes; the object would be lost with the cache."""
    base = world.data(SIZE)
    await world.put("app-1.zip", base)
    other = await make_world(inner=world.inner, directory=tmp_path / "other")
    assert await other.get("app-1.zip") == base
    damage(references_of(other) / hashlib.sha256(base).hexdigest(), length)
    # As in a disk image, what the failing disk gives stands in the new version, too.
    blank = bytes(3000) + base[3000:]
    versions = {f"app-{n}.zip": world.version(blank, seed=n) for n in (2, 3)}
    for key, data in versions.items():
        await other.put(key, data)
    cold = await make_world(inner=world.inner)
    for key, data in versions.items():
        assert await cold.get(key) == data
    # The first upload found the damage; the second one has the true reference again.
    assert [await world.form(key) for key in versions] == ["verbatim", "delta"]


async def test_a_cache_directory_that_was_cleared_away_is_made_again(
    world: World, make_world: MakeWorld
) -> None:
    base = world.data(SIZE)
    await world.put("app-1.zip", base)
    cold = await make_world(inner=world.inner)
    shutil.rmtree(references_of(cold))
    assert await cold.get("app-1.zip") == base


async def test_a_disk_smaller_than_the_budget_makes_room_for_what_is_read(
    world: World, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{n}/app.zip": world.data(SIZE, seed=n) for n in range(4)}
    for key, data in files.items():
        await world.put(key, data)
    cold = await make_world(inner=world.inner)
    directory, real = references_of(cold), cache_module.write_hashed

    async def write(path: Path, chunks: Any, *, limit: int) -> tuple[int, str]:
        if sum(file.stat().st_size for file in directory.iterdir()) + limit > 2 * SIZE:
            raise OSError(errno.ENOSPC, "No space left on device")
        return await real(path, chunks, limit=limit)

    monkeypatch.setattr(cache_module, "write_hashed", write)
    for _ in range(2):
        for key, data in files.items():
            assert await cold.get(key) == data


async def test_without_any_room_a_read_can_be_repeated(
    world: World, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.put("app-1.zip", world.data(SIZE))
    cold = await make_world(inner=world.inner)

    async def write(path: Path, chunks: Any, *, limit: int) -> tuple[int, str]:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "write_hashed", write)
        with pytest.raises(ServiceUnavailable):
            await cold.get("app-1.zip")
    assert list(references_of(cold).iterdir()) == []
    assert await cold.get("app-1.zip") == world.data(SIZE)


# --- descriptors ----------------------------------------------------------------------------


async def test_a_read_cancelled_while_its_file_is_opened_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread finishes the call, and nobody is there to take what it returns."""
    path, opening, go_on = tmp_path / "body", threading.Event(), threading.Event()
    path.write_bytes(b"x")
    real = os.open

    def slowly(name: Any, flags: int, *more: Any, **named: Any) -> int:
        if name == path:
            opening.set()
            assert go_on.wait(10)
        return real(name, flags, *more, **named)

    monkeypatch.setattr(os, "open", slowly)
    task = asyncio.ensure_future(anext(file_chunks(path, 1)))
    assert await run_blocking(opening.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert str(path) not in open_files()


# --- limits of the format -------------------------------------------------------------------


class ByteCodec:
    """Windows of one byte, stored as they are."""

    codec_id = "byte"
    window_size = 1

    def stream_header(self) -> bytes:
        return b""

    def encode_window(self, prepared: object, target: bytes) -> EncodedWindow:
        return EncodedWindow(data=target, span=(0, 0))

    def decode_window(self, reference: object, window: bytes, *, size: int) -> bytes:
        return bytes(window)


@pytest.mark.parametrize(("groups", "fits"), [(4, True), (5, False)])
async def test_no_more_groups_are_written_than_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: int, fits: bool
) -> None:
    monkeypatch.setattr(encoder, "MAX_GROUPS", 4)
    data = bytes(range(groups * 2))
    spooled: Spooled = await spool_body(body(data), tmp_path / "body", len(data))
    reference = open_verified(tmp_path / "body", spooled.sha256)
    assert isinstance(reference, ReferenceFile)
    codec: Any = ByteCodec()
    work = encode(
        codec, codec, reference, spooled, tmp_path / "delta", limit=1 << 20, group_windows=2
    )
    if fits:
        encoded = await work
        assert encoded is not None
        assert len(encoded.groups) == groups
    else:
        with pytest.raises(EncodingFailedError):
            await work


class OpaqueBackend(MemoryBackend):
    """ETags that no record can hold."""

    async def get_object(self, bucket: str, key: str, **arguments: Any) -> ObjectReader:
        reader = await super().get_object(bucket, key, **arguments)
        reader.info = self._opaque(reader.info)
        return reader

    async def head_object(self, bucket: str, key: str) -> ObjectInfo:
        return self._opaque(await super().head_object(bucket, key))

    @staticmethod
    def _opaque(info: ObjectInfo) -> ObjectInfo:
        return replace(info, etag=info.etag * 5)


async def test_an_object_whose_etag_no_record_can_hold_stays_as_it_is(
    make_world: MakeWorld,
) -> None:
    world = await make_world(inner=OpaqueBackend(), policy=DeltaPolicy())
    data = world.data(SIZE)
    await world.plant("app-1.zip", data)
    info = await world.layer.head_object("bucket", "app-1.zip")
    assert await world.layer.optimise("bucket", "app-1.zip", info) is None
    assert await world.get("app-1.zip") == data
