"""The clock of every state database of this process, moved at will."""

from __future__ import annotations

from types import TracebackType

import pytest
from sqlalchemy import Connection

from deltaglider_core.state.database import Database


class ShiftedClock:
    """``Database.now`` plus what it was advanced by; as it was after the block."""

    def __init__(self) -> None:
        self._shift = 0.0
        self._patch = pytest.MonkeyPatch()

    def advance(self, seconds: float) -> None:
        """Move forward; a negative number moves back."""
        self._shift += seconds

    def __enter__(self) -> ShiftedClock:
        now = Database.now

        def shifted(database: Database, connection: Connection) -> float:
            return now(database, connection) + self._shift

        self._patch.setattr(Database, "now", shifted)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._patch.undo()
