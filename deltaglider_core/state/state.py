"""The state of one process: the database, its place among the others, and what it does beside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from . import bucket_registry, reconcile, signatures
from .database import Database, open_database
from .dispatch import Dispatcher
from .errors import StateUnavailable
from .event_journal import EventJournal
from .examiner import examine_all
from .housekeeping import Duty, housekeeping
from .leases import Leases
from .place import DatabasePlace
from .processes import HEARTBEAT_SECONDS, Processes, open_processes
from .snapshot import REFRESH_SECONDS, SnapshotKeeper
from .tables import buckets, facts
from .writes import Journal

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from ..interfaces.events import EventSink
    from .layer import StateLayer


@dataclass(frozen=True, kw_only=True, slots=True)
class StateSnapshot:
    """What every request may read without asking the database.

    Attributes:
        deployment: Id of this installation.
        buckets: Ids of the buckets that take writes, by number.
    """

    deployment: str
    buckets: Mapping[int, str]


def load_snapshot(connection: Connection) -> StateSnapshot:
    """Read what a snapshot shows."""
    deployment = connection.execute(
        select(facts.c.value).where(facts.c.name == "deployment")
    ).scalar_one()
    active = connection.execute(
        select(buckets.c.number, buckets.c.id).where(buckets.c.state == "active")
    )
    return StateSnapshot(deployment=deployment, buckets={row.number: row.id for row in active})


class State:
    """The state, as the layers and the endpoints use it; obtain it with ``open_state``.

    Attributes:
        database: Shared by all processes.
        processes: This process among the others.
        journal: The intents of this process.
        events: The journal of events.
        leases: What this process may take.
        snapshots: Of ``StateSnapshot``.
        dispatcher: Delivers events to sinks.
    """

    def __init__(
        self, database: Database, processes: Processes, *, log: Any, metrics: CollectorRegistry
    ) -> None:
        self.database = database
        self.processes = processes
        self.log = log
        self.events = EventJournal(database, log=log, metrics=metrics)
        self.journal = Journal(database, processes.id, self._journaled)
        self.leases = Leases(database, processes.id)
        self.snapshots = SnapshotKeeper(database, load_snapshot)
        self.dispatcher = Dispatcher(self.events, self.leases, metrics=metrics, log=log)
        self._layers: list[StateLayer] = []
        self._unnumbered = False

    @property
    def deployment(self) -> str:
        """Id of this installation. Raises ``StateUnavailable``."""
        return self.snapshots.current().deployment

    def check(self) -> None:
        """Raise ``StateUnavailable`` if this process has not heard of the state for too long."""
        self.snapshots.current()

    # --- the layers in use ------------------------------------------------------------------

    def attach(self, layer: StateLayer) -> None:
        """A layer whose intents are to be settled; after a reload the newest does it."""
        self._layers.append(layer)

    def detach(self, layer: StateLayer) -> None:
        """The opposite, before the backend closes."""
        self._layers.remove(layer)

    @property
    def layer(self) -> StateLayer:
        """The layer that settles. Raises ``StateUnavailable`` while no pipeline is open."""
        if not self._layers:
            raise StateUnavailable("No storage is open.")
        return self._layers[-1]

    # --- duties ---------------------------------------------------------------------------

    def duties(self) -> list[Duty]:
        """What this process does beside its requests."""
        return [
            Duty(name="heartbeat", every_seconds=HEARTBEAT_SECONDS, run=self.processes.heartbeat),
            Duty(name="snapshot", every_seconds=REFRESH_SECONDS, run=self.snapshots.refresh),
            Duty(name="settle-own", every_seconds=1.0, run=self.settle_own),
            Duty(name="settle-dead", every_seconds=1.0, run=self.settle_dead, lease=True),
            Duty(name="number-events", every_seconds=0.25, run=self._number_own),
            Duty(name="number-left", every_seconds=5.0, run=self.events.number, lease=True),
            Duty(name="event-lag", every_seconds=60.0, run=self.events.report_lag, lease=True),
            Duty(name="signatures", every_seconds=30.0, run=self._forget_signatures, lease=True),
            Duty(name="dead-processes", every_seconds=30.0, run=self._forget_dead, lease=True),
            Duty(name="deleted-buckets", every_seconds=30.0, run=self._drop_buckets, lease=True),
            Duty(name="left-scans", every_seconds=30.0, run=self._end_scans, lease=True),
        ]

    async def settle_own(self) -> int:
        """Settle what failed attempts of this process left; returns how many."""
        return await self._settle(frozenset())

    async def settle_dead(self) -> int:
        """Settle what dead processes left; returns how many."""
        dead = frozenset(await self.processes.dead())
        return await self._settle(dead) if dead else 0

    async def _settle(self, dead: frozenset[str]) -> int:
        layer = self.layer
        count = await layer.lifecycle.settle_left(dead)
        count += await examine_all(self.journal, self.database, dead, layer.examiner.examine)
        if count:
            self._journaled()
            if dead:
                self.log.info("settled what dead processes left", intents=count)
        return count

    def _journaled(self) -> None:
        self._unnumbered = True
        self.events.notify()

    async def _number_own(self) -> None:
        if self._unnumbered:
            self._unnumbered = False
            try:
                await self.events.number()
            except BaseException:
                self._unnumbered = True
                raise

    async def _forget_signatures(self) -> None:
        now = self.database.now
        while await self.database.write(lambda c: signatures.forget(c, now(c)), scope="signatures"):
            pass

    async def _forget_dead(self) -> None:
        await self.processes.forget_dead()

    async def _drop_buckets(self) -> None:
        while await self.database.write(bucket_registry.drop_rows, scope="buckets"):
            pass

    async def _end_scans(self) -> None:
        now = self.database.now
        ended = await self.database.write(
            lambda c: reconcile.end_abandoned(c, now(c)), scope="scans"
        )
        for number in ended:
            while await self.database.write(
                lambda c, n=number: reconcile.drop_tombstones(c, n), scope=number
            ):
                pass

    async def deliver(self, sinks: Mapping[str, EventSink]) -> None:
        """Deliver events to these sinks from now on."""
        await self.dispatcher.use(sinks)


@asynccontextmanager
async def open_state(
    place: DatabasePlace, *, log: Any, metrics: CollectorRegistry, patient: bool = False
) -> AsyncIterator[State]:
    """Open the database and enter this process among those that share it.

    Duties are not started: see ``State.duties``.

    Args:
        patient: A PostgreSQL server that cannot be reached is no error; until it can, what needs
            the state is answered 503.

    Raises:
        ConfigurationError
    """
    async with AsyncExitStack() as stack:
        database = await open_database(place, log=log, patient=patient)
        stack.push_async_callback(database.aclose)
        files = None if database.path is None else _beside(database.path)
        processes = await stack.enter_async_context(
            open_processes(database, files=files, patient=patient)
        )
        state = State(database, processes, log=log, metrics=metrics)
        stack.push_async_callback(state.journal.drain)
        stack.push_async_callback(state.dispatcher.aclose)
        try:
            await state.snapshots.refresh()
        except StateUnavailable:
            if not patient:
                raise
        yield state


@asynccontextmanager
async def at_work(state: State) -> AsyncIterator[None]:
    """Do the duties for as long as the block runs."""
    async with housekeeping(state.duties(), leases=state.leases, log=state.log):
        yield


def _beside(database: Path) -> Path:
    return database.with_name(f"{database.name}.processes")


__all__ = ["State", "StateSnapshot", "at_work", "load_snapshot", "open_state"]
