"""What is logged while something runs in the test's own process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog


@dataclass(kw_only=True)
class Logged:
    """Warnings and errors that were logged while the application ran."""

    lines: list[str] = field(default_factory=list)

    def take(self) -> list[str]:
        """What came since the last call."""
        taken, self.lines[:] = list(self.lines), []
        return taken


class _Handler(logging.Handler):
    def __init__(self, logged: Logged) -> None:
        super().__init__(logging.WARNING)
        self._logged = logged

    def emit(self, record: logging.LogRecord) -> None:
        self._logged.lines.append(record.getMessage())


@contextmanager
def captured_log() -> Iterator[Logged]:
    """Collect what structlog and the standard library log, from warnings on."""
    logged = Logged()

    def keep(_logger: object, _method: str, event: Any) -> Any:
        logged.lines.append(" ".join(f"{name}={value}" for name, value in event.items()))
        raise structlog.DropEvent

    before = structlog.get_config() if structlog.is_configured() else None
    structlog.configure(
        processors=[structlog.processors.format_exc_info, keep],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = _Handler(logged)
    logging.getLogger().addHandler(handler)
    try:
        yield logged
    finally:
        logging.getLogger().removeHandler(handler)
        structlog.reset_defaults()
        if before is not None:
            structlog.configure(**before)


__all__ = ["Logged", "captured_log"]
