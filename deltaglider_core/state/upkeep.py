"""What each process does for the state beside its requests."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sqlalchemy import Connection, insert, select, update

from ..errors import S3Error
from . import bucket_registry, reconcile, signatures
from .collect import collect_bucket
from .housekeeping import Duty, housekeeping
from .processes import HEARTBEAT_SECONDS
from .references import NotOwnerError
from .snapshot import REFRESH_SECONDS
from .tables import buckets, facts

if TYPE_CHECKING:
    from ..settings import AdvancedSettings
    from .state import State

#: Seconds after which a collection that a process began may be begun by another one.
_COLLECTION_SECONDS = 60.0

_LAST = select(facts.c.value).where(facts.c.name == "collection")


@asynccontextmanager
async def upkeep(state: State, settings: AdvancedSettings) -> AsyncIterator[None]:
    """Do all duties for as long as the block runs."""
    duties = Upkeep(state, settings).duties()
    async with housekeeping(duties, leases=state.leases, log=state.log):
        yield


class Upkeep:
    """The duties of one process."""

    def __init__(self, state: State, settings: AdvancedSettings) -> None:
        self._state = state
        self._settings = settings

    def duties(self) -> list[Duty]:
        """Everything that is done periodically."""
        state = self._state
        return [
            # In every process.
            Duty(name="heartbeat", every_seconds=HEARTBEAT_SECONDS, run=state.processes.heartbeat),
            Duty(name="snapshot", every_seconds=REFRESH_SECONDS, run=state.snapshots.refresh),
            Duty(name="settle-own", every_seconds=1.0, run=state.settle_own),
            Duty(name="number-events", every_seconds=0.25, run=state.number_own),
            Duty(name="collect", every_seconds=60.0, run=self.collect),
            Duty(name="settle-dead", every_seconds=1.0, run=state.settle_dead),
            # In one of them.
            Duty(name="number-left", every_seconds=5.0, run=state.events.number, lease=True),
            Duty(name="event-lag", every_seconds=60.0, run=state.events.report_lag, lease=True),
            Duty(name="prune-events", every_seconds=60.0, run=self.prune_events, lease=True),
            Duty(name="signatures", every_seconds=30.0, run=self.forget_signatures, lease=True),
            Duty(name="processes", every_seconds=30.0, run=self.forget_processes, lease=True),
            Duty(name="buckets", every_seconds=30.0, run=self.drop_buckets, lease=True),
            Duty(name="scans", every_seconds=30.0, run=self.end_scans, lease=True),
            Duty(name="uploads", every_seconds=300.0, run=self.sweep_uploads, lease=True),
        ]

    async def prune_events(self) -> None:
        """Remove events that are old and that every cursor has passed."""
        await self._state.events.prune(
            max_age=float(self._settings.event_retention_seconds),
            max_rows=self._settings.event_max_rows,
        )

    async def forget_signatures(self) -> None:
        """Drop signatures that cannot come back."""
        database = self._state.database

        def forget(connection: Connection) -> int:
            return signatures.forget(connection, database.now(connection))

        while await database.write(forget, scope="signatures"):
            pass

    async def forget_processes(self) -> None:
        """Remove dead processes that own nothing any more."""
        await self._state.processes.forget_dead()

    async def drop_buckets(self) -> None:
        """Drop what is left of deleted buckets."""
        while await self._state.database.write(bucket_registry.drop_rows, scope="buckets"):
            pass

    async def end_scans(self) -> None:
        """End reconciliations whose process died."""
        database = self._state.database

        def end(connection: Connection, number: int) -> None:
            reconcile.end_abandoned(connection, database.now(connection), number)

        for number in await database.read(lambda c: reconcile.abandoned(c, database.now(c))):
            await database.write(functools.partial(end, number=number), scope=number)
            drop = functools.partial(reconcile.drop_tombstones, number=number)
            while await database.write(drop, scope=number):
                pass

    async def sweep_uploads(self) -> None:
        """Abort multipart uploads that nobody goes on with."""
        idle = self._settings.multipart_idle_hours * 3600.0
        await self._state.layer.multipart.sweep(idle_seconds=idle)

    # --- collection -------------------------------------------------------------------------

    async def collect(self) -> None:
        """Collect references in all buckets that this deployment owns, when it is time.

        The time counts from the first start, so that a new service does not begin with a listing
        of everything there is.
        """
        interval = float(self._settings.collect_interval_seconds)
        state = self._state
        if not interval:
            return
        if not await state.database.read(lambda c: _is_time(c, state.database.now(c), interval)):
            return
        lease = await state.leases.acquire("collection", _COLLECTION_SECONDS)
        if lease is None:
            return
        try:
            # Another process may have been faster between the look and the lease.
            if await lease.write(lambda c: _begins(c, state.database.now(c), interval)):
                await lease.keep(self._collect_all())
        finally:
            await lease.release()

    async def _collect_all(self) -> None:
        state = self._state
        names = await state.database.read(
            lambda c: (
                c.execute(
                    select(buckets.c.name)
                    .where(buckets.c.state == "active", buckets.c.owner == state.deployment)
                    .order_by(buckets.c.name)
                )
                .scalars()
                .all()
            )
        )
        for name in names:
            grace = float(self._settings.reference_grace_seconds)
            try:
                report = await collect_bucket(state.layer, state, name, grace=grace)
            except NotOwnerError:
                continue
            except S3Error as error:
                state.log.warning("references are not collected", bucket=name, reason=str(error))
                continue
            if report.condemned or report.deleted:
                state.log.info(
                    "references collected",
                    bucket=name,
                    condemned=report.condemned,
                    deleted=report.deleted,
                    bytes=report.deleted_bytes,
                )


def _is_time(connection: Connection, now: float, interval: float) -> bool:
    """Whether the last collection began so long ago, or nothing is known of one."""
    last = connection.execute(_LAST).scalar()
    return last is None or now - float(last) >= interval


def _begins(connection: Connection, now: float, interval: float) -> bool:
    """Whether a collection begins now; then it counts as begun, and so does the first start."""
    last = connection.execute(_LAST).scalar()
    if last is None:
        connection.execute(insert(facts).values(name="collection", value=str(now)))
        return False
    if now - float(last) < interval:
        return False
    connection.execute(update(facts).where(facts.c.name == "collection").values(value=str(now)))
    return True


__all__ = ["Upkeep", "upkeep"]
