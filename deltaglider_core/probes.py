"""``/_/health``, ``/_/ready`` and ``/_/metrics``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import falcon
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from .errors import S3Error
from .tasks import run_blocking

if TYPE_CHECKING:
    from .gateway import Gateway

#: Seconds in which every backend must answer for the process to count as ready.
READY_TIMEOUT_SECONDS = 3.0


class HealthResource:
    """The process answers. Does no I/O and shows no version."""

    async def on_get(self, req: Any, resp: Any) -> None:
        req.scope["deltaglider.exchange"].operation = "health"
        resp.content_type = falcon.MEDIA_JSON
        resp.media = {"status": "healthy"}

    on_head = on_get  # load balancers ask so


class ReadyResource:
    """The backends answer: 200, or 503 with the state.

    Args:
        gateway: Whose backends are asked.
        log: Where the reason of a failure goes.
    """

    def __init__(self, gateway: Gateway, log: Any) -> None:
        self._gateway = gateway
        self._log = log
        self._asking: asyncio.Task[str] | None = None

    async def on_get(self, req: Any, resp: Any) -> None:
        req.scope["deltaglider.exchange"].operation = "ready"
        state = await self._backend_state()
        ready = state == "ready"
        resp.status = 200 if ready else 503
        resp.content_type = falcon.MEDIA_JSON
        resp.media = {"status": "ready" if ready else "not_ready", "backend": state}

    on_head = on_get

    async def _backend_state(self) -> str:
        # One at a time, which the callers share: a backend that hangs is not asked ever more.
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        # Not cancelled when the time is up: its threads could not be stopped, and would be
        # waited for.
        done, _ = await asyncio.wait([self._asking], timeout=READY_TIMEOUT_SECONDS)
        return "timeout" if not done else self._asking.result()

    async def _ask(self) -> str:
        try:
            with self._gateway.acquire() as pipeline:
                for backend in pipeline.backends.values():
                    await backend.probe()
        except TimeoutError:
            return "timeout"
        except (S3Error, OSError) as error:
            self._log.warning("backend not ready", error=str(error))
            return "unreachable"
        return "ready"


class MetricsResource:
    """Metrics in the Prometheus text format.

    Args:
        registry: Of this process, or of all workers.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    async def on_get(self, req: Any, resp: Any) -> None:
        req.scope["deltaglider.exchange"].operation = "metrics"
        resp.content_type = CONTENT_TYPE_LATEST
        # Some milliseconds, and files to read where there are several workers.
        resp.data = await run_blocking(generate_latest, self._registry)
