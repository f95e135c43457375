"""Objects that the delta layer stores with this codec, read by stock tools."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard

from deltaglider_codec_xdelta3.codec import Xdelta3Codec
from deltaglider_core.delta.layer import DeltaLayer, open_engine
from deltaglider_core.delta.policy import DeltaPolicy
from deltaglider_core.interfaces.storage import ByteRange
from deltaglider_core.testing import MemoryBackend, body, metadata, read, services_for_tests

if TYPE_CHECKING:
    from .conftest import StockXdelta3

CHANCE = random.Random(5)
FIRST = CHANCE.randbytes(300_000)
SECOND = FIRST[200_000:] + CHANCE.randbytes(30_000) + FIRST[:180_000] + bytes(100_000)


@pytest.fixture
async def layer(tmp_path: Path, codec: Xdelta3Codec) -> AsyncIterator[DeltaLayer]:
    services = services_for_tests(tmp_path, codecs={codec.codec_id: codec})
    async with open_engine(DeltaPolicy(), services) as engine:
        backend = MemoryBackend()
        await backend.create_bucket("b")
        layer = DeltaLayer(backend, engine)
        for key, data in (("app-1.zip", FIRST), ("app-2.zip", SECOND)):
            await layer.put_object("b", key, body(data), size=len(data), metadata=metadata())
        yield layer


async def stored(layer: DeltaLayer, key: str) -> bytes:
    return await read(await layer.inner.get_object("b", key))


def unzstd(blob: bytes, folder: Path) -> bytes:
    """What ``zstd -dc`` makes of the object; the library where the program is not installed."""
    program = shutil.which("zstd")
    if program is None:
        with zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True) as reader:
            return reader.read()
    path = folder / "blob.zst"
    path.write_bytes(blob)
    return subprocess.run([program, "-dc", path], check=True, capture_output=True).stdout


@pytest.mark.parametrize(("key", "data"), [("app-1.zip", FIRST), ("app-2.zip", SECOND)])
async def test_zstd_and_xdelta3_restore_the_object(
    layer: DeltaLayer, stock: StockXdelta3, tmp_path: Path, key: str, data: bytes
) -> None:
    page = await layer.inner.list_objects("b", prefix=".deltaglider/refs/")
    (reference,) = [await stored(layer, info.key) for info in page.objects]
    assert reference == FIRST
    blob = await stored(layer, key)
    assert len(blob) < 40_000
    assert stock.decode(reference, unzstd(blob, tmp_path)) == data


async def test_the_layer_reads_what_it_stored(layer: DeltaLayer) -> None:
    assert await read(await layer.get_object("b", "app-1.zip")) == FIRST
    assert await read(await layer.get_object("b", "app-2.zip")) == SECOND
    span = ByteRange(first=60_000, last=140_000)
    got = await read(await layer.get_object("b", "app-2.zip", byte_range=span))
    assert got == SECOND[60_000:140_001]
