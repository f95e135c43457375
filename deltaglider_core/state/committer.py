"""Group commit: the writes that wait are carried out in one transaction.

A commit costs one fsync whatever the number of writes in it, and only one process at a time can
write to the embedded database. So each process has one thread that writes.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection

from ..errors import DeltaGliderError
from .errors import StateUnavailable
from .store import Store

T = TypeVar("T")

#: Most writes in one transaction, which bounds how long others wait for it.
MAX_BATCH = 128

#: Seconds after which a write that nobody has begun is given up. Longer than twice the time that
#: the embedded database waits for another program, so that its own, better error comes first.
PATIENCE = 15.0


@dataclass(kw_only=True, slots=True, eq=False)
class _Call:
    """A write that waits for its answer."""

    function: Callable[[Connection], Any]
    scope: str
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    value: Any = None
    error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        # A future refuses StopIteration, and what is no Exception would end the caller's loop.
        usual = isinstance(error, Exception) and not isinstance(error, StopIteration)
        self.error = error if usual else RuntimeError(f"a write raised {error!r}")

    def answer(self) -> None:
        """On the loop of the caller."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.value)

    def give_up(self) -> None:
        """On the loop of the caller; what has not begun by now will not begin."""
        if not self.future.done():
            self.future.set_exception(
                StateUnavailable("The state database is busy for too long. Please retry.")
            )


class _RunAlone(Exception):
    """A call of a batch was refused after it had written."""


class _Refused(Exception):
    """Rolls back the transaction of a call that was refused."""


class Committer:
    """The writing thread of one process."""

    def __init__(self, store: Store, report: Callable[[BaseException | None], None]) -> None:
        """Start the thread.

        Args:
            store: Closed by nobody here.
            report: Told of every failure of the database, and None for every success; called
                from the thread.
        """
        self._store = store
        self._report = report
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="state-committer", daemon=True)
        self._thread.start()

    async def write(self, function: Callable[[Connection], T], scope: str) -> T:
        """See ``Database.write``."""
        loop = asyncio.get_running_loop()
        call = _Call(function=function, scope=scope, loop=loop, future=loop.create_future())
        with self._lock:
            if self._closed:
                raise StateUnavailable("The state database is closed.")
            self._calls.put(call)
        timer = loop.call_later(PATIENCE, call.give_up)
        try:
            result: T = await call.future
            return result
        finally:
            timer.cancel()

    def close(self, timeout: float) -> bool:
        """Finish what was begun before; returns whether the thread has ended within seconds."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._calls.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # --- in the thread ------------------------------------------------------------------

    def _run(self) -> None:
        ending = False
        while not ending:
            first = self._calls.get()
            if first is None:
                return
            batch = [first]
            try:
                self._store.prepare()
                with self._store.turn():
                    # More have come while the turn was waited for.
                    ending = self._gather(batch)
                    batch = [call for call in batch if not call.future.done()]
                    self._carry_out(batch)
            except BaseException as error:  # nothing may end this thread
                self._fail(batch, error)
            self._answer(batch)

    def _gather(self, batch: list[_Call]) -> bool:
        """Add the calls that wait; returns whether the last one of all was among them."""
        while len(batch) < MAX_BATCH:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return False
            if call is None:
                return True
            batch.append(call)
        return False

    def _carry_out(self, batch: Sequence[_Call]) -> None:
        if not batch:
            return
        try:
            self._together(batch)
            return
        except _RunAlone:
            pass
        except BaseException as error:
            if len(batch) == 1 or self._store.concerns_all(error):
                self._fail(batch, error)
                return
        # One of them is at fault, and nothing of all is stored: each for itself.
        for number, call in enumerate(batch):
            call.value = call.error = None
            if call.future.done():
                continue  # nobody waits for it any more
            try:
                self._together([call])
            except BaseException as error:
                if self._store.concerns_all(error):
                    self._fail(batch[number:], error)
                    return
                self._fail([call], error)

    def _together(self, batch: Sequence[_Call]) -> None:
        """Run all in one transaction."""
        scopes = {call.scope for call in batch if call.scope}
        try:
            with self._store.transaction(scopes) as connection:
                for call in batch:
                    before = self._store.writes
                    try:
                        call.value = call.function(connection)
                    except DeltaGliderError as error:
                        call.error = error
                        if len(batch) == 1:
                            raise _Refused from error
                        # A refusal that has written nothing spoils nothing for the others.
                        if self._store.writes != before:
                            raise _RunAlone from error
        except _Refused:
            pass
        self._report(None)

    def _fail(self, calls: Sequence[_Call], error: BaseException) -> None:
        """Let calls fail, each with an exception of its own."""
        explained = self._store.explain(error)
        if explained is not None and self._store.concerns_all(error):
            self._report(error)
        for call in calls:
            if explained is None:
                call.fail(error)
            else:
                call.error = StateUnavailable(explained.text)
                call.error.__cause__ = error

    @staticmethod
    def _answer(batch: Sequence[_Call]) -> None:
        """Wake each loop once, not once per call."""
        loops: dict[asyncio.AbstractEventLoop, list[_Call]] = {}
        for call in batch:
            loops.setdefault(call.loop, []).append(call)
        for loop, calls in loops.items():
            try:
                loop.call_soon_threadsafe(_answer_all, calls)
            except RuntimeError:
                # The loop is closed: nobody waits there any more.
                continue


def _answer_all(calls: Sequence[_Call]) -> None:
    for call in calls:
        call.answer()


__all__ = ["MAX_BATCH", "PATIENCE", "Committer"]
