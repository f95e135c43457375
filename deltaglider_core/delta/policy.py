"""Which writes may become deltas: the settings of the engine, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..interfaces.storage import RESERVED_PREFIX
from .candidates import DEFAULT_SUFFIXES, has_suffix

if TYPE_CHECKING:
    from ..settings import Settings

MIB = 1024 * 1024

#: Smaller objects are stored verbatim: head, record and index of a delta take about a
#: kilobyte, and most backends account for 4 KiB at least.
MIN_SIZE = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketPolicy:
    """What a bucket sets for itself; ``max_ratio=None`` is the general one."""

    compression: bool = True
    max_ratio: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltaPolicy:
    """See the module.

    Attributes:
        max_ratio: A delta is stored only below this share of the object's size; 0 is never.
        suffixes: Lower-case suffixes of the keys that may become deltas.
        codec: Id of the codec of new deltas; None is the first one.
        cache_bytes: Budget of the reference cache.
        buckets: What single buckets set.
    """

    max_ratio: float = 0.75
    suffixes: tuple[str, ...] = DEFAULT_SUFFIXES
    codec: str | None = None
    cache_bytes: int = 100 * MIB
    buckets: Mapping[str, BucketPolicy] = field(default_factory=dict)

    @classmethod
    def from_settings(cls, settings: Settings) -> DeltaPolicy:
        """The policy that a configuration states."""
        advanced = settings.advanced
        return cls(
            max_ratio=advanced.max_delta_ratio,
            suffixes=advanced.delta_suffixes,
            codec=advanced.codec,
            cache_bytes=advanced.cache_size_mb * MIB,
            buckets={
                name: BucketPolicy(compression=bucket.compression, max_ratio=bucket.max_delta_ratio)
                for name, bucket in settings.storage.buckets.items()
            },
        )

    def ratio(self, bucket: str) -> float:
        """The largest share for a bucket; 0 if it takes no deltas."""
        own = self.buckets.get(bucket, BucketPolicy())
        if not own.compression:
            return 0.0
        return self.max_ratio if own.max_ratio is None else own.max_ratio

    def is_candidate(self, bucket: str, key: str) -> bool:
        """Whether writes of ``key`` may become deltas."""
        return (
            self.ratio(bucket) > 0
            and bool(self.suffixes)
            and has_suffix(key, self.suffixes)
            and not key.startswith(RESERVED_PREFIX)
        )

    def may_be_delta(self, key: str) -> bool:
        """Whether ``key`` may have been stored as a delta, now or under earlier settings."""
        return has_suffix(key, self.suffixes) or has_suffix(key, DEFAULT_SUFFIXES)
