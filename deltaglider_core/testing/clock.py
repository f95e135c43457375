"""A clock that only moves when told to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class FakeClock:
    """Implements ``deltaglider_core.services.Clock``.

    Args:
        start: The present; aware.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) -> None:
        if start.tzinfo is None:
            raise ValueError("start must be aware")
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        """The present, aware, UTC."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move forward; a negative number moves back."""
        self._now += timedelta(seconds=seconds)
