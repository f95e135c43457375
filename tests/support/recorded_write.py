"""An intent as a layer sees it, that notes what is asked of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from deltaglider_core.errors import ServiceUnavailable
from deltaglider_core.interfaces.writes import current_write


@dataclass
class RecordedWrite:
    """Implements ``WriteIntent`` in memory.

    Attributes:
        condemned: References that are refused.
        undisturbed: What ``alone`` yields.
        asked: ``(method, reference, size)`` in order.
        held: What is held now.
        is_alone: Whether ``alone`` is in force now.
        down: Whether the state database cannot be asked.
    """

    write_id: str = "0" * 32
    bucket_id: str = "b" * 32
    condemned: set[str] = field(default_factory=set)
    undisturbed: bool = True
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    held: str | None = None
    is_alone: bool = False
    down: bool = False

    async def hold(self, reference: str, size: int) -> bool:
        if self.down:
            raise ServiceUnavailable
        self.asked.append(("hold", reference, size))
        if reference in self.condemned:
            return False
        self.held = reference
        return True

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[bool]:
        if self.down:
            raise ServiceUnavailable
        self.asked.append(("alone", "", 0))
        self.is_alone = self.undisturbed
        try:
            yield self.undisturbed
        finally:
            self.is_alone = False


@contextmanager
def writing(write: RecordedWrite) -> Iterator[RecordedWrite]:
    """Make it the intent of this task inside the block."""
    token = current_write.set(write)
    try:
        yield write
    finally:
        current_write.reset(token)
