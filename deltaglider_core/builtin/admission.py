"""Refuses requests for keys that belong to DeltaGlider."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..errors import AccessDenied
from ..interfaces.admission import AdmissionRule, RequestFacts, Verdict
from ..interfaces.storage import RESERVED_PREFIX

if TYPE_CHECKING:
    from ..services import Services
    from ..settings import AdmissionSettings


class ReservedPrefix:
    """Keys below ``.deltaglider/`` are references and markers; no client sees or writes them."""

    def evaluate(self, facts: RequestFacts) -> Verdict | None:
        """Reject a key below the prefix; no opinion about any other."""
        if not facts.key.startswith(RESERVED_PREFIX):
            return None
        return Verdict(
            action="reject",
            rule="reserved-prefix",
            error=AccessDenied(f"Keys that begin with {RESERVED_PREFIX} are reserved."),
        )


@asynccontextmanager
async def open_reserved_prefix(
    settings: AdmissionSettings, services: Services
) -> AsyncIterator[AdmissionRule]:
    """Open the rule."""
    yield ReservedPrefix()
