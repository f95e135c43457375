"""What is counted about the delivery of events. One set per registry."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Counter, Gauge

from .cursors import Cursor

# A registry refuses a name that it already has.
_of_registry: WeakKeyDictionary[CollectorRegistry, EventMetrics] = WeakKeyDictionary()


class EventMetrics:
    """Obtain it with ``of``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.delivered = Counter(
            "deltaglider_events_delivered",
            "Events that a sink has accepted.",
            ["sink"],
            registry=registry,
        )
        self.failed = Counter(
            "deltaglider_events_failed",
            "Deliveries to a sink that failed, and events that it refused for good.",
            ["sink"],
            registry=registry,
        )
        # Any process may have looked last, and only that one knows.
        self._lag = Gauge(
            "deltaglider_event_cursor_lag",
            "Events that a reader of the journal has not dealt with yet.",
            ["cursor"],
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self._seen: set[str] = set()

    @classmethod
    def of(cls, registry: CollectorRegistry) -> EventMetrics:
        """The one set of this registry."""
        found = _of_registry.get(registry)
        if found is None:
            found = _of_registry[registry] = cls(registry)
        return found

    def show_lag(self, cursors: Iterable[Cursor]) -> None:
        """Set the gauge of every cursor; one that is gone has no lag."""
        lags = {cursor.name: cursor.lag for cursor in cursors}
        for name in self._seen - lags.keys():
            self._lag.labels(name).set(0)
        for name, lag in lags.items():
            self._lag.labels(name).set(lag)
        self._seen |= lags.keys()


__all__ = ["EventMetrics"]
