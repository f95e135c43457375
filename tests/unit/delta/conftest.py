"""The delta layer over a backend in memory, with a small codec and with the real one."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from deltaglider_core.delta.layer import DeltaLayer, open_engine
from deltaglider_core.delta.policy import DeltaPolicy
from deltaglider_core.delta.references import family, references_prefix
from deltaglider_core.errors import CorruptDelta
from deltaglider_core.interfaces.codec import Codec, EncodedWindow
from deltaglider_core.interfaces.storage import (
    Body,
    ByteRange,
    Capabilities,
    Condition,
    ObjectInfo,
    ObjectPage,
    StorageBackend,
)
from deltaglider_core.services import Services
from deltaglider_core.testing import MemoryBackend, body, metadata, read, services_for_tests

_BLOCK = 32


class BlockPrepared:
    """Positions of all aligned blocks of a reference."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        self.blocks: dict[bytes, int] = {}
        for position in range(0, len(self.data) - _BLOCK + 1, _BLOCK):
            self.blocks.setdefault(self.data[position : position + _BLOCK], position)
        self.closed = False

    @property
    def size(self) -> int:
        return len(self.data)

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class BlockCodec:
    """Copy and insert instructions on aligned blocks: slow, simple, honest.

    A window is a zstd frame of ``(kind, a, b)`` instructions: kind 0 copies ``b`` bytes at
    ``a`` of the reference, kind 1 inserts the ``b`` bytes that follow.
    """

    codec_id = "block"

    def __init__(self, window_size: int = 16 * 1024) -> None:
        self.window_size = window_size
        self.prepared: list[BlockPrepared] = []
        self.error: Exception | None = None

    def stream_header(self) -> bytes:
        return zstandard.compress(b"BLOCK")

    def prepare(self, reference: Path) -> BlockPrepared:
        self.prepared.append(BlockPrepared(reference))
        return self.prepared[-1]

    def encode_window(self, prepared: BlockPrepared, target: bytes) -> EncodedWindow:
        if self.error is not None:
            raise self.error
        assert not prepared.closed
        assert len(target) <= self.window_size
        out, literal, position = bytearray(), bytearray(), 0
        low, high = len(prepared.data), 0

        def flush() -> None:
            if literal:
                out.extend(struct.pack("<BQI", 1, 0, len(literal)))
                out.extend(literal)
                literal.clear()

        while position < len(target):
            found = prepared.blocks.get(bytes(target[position : position + _BLOCK]))
            if found is None:
                literal.append(target[position])
                position += 1
                continue
            length = _BLOCK
            while (
                position + length < len(target)
                and found + length < len(prepared.data)
                and target[position + length] == prepared.data[found + length]
            ):
                length += 1
            flush()
            out.extend(struct.pack("<BQI", 0, found, length))
            low, high = min(low, found), max(high, found + length)
            position += length
        flush()
        span = (low, high - low) if high else (0, 0)
        return EncodedWindow(data=zstandard.compress(bytes(out)), span=span)

    def decode_window(self, reference: bytes, window: bytes, *, size: int) -> bytes:
        try:
            code = zstandard.decompress(window, max_output_size=64 * size + 1024)
            data = run_block_code(memoryview(reference), code)
        except (zstandard.ZstdError, struct.error, ValueError) as error:
            raise CorruptDelta("not a window") from error
        if len(data) != size:
            raise CorruptDelta("wrong size")
        return data


def run_block_code(reference: memoryview, code: bytes) -> bytes:
    out, position = bytearray(), 0
    while position < len(code):
        kind, where, length = struct.unpack_from("<BQI", code, position)
        position += 13
        if kind == 0:
            if where + length > len(reference):
                raise ValueError("beyond the reference")
            out += reference[where : where + length]
        elif kind == 1:
            out += code[position : position + length]
            position += length
        else:
            raise ValueError("unknown instruction")
    return bytes(out)


class BareBackend(MemoryBackend):
    """A backend with the least that is allowed: listings without metadata, no conditions."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    async def list_objects(self, bucket: str, **arguments: Any) -> ObjectPage:
        page = await super().list_objects(bucket, **arguments)
        return replace(page, objects=tuple(replace(o, metadata=None) for o in page.objects))

    async def put_object(self, bucket: str, key: str, body: Body, **arguments: Any) -> ObjectInfo:
        arguments["condition"] = None
        return await super().put_object(bucket, key, body, **arguments)


@dataclass
class World:
    """A layer with everything around it, and short names for what tests do all the time."""

    layer: DeltaLayer
    inner: StorageBackend
    services: Services
    codec: BlockCodec
    log: list[tuple[str, str, Mapping[str, object]]] = field(default_factory=list)
    bucket: str = "bucket"

    @staticmethod
    def data(size: int, seed: int = 1) -> bytes:
        """Incompressible bytes."""
        return random.Random(seed).randbytes(size)

    @staticmethod
    def version(data: bytes, seed: int = 2, edits: int = 3) -> bytes:
        """A similar file of the same size: a few short places differ."""
        chance, changed = random.Random(seed), bytearray(data)
        for _ in range(edits):
            at = chance.randrange(len(data) - 8)
            changed[at : at + 8] = chance.randbytes(8)
        return bytes(changed)

    @property
    def memory(self) -> MemoryBackend:
        assert isinstance(self.inner, MemoryBackend)
        return self.inner

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        condition: Condition | None = None,
        user: Mapping[str, str] | None = None,
        internal: Mapping[str, str] | None = None,
        size: int | None = -1,
        chunk_size: int = 64 * 1024,
    ) -> ObjectInfo:
        return await self.layer.put_object(
            self.bucket,
            key,
            body(data, chunk_size=chunk_size),
            size=len(data) if size == -1 else size,
            metadata=metadata(user=user, internal=internal),
            condition=condition,
        )

    async def get(self, key: str, byte_range: ByteRange | None = None) -> bytes:
        return await read(await self.layer.get_object(self.bucket, key, byte_range=byte_range))

    async def stored(self, key: str) -> bytes:
        """The bytes on the backend."""
        return await read(await self.inner.get_object(self.bucket, key))

    async def form(self, key: str) -> str:
        info = await self.inner.head_object(self.bucket, key)
        assert info.metadata is not None
        return info.metadata.internal.get("form", "")

    async def references(self) -> list[str]:
        page = await self.inner.list_objects(self.bucket, prefix=".deltaglider/refs/")
        return [info.key for info in page.objects]

    async def plant(self, key: str, data: bytes, internal: Mapping[str, str] | None = None) -> None:
        """Put bytes on the backend behind the layer's back."""
        await self.inner.put_object(
            self.bucket, key, body(data), size=len(data), metadata=metadata(internal=internal)
        )

    async def plant_reference(self, data: bytes, key: str = "app.zip") -> str:
        """Put a reference for the family of ``key`` there; returns its key."""
        sha256 = hashlib.sha256(data).hexdigest()
        name = references_prefix(key) + sha256
        await self.plant(name, data, {"form": "reference", "sha256": sha256, "source": family(key)})
        return name

    def logged(self, event: str) -> list[Mapping[str, object]]:
        return [fields for _, name, fields in self.log if name == event]

    def metric(self, name: str, labels: Mapping[str, str] | None = None) -> float:
        value = self.services.metrics.get_sample_value(name, dict(labels or {}))
        return 0.0 if value is None else value

    @property
    def leases(self) -> int:
        return self.services.spool.used_bytes


class ListLogger:
    """Collects what is logged."""

    def __init__(self, lines: list[tuple[str, str, Mapping[str, object]]]) -> None:
        self._lines = lines

    def warning(self, event: str, **fields: object) -> None:
        self._lines.append(("warning", event, fields))

    def error(self, event: str, **fields: object) -> None:
        self._lines.append(("error", event, fields))


MakeWorld = Callable[..., Awaitable[World]]


@pytest.fixture
async def make_world(tmp_path: Path) -> AsyncIterator[MakeWorld]:
    """Build worlds; worlds of one test share no directory unless told to."""
    async with AsyncExitStack() as stack:
        count = 0

        async def make(
            *,
            policy: DeltaPolicy | None = None,
            inner: StorageBackend | None = None,
            codecs: Mapping[str, Codec] | None = None,
            directory: Path | None = None,
            spool_bytes: int = 1 << 30,
        ) -> World:
            nonlocal count
            count += 1
            codec = BlockCodec()
            log: list[tuple[str, str, Mapping[str, object]]] = []
            made = services_for_tests(
                directory or tmp_path / str(count),
                spool_bytes=spool_bytes,
                codecs={"block": codec} if codecs is None else codecs,
            )
            services = Services(
                clock=made.clock,
                log=ListLogger(log),
                metrics=made.metrics,
                spool=made.spool,
                cache_dir=made.cache_dir,
                codecs=made.codecs,
            )
            engine = await stack.enter_async_context(open_engine(policy or DeltaPolicy(), services))
            backend = inner or MemoryBackend()
            if not await backend.list_buckets():
                await backend.create_bucket("bucket")
            return World(
                layer=DeltaLayer(backend, engine),
                inner=backend,
                services=services,
                codec=codec,
                log=log,
            )

        yield make


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    return await make_world()


@pytest.fixture
def bare_backend() -> MemoryBackend:
    return BareBackend()
