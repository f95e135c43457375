"""A bucket with deltas, its rows in a state database, and collections of it."""

from __future__ import annotations

import random
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from deltaglider_codec_xdelta3.codec import Xdelta3Codec
from deltaglider_core.delta.layer import DeltaLayer, open_engine
from deltaglider_core.delta.policy import DeltaPolicy
from deltaglider_core.interfaces.storage import StorageBackend
from deltaglider_core.interfaces.writes import current_write
from deltaglider_core.services import Services
from deltaglider_core.state import references
from deltaglider_core.state.bucket_registry import BucketRef, Identity, insert_bucket
from deltaglider_core.state.collect import CollectReport, Progress, collect
from deltaglider_core.state.database import Database
from deltaglider_core.state.leases import Leases
from deltaglider_core.state.tables import buckets, facts, intents, refs
from deltaglider_core.testing import MemoryBackend, body, metadata, read, services_for_tests

SIZE = 20_000


async def make_bucket(
    database: Database, name: str = "bucket", *, owner: str | None = None, state: str = "active"
) -> BucketRef:
    """A row for a bucket, owned by this deployment unless told otherwise."""
    bucket_id = secrets.token_hex(16)

    def make(connection: Connection) -> int:
        ours = connection.execute(
            select(facts.c.value).where(facts.c.name == "deployment")
        ).scalar_one()
        identity = Identity(id=bucket_id, owner=owner or ours)
        now = database.now(connection)
        return insert_bucket(connection, now, name, identity, state, complete=True)

    return BucketRef(number=await database.write(make), id=bucket_id, name=name)


async def open_intent(database: Database, bucket: int, key: bytes = b"k") -> str:
    """An intent as a write of ``key`` has it; returns its write id."""
    write_id = secrets.token_hex(16)
    values = {
        "write_id": write_id,
        "bucket": bucket,
        "key": key,
        "kind": "put",
        "process": "p" * 32,
        "started": 0.0,
        "state": "open",
        "size": 0,
        "contended": False,
        "exclusive": False,
        "disturbed": 0,
    }
    await database.write(lambda c: c.execute(insert(intents).values(values)) and None)
    return write_id


async def settle(database: Database, write_id: str) -> None:
    """End an intent."""
    await database.write(
        lambda c: c.execute(delete(intents).where(intents.c.write_id == write_id)) and None
    )


async def rows(database: Database, bucket: int) -> Mapping[str, Row[Any]]:
    """The references of a bucket by their key; checks its sum on the way."""
    found = await database.read(
        lambda c: c.execute(select(refs).where(refs.c.bucket == bucket)).all()
    )
    total = await database.read(
        lambda c: c.execute(
            select(buckets.c.reference_bytes).where(buckets.c.number == bucket)
        ).scalar_one()
    )
    assert total == sum(row.size for row in found)
    return {row.key.decode(): row for row in found}


class DatabaseWrite:
    """Implements ``WriteIntent`` over an intent in the database."""

    def __init__(self, database: Database, bucket: BucketRef, write_id: str) -> None:
        self._database = database
        self._bucket = bucket
        self.write_id = write_id
        self.bucket_id = bucket.id
        self.answers: list[bool] = []

    async def hold(self, reference: str, size: int) -> bool:
        held = await self._database.write(
            lambda c: references.hold(
                c,
                bucket=self._bucket.number,
                write_id=self.write_id,
                reference=reference.encode(),
                size=size,
                now=self._database.now(c),
            ),
            scope=self._bucket.number,
        )
        self.answers.append(held)
        return held

    register = hold

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[bool]:
        yield True


@dataclass
class Collected:
    """A layer over a backend in memory, with its state."""

    layer: DeltaLayer
    backend: MemoryBackend
    database: Database
    bucket: BucketRef
    leases: Leases
    services: Services
    deleted: list[str] = field(default_factory=list)

    @staticmethod
    def data(seed: int = 1, size: int = SIZE) -> bytes:
        """Incompressible bytes."""
        return random.Random(seed).randbytes(size)

    @classmethod
    def version(cls, seed: int, of: int = 1) -> bytes:
        """Bytes like ``data(of)``."""
        changed = bytearray(cls.data(of))
        changed[seed : seed + 8] = seed.to_bytes(8, "big")
        return bytes(changed)

    @asynccontextmanager
    async def writing(self, key: str = "k") -> AsyncIterator[DatabaseWrite]:
        """An intent around what the block writes."""
        write_id = await open_intent(self.database, self.bucket.number, key.encode())
        write = DatabaseWrite(self.database, self.bucket, write_id)
        token = current_write.set(write)
        try:
            yield write
        finally:
            current_write.reset(token)
            await settle(self.database, write_id)

    async def put(self, key: str, data: bytes) -> str:
        """Store an object; returns the form that it got."""
        async with self.writing(key):
            await self.layer.put_object(
                "bucket", key, body(data), size=len(data), metadata=metadata()
            )
        return await self.form(key)

    async def copy(self, source: str, target: str) -> None:
        async with self.writing(target):
            await self.layer.copy_object("bucket", source, "bucket", target)

    async def remove(self, *keys: str) -> None:
        for key in keys:
            await self.layer.delete_object("bucket", key)

    async def get(self, key: str) -> bytes:
        return await read(await self.layer.get_object("bucket", key))

    async def form(self, key: str) -> str:
        info = await self.backend.head_object("bucket", key)
        return "" if info.metadata is None else info.metadata.internal.get("form", "")

    async def plant(self, key: str, data: bytes, internal: Mapping[str, str] | None = None) -> None:
        """Put bytes on the backend behind everybody's back."""
        await self.backend.put_object(
            "bucket", key, body(data), size=len(data), metadata=metadata(internal=internal)
        )

    def references(self) -> list[str]:
        """Keys of the references on the backend."""
        keys = self.backend.keys("bucket")
        return [key for key in keys if key.startswith(".deltaglider/refs/")]

    async def rows(self) -> Mapping[str, Row[Any]]:
        return await rows(self.database, self.bucket.number)

    async def collect(
        self,
        *,
        grace: float = 0.0,
        dry_run: bool = False,
        progress: Progress | None = None,
        backend: StorageBackend | None = None,
    ) -> CollectReport:
        return await collect(
            backend or self.backend,
            self.bucket,
            database=self.database,
            leases=self.leases,
            grace=grace,
            dry_run=dry_run,
            progress=progress,
        )

    async def age(self, seconds: float) -> None:
        """Let everything have happened so much earlier."""

        def earlier(connection: Connection) -> None:
            connection.execute(
                update(refs).values(
                    registered=refs.c.registered - seconds, condemned=refs.c.condemned - seconds
                )
            )

        await self.database.write(earlier)

    async def reference_bytes(self) -> int:
        found = await self.database.read(
            lambda c: c.execute(select(func.sum(refs.c.size))).scalar()
        )
        return int(found or 0)


@asynccontextmanager
async def open_collected(
    database: Database, directory: Path, backend: MemoryBackend | None = None
) -> AsyncIterator[Collected]:
    """A new bucket called ``bucket``."""
    codec = Xdelta3Codec(level=1, window_size=1 << 20, zstd_level=1)
    services = services_for_tests(directory, codecs={codec.codec_id: codec})
    # Nothing is kept in the cache, so that a missing reference shows.
    async with open_engine(DeltaPolicy(cache_bytes=0), services) as engine:
        backend = backend or MemoryBackend()
        layer = DeltaLayer(backend, engine)
        await layer.create_bucket("bucket")
        yield Collected(
            layer=layer,
            backend=backend,
            database=database,
            bucket=await make_bucket(database),
            leases=Leases(database, "c" * 32),
            services=services,
        )
