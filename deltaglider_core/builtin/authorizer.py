"""What the key pair of the configuration may do: everything. Others: nothing, from here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..interfaces.auth import Action, Authorizer, Decision, Principal, Resource

if TYPE_CHECKING:
    from ..services import Services
    from ..settings import AccessSettings


class StaticAuthorizer:
    """Allows the holder of the configured key, or everybody where that is written down.

    Args:
        access_key_id: Of the configured pair; None without one.
        open_to_everybody: ``access.authentication`` is ``none`` and there are no keys.
    """

    def __init__(self, access_key_id: str | None, *, open_to_everybody: bool) -> None:
        self._access_key_id = access_key_id
        self._open = open_to_everybody

    def authorize(
        self,
        principal: Principal,
        action: Action,
        resource: Resource,
        conditions: Mapping[str, str],
    ) -> Decision:
        """ALLOW or ABSTAIN; never DENY."""
        if self._open:
            return Decision.ALLOW
        # The store of the configured pair is asked before all others, so whoever was verified
        # under this access key knows the configured secret.
        owner = (
            not principal.anonymous
            and bool(self._access_key_id)
            and principal.access_key_id == self._access_key_id
        )
        return Decision.ALLOW if owner else Decision.ABSTAIN


@asynccontextmanager
async def open_static_authorizer(
    settings: AccessSettings, services: Services
) -> AsyncIterator[Authorizer]:
    """Open the authorizer that the section ``access`` describes."""
    yield StaticAuthorizer(settings.access_key_id, open_to_everybody=settings.open_to_everybody)
