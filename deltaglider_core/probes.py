"""``/_/health``, ``/_/ready`` and ``/_/metrics``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import falcon
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from .errors import S3Error

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


class ReadyResource:
    """The backends answer: 200, or 503 with the state.

    Args:
        gateway: Whose backends are asked.
        log: Where the reason of a failure goes.
    """

    def __init__(self, gateway: Gateway, log: Any) -> None:
        self._gateway = gateway
        self._log = log

    async def on_get(self, req: Any, resp: Any) -> None:
        req.scope["deltaglider.exchange"].operation = "ready"
        state = await self._backend_state()
        ready = state == "ready"
        resp.status = 200 if ready else 503
        resp.content_type = falcon.MEDIA_JSON
        resp.media = {"status": "ready" if ready else "not_ready", "backend": state}

    async def _backend_state(self) -> str:
        try:
            with self._gateway.acquire() as pipeline:
                async with asyncio.timeout(READY_TIMEOUT_SECONDS):
                    for backend in pipeline.backends.values():
                        await backend.probe()
        except TimeoutError:
            return "timeout"
        except (S3Error, OSError) as error:
            self._log.warning("backend not ready", error=str(error))
            return "unreachable"
        return "ready"


class MetricsResource:
    """The metrics of this process in the Prometheus text format."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    async def on_get(self, req: Any, resp: Any) -> None:
        req.scope["deltaglider.exchange"].operation = "metrics"
        resp.content_type = CONTENT_TYPE_LATEST
        resp.data = generate_latest(self._registry)
