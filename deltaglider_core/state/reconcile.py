"""Comparing what is known of a bucket with what is in it, while writers go on.

The listing is read page by page, and each page is compared with the rows between its ends. A row
that was settled after the page had been asked for is right and the page is old, so it is left
alone; keys that are deleted meanwhile keep a row that says so until the end of the scan. Writes
that are under way do not matter: their settlement sets the row afterwards.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, select, update

from ..delta.record import REFERENCES_PREFIX
from ..errors import OperationAborted
from . import references, sums
from .collect import below_deltas
from .examiner import present_of
from .sums import Facts
from .tables import buckets, leases, objects

if TYPE_CHECKING:
    from .bucket_registry import BucketRef
    from .layer import StateLayer
    from .leases import Lease
    from .state import State

LEASE_SECONDS = 30.0
PAGE = 1000
#: Keys that one transaction compares: others wait for it.
_AT_ONCE = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a scan is.

    Attributes:
        objects: Seen so far.
        corrected: Rows that were missing or wrong.
        dropped: Rows of objects that are not there.
        key: The last key seen.
    """

    objects: int = 0
    corrected: int = 0
    dropped: int = 0
    key: str = ""


async def reconcile(
    layer: StateLayer, state: State, name: str, report: Callable[[Progress], None]
) -> Progress:
    """Scan a bucket and correct what is known of it.

    Args:
        report: Called after each page.

    Raises:
        NoSuchBucket
        OperationAborted: It is being scanned already.
        S3Error: The listing failed; what was corrected before stays, and the bucket does not
            count as completely known because of it.
    """
    bucket = await layer.registry.resolve(name)
    lease = await state.leases.acquire(_lease_name(bucket.number), LEASE_SECONDS)
    if lease is None:
        raise OperationAborted("The bucket is being scanned by another process.")
    try:
        return await lease.keep(_Scan(layer, state, bucket, lease, report).run())
    finally:
        await lease.release()


def _lease_name(number: int) -> str:
    return f"scan:{number}"


class _Scan:
    def __init__(
        self,
        layer: StateLayer,
        state: State,
        bucket: BucketRef,
        lease: Lease,
        report: Callable[[Progress], None],
    ) -> None:
        self._layer = layer
        self._backend = layer.inner
        self._state = state
        self._bucket = bucket
        self._lease = lease
        self._report = report
        self._progress = Progress()

    async def run(self) -> Progress:
        number = self._bucket.number
        await self._write(
            lambda c: c.execute(
                update(buckets).where(buckets.c.number == number).values(scanning=True)
            )
        )
        after, following = "", True
        while following:
            version = await self._state.database.read(lambda c: _version(c, number))
            page = await self._backend.list_objects(
                self._bucket.name, start_after=after, max_keys=PAGE
            )
            found = {info.key.encode(): present_of(info).facts for info in page.objects}
            following = page.next_after is not None
            await self._compare(after.encode(), found, version, last=not following)
            after = page.next_after or after
            self._progress = replace(
                self._progress, objects=self._progress.objects + len(found), key=after
            )
            self._report(self._progress)
        await self._count_references()
        now = self._state.database.now
        await self._write(
            lambda c: c.execute(
                update(buckets)
                .where(buckets.c.number == number)
                .values(scanning=False, complete=True, scanned=now(c))
            )
        )
        while await self._write(lambda c: drop_tombstones(c, number)):
            pass
        return self._progress

    async def _count_references(self) -> None:
        """Know those that were made before the database; a collection forgets those that went."""
        backend, after = below_deltas(self._layer), ""
        following = True
        while following:
            page = await backend.list_objects(
                self._bucket.name, prefix=REFERENCES_PREFIX, start_after=after, max_keys=PAGE
            )
            sizes = {info.key.encode(): info.size for info in page.objects}
            if sizes:
                await self._write(functools.partial(self._find, sizes=sizes))
            following = page.next_after is not None
            after = page.next_after or after

    def _find(self, connection: Connection, sizes: Mapping[bytes, int]) -> None:
        now = self._state.database.now(connection)
        references.found(connection, self._bucket.number, sizes, now=now)

    async def _write(self, function: Callable[[Connection], Any]) -> Any:
        return await self._lease.write(function, scope=self._bucket.number)

    async def _compare(
        self, after: bytes, found: Mapping[bytes, Facts], version: int, *, last: bool
    ) -> None:
        """Compare the keys above ``after``, to the last of ``found`` or to the end."""
        number = self._bucket.number
        end = None if last else max(found, default=after)

        def stale(connection: Connection) -> Sequence[bytes]:
            """Keys with a row that the page does not have, a bounded number of them."""
            query = (
                select(objects.c.key)
                .where(
                    objects.c.bucket == number,
                    objects.c.key > after,
                    objects.c.size.is_not(None),
                    objects.c.version <= version,
                )
                .order_by(objects.c.key)
                .limit(PAGE + len(found))
            )
            if end is not None:
                query = query.where(objects.c.key <= end)
            return [key for (key,) in connection.execute(query) if key not in found]

        differing: dict[bytes, Facts | None] = dict(
            await self._state.database.read(lambda c: _differing(c, number, after, found))
        )
        await self._correct(differing, version)
        while gone := await self._state.database.read(stale):
            await self._correct(dict.fromkeys(gone), version)

    async def _correct(self, wanted: Mapping[bytes, Facts | None], version: int) -> None:
        keys = list(wanted)
        for start in range(0, len(keys), _AT_ONCE):
            some = {key: wanted[key] for key in keys[start : start + _AT_ONCE]}
            apply = functools.partial(self._apply, wanted=some, version=version)
            corrected, dropped = await self._write(apply)
            self._progress = replace(
                self._progress,
                corrected=self._progress.corrected + corrected,
                dropped=self._progress.dropped + dropped,
            )

    def _apply(
        self, connection: Connection, wanted: Mapping[bytes, Facts | None], version: int
    ) -> tuple[int, int]:
        corrected = dropped = 0
        for key, facts in wanted.items():
            row = sums.find(connection, self._bucket.number, key)
            if row is not None and row.version > version:
                continue
            if (row.facts if row is not None else None) == facts:
                continue
            sums.put(connection, self._bucket.number, key, facts)
            corrected += facts is not None
            dropped += facts is None
        return corrected, dropped


def _version(connection: Connection, number: int) -> int:
    found = connection.execute(
        select(buckets.c.version).where(buckets.c.number == number)
    ).scalar_one()
    return int(found)


def _differing(
    connection: Connection, number: int, after: bytes, found: Mapping[bytes, Facts]
) -> Mapping[bytes, Facts]:
    """The keys of a page whose rows are missing or say something else."""
    if not found:
        return {}
    rows = connection.execute(
        select(objects.c.key, objects.c.size, objects.c.stored).where(
            objects.c.bucket == number, objects.c.key > after, objects.c.key <= max(found)
        )
    )
    same = {
        row.key
        for row in rows
        if (facts := found.get(row.key)) is not None
        and (row.size, row.stored) == (facts.size, facts.stored)
    }
    return {key: facts for key, facts in found.items() if key not in same}


def drop_tombstones(connection: Connection, number: int) -> int:
    """Drop rows of deleted keys, unless a scan is running; returns how many, at most a page."""
    scanning = connection.execute(
        select(buckets.c.scanning).where(buckets.c.number == number)
    ).scalar()
    if scanning is None or scanning:
        return 0
    some = (
        select(objects.c.key)
        .where(objects.c.bucket == number, objects.c.size.is_(None))
        .limit(PAGE)
    )
    return connection.execute(
        delete(objects).where(objects.c.bucket == number, objects.c.key.in_(some))
    ).rowcount


def abandoned(connection: Connection, now: float) -> list[int]:
    """Numbers of the buckets whose scan has lost its process."""
    running = connection.execute(select(buckets.c.number).where(buckets.c.scanning.is_(True)))
    return [number for (number,) in running.all() if not _is_scanned(connection, number, now)]


def end_abandoned(connection: Connection, now: float, number: int) -> None:
    """End the scan of a bucket unless somebody has begun it again; needs its scope."""
    if not _is_scanned(connection, number, now):
        connection.execute(update(buckets).where(buckets.c.number == number).values(scanning=False))


def _is_scanned(connection: Connection, number: int, now: float) -> bool:
    expires = connection.execute(
        select(leases.c.expires).where(leases.c.name == _lease_name(number))
    ).scalar()
    return expires is not None and expires > now


__all__ = ["Progress", "abandoned", "drop_tombstones", "end_abandoned", "reconcile"]
