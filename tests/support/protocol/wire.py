"""A backend in memory behind a wire on which single requests wait, get lost, or arrive late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from deltaglider_core.errors import S3Error, ServiceUnavailable
from deltaglider_core.interfaces.storage import (
    Body,
    Capabilities,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    StorageBackend,
)
from deltaglider_core.interfaces.writes import current_write
from deltaglider_core.testing import MemoryBackend, body


class Fate(Enum):
    """What becomes of the call that a plan is about."""

    WAIT_BEFORE = "waits before it"
    WAIT_AFTER = "waits after it"
    LOSE_REQUEST = "gets an error, and the request is lost"
    LOSE_ANSWER = "gets an error, and the request was carried out"
    LATE = "gets an error, and the request may be carried out later"


@dataclass
class Plan:
    """One call of an operation, counted from 0, and its fate.

    Attributes:
        free: Set to let a waiting call go on.
        dead: The process died: no call of it ever comes back.
        arrives: Nevertheless the request that it had just sent is carried out.
        write_id: Of the operation, as soon as it has one.
        calls: How many were made.
        waits: Whether one waits.
    """

    call: int | None = None
    fate: Fate = Fate.WAIT_BEFORE
    free: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    dead: bool = field(default=False, repr=False)
    arrives: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    write_id: str | None = field(default=None, repr=False)
    calls: int = field(default=0, repr=False)
    waits: bool = field(default=False, repr=False)


current_plan: ContextVar[Plan | None] = ContextVar("current_plan", default=None)

_NO_ANSWER = ServiceUnavailable("There was no answer.")


class Wire(MemoryBackend):
    """The backend that all processes share.

    Attributes:
        flight: Requests whose sender got an error, and that may still be carried out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flight: list[Callable[[], Awaitable[Any]]] = []
        for method in StorageBackend.__abstractmethods__ - {"capabilities"}:
            self.before(method, self._before_call)
            self.after(method, self._after_call)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            conditional_writes=True,
            conditional_deletes=True,
            listing_metadata=True,
            late_commits=True,
        )

    async def land(self, number: int) -> None:
        """Let a late request arrive; the backend may refuse it."""
        request = self.flight.pop(number)
        try:
            await request()
        except S3Error:
            return

    def die(self, plan: Plan) -> None:
        """The process that a plan is about dies; what it has sent may still arrive."""
        plan.dead = True
        if plan.waits and plan.fate is Fate.WAIT_BEFORE:

            async def arrive() -> None:
                plan.free.set()
                await plan.arrives.wait()
                # It is carried out in as many turns of the loop as the backend takes for it.
                while plan.calls == plan.call + 1 if plan.call is not None else False:
                    await asyncio.sleep(0)

            self.flight.append(arrive)

    async def put_object(
        self,
        bucket: str,
        key: str,
        content: Body,
        *,
        size: int | None,
        metadata: ObjectMetadata,
        condition: Condition | None = None,
    ) -> ObjectInfo:
        if not _is_late():
            return await super().put_object(
                bucket, key, content, size=size, metadata=metadata, condition=condition
            )
        data = b"".join([chunk async for chunk in content])
        self._fly(
            lambda: MemoryBackend.put_object(
                self, bucket, key, body(data), size=size, metadata=metadata, condition=condition
            )
        )
        raise _NO_ANSWER

    async def delete_object(
        self, bucket: str, key: str, *, condition: Condition | None = None
    ) -> bool:
        if not _is_late():
            return await super().delete_object(bucket, key, condition=condition)
        self._fly(lambda: MemoryBackend.delete_object(self, bucket, key, condition=condition))
        raise _NO_ANSWER

    def _fly(self, request: Callable[[], Awaitable[Any]]) -> None:
        async def arrive() -> None:
            token = current_plan.set(None)
            try:
                await request()
            finally:
                current_plan.reset(token)

        plan = current_plan.get()
        if plan is not None:
            plan.calls += 1
        self.flight.append(arrive)

    async def _before_call(self, **_: Any) -> None:
        plan = current_plan.get()
        if plan is None:
            return
        await _mourn(plan)
        write = current_write.get()
        if write is not None:
            plan.write_id = write.write_id
        plan.calls += 1
        if plan.calls - 1 != plan.call:
            return
        if plan.fate in (Fate.LOSE_REQUEST, Fate.LATE):
            raise _NO_ANSWER
        if plan.fate is Fate.WAIT_BEFORE:
            await _wait(plan)

    async def _after_call(self, **_: Any) -> None:
        plan = current_plan.get()
        if plan is None:
            return
        if plan.calls - 1 == plan.call:
            if plan.fate is Fate.LOSE_ANSWER:
                raise _NO_ANSWER
            if plan.fate is Fate.WAIT_AFTER:
                await _wait(plan)
        await _mourn(plan)


def _is_late() -> bool:
    plan = current_plan.get()
    return plan is not None and plan.fate is Fate.LATE and plan.calls == plan.call


async def _wait(plan: Plan) -> None:
    plan.waits = True
    await plan.free.wait()
    plan.waits = False
    if plan.dead and plan.fate is Fate.WAIT_BEFORE and not plan.arrives.is_set():
        plan.arrives.set()
        return
    await _mourn(plan)


async def _mourn(plan: Plan) -> None:
    if plan.dead:
        await asyncio.Event().wait()
