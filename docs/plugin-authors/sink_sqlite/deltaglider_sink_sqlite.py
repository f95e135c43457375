"""A table of events in a SQLite file: a complete event sink for DeltaGlider."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

from deltaglider_core import (
    ConfigurationError,
    EventSink,
    EventSinkType,
    ObjectEvent,
    Retry,
    Section,
    Services,
    SettingsSection,
    hookimpl,
    setting,
)

MOUNT = "advanced.event_table"

#: Seconds that a delivery waits for another program; a cancelled one ends no later.
PATIENCE = 2.0

# An id repeats after the state database was brought back from a backup; with the write it is new.
SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER NOT NULL, write_id TEXT NOT NULL, kind TEXT NOT NULL, bucket TEXT NOT NULL,
    key TEXT NOT NULL, occurred TEXT NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (id, write_id))
"""


class EventTableSettings(Section):
    """Events of objects in a SQLite file."""

    path: Path | None = setting(None, description="The file; without it the sink is off.")


class SqliteSink:
    """Inserts events; implements ``EventSink``."""

    def __init__(self, path: Path, services: Services) -> None:
        self._path = path
        self._services = services

    def _insert(self, rows: Sequence[tuple[object, ...]]) -> None:
        with closing(sqlite3.connect(self._path, timeout=PATIENCE)) as connection, connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(SCHEMA)
            # What comes twice is there already.
            statement = "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?)"
            connection.executemany(statement, rows)

    async def check(self) -> None:
        """Raise ``ConfigurationError`` unless the file can be used."""
        try:
            await self._services.run_blocking(self._insert, [])
        except sqlite3.Error as error:
            raise ConfigurationError(f"{MOUNT}.path: {self._path}: {error}") from error

    async def deliver(self, batch: Sequence[ObjectEvent]) -> None:
        """Insert a batch; whatever fails, the file is at fault and not an event."""
        try:
            # No work of more than a millisecond on the event loop.
            await self._services.run_blocking(self._insert, [_row(event) for event in batch])
        except sqlite3.Error as error:
            raise Retry(f"{self._path}: {error}") from error


def _row(event: ObjectEvent) -> tuple[object, ...]:
    return (
        event.id,
        event.write_id,
        event.kind,
        event.bucket,
        event.key,
        event.occurred.isoformat(),
        event.as_json(),
    )


@asynccontextmanager
async def open_sink(
    settings: EventTableSettings, services: Services
) -> AsyncIterator[EventSink | None]:
    if settings.path is None:
        yield None
        return
    sink = SqliteSink(settings.path, services)
    await sink.check()
    yield sink


@hookimpl
def dg_settings() -> Iterator[SettingsSection]:
    yield SettingsSection(mount=MOUNT, model=EventTableSettings, apply="rebuild")


@hookimpl
def dg_event_sinks() -> Iterator[EventSinkType]:
    yield EventSinkType(name="sqlite", summary="A table of events.", mount=MOUNT, open=open_sink)
