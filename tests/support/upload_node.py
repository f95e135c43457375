"""A process with the layer that records mutations, as tests of multipart uploads need it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy import Row, select

from deltaglider_core.interfaces.storage import (
    CompletedPart,
    ObjectInfo,
    ObjectMetadata,
    PartInfo,
    StorageBackend,
    StorageLayer,
)
from deltaglider_core.state.examiner import examine_all
from deltaglider_core.state.layer import StateLayer
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.state import State, open_state
from deltaglider_core.state.tables import buckets, events, intents, uploads
from deltaglider_core.testing import body

BUCKET = "bucket"


class LogicalEtags(StorageLayer):
    """Shows the ETag that an object was given instead of that of its bytes, as layers do."""

    async def head_object(self, bucket: str, key: str) -> ObjectInfo:
        info = await self.inner.head_object(bucket, key)
        internal = {} if info.metadata is None else info.metadata.internal
        return replace(info, etag=internal.get("etag", info.etag))


@dataclass
class Node:
    """One process of several on one database and one backend."""

    state: State
    layer: StateLayer

    @property
    def process(self) -> str:
        return self.state.processes.id

    async def create(self, key: str = "k", metadata: ObjectMetadata | None = None) -> str:
        return await self.layer.create_multipart_upload(
            BUCKET, key, metadata=metadata or ObjectMetadata()
        )

    async def part(self, upload_id: str, number: int, data: bytes, key: str = "k") -> PartInfo:
        return await self.layer.upload_part(
            BUCKET, key, upload_id, number, body(data), size=len(data)
        )

    async def complete(self, upload_id: str, *parts: PartInfo, key: str = "k") -> ObjectInfo:
        return await self.layer.complete_multipart_upload(BUCKET, key, upload_id, listed(*parts))

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        return await self.layer.put_object(
            BUCKET, key, body(data), size=len(data), metadata=ObjectMetadata()
        )

    async def visible(self) -> list[tuple[str, str]]:
        page = await self.layer.list_multipart_uploads(BUCKET)
        return [(item.key, item.upload_id) for item in page.uploads]

    async def settle(self, *dead: Node) -> int:
        """Settle what these processes, taken for dead, left behind."""
        gone = frozenset(node.process for node in dead)
        journal, database = self.state.journal, self.state.database
        return await examine_all(journal, database, gone, self.layer.examiner)

    # --- the database ---------------------------------------------------------------------

    async def rows(self, query: Any) -> Sequence[Row[Any]]:
        return await self.state.database.read(lambda c: c.execute(query).all())

    async def row(self, upload_id: str) -> Row[Any] | None:
        found = await self.rows(select(uploads).where(uploads.c.upload_id == upload_id))
        return found[0] if found else None

    async def state_of(self, upload_id: str) -> str | None:
        row = await self.row(upload_id)
        return None if row is None else row.state

    async def journaled(self) -> list[tuple[str, bytes]]:
        found = await self.rows(select(events.c.kind, events.c.key).order_by(events.c.number))
        return [(row.kind, row.key) for row in found]

    async def counted(self) -> tuple[int, int]:
        """Objects and logical bytes of the bucket."""
        found = await self.rows(
            select(buckets.c.objects, buckets.c.size).where(
                buckets.c.name == BUCKET, buckets.c.state == "active"
            )
        )
        return found[0].objects, found[0].size

    async def intents(self) -> int:
        return len(await self.rows(select(intents.c.write_id)))


def listed(*parts: PartInfo) -> list[CompletedPart]:
    """Parts as a client lists them."""
    return [CompletedPart(part_number=part.part_number, etag=part.etag) for part in parts]


@asynccontextmanager
async def open_node(
    place: DatabasePlace, backend: StorageBackend, quotas: Mapping[str, int] | None = None
) -> AsyncIterator[Node]:
    """A process on this database and this backend."""
    log = structlog.get_logger()
    async with open_state(place, log=log, metrics=CollectorRegistry()) as state:
        yield Node(state, StateLayer(LogicalEtags(backend), state, (quotas or {}).get))
