"""Registers the backend type ``filesystem``; imports nothing heavy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from deltaglider_core.hookspecs import hookimpl
from deltaglider_core.interfaces.storage import StorageBackendType

from .settings import FsSettings

if TYPE_CHECKING:
    from deltaglider_core.interfaces.storage import StorageBackend
    from deltaglider_core.services import Services


@asynccontextmanager
async def open_backend(settings: FsSettings, services: Services) -> AsyncIterator[StorageBackend]:
    """Open the root directory for the lifetime of a pipeline."""
    from .backend import FsBackend

    backend = await FsBackend.create(settings, services.clock)
    try:
        yield backend
    finally:
        await backend.aclose()


@hookimpl
def dg_storage_backends() -> Iterable[StorageBackendType]:
    """Yield the one type this package brings."""
    yield StorageBackendType(
        name="filesystem",
        settings=FsSettings,
        open=open_backend,
        summary="Objects as files below one directory.",
    )
