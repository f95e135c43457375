"""Several processes over one backend and one database, and what their clients know."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, func, select
from support.state_clock import ShiftedClock

from deltaglider_codec_xdelta3.codec import Xdelta3Codec
from deltaglider_core.delta.engine import Engine
from deltaglider_core.delta.layer import DeltaLayer, open_engine
from deltaglider_core.delta.policy import DeltaPolicy
from deltaglider_core.errors import NoSuchKey, S3Error
from deltaglider_core.interfaces.storage import CompletedPart, ObjectInfo
from deltaglider_core.state.collect import collect_bucket
from deltaglider_core.state.examiner import LATE_COMMIT_SECONDS, examine_all
from deltaglider_core.state.layer import StateLayer
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.state import State, open_state
from deltaglider_core.state.tables import buckets, events, intents, objects, refs
from deltaglider_core.testing import body, metadata, services_for_tests

from .wire import Plan, Wire, current_plan

BUCKET = "bucket"
GRACE = 1000.0
_SIZE = 6000


def content(number: int) -> bytes:
    """Version ``number`` of a file: few bytes differ from one to the next."""
    data = bytearray(random.Random(1).randbytes(_SIZE))
    data[number * 8 : number * 8 + 8] = hashlib.sha256(bytes([number])).digest()[:8]
    return bytes(data)


@dataclass
class Process:
    """One process: its state and its layers."""

    state: State
    layer: StateLayer
    stack: AsyncExitStack

    @property
    def id(self) -> str:
        return self.state.processes.id


@dataclass
class Asked:
    """An operation that a client has asked for, and what became of it.

    Attributes:
        began: When, in the order of all beginnings and ends.
        ended: When its effect had taken place, or could no longer do so; None before that.
        data: What it stores; None for nothing, or if only the answer tells (``copy``).
        answered: Whether the client was told that it happened.
        changed: Whether there must be an event.
    """

    kind: str
    key: str
    process: Process = field(repr=False)
    plan: Plan
    began: int
    data: bytes | None = field(default=None, repr=False)
    ended: int | None = None
    answered: bool = False
    changed: bool = False
    refused: bool = False
    task: asyncio.Task[Any] | None = field(default=None, repr=False)


class Deployment:
    """Processes, their clients, and the truth about what they were told.

    Attributes:
        processes: The living ones.
        asked: Every operation so far.
    """

    def __init__(self, place: DatabasePlace, wire: Wire, engine: Engine) -> None:
        self.wire = wire
        self.processes: list[Process] = []
        self.asked: list[Asked] = []
        self._place = place
        self._engine = engine
        self._dead: list[Process] = []
        self._time = 0

    @classmethod
    async def open(cls, directory: Path, stack: AsyncExitStack, count: int = 2) -> Deployment:
        """A deployment with an empty bucket."""
        codec = Xdelta3Codec(level=1, window_size=1 << 16, zstd_level=1)
        services = services_for_tests(directory, codecs={codec.codec_id: codec})
        # Nothing is kept in the cache, so that a missing reference shows.
        engine = await stack.enter_async_context(open_engine(DeltaPolicy(cache_bytes=0), services))
        place = DatabasePlace(path=directory / "deltaglider_config.db")
        opened = cls(place, Wire(), engine)
        stack.push_async_callback(opened.aclose)
        for _ in range(count):
            await opened.start()
        await opened.processes[0].layer.create_bucket(BUCKET)
        return opened

    async def start(self) -> None:
        """Start one more process."""
        stack = AsyncExitStack()
        state = await stack.enter_async_context(
            open_state(self._place, log=structlog.get_logger(), metrics=CollectorRegistry())
        )
        layer = StateLayer(DeltaLayer(self.wire, self._engine), state, lambda name: None)
        state.attach(layer)
        self.processes.append(Process(state=state, layer=layer, stack=stack))

    async def aclose(self) -> None:
        """Close everything, with no regard for what still waits."""
        self.wire.heal()
        tasks = [each.task for each in self.asked if each.task is not None]
        for task in tasks:
            task.cancel()
        for process in [*self.processes, *self._dead]:
            for task in tuple(process.state.journal._tasks):
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for process in [*self.processes, *self._dead]:
            await process.stack.aclose()

    def _tick(self) -> int:
        self._time += 1
        return self._time

    # --- what clients do ------------------------------------------------------------------

    async def put(self, number: int, key: str, data: bytes, plan: Plan) -> None:
        layer = self.processes[number].layer
        await self._ask(
            "put",
            number,
            key,
            plan,
            lambda: layer.put_object(BUCKET, key, body(data), size=len(data), metadata=metadata()),
            data,
        )

    async def complete(self, number: int, key: str, data: bytes, plan: Plan) -> None:
        layer = self.processes[number].layer
        upload = await layer.create_multipart_upload(BUCKET, key, metadata=metadata())
        part = await layer.upload_part(BUCKET, key, upload, 1, body(data), size=len(data))
        parts = [CompletedPart(part_number=1, etag=part.etag)]
        await self._ask(
            "complete",
            number,
            key,
            plan,
            lambda: layer.complete_multipart_upload(BUCKET, key, upload, parts),
            data,
        )

    async def copy(self, number: int, source: str, key: str, plan: Plan) -> None:
        layer = self.processes[number].layer
        await self._ask(
            "copy", number, key, plan, lambda: layer.copy_object(BUCKET, source, BUCKET, key)
        )

    async def delete(self, number: int, key: str, plan: Plan) -> None:
        layer = self.processes[number].layer
        await self._ask("delete", number, key, plan, lambda: layer.delete_object(BUCKET, key))

    async def _ask(
        self,
        kind: str,
        number: int,
        key: str,
        plan: Plan,
        work: Callable[[], Awaitable[ObjectInfo | bool]],
        data: bytes | None = None,
    ) -> None:
        """Begin an operation; come back when it has ended or waits."""
        asked = Asked(kind, key, self.processes[number], plan, self._tick(), data=data)
        self.asked.append(asked)

        async def run() -> None:
            current_plan.set(plan)
            try:
                result = await work()
            except S3Error as error:
                # Only an error of the client says that nothing was done, now or later.
                asked.refused = error.status < 500
                if asked.refused:
                    asked.ended = self._tick()
                return
            asked.answered = True
            asked.changed = result is not False
            asked.ended = self._tick()

        asked.task = asyncio.create_task(run())
        await self._until_it_waits(asked)

    async def _until_it_waits(self, asked: Asked) -> None:
        assert asked.task is not None
        while not asked.task.done() and not asked.plan.waits and not asked.plan.dead:
            await asyncio.wait([asked.task], timeout=0.002)

    # --- what happens to processes ----------------------------------------------------------

    def waiting(self) -> list[Asked]:
        """Operations of living processes that wait at their call."""
        return [
            each
            for each in self.asked
            if each.task is not None and not each.task.done() and not each.plan.dead
        ]

    async def release(self, asked: Asked) -> None:
        """Let a waiting operation go on to its end."""
        asked.plan.free.set()
        assert asked.task is not None
        await asked.task

    async def kill(self, number: int) -> None:
        """A process dies with all that it does; another one takes its place."""
        process = self.processes.pop(number)
        for each in self.asked:
            if each.process is process:
                self.wire.die(each.plan)
        self._dead.append(process)
        await self.start()

    async def settle(self, number: int, *, slow: int | None = None) -> None:
        """A process settles what was left, also of one that is only ``slow``."""
        process = self.processes[number]
        dead = {each.id for each in self._dead}
        if slow is not None and slow != number:
            dead.add(self.processes[slow].id)
        await process.layer.lifecycle.settle_left(frozenset(dead))
        await examine_all(
            process.state.journal,
            process.state.database,
            frozenset(dead),
            process.layer.examiner,
        )

    async def collect(self, number: int) -> None:
        process = self.processes[number]
        await collect_bucket(process.layer, process.state, BUCKET, grace=GRACE)

    def forget_flight(self) -> None:
        """So much time has passed that no request is on its way any more."""
        self.wire.flight.clear()
        for each in self.asked:
            done = each.task is None or each.task.done()
            if each.ended is None and (done or each.plan.dead):
                each.ended = self._tick()

    async def come_to_rest(self, clock: ShiftedClock) -> None:
        """Let everything end that waits, time pass, and every process settle what is left.

        Of the intents on one key each pass settles at least one.
        """
        for waiting in self.waiting():
            await self.release(waiting)
        for _ in range(len(self.asked) + 2):
            self.forget_flight()
            clock.advance(LATE_COMMIT_SECONDS + 1)
            for number in range(len(self.processes)):
                await self.settle(number)
            if not await self._read(select(intents)):
                return

    # --- what is true ---------------------------------------------------------------------

    async def _read(self, query: Any) -> Any:
        database = self.processes[0].state.database
        return await database.read(lambda c: c.execute(query).all())

    async def check_always(self) -> None:
        """What holds at every moment: one event at most, and sums equal to their rows."""
        assert not await self._read(
            select(events.c.write_id).group_by(events.c.write_id).having(func.count() > 1)
        )

        def sums(connection: Connection) -> tuple[Any, Any, Any]:
            row = connection.execute(select(buckets).where(buckets.c.name == BUCKET)).one()
            counted = connection.execute(
                select(
                    func.count(objects.c.size),
                    func.coalesce(func.sum(objects.c.size), 0),
                    func.coalesce(func.sum(objects.c.stored), 0),
                )
            ).one()
            files = connection.execute(select(func.coalesce(func.sum(refs.c.size), 0))).scalar()
            return row, counted, files

        row, counted, files = await self.processes[0].state.database.read(sums)
        assert (row.objects, row.size, row.stored) == tuple(counted)
        assert row.reference_bytes == files

    async def check_at_rest(self) -> None:
        """What holds when nothing is under way."""
        assert await self._read(select(intents)) == []
        await self.check_always()
        await self._check_events()
        rows = {
            row.key.decode(): (row.size, row.stored)
            for row in await self._read(select(objects).where(objects.c.size.is_not(None)))
        }
        there = {}
        layer = self.processes[0].layer
        visible = [key for key in self.wire.keys(BUCKET) if not key.startswith(".deltaglider/")]
        for key in {each.key for each in self.asked} | set(visible):
            try:
                async with await layer.get_object(BUCKET, key) as reader:
                    data: bytes | None = b"".join([chunk async for chunk in reader])
                    info = await layer.head_object(BUCKET, key)
                there[key] = (info.size, info.stored_size)
                internal = {} if info.metadata is None else info.metadata.internal
                self._check_last(key, data, internal)
            except NoSuchKey:
                self._check_absent(key)
        assert rows == there

    async def _check_events(self) -> None:
        written = {row.write_id for row in await self._read(select(events.c.write_id))}
        for each in self.asked:
            if each.answered and each.changed:
                assert each.plan.write_id in written, f"no event of an answered {each.kind}"
        assert written <= {each.plan.write_id for each in self.asked}
        for each in self.asked:
            if each.refused:
                assert each.plan.write_id not in written

    def _check_last(self, key: str, data: bytes | None, internal: Mapping[str, str]) -> None:
        """What is at a key was put there by an operation that may have been the last one."""
        (last,) = [e for e in self.asked if e.plan.write_id == internal.get("write-id")]
        assert last.key == key
        assert not last.refused
        if last.data is not None:
            assert data == last.data
        else:
            assert data in {content(number) for number in range(8)}
        self._check_order(last)

    def _check_absent(self, key: str) -> None:
        mine = [each for each in self.asked if each.key == key and not each.refused]
        stored = [each for each in mine if each.kind != "delete" and each.answered]
        deleted = [each for each in mine if each.kind == "delete"]
        for each in stored:
            assert any(_may_follow(other, each) for other in deleted), f"{key} was lost"

    def _check_order(self, last: Asked) -> None:
        for other in self.asked:
            if other.key == last.key and other.answered and other is not last:
                assert _may_follow(last, other), "an answered operation was undone"


def _may_follow(later: Asked, earlier: Asked) -> bool:
    """Whether ``later`` may have taken effect after ``earlier``."""
    return later.ended is None or later.ended > earlier.began
