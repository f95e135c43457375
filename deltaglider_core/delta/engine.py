"""What every part of the delta layer shares: policy, codecs, caches, counters, log."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from ..errors import ConfigurationError, IntegrityError, NoSuchKey
from ..interfaces.codec import Codec
from ..interfaces.storage import StorageBackend
from ..services import Services, Spool
from ..tasks import run_blocking
from .cache import ReferenceCache, ReferenceFile, open_verified
from .metrics import DeltaMetrics
from .policy import DeltaPolicy
from .prepared import PreparedCache
from .record import Reference
from .spooling import Spooled


class Engine:
    """One per pipeline; the layers around all backends share it.

    Raises:
        ConfigurationError: The policy names a codec that is not installed.
        OSError: The cache directory cannot be used.
    """

    def __init__(self, policy: DeltaPolicy, services: Services) -> None:
        self.policy = policy
        self.codecs: Mapping[str, Codec] = services.codecs
        self.codec = _codec_for_writes(policy, services.codecs)
        self.spool: Spool = services.spool
        self.clock = services.clock
        self.log: Any = services.log
        self.metrics = DeltaMetrics.of(services.metrics)
        self.cache = ReferenceCache(
            services.cache_dir / "references", policy.cache_bytes, self.metrics
        )
        self.prepared = PreparedCache(policy.cache_bytes)

    def takes_deltas(self, bucket: str, key: str) -> bool:
        """Whether a write of ``key`` may become a delta here and now."""
        return self.codec is not None and self.policy.is_candidate(bucket, key)

    @contextlib.asynccontextmanager
    async def reference(
        self, inner: StorageBackend, bucket: str, reference: Reference
    ) -> AsyncGenerator[ReferenceFile]:
        """A reference as a verified local file, fetched if need be.

        Raises:
            IntegrityError: It is missing, or has other bytes than its name says.
            OSError: No room in the cache directory.
        """

        @contextlib.asynccontextmanager
        async def fetch() -> AsyncGenerator[AsyncIterator[bytes]]:
            try:
                reader = await inner.get_object(bucket, reference.key)
            except NoSuchKey as error:
                raise IntegrityError(f"reference {reference.key} is missing") from error
            async with reader:
                yield aiter(reader)

        async with self.cache.open(reference.sha256, reference.size, fetch) as file:
            yield file

    @contextlib.asynccontextmanager
    async def own_reference(self, spooled: Spooled) -> AsyncGenerator[ReferenceFile]:
        """An upload as its own reference; it goes into the cache, where its successor finds it.

        Raises:
            IntegrityError: The spool file is not what was received.
            OSError: No room in the cache directory.
        """
        if spooled.size <= self.policy.cache_bytes:
            async with self.cache.open(
                spooled.sha256, spooled.size, lambda: contextlib.nullcontext(spooled.chunks())
            ) as file:
                yield file
            return
        mapped = await run_blocking(open_verified, spooled.path, spooled.sha256)
        if mapped is None:
            raise IntegrityError("the spool file is not what was received")
        yield mapped

    async def aclose(self) -> None:
        """Free indexes and end fetches."""
        await self.cache.aclose()
        await self.prepared.aclose()


def _codec_for_writes(policy: DeltaPolicy, codecs: Mapping[str, Codec]) -> Codec | None:
    if policy.codec is None:
        return next(iter(codecs.values()), None)
    if policy.codec not in codecs:
        installed = ", ".join(codecs) or "none"
        raise ConfigurationError(
            f"advanced.codec names {policy.codec!r}, which is not installed (installed: "
            f"{installed}). Install deltaglider-codec-{policy.codec}, or leave the setting out."
        )
    return codecs[policy.codec]
