"""What the core gives to everything it opens; passed in, never imported."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from prometheus_client import CollectorRegistry

from .tasks import run_blocking

if TYPE_CHECKING:
    from .interfaces.auth import CredentialStore
    from .interfaces.codec import Codec
    from .state.state import State

T = TypeVar("T")


class Clock(Protocol):
    """Time, replaceable in tests."""

    def now(self) -> datetime:
        """The present, aware, UTC."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class SpoolLease:
    """Temporary files of one operation, within one reservation of the spool's budget."""

    def __init__(self, spool: Spool, size: int) -> None:
        self._spool = spool
        self.size = size
        self._directory: Path | None = None

    def path(self, name: str) -> Path:
        """Path of a file that goes away with the lease."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="op-", dir=self._spool.directory))
        return self._directory / name

    def try_extend(self, size: int) -> bool:
        """Reserve ``size`` bytes more, or return False if the budget or the disk has no room."""
        return self._spool.try_extend(self, size)

    def close(self) -> None:
        """Delete the files and give the bytes back. Safe to call twice."""
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
        self._spool.release(self)


class Spool:
    """A directory for temporary files with a budget in bytes, shared by all operations.

    The directory belongs to this process alone and is emptied when it starts.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._leases: set[SpoolLease] = set()
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def used_bytes(self) -> int:
        """Bytes reserved at this moment."""
        with self._lock:
            return sum(lease.size for lease in self._leases)

    def try_reserve(self, size: int) -> SpoolLease | None:
        """Reserve ``size`` bytes, or return None if the budget or the disk has no room."""
        with self._lock:
            if not self._has_room(size):
                return None
            lease = SpoolLease(self, size)
            self._leases.add(lease)
            return lease

    def try_extend(self, lease: SpoolLease, size: int) -> bool:
        """Reserve ``size`` bytes more for a lease that is not closed; see ``SpoolLease``."""
        with self._lock:
            if lease not in self._leases or not self._has_room(size):
                return False
            lease.size += size
            return True

    def _has_room(self, size: int) -> bool:
        if sum(lease.size for lease in self._leases) + size > self.max_bytes:
            return False
        stat = os.statvfs(self.directory)
        return size <= stat.f_bavail * stat.f_frsize

    def release(self, lease: SpoolLease) -> None:
        """Give a reservation back."""
        with self._lock:
            self._leases.discard(lease)


@dataclass(frozen=True, kw_only=True)
class Services:
    """Handed to ``open`` of every contribution.

    Attributes:
        clock: The time.
        log: A structlog logger, bound to the name of the contribution.
        metrics: Registry of this process. With several workers prometheus-client's multiprocess
            mode adds them up: a ``Gauge`` says how by ``multiprocess_mode``, one of ``livesum``,
            ``livemax``, ``livemin`` and ``livemostrecent``; collectors, ``Info`` and ``Enum`` are
            not shown.
        spool: Bounded temporary files.
        cache_dir: For files that can be deleted at any time.
        credentials: All credential stores as one; set for authenticators.
        codecs: Opened codecs by id, in order; set for storage layers.
        state: The state database and what belongs to it; None where nothing is recorded.
    """

    clock: Clock
    log: Any
    metrics: CollectorRegistry
    spool: Spool
    cache_dir: Path
    credentials: CredentialStore | None = None
    codecs: Mapping[str, Codec] = field(default_factory=dict)
    state: State | None = None

    async def run_blocking(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Run a blocking function on the worker threads and return its result.

        A cancelled caller waits until the function has ended, and is cancelled then.
        """
        return await run_blocking(function, *args, **kwargs)


__all__ = ["Clock", "Services", "Spool", "SpoolLease", "SystemClock", "run_blocking"]
