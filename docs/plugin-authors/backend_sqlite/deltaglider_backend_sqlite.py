"""Objects in one SQLite file: a complete storage backend for DeltaGlider."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from deltaglider_core import (
    BackendSettings,
    Body,
    BucketAlreadyOwnedByYou,
    BucketInfo,
    BucketNotEmpty,
    ByteRange,
    Capabilities,
    Condition,
    IncompleteBody,
    InternalError,
    NoSuchBucket,
    NoSuchKey,
    ObjectInfo,
    ObjectMetadata,
    ObjectPage,
    ObjectReader,
    Services,
    StorageBackend,
    StorageBackendType,
    hookimpl,
)

Db = sqlite3.Connection
CHUNK = 1024 * 1024
DAY = 86_400

SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, created REAL NOT NULL);
CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT NOT NULL, key TEXT NOT NULL, version TEXT NOT NULL, size INTEGER NOT NULL,
    etag TEXT NOT NULL, modified REAL NOT NULL, metadata TEXT NOT NULL,
    PRIMARY KEY (bucket, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS chunks (
    version TEXT NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (version, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pending (version TEXT PRIMARY KEY, started REAL NOT NULL);
"""


# --- registration: what the core sees first ----------------------------------------------


class SqliteSettings(BackendSettings):
    """Objects in one SQLite file."""

    type: Literal["sqlite"] = Field(description="Selects this backend.")
    path: Path = Field(description="The database file; created if missing.")


@asynccontextmanager
async def open_backend(settings: SqliteSettings, services: Services) -> AsyncIterator[Any]:
    backend = SqliteBackend(settings.path, services)
    anchor = await services.run_blocking(backend.prepare)
    try:
        yield backend
    finally:
        await services.run_blocking(anchor.close)


@hookimpl
def dg_storage_backends() -> Any:
    yield StorageBackendType(
        name="sqlite",
        summary="Objects in one SQLite file.",
        settings=SqliteSettings,
        open=open_backend,
    )


# --- the backend -------------------------------------------------------------------------


class SqliteBackend(StorageBackend):
    """The ten methods, and tags. Copy and multipart uploads come from the base class."""

    def __init__(self, path: Path, services: Services) -> None:
        self._path = path
        self._services = services

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            conditional_writes=True,
            conditional_deletes=True,
            listing_metadata=True,
            late_commits=False,  # what a dead process did not commit, nobody will
            late_metadata=True,  # what a body ends with, such as its checksum
            object_tags=True,  # kept with the object, and changed by set_object_tags
        )

    def _connect(self) -> Db:
        # One connection per call: SQLite's own locks then order threads and processes alike.
        connection = sqlite3.connect(self._path, timeout=30, check_same_thread=False)
        connection.isolation_level = None  # transactions are opened by hand
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _run(self, function: Any, *args: Any, flush: bool = True) -> Any:
        """Run ``function(connection, *args)`` on a worker thread, in one transaction."""

        def call() -> Any:
            connection = self._connect()
            try:
                if not flush:
                    connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("BEGIN IMMEDIATE")
                with connection:
                    return function(connection, *args)
            finally:
                connection.close()

        return self._services.run_blocking(call)

    def prepare(self) -> Db:
        """Create the tables; drop what uploads of more than a day ago left behind.

        The connection is to stay open: with the last one, SQLite would remove its log.
        """
        connection = self._connect()
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMA)
        old = "SELECT version FROM pending WHERE started < ?"
        limit = (time.time() - DAY,)
        connection.execute(f"DELETE FROM chunks WHERE version IN ({old})", limit)
        connection.execute("DELETE FROM pending WHERE started < ?", limit)
        return connection

    async def list_buckets(self) -> Sequence[BucketInfo]:
        query = "SELECT name, created FROM buckets ORDER BY name"
        rows = await self._run(lambda db: db.execute(query).fetchall())
        return [BucketInfo(name=name, created=_time(created)) for name, created in rows]

    async def create_bucket(self, bucket: str) -> None:
        def create(db: Db) -> None:
            try:
                db.execute("INSERT INTO buckets VALUES (?, ?)", (bucket, time.time()))
            except sqlite3.IntegrityError:
                raise BucketAlreadyOwnedByYou from None

        await self._run(create)

    async def head_bucket(self, bucket: str) -> BucketInfo:
        return await self._run(_bucket, bucket)

    async def delete_bucket(self, bucket: str) -> None:
        def delete(db: Db) -> None:
            _bucket(db, bucket)
            if db.execute("SELECT 1 FROM objects WHERE bucket = ?", (bucket,)).fetchone():
                raise BucketNotEmpty
            db.execute("DELETE FROM buckets WHERE name = ?", (bucket,))

        await self._run(delete)

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
        version = uuid.uuid4().hex
        await self._run(_begin, bucket, version)
        try:
            digest, received, number = hashlib.md5(), 0, 0
            async for piece in body:
                received += len(piece)
                if size is not None and received > size:
                    raise IncompleteBody
                digest.update(piece)
                for start in range(0, len(piece), CHUNK):
                    data = piece[start : start + CHUNK]
                    # One log holds chunks and commit: flushing the commit flushes both.
                    await self._run(_add, version, number, data, flush=False)
                    number += 1
            if size is not None and received != size:
                raise IncompleteBody
            facts = {"etag": digest.hexdigest(), "metadata": metadata.completed()}
            info = ObjectInfo(key=key, size=received, last_modified=datetime.now(UTC), **facts)
            await self._run(_commit, bucket, info, version, condition)
        except BaseException:
            # Also on cancellation: nothing of a failed upload stays.
            await self._run(_drop, version)
            raise
        return info

    async def get_object(
        self, bucket: str, key: str, *, byte_range: ByteRange | None = None
    ) -> ObjectReader:
        def open_snapshot() -> tuple[Db, ObjectInfo, str]:
            connection = self._connect()
            try:
                # A read transaction: the version stays readable while it is overwritten.
                connection.execute("BEGIN")
                return connection, *_object(connection, bucket, key)
            except BaseException:
                connection.close()
                raise

        connection, info, version = await self._services.run_blocking(open_snapshot)

        async def close() -> None:
            await self._services.run_blocking(connection.close)

        try:
            start, stop = (0, info.size) if byte_range is None else byte_range.resolve(info.size)
        except BaseException:
            await close()
            raise

        def chunk(number: int) -> bytes:
            query = "SELECT data FROM chunks WHERE version = ? AND number = ?"
            return connection.execute(query, (version, number)).fetchone()[0]

        async def chunks() -> AsyncIterator[bytes]:
            position, number = 0, 0
            while position < stop:
                data = await self._services.run_blocking(chunk, number)
                piece = data[max(start - position, 0) : stop - position]
                if piece:
                    yield piece
                position, number = position + len(data), number + 1

        return ObjectReader(info, chunks(), start=start, stop=stop, close=close)

    async def head_object(self, bucket: str, key: str) -> ObjectInfo:
        return (await self._run(_object, bucket, key))[0]

    async def delete_object(
        self, bucket: str, key: str, *, condition: Condition | None = None
    ) -> bool:
        def delete(db: Db) -> bool:
            _bucket(db, bucket)
            present = _find(db, bucket, key)
            if condition is not None:
                condition.check(None if present is None else present[0])
            if present is None:
                return False
            db.execute("DELETE FROM objects WHERE bucket = ? AND key = ?", (bucket, key))
            db.execute("DELETE FROM chunks WHERE version = ?", (present[1],))
            return True

        return await self._run(delete)

    async def set_object_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> ObjectInfo:
        def change(db: Db) -> ObjectInfo:
            info, _ = _object(db, bucket, key)
            metadata = replace(info.metadata or ObjectMetadata(), tags=dict(tags))
            query = "UPDATE objects SET metadata = ? WHERE bucket = ? AND key = ?"
            db.execute(query, (json.dumps(asdict(metadata)), bucket, key))
            return replace(info, metadata=metadata)

        return await self._run(change)

    async def list_objects(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        start_after: str = "",
        max_keys: int = 1000,
    ) -> ObjectPage:
        return await self._run(_list, bucket, prefix, delimiter, start_after, max_keys)


# --- transactions ------------------------------------------------------------------------


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _bucket(db: Db, bucket: str) -> BucketInfo:
    row = db.execute("SELECT created FROM buckets WHERE name = ?", (bucket,)).fetchone()
    if row is None:
        raise NoSuchBucket
    return BucketInfo(name=bucket, created=_time(row[0]))


def _info(row: tuple[Any, ...]) -> ObjectInfo:
    key, size, etag, modified, metadata = row
    return ObjectInfo(
        key=key,
        size=size,
        etag=etag,
        last_modified=_time(modified),
        metadata=ObjectMetadata(**json.loads(metadata)),
    )


def _find(db: Db, bucket: str, key: str) -> tuple[ObjectInfo, str] | None:
    row = db.execute(
        "SELECT key, size, etag, modified, metadata, version FROM objects "
        "WHERE bucket = ? AND key = ?",
        (bucket, key),
    ).fetchone()
    return None if row is None else (_info(row[:-1]), row[-1])


def _object(db: Db, bucket: str, key: str) -> tuple[ObjectInfo, str]:
    _bucket(db, bucket)
    found = _find(db, bucket, key)
    if found is None:
        raise NoSuchKey
    return found


def _begin(db: Db, bucket: str, version: str) -> None:
    _bucket(db, bucket)
    db.execute("INSERT INTO pending VALUES (?, ?)", (version, time.time()))


def _add(db: Db, version: str, number: int, data: bytes) -> None:
    _require_pending(db, version)
    db.execute("INSERT INTO chunks VALUES (?, ?, ?)", (version, number, data))


def _require_pending(db: Db, version: str) -> None:
    # Pending uploads of more than a day ago are dropped; this one may be as slow.
    if not db.execute("SELECT 1 FROM pending WHERE version = ?", (version,)).fetchone():
        raise InternalError("the upload has been dropped")


def _drop(db: Db, version: str) -> None:
    # Only what is still pending: a cancelled call may have committed in the end.
    if db.execute("DELETE FROM pending WHERE version = ?", (version,)).rowcount:
        db.execute("DELETE FROM chunks WHERE version = ?", (version,))


def _commit(
    db: Db, bucket: str, info: ObjectInfo, version: str, condition: Condition | None
) -> None:
    _bucket(db, bucket)
    _require_pending(db, version)
    present = _find(db, bucket, info.key)
    if condition is not None:
        condition.check(None if present is None else present[0])
    if present is not None:
        db.execute("DELETE FROM chunks WHERE version = ?", (present[1],))
    metadata = asdict(info.metadata) if info.metadata else {}
    modified = info.last_modified.timestamp()
    row = (bucket, info.key, version, info.size, info.etag, modified, json.dumps(metadata))
    db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    db.execute("DELETE FROM pending WHERE version = ?", (version,))


def _list(
    db: Db, bucket: str, prefix: str, delimiter: str, start_after: str, max_keys: int
) -> ObjectPage:
    _bucket(db, bucket)
    objects: list[ObjectInfo] = []
    prefixes: list[str] = []
    after, inclusive = (start_after, False) if start_after >= prefix else (prefix, True)
    last = ""
    while True:
        # SQLite compares TEXT by its UTF-8 bytes, which is the order of S3.
        row = db.execute(
            "SELECT key, size, etag, modified, metadata FROM objects WHERE bucket = ? AND "
            f"key {'>=' if inclusive else '>'} ? ORDER BY key LIMIT 1",
            (bucket, after),
        ).fetchone()
        if row is None or not row[0].startswith(prefix):
            return ObjectPage(objects=objects, prefixes=prefixes)
        key = row[0]
        end = key.find(delimiter, len(prefix)) if delimiter else -1
        rolled = key[: end + len(delimiter)] if end >= 0 else ""
        if len(objects) + len(prefixes) == max_keys and not (rolled and rolled <= start_after):
            return ObjectPage(objects=objects, prefixes=prefixes, next_after=last)
        if rolled:
            if rolled > start_after:
                prefixes.append(rolled)
                last = rolled
            # Nothing that starts with the prefix can sort above this.
            after, inclusive = rolled + "\U0010ffff" * 256, False
        else:
            objects.append(_info(row))
            last = after = key
            inclusive = False
