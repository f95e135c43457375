"""A state layer over a memory backend, with a second process beside it if need be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy import func, select

from deltaglider_core.interfaces.storage import (
    Capabilities,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    StorageBackend,
)
from deltaglider_core.state import events, reconcile
from deltaglider_core.state.layer import StateLayer
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.state import State, open_state
from deltaglider_core.state.tables import buckets, intents, objects
from deltaglider_core.state.usage import Usage, usage
from deltaglider_core.testing.memory import MemoryBackend

BUCKET = "bucket"


class StoreBackend(MemoryBackend):
    """A memory backend that drops what is ours with its bucket, as the delta layer does."""

    async def delete_bucket(self, bucket: str) -> None:
        if bucket in self._buckets:
            place = self._buckets[bucket]
            if all(key.startswith(".deltaglider/") for key in place.keys):
                await self._enter("delete_bucket", bucket)
                del self._buckets[bucket]
                return
        await super().delete_bucket(bucket)


class LateBackend(StoreBackend):
    """A memory backend that says of itself what one behind a network says."""

    @property
    def capabilities(self) -> Capabilities:
        present = super().capabilities
        return Capabilities(
            conditional_writes=present.conditional_writes,
            conditional_deletes=present.conditional_deletes,
            listing_metadata=present.listing_metadata,
            late_commits=True,
        )


async def body(data: bytes) -> AsyncIterator[bytes]:
    yield data


@dataclass(frozen=True)
class Node:
    """One process: its state, its layer, and the backend that all processes share."""

    state: State
    layer: StateLayer
    backend: MemoryBackend

    async def put(
        self, key: str, data: bytes = b"data", *, condition: Condition | None = None
    ) -> ObjectInfo:
        return await self.layer.put_object(
            BUCKET,
            key,
            body(data),
            size=len(data),
            metadata=ObjectMetadata(),
            condition=condition,
        )

    async def events(self) -> list[tuple[str, str]]:
        """Kind and key of all events, in order."""
        return [(event.kind, event.key) for event in await self.state.events.read(0, 10_000)]

    async def usage(self, name: str = BUCKET) -> Usage:
        found = await self.state.database.read(lambda c: usage(c, [name]))
        assert len(found) == 1
        return found[0]

    async def pending(self) -> int:
        return await self.count(intents)

    async def count(self, table: Any) -> int:
        found = await self.state.database.read(
            lambda c: c.execute(select(func.count()).select_from(table)).scalar_one()
        )
        return int(found)

    async def check_sums(self) -> None:
        """The sums of every bucket equal the sums over its rows, and the rows the backend."""

        def read(connection: Any) -> Any:
            rows = connection.execute(select(objects).where(objects.c.size.is_not(None))).all()
            return connection.execute(select(buckets)).all(), rows

        places, rows = await self.state.database.read(read)
        for place in places:
            if place.state != "active":
                continue
            mine = {row.key.decode(): row for row in rows if row.bucket == place.number}
            assert place.objects == len(mine)
            assert place.size == sum(row.size for row in mine.values())
            assert place.stored == sum(row.stored for row in mine.values())
            present = {
                key: self.backend._object(place.name, key).info.size
                for key in self.backend.keys(place.name)
                if not key.startswith(".deltaglider/")
            }
            assert {key: row.size for key, row in mine.items()} == present


@asynccontextmanager
async def open_node(
    place: DatabasePlace,
    backend: StorageBackend,
    *,
    quotas: Mapping[str, int] | None = None,
) -> AsyncIterator[Node]:
    """A process on ``place`` that serves ``backend``; its duties do not run by themselves."""
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(
            open_state(place, log=structlog.get_logger(), metrics=CollectorRegistry())
        )
        layer = StateLayer(backend, state, (quotas or {}).get)
        state.attach(layer)
        assert isinstance(backend, MemoryBackend)
        yield Node(state=state, layer=layer, backend=backend)


__all__ = ["BUCKET", "LateBackend", "Node", "body", "events", "open_node", "reconcile"]

OpenNode = Callable[..., Any]
