"""Logs and counts what is written, under the ids that the journal of events has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Gauge

from deltaglider_core import (
    Body,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    Order,
    Services,
    StorageBackend,
    StorageLayer,
    StorageLayerType,
    current_write,
    hookimpl,
)

# A registry refuses a name that it has, and a reload opens the new layer beside the old one.
_gauges: WeakKeyDictionary[CollectorRegistry, Gauge] = WeakKeyDictionary()


class WriteLog(StorageLayer):
    """Forwards every method; looks at ``put_object`` on the way."""

    def __init__(self, inner: StorageBackend, log: Any, under_way: Gauge) -> None:
        super().__init__(inner)
        self._log = log
        self._under_way = under_way

    async def put_object(
        self,
        bucket: str,
        key: str,
        body: Body,
        *,
        size: int | None,
        metadata: ObjectMetadata,
        condition: Condition | None = None,
    ) -> ObjectInfo:
        with self._under_way.track_inprogress():
            info = await super().put_object(
                bucket, key, body, size=size, metadata=metadata, condition=condition
            )
        write = current_write.get()
        # None without a state database, and for what belongs to no write, such as a bucket's id.
        if write is not None:
            self._log.info(
                "stored", key=key, size=info.size, write=write.write_id, bucket_id=write.bucket_id
            )
        return info


@asynccontextmanager
async def open_layer(
    settings: object, services: Services
) -> AsyncIterator[Callable[[StorageBackend], StorageLayer]]:
    under_way = _gauges.get(services.metrics)
    if under_way is None:
        under_way = _gauges[services.metrics] = Gauge(
            "write_log_under_way",
            "Objects that are being written to the storage.",
            registry=services.metrics,
            # The sum over the workers that are alive.
            multiprocess_mode="livesum",
        )
    yield lambda inner: WriteLog(inner, services.log, under_way)


@hookimpl
def dg_storage_layers() -> Iterator[StorageLayerType]:
    yield StorageLayerType(
        name="write-log",
        summary="Logs and counts what is written.",
        open=open_layer,
        order=Order(after=("delta",)),
    )
