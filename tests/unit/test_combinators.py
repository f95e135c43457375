"""How the entries of a stage work together."""

from __future__ import annotations

import asyncio

import pytest

from deltaglider_core.combinators import (
    all_pass,
    deny_wins,
    fan_out,
    first_hit,
    first_hit_sync,
    nest,
)
from deltaglider_core.errors import AccessDenied, SlowDown
from deltaglider_core.interfaces.auth import Decision
from deltaglider_core.interfaces.storage import StorageLayer
from deltaglider_core.testing import MemoryBackend

ALLOW, DENY, ABSTAIN = Decision.ALLOW, Decision.DENY, Decision.ABSTAIN


class Outer(StorageLayer):
    pass


class Inner(StorageLayer):
    pass


def test_nest_puts_the_first_outermost() -> None:
    backend = MemoryBackend()
    nested = nest((Outer, Inner), backend)
    assert isinstance(nested, Outer)
    assert isinstance(nested.inner, Inner)
    assert nested.inner.inner is backend
    assert nest((), backend) is backend


async def test_first_hit_stops_at_the_first_answer_even_a_false_one() -> None:
    asked = []

    async def ask(value: int | None) -> int | None:
        asked.append(value)
        return value

    assert await first_hit([None, 0, 5], ask) == 0
    assert asked == [None, 0]
    assert await first_hit([None, None], ask) is None
    assert first_hit_sync([None, 0, 5], lambda value: value) == 0
    assert first_hit_sync([], lambda value: value) is None


async def test_an_error_is_not_taken_for_no_answer() -> None:
    async def ask(entry: str) -> str | None:
        if entry == "broken":
            raise AccessDenied
        return entry

    with pytest.raises(AccessDenied):
        await first_hit(["broken", "fine"], ask)


@pytest.mark.parametrize(
    ("decisions", "allowed"),
    [
        ([], False),
        ([ABSTAIN, ABSTAIN], False),
        ([ABSTAIN, ALLOW], True),
        ([ALLOW, DENY], False),
        ([DENY, ALLOW], False),
        ([DENY], False),
    ],
)
def test_deny_wins_and_silence_is_no(decisions: list[Decision], allowed: bool) -> None:
    assert deny_wins(decisions, lambda decision: decision) is allowed


async def test_all_pass_stops_at_the_first_refusal() -> None:
    asked = []

    async def check(entry: str) -> None:
        asked.append(entry)
        if entry == "full":
            raise SlowDown

    await all_pass(["a", "b"], check)
    with pytest.raises(SlowDown):
        await all_pass(["a", "full", "never"], check)
    assert asked == ["a", "b", "a", "full"]


async def test_fan_out_runs_all_at_once_and_keeps_their_errors_apart() -> None:
    started: list[int] = []
    failed: list[tuple[int, str]] = []
    together = asyncio.Event()

    async def run(number: int) -> None:
        started.append(number)
        if len(started) == 3:
            together.set()
        await together.wait()
        if number == 2:
            raise AccessDenied("two")

    async with asyncio.timeout(10):
        await fan_out([1, 2, 3], run, lambda number, error: failed.append((number, str(error))))
    assert sorted(started) == [1, 2, 3]
    assert failed == [(2, "two")]
    await fan_out([], run, lambda number, error: None)


async def test_fan_out_is_cancelled_as_a_whole() -> None:
    ended: list[int] = []
    started = asyncio.Event()

    async def run(number: int) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    task = asyncio.ensure_future(fan_out([1, 2], run, lambda number, error: None))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ended) == [1, 2]
