"""Configurations of buckets in the state database; implements ``BucketConfigurations``."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, insert, select

from ..errors import ServiceUnavailable
from ..origin import Signature, current_origin
from . import signatures
from .bucket_registry import PRESENT
from .errors import StateUnavailable
from .records import BucketGoneError
from .snapshot import changed
from .tables import bucket_configurations as rows
from .tables import buckets

if TYPE_CHECKING:
    from .state import State

#: Format of the documents: those of S3, as XML.
VERSION = 1

#: How often a bucket is looked up anew that was deleted and created again meanwhile.
_ATTEMPTS = 3

_GONE = "The bucket is being created or deleted. Please retry."


class Configurations:
    """The configurations of the buckets of one installation."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def get(self, bucket: str, name: str) -> str | None:
        """See ``BucketConfigurations``."""
        registry = self._state.layer.registry
        for _ in range(_ATTEMPTS):
            found = await registry.find(bucket)
            if found is None:
                return None
            number = found.number
            with suppress(BucketGoneError):
                return await self._state.database.read(
                    lambda c, n=number: _find(c, n, name)  # type: ignore[misc]
                )
            registry.forget(bucket)
        raise ServiceUnavailable(_GONE)

    async def put(self, bucket: str, name: str, document: str | None) -> None:
        """See ``BucketConfigurations``."""
        self._state.check()
        database, registry = self._state.database, self._state.layer.registry
        signature = current_origin.get().signature

        def put(connection: Connection, number: int) -> None:
            now = database.now(connection)
            _put(connection, now, number, name, document, signature)

        for _ in range(_ATTEMPTS):
            number = (await registry.resolve(bucket)).number
            with suppress(BucketGoneError):
                await database.write(lambda c, n=number: put(c, n), scope=number)  # type: ignore[misc]
                break
            registry.forget(bucket)
        else:
            raise ServiceUnavailable(_GONE)
        # For this process to see it at once. It is stored, whatever becomes of this.
        with suppress(StateUnavailable):
            await self._state.snapshots.refresh()

    def current(self, bucket: str, name: str) -> str | None:
        """See ``BucketConfigurations``."""
        return self._state.snapshots.current().configurations.get(bucket, {}).get(name)


def load(connection: Connection) -> dict[str, dict[str, str]]:
    """Documents of the buckets that there are, by name of the bucket and of the document.

    A bucket that somebody else has replaced keeps its row until its writes are settled; the name
    stands for the newer one.
    """
    present = select(buckets.c.number, buckets.c.name).where(buckets.c.state.in_(PRESENT))
    found_rows = connection.execute(present.order_by(buckets.c.number))
    newest = {row.name: row.number for row in found_rows}
    names = {number: name for name, number in newest.items()}
    found: dict[str, dict[str, str]] = {}
    for row in connection.execute(select(rows.c.bucket, rows.c.name, rows.c.document)):
        if row.bucket in names:
            found.setdefault(names[row.bucket], {})[row.name] = row.document
    return found


def _find(connection: Connection, number: int, name: str) -> str | None:
    _check_state(connection, number, PRESENT)
    query = select(rows.c.document).where(rows.c.bucket == number, rows.c.name == name)
    found: str | None = connection.execute(query).scalar()
    return found


def _put(
    connection: Connection,
    now: float,
    number: int,
    name: str,
    document: str | None,
    signature: Signature | None,
) -> None:
    """Replace or remove a document. Raises ``BucketGoneError``, ``ReplayedRequest``."""
    fresh = signature is not None and signatures.check(connection, now, signature)
    _check_state(connection, number, ("active",))
    connection.execute(delete(rows).where(rows.c.bucket == number, rows.c.name == name))
    if document is not None:
        connection.execute(
            insert(rows).values(bucket=number, name=name, document=document, version=VERSION)
        )
    if fresh and signature is not None:
        signatures.claim(connection, now, signature)
    changed(connection)


def _check_state(connection: Connection, number: int, allowed: Collection[str]) -> None:
    state = connection.execute(select(buckets.c.state).where(buckets.c.number == number)).scalar()
    if state not in allowed:
        raise BucketGoneError


__all__ = ["VERSION", "Configurations", "load"]
