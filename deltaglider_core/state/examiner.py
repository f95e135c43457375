"""Settling what nobody settled: intents of dead processes, doubtful and contended ones.

The backend is asked what is at the key; the write id of what is there tells whether the mutation
happened. An error is no answer: the intent stays until the backend can be asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, or_, select

from ..errors import NoSuchKey
from ..interfaces.storage import ObjectInfo, StorageBackend
from . import intents
from .bucket_registry import read_identity
from .records import Present
from .sums import Facts
from .tables import buckets
from .tables import intents as rows

if TYPE_CHECKING:
    from .database import Database
    from .writes import Journal

#: Intents taken up at once, looks under way at once, and intents settled in one transaction.
BATCH = 1000
_LOOKS = 32

#: How often a look is repeated because somebody else settled the key meanwhile. Each of them is
#: one less, so this is only reached by a stream of writers; the next pass goes on.
_ATTEMPTS = 10

#: Seconds in which a request whose sender has died may still be carried out by a backend that is
#: reached over a network.
LATE_COMMIT_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """An intent to examine, and the name of its bucket."""

    row: Any
    bucket_name: str
    bucket_id: str
    complete: bool


def present_of(info: ObjectInfo) -> Present:
    """What an object that the backend reports stands for."""
    internal = {} if info.metadata is None else info.metadata.internal
    stored = info.size if info.stored_size is None else info.stored_size
    return Present(
        write_id=internal.get("write-id"),
        facts=Facts(size=info.size, stored=stored),
        etag=info.etag,
        modified=info.last_modified.timestamp(),
        stored_as=info.stored_as or "passthrough",
        checksum=internal.get("checksum"),
    )


def waiting(
    connection: Connection,
    now: float,
    process: str,
    dead: frozenset[str],
    after: str,
    limit: int = BATCH,
) -> Sequence[Waiting]:
    """Intents of this process and of dead ones that are due, by write id, from ``after`` on."""
    found = connection.execute(
        select(rows, buckets.c.name, buckets.c.id, buckets.c.complete)
        .join(buckets, buckets.c.number == rows.c.bucket)
        .where(
            rows.c.process.in_([process, *dead]),
            rows.c.write_id > after,
            or_(rows.c.due.is_(None), rows.c.due <= now),
            rows.c.kind.not_in(("create_bucket", "delete_bucket")),
        )
        .order_by(rows.c.write_id)
        .limit(limit)
    )
    return [_waiting(row) for row in found]


def _waiting(row: Any) -> Waiting:
    return Waiting(row=row, bucket_name=row.name, bucket_id=row.id, complete=row.complete)


def waiting_by_id(connection: Connection, write_id: str) -> Waiting | None:
    """One intent, whosever it is."""
    row = connection.execute(
        select(rows, buckets.c.name, buckets.c.id, buckets.c.complete)
        .join(buckets, buckets.c.number == rows.c.bucket)
        .where(rows.c.write_id == write_id)
    ).first()
    return None if row is None else _waiting(row)


class Examiner:
    """Examines intents on one backend.

    Args:
        backend: Without the layer that records mutations.
    """

    def __init__(self, backend: StorageBackend, database: Database, log: Any) -> None:
        self._backend = backend
        self._database = database
        self._log = log
        self._failures = 0

    async def look(self, bucket: str, key: str) -> Present | None:
        """What is at a key; None for nothing. Any error is an error."""
        try:
            return present_of(await self._backend.head_object(bucket, key))
        except NoSuchKey:
            return None

    async def recheck(self, write_id: str) -> None:
        """Look at the key of one intent until the answer counts, or leave it to a later pass."""
        for _ in range(_ATTEMPTS):
            found = await self._database.read(lambda c: waiting_by_id(c, write_id))
            if found is None or not await self.examine([found]):
                return

    async def examine(self, batch: Sequence[Waiting], *, verify: bool = False) -> Sequence[Waiting]:
        """Look at the keys of these intents and settle them.

        Args:
            verify: Make sure that the names still stand for the buckets that were written to. A
                disk that is not mounted has no objects either.

        Returns:
            Those for which somebody was faster; read them anew.
        """
        slots = asyncio.Semaphore(_LOOKS)
        reasons: list[str] = []
        if verify:
            batch = await self._of_these_buckets(batch, reasons)

        async def look(item: Waiting) -> tuple[Waiting, Present | None] | None:
            async with slots:
                try:
                    return item, await self.look(item.bucket_name, item.row.key.decode())
                except Exception as error:
                    reasons.append(f"{item.bucket_name}: {error!r}")
                    return None

        looked = [found for found in await asyncio.gather(*map(look, batch)) if found is not None]
        by_bucket: dict[int, list[tuple[Waiting, Present | None]]] = {}
        for item, present in looked:
            by_bucket.setdefault(item.row.bucket, []).append((item, present))
        again: list[Waiting] = []
        for number, found in by_bucket.items():
            again += await self._database.write(self._settling(found), scope=number)
        self._complain(reasons)
        return again

    async def _of_these_buckets(
        self, batch: Sequence[Waiting], reasons: list[str]
    ) -> Sequence[Waiting]:
        """Those whose bucket has the id on the backend that it had when they began."""
        here: dict[str, str | None] = {}
        for name in {item.bucket_name for item in batch}:
            try:
                identity = await read_identity(self._backend, name)
            except Exception as error:
                reasons.append(f"{name}: {error!r}")
                continue
            here[name] = None if identity is None else identity.id
            if identity is None:
                reasons.append(f"{name}: the bucket has lost its id")
        return [item for item in batch if here.get(item.bucket_name) == item.bucket_id]

    def _complain(self, reasons: Sequence[str]) -> None:
        """Say that writes cannot be settled yet; in an outage of an hour some lines, not more."""
        self._failures = self._failures + 1 if reasons else 0
        if reasons and not self._failures & (self._failures - 1):
            self._log.warning(
                "writes cannot be settled yet", writes=len(reasons), reason=reasons[0]
            )

    def _settling(
        self, looked: Sequence[tuple[Waiting, Present | None]]
    ) -> Callable[[Connection], list[Waiting]]:
        late = self._backend.capabilities.late_commits

        def settle(connection: Connection) -> list[Waiting]:
            now = self._database.now(connection)
            again = []
            for item, present in looked:
                row = item.row
                if late and _undecided(row, present) and row.state == "open":
                    connection.execute(
                        rows.update()
                        .where(rows.c.write_id == row.write_id, rows.c.state == "open")
                        .values(state="doubt", due=now + LATE_COMMIT_SECONDS)
                    )
                elif not intents.examined(
                    connection, now, row, present, delete_counts=not item.complete
                ):
                    again.append(item)
            return again

        return settle


def _undecided(row: Any, present: Present | None) -> bool:
    """Whether a request of a mutation may still arrive.

    That nothing is there proves nothing: the key may be absent for another reason, and the delete
    still be on its way. Nor does the write id, if the object is rewritten in place: the rewrite
    carries the same one.
    """
    if row.kind == "delete" or row.exclusive:
        return True
    return present is None or present.write_id != row.write_id


async def examine_all(
    journal: Journal,
    database: Database,
    dead: frozenset[str],
    examiner: Examiner,
) -> int:
    """One pass over everything that waits; returns how many were taken up.

    What cannot be settled now (the backend does not answer) stays for a later pass.
    """
    total, after = 0, ""
    while True:
        batch = await database.read(
            lambda c, a=after: waiting(c, database.now(c), journal.process, dead, a)  # type: ignore[misc]
        )
        if not batch:
            return total
        after = batch[-1].row.write_id
        # Looked at after the rows were read: what has begun since then is in there, too.
        left = [item for item in batch if item.row.write_id not in journal.active]
        if left:
            await examiner.examine(left, verify=True)
        total += len(left)


__all__ = [
    "BATCH",
    "LATE_COMMIT_SECONDS",
    "Examiner",
    "Waiting",
    "examine_all",
    "present_of",
    "waiting_by_id",
]
