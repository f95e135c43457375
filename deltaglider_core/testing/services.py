"""Services for a plugin under test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from ..interfaces.auth import CredentialStore
from ..interfaces.codec import Codec
from ..services import Clock, Services, Spool
from .clock import FakeClock


def services_for_tests(
    directory: Path,
    *,
    clock: Clock | None = None,
    spool_bytes: int = 4 * 1024**3,
    credentials: CredentialStore | None = None,
    codecs: Mapping[str, Codec] | None = None,
) -> Services:
    """Real services below one directory, with a metrics registry of their own.

    Args:
        directory: Usually pytest's ``tmp_path``; receives ``spool`` and ``cache``.
        clock: A ``FakeClock`` if omitted.
        spool_bytes: Budget of the spool.
    """
    cache = directory / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    return Services(
        clock=clock or FakeClock(),
        log=structlog.get_logger("test"),
        metrics=CollectorRegistry(),
        spool=Spool(directory / "spool", spool_bytes),
        cache_dir=cache,
        credentials=credentials,
        codecs=codecs or {},
    )
