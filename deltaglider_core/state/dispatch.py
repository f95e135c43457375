"""Delivery of the journal to the event sinks: at least once, in order, each at its own pace."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..combinators import fan_out
from ..interfaces.events import EventSink, ObjectEvent, Permanent, Retry
from ..tasks import cancel_all
from .cursors import SINK
from .errors import StateUnavailable
from .event_metrics import EventMetrics
from .leases import LeaseLost

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from .event_journal import EventJournal
    from .leases import Lease, Leases


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How fast is delivered, and how slowly after failures; seconds.

    Attributes:
        batch: Most events per delivery.
        poll: Between two looks for events of other processes.
        linger: Waited after news, so that a burst becomes one batch.
        timeout: Longest delivery.
        lease: Another process takes over so long after this one has died.
        first: Wait after the first failure; it doubles with each that follows.
        longest: Longest wait after failures.
        longest_after: Longest wait that a sink may ask for.
    """

    batch: int = 200
    poll: float = 1.0
    linger: float = 0.1
    timeout: float = 60.0
    lease: float = 15.0
    first: float = 1.0
    longest: float = 300.0
    longest_after: float = 3600.0

    def delay(self, failures: int, after: float | None = None) -> float:
        """Seconds to wait after so many failures in a row.

        Args:
            failures: From 1.
            after: What the sink asks for.
        """
        # Processes and sinks that fail together must not come back together.
        jitter = random.uniform(0.5, 1.0)  # noqa: S311
        if after is not None:
            return min(max(self.first / 10, after), self.longest_after) * (1.5 - jitter / 2)
        # The exponent is bounded, since the failures are not.
        return min(self.first * 2.0 ** min(failures - 1, 30), self.longest) * jitter


class _NotDelivered(Exception):
    """The sink failed; the cause says how."""


class Dispatcher:
    """Delivers to the sinks of one process. Belongs to one event loop.

    Args:
        journal: What is delivered.
        leases: One process at a time delivers to a sink.
        metrics: Registry of this process.
        log: A structlog logger.
    """

    def __init__(
        self,
        journal: EventJournal,
        leases: Leases,
        *,
        metrics: CollectorRegistry,
        log: Any,
        pace: Pace | None = None,
    ) -> None:
        self._journal = journal
        self._leases = leases
        self._metrics = EventMetrics.of(metrics)
        self._log = log
        self._pace = pace or Pace()
        self._task: asyncio.Task[None] | None = None

    async def use(self, sinks: Mapping[str, EventSink]) -> None:
        """Deliver to these sinks, by name, from now on, and to no others.

        Deliveries that are under way to the sinks of before are cancelled, and have ended when
        this returns: those sinks can be closed. What was cancelled is delivered again.
        """
        await self.aclose()
        for name in sinks:
            # The sink's first events are those that follow; without the database there are none.
            with suppress(StateUnavailable):
                await self._journal.create_cursor(SINK + name, at="end")
        if sinks:
            deliveries = [
                _Delivery(
                    name,
                    sink,
                    journal=self._journal,
                    leases=self._leases,
                    metrics=self._metrics,
                    log=self._log.bind(sink=name),
                    pace=self._pace,
                )
                for name, sink in sinks.items()
            ]
            work = fan_out(deliveries, lambda delivery: delivery.run(), self._ended)
            self._task = asyncio.create_task(work, name="event sinks")

    async def aclose(self) -> None:
        """Stop; safe to call twice."""
        task, self._task = self._task, None
        if task is not None:
            await cancel_all([task])

    def _ended(self, delivery: _Delivery, error: Exception) -> None:
        self._log.error("delivery to a sink has ended", sink=delivery.name, exc_info=error)


class _Delivery:
    """What is delivered to one sink."""

    def __init__(
        self,
        name: str,
        sink: EventSink,
        *,
        journal: EventJournal,
        leases: Leases,
        metrics: EventMetrics,
        log: Any,
        pace: Pace,
    ) -> None:
        self.name = name
        self._cursor = SINK + name
        self._sink = sink
        self._journal = journal
        self._leases = leases
        self._log = log
        self._pace = pace
        self._delivered = metrics.delivered.labels(name)
        self._failed = metrics.failed.labels(name)
        self._failures = 0

    async def run(self) -> None:
        """Deliver whenever this process has the lease, until cancelled."""
        troubles = 0
        while True:
            try:
                await self._journal.create_cursor(self._cursor, at="end")
                lease = await self._leases.acquire(self._cursor, self._pace.lease)
                if lease is not None:
                    await self._deliver_while(lease)
                troubles = 0
            except LeaseLost:
                self._log.warning("another process has taken over the delivery of events")
            except StateUnavailable:
                troubles += 1  # the database has said so in the log
            except (Exception, asyncio.CancelledError) as error:
                if _is_ours(error):
                    raise
                troubles += 1
                self._log.exception("delivery of events was interrupted")
            pause = self._pace.lease / 3
            await asyncio.sleep(min(self._pace.delay(troubles), pause) if troubles else pause)

    async def _deliver_while(self, lease: Lease) -> None:
        """Deliver until the lease is lost or the cursor is forgotten; then give the lease back."""
        try:
            await lease.keep(self._deliver_under(lease))
        finally:
            with suppress(StateUnavailable):  # it ends by itself
                await lease.release()

    async def _deliver_under(self, lease: Lease) -> None:
        """Deliver until somebody forgets the cursor."""
        while True:
            news = self._journal.news
            position = await self._journal.cursor(self._cursor)
            if position is None:
                return
            batch = await self._journal.read(position, self._pace.batch)
            if not batch:
                await self._wait_for(news)
                continue
            try:
                await self._deliver(lease, batch)
                self._failures = 0
            except _NotDelivered as failure:
                await self._wait_after(failure.__cause__, batch)

    async def _deliver(self, lease: Lease, batch: Sequence[ObjectEvent]) -> None:
        """Deliver a batch and move the cursor; single events that are refused are set aside."""
        if not lease.remaining:
            # This process was paused, and the task that renews has not noticed it yet.
            raise LeaseLost
        try:
            await self._hand_over(batch)
        except Permanent as refusal:
            if len(batch) > 1:
                for event in batch:
                    await self._deliver(lease, [event])
                return
            event = batch[0]
            self._failed.inc()
            self._log.error("an event was refused for good", id=event.id, reason=refusal.reason)
            await self._journal.set_aside(self.name, event, refusal.reason)
            return
        self._delivered.inc(len(batch))
        await self._journal.advance(self._cursor, batch[-1].id)

    async def _hand_over(self, batch: Sequence[ObjectEvent]) -> None:
        """Raises ``Permanent`` or ``_NotDelivered``."""
        try:
            async with asyncio.timeout(self._pace.timeout):
                await self._sink.deliver(batch)
        except Permanent:
            raise
        except (Exception, asyncio.CancelledError) as error:
            if _is_ours(error):
                raise
            raise _NotDelivered from error

    async def _wait_for(self, news: asyncio.Event) -> None:
        """Until this process has journaled something, or others may have."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pace.poll):
                await news.wait()
            await asyncio.sleep(self._pace.linger)

    async def _wait_after(self, cause: BaseException | None, batch: Sequence[ObjectEvent]) -> None:
        self._failed.inc()
        self._failures += 1
        delay = self._pace.delay(self._failures, cause.after if isinstance(cause, Retry) else None)
        expected = isinstance(cause, Retry | TimeoutError)
        self._log.warning(
            "events were not delivered and will be again",
            first=batch[0].id,
            last=batch[-1].id,
            reason=cause.reason if isinstance(cause, Retry) else type(cause).__name__,
            seconds=round(delay, 1),
            exc_info=None if expected else cause,
        )
        await asyncio.sleep(delay)


def _is_ours(error: BaseException) -> bool:
    """Whether this task was cancelled, and not something that it waited for."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


__all__ = ["Dispatcher", "Pace"]
