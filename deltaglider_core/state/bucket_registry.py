"""Which bucket is which: the random id in each bucket, and its row in the database.

The object ``.deltaglider/id`` of a bucket holds its id and the deployment that owns it. All state
is keyed by the id, so two names or two routes to one real bucket are one bucket, and a bucket
that is deleted and created again is another one.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, exists, insert, select, update

from ..errors import IntegrityError, NoSuchKey, PreconditionFailed, ServiceUnavailable
from ..interfaces.storage import RESERVED_PREFIX, Condition, ObjectMetadata, StorageBackend
from .snapshot import changed
from .tables import bucket_configurations, buckets, intents, leases, objects, refs, uploads

if TYPE_CHECKING:
    from .database import Database

ID_KEY = f"{RESERVED_PREFIX}id"

#: Seconds that a name is taken to stand for the same bucket. It only matters where somebody else
#: deletes and creates buckets on the backend.
_TRUST_SECONDS = 30.0

#: States of a bucket that can be read. One that is being deleted may turn out not to be empty.
PRESENT = ("active", "deleting")

_MAX_BYTES = 4096
_ID = re.compile(r"[0-9a-f]{32}")
#: Rows of a deleted bucket dropped in one transaction.
_BATCH = 2000
_UNSETTLED = exists(select(intents.c.write_id).where(intents.c.bucket == buckets.c.number))


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketRef:
    """A bucket: its number in the database, its id, its real name."""

    number: int
    id: str
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What ``.deltaglider/id`` says."""

    id: str
    owner: str

    def dump(self) -> bytes:
        """As it is stored."""
        return json.dumps({"format": 1, "id": self.id, "owner": self.owner}).encode() + b"\n"

    @classmethod
    def load(cls, data: bytes) -> Identity:
        """Raises ``IntegrityError``."""
        try:
            document = json.loads(data)
            found = cls(id=document["id"], owner=document["owner"])
            if document["format"] != 1 or not (
                _ID.fullmatch(found.id) and _ID.fullmatch(found.owner)
            ):
                raise ValueError("unknown format")
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"{ID_KEY} of the bucket is unreadable: {error}") from error
        return found


async def read_identity(backend: StorageBackend, bucket: str) -> Identity | None:
    """The identity of a bucket, or None if it has none. Raises ``NoSuchBucket``."""
    try:
        reader = await backend.get_object(bucket, ID_KEY)
    except NoSuchKey:
        return None
    async with reader:
        if reader.info.size > _MAX_BYTES:
            raise IntegrityError(f"{ID_KEY} of the bucket is too large.")
        return Identity.load(b"".join([chunk async for chunk in reader]))


async def write_identity(backend: StorageBackend, bucket: str, identity: Identity) -> Identity:
    """Give a bucket an identity unless it has one; returns the one that it has then."""
    present = await read_identity(backend, bucket)
    if present is not None:
        return present
    data = identity.dump()
    condition = None
    if backend.capabilities.conditional_writes:
        condition = Condition(if_none_match="*")

    async def body() -> AsyncIterator[bytes]:
        yield data

    with contextlib.suppress(PreconditionFailed):
        await backend.put_object(
            bucket,
            ID_KEY,
            body(),
            size=len(data),
            metadata=ObjectMetadata(headers={"content-type": "application/json"}),
            condition=condition,
        )
    found = await read_identity(backend, bucket)
    if found is None:
        raise ServiceUnavailable("The bucket is being deleted. Please retry.")
    return found


class BucketRegistry:
    """The buckets of one backend.

    Args:
        backend: Where the buckets are; without the layer that records mutations.
        database: The state.
        deployment: Id of this installation; it owns the buckets that get their id here.
    """

    def __init__(
        self, backend: StorageBackend, database: Database, deployment: Callable[[], str]
    ) -> None:
        self._backend = backend
        self._database = database
        self._deployment = deployment
        self._known: dict[str, tuple[BucketRef, float]] = {}

    def forget(self, name: str) -> None:
        """Look the bucket up anew next time."""
        self._known.pop(name, None)

    async def resolve(self, name: str) -> BucketRef:
        """The bucket of a name; it gets an id if it has none.

        Raises:
            NoSuchBucket
        """
        known = self._trusted(name)
        if known is not None:
            return known
        identity = await read_identity(self._backend, name)
        if identity is None:
            identity = await write_identity(self._backend, name, self.new_identity())
        found = await self._register(name, identity)
        self._known[name] = (found, time.monotonic())
        return found

    async def find(self, name: str) -> BucketRef | None:
        """The bucket of a name, or None if nothing was ever recorded of it. Changes nothing.

        Raises:
            NoSuchBucket
        """
        known = self._trusted(name)
        if known is not None:
            return known
        identity = await read_identity(self._backend, name)
        if identity is None:
            return None
        number = await self._database.read(lambda c: _number(c, identity.id, PRESENT))
        return None if number is None else BucketRef(number=number, id=identity.id, name=name)

    def _trusted(self, name: str) -> BucketRef | None:
        known = self._known.get(name)
        fresh = known is not None and time.monotonic() - known[1] < _TRUST_SECONDS
        return known[0] if known is not None and fresh else None

    def new_identity(self) -> Identity:
        """For a bucket that this deployment creates or finds without one."""
        return Identity(id=secrets.token_hex(16), owner=self._deployment())

    async def _register(self, name: str, identity: Identity) -> BucketRef:
        number = await self._database.read(lambda c: _number(c, identity.id, ("active",)))
        if number is None:
            # An empty bucket is known as a whole; another one has to be scanned first.
            page = await self._backend.list_objects(name, max_keys=1)
            complete = not page.objects

            def register(connection: Connection) -> int:
                now = self._database.now(connection)
                changed(connection)
                return insert_bucket(connection, now, name, identity, "active", complete=complete)

            number = await self._database.write(register, scope="buckets")
        return BucketRef(number=number, id=identity.id, name=name)


def _number(connection: Connection, identity: str, states: Collection[str]) -> int | None:
    found: int | None = connection.execute(
        select(buckets.c.number).where(buckets.c.id == identity, buckets.c.state.in_(states))
    ).scalar()
    return found


def insert_bucket(
    connection: Connection,
    now: float,
    name: str,
    identity: Identity,
    state: str,
    *,
    complete: bool,
) -> int:
    """Make the row of a bucket, or find it; returns its number.

    Raises:
        ServiceUnavailable: It is being deleted.
    """
    found = connection.execute(
        select(buckets.c.number, buckets.c.state).where(buckets.c.id == identity.id)
    ).first()
    if found is not None:
        if found.state != "active":
            raise ServiceUnavailable("The bucket is being created or deleted. Please retry.")
        return int(found.number)
    if state == "active":
        retire_others(connection, name, identity.id)
    made = connection.execute(
        insert(buckets).values(
            id=identity.id,
            name=name,
            owner=identity.owner,
            state=state,
            created=now,
            complete=complete,
            scanning=False,
        )
    )
    key = made.inserted_primary_key
    if key is None:
        raise AssertionError("a row without a key")
    return int(key[0])


def retire_others(connection: Connection, name: str, identity: str) -> None:
    """End the buckets that a name stood for, since the one on the backend has another id.

    Somebody else has deleted them, or their id is lost. To be called only after the backend has
    shown the new id. What is not settled yet keeps its bucket.
    """
    connection.execute(
        update(buckets)
        .where(
            buckets.c.name == name,
            buckets.c.id != identity,
            buckets.c.state == "active",
            ~_UNSETTLED,
        )
        .values(state="deleted")
    )


def set_state(connection: Connection, number: int, state: str) -> None:
    """Change what may be done with a bucket."""
    connection.execute(update(buckets).where(buckets.c.number == number).values(state=state))


def drop_rows(connection: Connection) -> bool:
    """Drop some rows of deleted buckets; True if there may be more."""
    number = connection.execute(
        select(buckets.c.number).where(buckets.c.state == "deleted", ~_UNSETTLED).limit(1)
    ).scalar()
    if number is None:
        return False
    for table, column in (
        (bucket_configurations, bucket_configurations.c.name),
        (objects, objects.c.key),
        (refs, refs.c.key),
        (uploads, uploads.c.upload_id),
    ):
        some = select(column).where(table.c.bucket == number).limit(_BATCH)
        gone = connection.execute(
            delete(table).where(table.c.bucket == number, column.in_(some))
        ).rowcount
        if gone:
            return True
    identity = connection.execute(select(buckets.c.id).where(buckets.c.number == number)).scalar()
    unused = (f"collect:{identity}", f"scan:{number}")
    connection.execute(delete(leases).where(leases.c.name.in_(unused)))
    connection.execute(delete(buckets).where(buckets.c.number == number))
    return True


__all__ = [
    "ID_KEY",
    "PRESENT",
    "BucketRef",
    "BucketRegistry",
    "Identity",
    "drop_rows",
    "insert_bucket",
    "read_identity",
    "retire_others",
    "set_state",
    "write_identity",
]
