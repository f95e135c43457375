"""The gateway: one reference to the pipeline in use, and its exchange while serving."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import AsyncExitStack

from .pipeline import Pipeline, open_pipeline
from .plugins import PluginSet
from .services import Services
from .settings import Settings

#: Seconds that requests on a replaced pipeline may take before it closes under them. As
#: long as the slowest plausible transfer of a large object; a reload is not an abort.
RELOAD_GRACE_SECONDS = 3600.0


class _Generation:
    """A pipeline, what closes it, and the requests that use it."""

    def __init__(self, pipeline: Pipeline, stack: AsyncExitStack) -> None:
        self.pipeline = pipeline
        self.stack = stack
        self.in_flight = 0
        self.retired = False
        self.idle = asyncio.Event()

    def release(self) -> None:
        self.in_flight -= 1
        if self.retired and not self.in_flight:
            self.idle.set()

    def retire(self) -> None:
        self.retired = True
        if not self.in_flight:
            self.idle.set()


class Gateway:
    """Serves from one pipeline at a time. Belongs to one event loop.

    Args:
        plugins: Fixed for the life of the process.
        services: Fixed for the life of the process.
        grace_seconds: How long a replaced pipeline waits for its requests.
    """

    def __init__(
        self, plugins: PluginSet, services: Services, *, grace_seconds: float = RELOAD_GRACE_SECONDS
    ) -> None:
        self.plugins = plugins
        self.services = services
        self._grace = grace_seconds
        self._current: _Generation | None = None
        self._closing: dict[asyncio.Task[None], _Generation] = {}
        self._exchange = asyncio.Lock()

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline that new requests use.

        Raises:
            RuntimeError: The gateway is not open.
        """
        if self._current is None:
            raise RuntimeError("the gateway is not open")
        return self._current.pipeline

    @contextlib.contextmanager
    def acquire(self) -> Iterator[Pipeline]:
        """Use the pipeline of this moment until the block ends, whatever is reloaded.

        Raises:
            RuntimeError: The gateway is not open.
        """
        generation = self._current
        if generation is None:
            raise RuntimeError("the gateway is not open")
        generation.in_flight += 1
        try:
            yield generation.pipeline
        finally:
            generation.release()

    async def open(self, settings: Settings) -> None:
        """Open the first pipeline. Raises ``ConfigurationError``."""
        await self.reload(settings)

    async def reload(self, settings: Settings) -> None:
        """Build a pipeline beside the one in use and exchange the reference.

        Requests in flight finish on the old one, which closes after the last of them, or
        after the grace period.

        Raises:
            ConfigurationError: The new one could not be opened; the old one serves on.
        """
        async with self._exchange:
            async with AsyncExitStack() as building:
                pipeline = await open_pipeline(settings, self.plugins, self.services, building)
                stack = building.pop_all()
            old, self._current = self._current, _Generation(pipeline, stack)
            if old is not None:
                self._retire(old, self._grace)

    async def aclose(self) -> None:
        """Close every pipeline. No request may be in flight. Safe to call twice."""
        async with self._exchange:
            current, self._current = self._current, None
            # Not by cancelling: a task that has not begun yet would never close anything.
            for waiting in self._closing.values():
                waiting.idle.set()
            await asyncio.gather(*self._closing)
            if current is not None:
                await current.stack.aclose()

    def _retire(self, old: _Generation, grace: float) -> None:
        old.retire()
        task = asyncio.create_task(self._close_when_idle(old, grace))
        self._closing[task] = old
        task.add_done_callback(self._closing.pop)

    async def _close_when_idle(self, old: _Generation, grace: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(old.idle.wait(), grace)
        if old.in_flight:
            self.services.log.warning(
                "replaced pipeline closes under requests", in_flight=old.in_flight
            )
        try:
            await old.stack.aclose()
        except Exception:
            self.services.log.exception("replaced pipeline did not close cleanly")


__all__ = ["RELOAD_GRACE_SECONDS", "Gateway"]
