"""Routes every bucket to the one backend of the configuration, under its own name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..interfaces.routing import Route, Router
from ..pipeline import DEFAULT_BACKEND_NAME

if TYPE_CHECKING:
    from ..services import Services
    from ..settings import StorageSettings


class TableRouter:
    """Comes last, so that a router of a plugin can send a bucket elsewhere."""

    def resolve(self, bucket: str) -> Route | None:
        """The default backend, for any bucket."""
        return Route(backend=DEFAULT_BACKEND_NAME, bucket=bucket)


@asynccontextmanager
async def open_table_router(settings: StorageSettings, services: Services) -> AsyncIterator[Router]:
    """Open the router."""
    yield TableRouter()
