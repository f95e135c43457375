"""What each process does now and then beside its requests.

A duty that fails is logged and tried again, and never keeps another one from its turn.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ..errors import DeltaGliderError
from ..tasks import cancel_all
from .errors import StateUnavailable
from .leases import Lease, LeaseLost, Leases

#: Seconds after which the lease of a process that died in a duty can be taken.
LEASE_SECONDS = 10.0

#: Seconds before the first repetition of a duty that failed; doubled with each failure.
_BACKOFF_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Duty:
    """Something to do periodically, from the start on.

    Attributes:
        name: Unique; in logs, and in the name of the lease.
        every_seconds: From the end of one run to the beginning of the next, in this process, or
            in all of them together if ``lease``. A duty that fails is repeated sooner, but never
            more often than its backoff allows.
        run: Does it once. Whatever it raises is logged. It is cancelled at the end of the
            process, and when the lease is lost.
        lease: Run in one process at a time. It saves work and proves nothing: a process may be
            paused at any moment. What must not be done twice has a lease of its own and writes
            through it.
    """

    name: str
    every_seconds: float
    run: Callable[[], Coroutine[Any, Any, object]]
    lease: bool = False


@asynccontextmanager
async def housekeeping(duties: Sequence[Duty], *, leases: Leases, log: Any) -> AsyncIterator[None]:
    """Run duties, each in a task of its own, for as long as the block runs.

    At its end they are cancelled and have ended.

    Args:
        duties: What to do.
        leases: For those that run in one process at a time.
        log: A structlog logger.
    """
    names = [duty.name for duty in duties]
    if len(set(names)) != len(names):
        raise ValueError(f"duties of the same name: {names}")
    keepers = [_Keeper(duty, leases, log) for duty in duties]
    tasks = [
        asyncio.create_task(keeper.run_for_ever(), name=keeper.duty.name) for keeper in keepers
    ]
    try:
        yield
    finally:
        await cancel_all(tasks)


class _Keeper:
    """Sees to one duty."""

    def __init__(self, duty: Duty, leases: Leases, log: Any) -> None:
        self.duty = duty
        self._leases = leases
        self._log = log
        self._failures = 0

    async def run_for_ever(self) -> None:
        """Run the duty again and again. Ends only by cancellation."""
        while True:
            try:
                if self.duty.lease:
                    await self._run_leased()
                else:
                    await self.duty.run()
            except (Exception, asyncio.CancelledError) as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                # Not ours: something that the duty waited for was cancelled.
                self._failures += 1
                self._complain(error)
            else:
                if self._failures:
                    self._log.info(
                        "housekeeping works again", duty=self.duty.name, failures=self._failures
                    )
                self._failures = 0
            await asyncio.sleep(self._pause())

    async def _run_leased(self) -> None:
        lease = await self._leases.acquire(f"duty:{self.duty.name}", LEASE_SECONDS)
        if lease is None:
            return
        rest = 0.0
        try:
            await lease.keep(self.duty.run())
            # Another process would begin at once otherwise, and each of them in turn.
            rest = self.duty.every_seconds * 0.9
        finally:
            await self._give_back(lease, rest)

    async def _give_back(self, lease: Lease, rest: float) -> None:
        # The duty is done or has failed, and that is what counts; the lease ends by itself.
        with suppress(StateUnavailable):
            await lease.release(rest=rest)

    def _pause(self) -> float:
        """Seconds until the next run: not all processes at once, not all duties at once."""
        seconds = self.duty.every_seconds
        if self._failures:
            seconds = min(seconds, _BACKOFF_SECONDS * 2.0 ** min(self._failures - 1, 30))
        return seconds * random.uniform(0.9, 1.0)  # noqa: S311  # no secret

    def _complain(self, error: BaseException) -> None:
        # An outage of an hour is some lines in the log and not some thousands.
        if self._failures & (self._failures - 1):
            return
        fields = {"duty": self.duty.name, "failures": self._failures}
        if isinstance(error, DeltaGliderError):
            level = self._log.info if isinstance(error, LeaseLost) else self._log.warning
            level("housekeeping failed, it is tried again", error=str(error), **fields)
        else:
            self._log.error("housekeeping failed, it is tried again", exc_info=error, **fields)


__all__ = ["LEASE_SECONDS", "Duty", "housekeeping"]
