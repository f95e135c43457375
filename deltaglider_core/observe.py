"""Request metrics and the request log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from .s3.wire import Exchange

#: Bytes of request and response bodies: 1 KiB to 100 MiB.
SIZE_BUCKETS = tuple(1024.0 * 10**power for power in range(6))
#: Methods that become a label; anything else is "OTHER", so that labels stay bounded.
METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"})


class RequestMetrics:
    """Counts requests; one per process. Of several workers the counts are added up.

    Args:
        registry: Where the metrics are registered.
        version: Version of the core, for ``deltaglider_build_info``.
    """

    def __init__(self, registry: CollectorRegistry, version: str) -> None:
        self._requests = Counter(
            "deltaglider_http_requests",
            "Requests answered.",
            ["method", "status", "operation"],
            registry=registry,
        )
        self._duration = Histogram(
            "deltaglider_http_request_duration_seconds",
            "Time from the first header to the last byte of the answer.",
            ["method", "operation"],
            registry=registry,
        )
        self._request_size = Histogram(
            "deltaglider_http_request_size_bytes",
            "Bytes of request bodies.",
            ["method"],
            buckets=SIZE_BUCKETS,
            registry=registry,
        )
        self._response_size = Histogram(
            "deltaglider_http_response_size_bytes",
            "Bytes of response bodies.",
            ["method"],
            buckets=SIZE_BUCKETS,
            registry=registry,
        )
        Gauge(
            "deltaglider_build_info",
            "Always 1.",
            ["version"],
            registry=registry,
            multiprocess_mode="livemax",
        ).labels(version).set(1)
        # Of several workers the oldest: the counters go on when one of them is replaced.
        Gauge(
            "process_start_time_seconds",
            "Start of the process, Unix time.",
            registry=registry,
            multiprocess_mode="livemin",
        ).set(time.time())

    def observe(self, method: str, exchange: Exchange, seconds: float) -> None:
        """Count a finished exchange."""
        method = method if method in METHODS else "OTHER"
        operation = exchange.operation
        self._requests.labels(method, str(exchange.status), operation).inc()
        self._duration.labels(method, operation).observe(seconds)
        self._request_size.labels(method).observe(exchange.body.received_bytes)
        self._response_size.labels(method).observe(exchange.sent_bytes)


def log_request(log: Any, method: str, exchange: Exchange, seconds: float) -> None:
    """One line per request; probes only at debug level."""
    write = log.debug if exchange.operation in {"health", "ready", "metrics"} else log.info
    write(
        "request",
        method=method,
        operation=exchange.operation,
        status=exchange.status,
        received=exchange.body.received_bytes,
        sent=exchange.sent_bytes,
        ms=round(seconds * 1000, 1),
        **exchange.log_fields,
    )
