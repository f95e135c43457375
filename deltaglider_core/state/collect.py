"""Collection of references that nothing names any more.

One pass over one bucket: list everything in it, mark every reference that is named, judge the
rest (see ``references``), and delete what was condemned long enough before the pass began. The
listing is one of the backend itself, below the layer that shows objects instead of what is
stored for them. Any error ends the pass: what could not be looked at may name anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection

from ..delta.layer import DeltaLayer
from ..delta.record import REFERENCES_PREFIX, is_sha256
from ..delta.versions import ATTEMPTS, ChangedError, Versions
from ..errors import IntegrityError, NoSuchKey, ServiceUnavailable
from ..interfaces.storage import RESERVED_PREFIX, ObjectInfo, StorageBackend, StorageLayer
from ..tasks import bounded_map
from . import references
from .references import Judged, Judgement, Pass, Verdict

if TYPE_CHECKING:
    from .bucket_registry import BucketRef
    from .database import Database
    from .layer import StateLayer
    from .leases import Lease, Leases
    from .state import State

T = TypeVar("T")

#: Called after each page of the listing with the numbers of objects and references so far.
Progress = Callable[[int, int], None]

#: Names kept in memory before they are marked in the database, some 100 bytes each.
_MAX_NAMES = 50_000
_MARKED_AT_ONCE = 500
_JUDGED_AT_ONCE = 200
_REQUESTS_AT_ONCE = 8

#: How long after a judgement its deletions may begin, seconds. A later one could reach a backend
#: on which the same reference has been created anew.
_DELETE_SECONDS = 60.0

_LEASE_SECONDS = 30.0


class CollectionRunsError(ServiceUnavailable):
    """Another process collects this bucket now."""

    message = "Another process collects this bucket now."


@dataclass(frozen=True, kw_only=True, slots=True)
class CollectReport:
    """What one pass found and did; in a dry run, what it would have done.

    Attributes:
        bucket: Its real name.
        objects: Objects of clients that were looked at.
        references: References on the backend, ``reference_bytes`` in sum.
        condemned: References that nothing names since this pass.
        reprieved: References that were condemned and are named again.
        waiting: References that were condemned before, and not for long enough.
        deleted: References that are gone now, ``deleted_bytes`` in sum.
    """

    bucket: str
    dry_run: bool
    objects: int
    references: int
    reference_bytes: int
    condemned: int
    reprieved: int
    waiting: int
    deleted: int
    deleted_bytes: int


def lease_name(bucket_id: str) -> str:
    """The lease under which the references of a bucket are deleted."""
    return f"collect:{bucket_id}"


async def collect(
    backend: StorageBackend,
    bucket: BucketRef,
    *,
    database: Database,
    leases: Leases,
    grace: float,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> CollectReport:
    """One pass over one bucket.

    Args:
        backend: Below the delta layer: what it lists is what is stored.
        grace: Waiting time in seconds between condemnation and the listing that proves that a
            reference may go; longer than any request may be under way.
        dry_run: Condemn and delete nothing.

    Raises:
        CollectionRunsError
        NotOwnerError: Another deployment owns the bucket.
        LeaseLost: This process was too slow, and another one may have begun.
        IntegrityError: An object cannot be read; the text names it. Nothing was judged.
        S3Error: The backend or the database failed.
    """
    lease = await leases.acquire(lease_name(bucket.id), _LEASE_SECONDS)
    if lease is None:
        raise CollectionRunsError
    try:
        run = _Run(backend, bucket, database, lease, grace, dry_run, progress)
        return await lease.keep(run.collect())
    finally:
        await lease.release()


async def collect_bucket(
    layer: StateLayer,
    state: State,
    name: str,
    *,
    grace: float,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> CollectReport:
    """``collect`` in a bucket of a running service, by its real name. Raises the same."""
    return await collect(
        below_deltas(layer),
        await layer.registry.resolve(name),
        database=state.database,
        leases=state.leases,
        grace=grace,
        dry_run=dry_run,
        progress=progress,
    )


def below_deltas(layer: StateLayer) -> StorageBackend:
    """The backend that the delta layer stores in; what the state is around if there is none."""
    found: StorageBackend = layer
    while isinstance(found, StorageLayer):
        if isinstance(found, DeltaLayer):
            return found.inner
        found = found.inner
    return layer.inner


class _Run:
    """The work of one pass, under its lease."""

    def __init__(
        self,
        backend: StorageBackend,
        bucket: BucketRef,
        database: Database,
        lease: Lease,
        grace: float,
        dry_run: bool,
        progress: Progress | None,
    ) -> None:
        self._backend = backend
        self._versions = Versions(backend)
        self._bucket = bucket
        self._database = database
        self._lease = lease
        self._grace = grace
        self._dry_run = dry_run
        self._progress = progress
        self._names: set[bytes] = set()
        self._objects = 0
        self._references = 0
        self._reference_bytes = 0
        self._counts = dict.fromkeys(Verdict, 0)
        self._deleted_bytes = 0

    async def collect(self) -> CollectReport:
        now = self._database.now
        number = self._bucket.number
        begun = await self._write(lambda c: references.begin(c, bucket=number, now=now(c)))
        await self._survey(begun)
        await self._judge(begun)
        return CollectReport(
            bucket=self._bucket.name,
            dry_run=self._dry_run,
            objects=self._objects,
            references=self._references,
            reference_bytes=self._reference_bytes,
            condemned=self._counts[Verdict.CONDEMN],
            reprieved=self._counts[Verdict.REPRIEVE],
            waiting=self._counts[Verdict.WAIT],
            deleted=self._counts[Verdict.DELETE],
            deleted_bytes=self._deleted_bytes,
        )

    async def _write(self, function: Callable[[Connection], T]) -> T:
        return await self._lease.write(function, scope=self._bucket.number)

    # --- what is there ----------------------------------------------------------------------

    async def _survey(self, begun: Pass) -> None:
        """List everything, and mark what is named."""
        after: str | None = ""
        while after is not None:
            page = await self._backend.list_objects(self._bucket.name, start_after=after)
            await self._take(begun, page.objects)
            after = page.next_after
            if self._progress is not None:
                self._progress(self._objects, self._references)
        await self._mark(begun)

    async def _take(self, begun: Pass, page: Sequence[ObjectInfo]) -> None:
        objects = [info for info in page if not info.key.startswith(RESERVED_PREFIX)]
        refs = [info for info in page if _digest_of(info.key.encode()) is not None]
        self._objects += len(objects)
        self._references += len(refs)
        self._reference_bytes += sum(info.size for info in refs)
        if refs:
            sizes = {info.key.encode(): info.size for info in refs}
            now = self._database.now
            await self._write(lambda c: references.found(c, begun.bucket, sizes, now=now(c)))
        # A reference may be a delta itself, and then it names another one.
        for name in await bounded_map(self._name_in, objects + refs, limit=_REQUESTS_AT_ONCE):
            if name is not None:
                self._names.add(bytes.fromhex(name))
        if len(self._names) >= _MAX_NAMES:
            await self._mark(begun)

    async def _name_in(self, info: ObjectInfo) -> str | None:
        """SHA-256 (hex) of the reference that an object names, or None."""
        bucket, key = self._bucket.name, info.key
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if info.metadata is None or attempt > 1:
                    stored = await self._versions.head(bucket, key)
                else:
                    stored = await self._versions.resolve(bucket, info)
                return await self._versions.reference_of(bucket, stored)
            except NoSuchKey:
                return None  # deleted since it was listed
            except ChangedError:
                if attempt == ATTEMPTS:
                    raise
            except IntegrityError as error:
                raise IntegrityError(
                    f"{bucket}/{key} cannot be read, so nothing is collected: {error.text}"
                ) from error
        raise AssertionError("unreachable")

    async def _mark(self, begun: Pass) -> None:
        # Metadata names a reference by its SHA-256 only. The same bytes may be a reference of
        # several deltaspaces, and then all of them count as named.
        names = frozenset(self._names)
        self._names.clear()
        after: bytes | None = b""
        while names and after is not None:
            page = partial(
                references.mark,
                begun=begun,
                named=lambda key: _digest_of(key) in names,
                after=after,
                limit=_MARKED_AT_ONCE,
            )
            after = await self._write(page)

    # --- what goes --------------------------------------------------------------------------

    def _judge_page(self, begun: Pass, after: bytes, connection: Connection) -> Judgement:
        return references.judge(
            connection,
            begun,
            now=self._database.now(connection),
            grace=self._grace,
            after=after,
            limit=_JUDGED_AT_ONCE,
            dry_run=self._dry_run,
        )

    async def _judge(self, begun: Pass) -> None:
        after: bytes | None = b""
        while after is not None:
            deadline = time.monotonic() + _DELETE_SECONDS
            page = await self._write(partial(self._judge_page, begun, after))
            for judged in page.judged:
                self._counts[judged.verdict] += 1
            condemned = [each for each in page.judged if each.verdict is Verdict.DELETE]
            self._deleted_bytes += sum(each.size for each in condemned)
            if condemned and not self._dry_run:
                await self._delete(begun, condemned, deadline)
            after = page.after

    async def _delete(self, begun: Pass, condemned: Sequence[Judged], deadline: float) -> None:
        gone: list[Judged] = []

        async def delete(each: Judged) -> None:
            if time.monotonic() > deadline:
                raise ServiceUnavailable("The backend is too slow; a later collection goes on.")
            await self._backend.delete_object(self._bucket.name, each.key.decode())
            gone.append(each)

        try:
            await bounded_map(delete, condemned, limit=_REQUESTS_AT_ONCE)
        finally:
            if gone:
                # Whoever has the lease now: these are gone, and no other pass has marked them.
                await self._database.write(
                    lambda c: references.forget(c, begun, tuple(gone)), scope=self._bucket.number
                )


def _digest_of(key: bytes) -> bytes | None:
    """SHA-256 in the key of a reference; None if it is no such key.

    The name is ``<sha256>``, or ``<sha256>.on.<base>`` of a reference that is itself a delta.
    """
    if not key.startswith(REFERENCES_PREFIX.encode()):
        return None
    digest = key.rpartition(b"/")[2].partition(b".on.")[0].decode("utf-8", "replace")
    return bytes.fromhex(digest) if is_sha256(digest) else None


__all__ = [
    "CollectReport",
    "CollectionRunsError",
    "Progress",
    "collect",
    "collect_bucket",
    "lease_name",
]
