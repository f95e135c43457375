"""The state of one process: the database, its place among the others, and what it does beside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from . import configurations
from .database import Database, open_database
from .dispatch import Dispatcher
from .errors import StateUnavailable
from .event_journal import EventJournal
from .examiner import examine_all
from .leases import Leases
from .place import DatabasePlace
from .processes import Processes, open_processes
from .snapshot import SnapshotKeeper
from .tables import buckets, facts, intents
from .writes import Journal

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from ..interfaces.events import EventSink
    from .layer import StateLayer


#: Seconds after which another process goes on settling where one has died.
SETTLE_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class StateSnapshot:
    """What every request may read without asking the database.

    Attributes:
        deployment: Id of this installation.
        buckets: Ids of the buckets that take writes, by number.
        configurations: What clients have set on them: documents by name, by name of the bucket.
    """

    deployment: str
    buckets: Mapping[int, str]
    configurations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def load_snapshot(connection: Connection) -> StateSnapshot:
    """Read what a snapshot shows."""
    deployment = connection.execute(
        select(facts.c.value).where(facts.c.name == "deployment")
    ).scalar_one()
    active = connection.execute(
        select(buckets.c.number, buckets.c.id).where(buckets.c.state == "active")
    )
    return StateSnapshot(
        deployment=deployment,
        buckets={row.number: row.id for row in active},
        configurations=configurations.load(connection),
    )


def _own_intents(connection: Connection, processes: frozenset[str]) -> bool:
    query = select(intents.c.write_id).where(intents.c.process.in_(processes)).limit(1)
    return connection.execute(query).first() is not None


class State:
    """The state, as the layers and the endpoints use it; obtain it with ``open_state``.

    Attributes:
        database: Shared by all processes.
        processes: This process among the others.
        journal: The intents of this process.
        events: The journal of events.
        leases: What this process may take.
        snapshots: Of ``StateSnapshot``.
        configurations: What clients have set on buckets.
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
        self.configurations = configurations.Configurations(self)
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

    # --- settlement -----------------------------------------------------------------------

    async def settle_own(self) -> int:
        """Settle what failed attempts of this process left; returns how many."""
        return await self._settle(frozenset())

    async def settle_dead(self) -> int:
        """Settle what dead processes left, unless another process does it; returns how many."""
        dead = frozenset(await self.processes.dead())
        if not dead or not await self.database.read(lambda c: _own_intents(c, dead)):
            return 0
        lease = await self.leases.acquire("settle-dead", SETTLE_SECONDS)
        if lease is None:
            return 0
        try:
            return await lease.keep(self._settle(dead))
        finally:
            await lease.release()

    async def _settle(self, dead: frozenset[str]) -> int:
        layer = self.layer
        count = await layer.lifecycle.settle_left(dead)
        count += await examine_all(self.journal, self.database, dead, layer.examiner)
        if count:
            self._journaled()
            if dead:
                self.log.info("settled what dead processes left", intents=count)
        return count

    def _journaled(self) -> None:
        self._unnumbered = True
        self.events.notify()

    async def number_own(self) -> None:
        """Give ids to events if this process has journaled any."""
        if self._unnumbered:
            self._unnumbered = False
            try:
                await self.events.number()
            except BaseException:
                self._unnumbered = True
                raise

    async def deliver(self, sinks: Mapping[str, EventSink]) -> None:
        """Deliver events to these sinks from now on."""
        await self.dispatcher.use(sinks)


@asynccontextmanager
async def open_state(
    place: DatabasePlace, *, log: Any, metrics: CollectorRegistry, patient: bool = False
) -> AsyncIterator[State]:
    """Open the database and enter this process among those that share it.

    What it does beside its requests is not started: see ``upkeep``.

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


def _beside(database: Path) -> Path:
    return database.with_name(f"{database.name}.processes")


__all__ = ["State", "StateSnapshot", "load_snapshot", "open_state"]
