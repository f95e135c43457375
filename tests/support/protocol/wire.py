"""A backend in memory behind a wire on which single requests wait, get lost, or arrive late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any

from deltaglider_core.delta.record import REFERENCES_PREFIX
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
    WAIT_THEN_LATE = "waits before it, and then is late"


@dataclass
class Plan:
    """One call of an operation, counted from 0, and its fate. Reading a reference does not count.

    Attributes:
        method: Only calls of this method count.
        free: Set to let a waiting call go on.
        dead: The process died: no call of it ever comes back.
        sent: Nevertheless the call at which it waited is carried out.
        over: Set when nothing of it goes on any more.
        at: Method and key of the call at which it waits.
        write_id: Of the operation, as soon as it has one.
        calls: How many were made.
        waits: Whether one waits.
    """

    call: int | None = None
    fate: Fate = Fate.WAIT_BEFORE
    method: str | None = None
    free: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    dead: bool = field(default=False, init=False)
    sent: bool = field(default=False, init=False)
    over: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    at: tuple[str, str] = field(default=("", ""), init=False)
    write_id: str | None = field(default=None, init=False)
    calls: int = field(default=0, init=False)
    waits: bool = field(default=False, init=False)


_MUTATIONS = ("put_object", "delete_object")
_LATE = (Fate.LATE, Fate.WAIT_THEN_LATE)

current_plan: ContextVar[Plan | None] = ContextVar("current_plan", default=None)

_NO_ANSWER = ServiceUnavailable("There was no answer.")


@dataclass
class Late:
    """A request whose sender got an error or died, and that may still be carried out."""

    method: str
    key: str
    arrive: Callable[[], Awaitable[Any]]


class Wire(MemoryBackend):
    """The backend that all processes share.

    Attributes:
        flight: What may still be carried out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flight: list[Late] = []
        for method in StorageBackend.__abstractmethods__ - {"capabilities"}:
            self.before(method, partial(self._before_call, method))
            self.after(method, partial(self._after_call, method))

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
            await request.arrive()
        except S3Error:
            return

    def die(self, plan: Plan) -> None:
        """The process that a plan is about dies; a mutation that it has sent may still arrive."""
        plan.dead = True
        if not (plan.waits and plan.fate is Fate.WAIT_BEFORE and plan.at[0] in _MUTATIONS):
            return

        async def arrive() -> None:
            plan.sent = True
            plan.free.set()
            await plan.over.wait()

        self.flight.append(Late(method=plan.at[0], key=plan.at[1], arrive=arrive))

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
        if not _is_late("put_object"):
            async with _not_told_if_dead():
                return await super().put_object(
                    bucket, key, content, size=size, metadata=metadata, condition=condition
                )
        await _wait_first()
        data = b"".join([chunk async for chunk in content])
        self._fly(
            "put_object",
            key,
            lambda: MemoryBackend.put_object(
                self, bucket, key, body(data), size=size, metadata=metadata, condition=condition
            ),
        )
        raise _NO_ANSWER

    async def delete_object(
        self, bucket: str, key: str, *, condition: Condition | None = None
    ) -> bool:
        if not _is_late("delete_object"):
            async with _not_told_if_dead():
                return await super().delete_object(bucket, key, condition=condition)
        await _wait_first()
        self._fly(
            "delete_object",
            key,
            lambda: MemoryBackend.delete_object(self, bucket, key, condition=condition),
        )
        raise _NO_ANSWER

    def _fly(self, method: str, key: str, request: Callable[[], Awaitable[Any]]) -> None:
        async def arrive() -> None:
            token = current_plan.set(None)
            try:
                await request()
            finally:
                current_plan.reset(token)

        plan = current_plan.get()
        if plan is not None:
            plan.calls += 1
        self.flight.append(Late(method=method, key=key, arrive=arrive))

    async def _before_call(self, method: str, *, key: str, **_: Any) -> None:
        plan = current_plan.get()
        if plan is None:
            return
        await _mourn(plan)
        write = current_write.get()
        if write is not None:
            plan.write_id = write.write_id
        if not _counts(plan, method, key):
            return
        plan.calls += 1
        if plan.calls - 1 != plan.call:
            return
        plan.at = (method, key)
        if plan.fate in (Fate.LOSE_REQUEST, Fate.LATE):
            raise _NO_ANSWER
        if plan.fate in (Fate.WAIT_BEFORE, Fate.WAIT_THEN_LATE):
            await _wait(plan)
        if plan.fate is Fate.WAIT_THEN_LATE:
            raise _NO_ANSWER

    async def _after_call(self, method: str, *, key: str, **_: Any) -> None:
        plan = current_plan.get()
        if plan is None:
            return
        if plan.calls - 1 == plan.call and _counts(plan, method, key):
            if plan.fate is Fate.LOSE_ANSWER:
                raise _NO_ANSWER
            if plan.fate is Fate.WAIT_AFTER:
                await _wait(plan)
        await _mourn(plan)


@asynccontextmanager
async def _not_told_if_dead() -> AsyncIterator[None]:
    """A dead process does not learn of an error either."""
    try:
        yield
    except S3Error:
        plan = current_plan.get()
        if plan is not None:
            await _mourn(plan)
        raise


def _counts(plan: Plan, method: str, key: str) -> bool:
    # One reading of a reference serves all operations of a process: if it waited, they would too.
    if method == "get_object" and key.startswith(REFERENCES_PREFIX):
        return False
    return plan.method in (None, method)


def _is_late(method: str) -> bool:
    plan = current_plan.get()
    if plan is None or plan.fate not in _LATE or plan.method not in (None, method):
        return False
    return plan.calls == plan.call


async def _wait_first() -> None:
    plan = current_plan.get()
    if plan is not None and plan.fate is Fate.WAIT_THEN_LATE:
        await _wait(plan)


async def _wait(plan: Plan) -> None:
    plan.waits = True
    await plan.free.wait()
    plan.waits = False
    if not plan.sent:
        await _mourn(plan)


async def _mourn(plan: Plan) -> None:
    if plan.dead:
        plan.over.set()
        await asyncio.Event().wait()
