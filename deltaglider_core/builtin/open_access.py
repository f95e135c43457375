"""Everybody is anonymous where ``access.authentication: none`` says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..context import S3Request
from ..interfaces.auth import ANONYMOUS, Authenticator, Principal

if TYPE_CHECKING:
    from ..services import Services
    from ..settings import AccessSettings


class OpenAccess:
    """Stands before all other authenticators and looks at no evidence.

    SDKs cannot be kept from signing; with no key to verify against, what they sign with must
    not matter. Digests and checksums of bodies are still verified.

    Args:
        open_to_everybody: ``access.authentication`` is ``none`` and there are no keys.
    """

    def __init__(self, *, open_to_everybody: bool) -> None:
        self._open = open_to_everybody

    async def authenticate(self, request: S3Request) -> Principal | None:
        """Anonymous, or None where access is not open."""
        return ANONYMOUS if self._open else None


@asynccontextmanager
async def open_open_access(
    settings: AccessSettings, services: Services
) -> AsyncIterator[Authenticator]:
    """Open the authenticator that the section ``access`` describes."""
    yield OpenAccess(open_to_everybody=settings.open_to_everybody)
