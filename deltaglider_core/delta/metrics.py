"""What the delta engine counts. One set per registry, however many pipelines share it."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_RATIOS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
_SECONDS = (0.005, 0.02, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

# A registry refuses a name it already has, and a reload opens the new layer beside the old.
_of_registry: WeakKeyDictionary[CollectorRegistry, DeltaMetrics] = WeakKeyDictionary()


class DeltaMetrics:
    """The metrics of the engine; obtain them with ``of``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ratio = Histogram(
            "deltaglider_delta_compression_ratio",
            "Stored bytes of a delta as a share of the object's size.",
            buckets=_RATIOS,
            registry=registry,
        )
        self.saved = Counter(
            "deltaglider_delta_bytes_saved",
            "Bytes that were not stored because objects became deltas.",
            registry=registry,
        )
        self.encode = Histogram(
            "deltaglider_delta_encode_duration_seconds",
            "Time to encode one object, successful or not.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.decode = Histogram(
            "deltaglider_delta_decode_duration_seconds",
            "Time spent to decode and check the windows of one read.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.decisions = Counter(
            "deltaglider_delta_decisions",
            "How writes were stored: as delta, verbatim, or as a new reference.",
            ["decision"],
            registry=registry,
        )
        self.cache_hits = Counter(
            "deltaglider_cache_hits", "References found in the cache.", registry=registry
        )
        self.cache_misses = Counter(
            "deltaglider_cache_misses", "References fetched from a backend.", registry=registry
        )
        self.cache_size = Gauge(
            "deltaglider_cache_size_bytes",
            "Bytes in the reference cache.",
            registry=registry,
            multiprocess_mode="livesum",  # each worker has a cache of its own
        )
        self.cache_max = Gauge(
            "deltaglider_cache_max_bytes",
            "Budget of the reference cache.",
            registry=registry,
            multiprocess_mode="livesum",
        )

    @classmethod
    def of(cls, registry: CollectorRegistry) -> DeltaMetrics:
        """The metrics of ``registry``, made at the first call."""
        metrics = _of_registry.get(registry)
        if metrics is None:
            metrics = _of_registry[registry] = cls(registry)
        return metrics
