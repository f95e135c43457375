"""The key pair of the configuration."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..interfaces.auth import Credentials, CredentialStore

if TYPE_CHECKING:
    from ..services import Services
    from ..settings import AccessSettings


class StaticCredentials:
    """Knows at most one key pair.

    Args:
        credentials: None for a configuration without keys.
    """

    def __init__(self, credentials: Credentials | None) -> None:
        self._credentials = credentials

    async def get_credentials(self, access_key_id: str) -> Credentials | None:
        """The configured pair, or None for any other key."""
        known = self._credentials
        return known if known is not None and known.access_key_id == access_key_id else None


@asynccontextmanager
async def open_static_credentials(
    settings: AccessSettings, services: Services
) -> AsyncIterator[CredentialStore]:
    """Open the store that the section ``access`` describes."""
    if settings.access_key_id is not None and settings.secret_access_key is not None:
        yield StaticCredentials(
            Credentials(
                access_key_id=settings.access_key_id,
                secret_access_key=settings.secret_access_key.get_secret_value(),
            )
        )
    else:
        yield StaticCredentials(None)
