"""The threads that read the state database."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Readers:
    """Some threads that run functions.

    They are daemons, unlike those of the standard library's executor: one that waits for a server
    that never answers must not keep the process from ending.
    """

    def __init__(self, count: int) -> None:
        """Start the threads."""
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = (
            queue.SimpleQueue()
        )
        self._threads = [
            threading.Thread(target=self._run, name=f"state-reader-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Run a function; one whose future is cancelled before it has begun is not run."""
        future: Future[T] = Future()
        self._calls.put((future, function))
        return future

    def close(self, timeout: float) -> bool:
        """Finish what was submitted before; returns whether all threads end within seconds."""
        for _ in self._threads:
            self._calls.put(None)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function = call
            if not future.set_running_or_notify_cancel():
                continue
            try:
                value = function()
            except BaseException as error:  # nothing may end this thread
                future.set_exception(error)
            else:
                future.set_result(value)
            # Nothing is kept alive until the next call.
            del call, future, function


__all__ = ["Readers"]
