"""Events that are journaled as settlements journal them, and sinks that tests can look into."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection

from deltaglider_core.interfaces.events import ObjectEvent
from deltaglider_core.state import events
from deltaglider_core.state.database import Database

_write_ids = itertools.count(1)


def put_event(connection: Connection, *, now: float = 1_767_225_600.25, **fields: Any) -> str:
    """Append one event inside a transaction; returns its write id."""
    write_id = f"{next(_write_ids):032x}"
    values: dict[str, Any] = {
        "kind": "ObjectCreated",
        "bucket": "releases",
        "key": b"app.zip",
        "source": "s3_api",
        "payload": {"content_length": 3},
    }
    events.append(connection, now=now, write_id=write_id, **{**values, **fields})
    return write_id


async def journal(database: Database, count: int, **fields: Any) -> list[str]:
    """Commit events, in one transaction; returns their write ids."""
    return await database.write(lambda c: [put_event(c, **fields) for _ in range(count)])


async def number(database: Database, most: int = 10_000) -> int:
    """Give ids, as one pass does."""
    return await database.write(lambda c: events.number_events(c, most), scope=events.SCOPE)


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition, or raise ``TimeoutError``."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class RecordingSink:
    """Accepts everything, unless ``answer`` raises or waits.

    Attributes:
        batches: Ids of every batch that was offered.
        accepted: Ids of every event that was accepted, with repetitions.
    """

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.accepted: list[int] = []

    async def answer(self, batch: Sequence[ObjectEvent]) -> None:
        """What a test overrides."""

    async def deliver(self, batch: Sequence[ObjectEvent]) -> None:
        self.batches.append([event.id for event in batch])
        await self.answer(batch)
        self.accepted += [event.id for event in batch]
