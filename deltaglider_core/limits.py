"""What one process takes on at a time, and what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge

from .errors import SlowDown
from .s3.wire import Pace
from .settings_network import NetworkSettings

if TYPE_CHECKING:
    from .http_protocol import BoundedHttpProtocol

#: In the state of the lifespan, where connections find the limits of their process.
STATE_KEY = "deltaglider.limits"

#: Seconds after which a refused client is told to come again.
RETRY_AFTER_SECONDS = 1


class Limits:
    """The limits of a process and the count of what they refused. Belongs to one event loop.

    Args:
        settings: In force until ``apply`` replaces them.
        metrics: Where the metrics are registered.

    Attributes:
        pace: Of clients.
        max_connections: Of the process.
        keep_alive_seconds: How long a connection without a request stays open.
        idle: Connections that wait for their next request, the longest idle first.
    """

    def __init__(self, settings: NetworkSettings, metrics: CollectorRegistry) -> None:
        self._in_flight = Gauge(
            "deltaglider_http_requests_in_flight",
            "Requests that are being worked on or answered; probes do not count.",
            registry=metrics,
            multiprocess_mode="livesum",
        )
        self._refused = Counter(
            "deltaglider_http_refusals",
            "What a limit ended: connections, requests (none was free in time), timeout (no "
            "answer in time), slow_body and slow_reader (clients that stopped).",
            ["limit"],
            registry=metrics,
        )
        for limit in ("connections", "requests", "timeout", "slow_body", "slow_reader"):
            self._refused.labels(limit)
        self.idle: dict[BoundedHttpProtocol, None] = {}
        self._slots = asyncio.Semaphore(settings.max_concurrent_requests)
        self._size = settings.max_concurrent_requests
        self.apply(settings)

    def apply(self, settings: NetworkSettings) -> None:
        """Put new settings in force, for new requests and connections."""
        self.pace = Pace(
            seconds=settings.transfer_stall_seconds, min_bytes=settings.transfer_stall_bytes
        )
        self.max_connections = min(settings.max_connections, descriptor_limit() // 2)
        self.keep_alive_seconds = settings.keep_alive_seconds
        self._queue_seconds = settings.request_queue_seconds
        if settings.max_concurrent_requests != self._size:
            # Those in flight give back what they took from the old one.
            self._size = settings.max_concurrent_requests
            self._slots = asyncio.Semaphore(self._size)

    @contextlib.asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """Hold the place of one request, as soon as there is one.

        Raises:
            SlowDown: None was free in time.
        """
        slots = self._slots
        try:
            async with asyncio.timeout(self._queue_seconds if slots.locked() else None):
                await slots.acquire()
        except TimeoutError:
            self.refused("requests")
            raise SlowDown(
                f"{self._size} requests are being served, and none ended in time. Please reduce "
                "your request rate.",
                headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
            ) from None
        self._in_flight.inc()
        try:
            yield
        finally:
            self._in_flight.dec()
            slots.release()

    def refused(self, limit: str) -> None:
        """Count what a limit ended."""
        self._refused.labels(limit).inc()


def descriptor_limit() -> int:
    """How many files and connections this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft


def raise_descriptor_limit() -> None:
    """Take as many descriptors as the system allows; shells start programs with 1,024 of them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses what it reports as the limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


__all__ = ["STATE_KEY", "Limits", "descriptor_limit", "raise_descriptor_limit"]
