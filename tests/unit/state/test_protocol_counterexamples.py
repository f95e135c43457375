"""Counterexamples that the model of the write protocol has found, played on the real layers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support.protocol.deployment import BUCKET, Deployment, content
from support.protocol.wire import Fate, Plan, current_plan
from support.state_clock import ShiftedClock

from deltaglider_core.errors import S3Error


@pytest.fixture
def clock() -> Iterator[ShiftedClock]:
    with ShiftedClock() as shifted:
        yield shifted


@pytest.fixture
async def deployment(tmp_path: Path, clock: ShiftedClock) -> AsyncIterator[Deployment]:
    async with AsyncExitStack() as stack:
        yield await Deployment.open(tmp_path, stack)


async def check(deployment: Deployment, clock: ShiftedClock) -> None:
    await deployment.come_to_rest(clock)
    await deployment.check_at_rest()


async def test_a_delete_of_a_dead_process_arrives_after_a_put(
    deployment: Deployment, clock: ShiftedClock
) -> None:
    await deployment.delete(0, "c.txt", Plan(call=0, method="delete_object"))
    await deployment.kill(0)
    await deployment.settle(0)
    await deployment.put(1, "c.txt", content(1), Plan())
    await deployment.wire.land(0)
    await check(deployment, clock)


async def test_a_slow_process_gets_no_answer_after_it_was_settled(
    deployment: Deployment, clock: ShiftedClock
) -> None:
    plan = Plan(call=0, fate=Fate.WAIT_THEN_LATE, method="put_object")
    await deployment.put(0, "c.txt", content(1), plan)
    await deployment.settle(1, slow=0)
    clock.advance(61)
    await deployment.settle(1, slow=0)
    await deployment.release(deployment.waiting()[0])
    await deployment.wire.land(0)
    await check(deployment, clock)


async def test_a_doubt_is_not_due_by_the_time_of_an_earlier_one(
    deployment: Deployment, clock: ShiftedClock
) -> None:
    plan = Plan(call=0, fate=Fate.WAIT_THEN_LATE, method="put_object")
    await deployment.put(0, "c.txt", content(1), plan)
    await deployment.settle(1, slow=0)
    clock.advance(50)
    await deployment.release(deployment.waiting()[0])
    clock.advance(20)  # 70 s after the first doubt, 20 s after the request
    await deployment.settle(1, slow=0)
    await deployment.wire.land(0)
    await check(deployment, clock)


@pytest.mark.parametrize("fate", [Fate.LOSE_ANSWER, Fate.LATE])
async def test_a_rewrite_after_complete_has_no_answer(
    deployment: Deployment, clock: ShiftedClock, fate: Fate
) -> None:
    await deployment.put(0, "d/v1.zip", content(0), Plan())
    rewritten = 0
    for call in range(6):
        key = f"d/v{call + 2}.zip"
        await deployment.complete(
            0, key, content(2), Plan(call=call, fate=fate, method="put_object")
        )
        while deployment.wire.flight:
            rewritten += deployment.wire.flight[0].key == key
            await deployment.wire.land(0)
        await deployment.settle(0)
    assert rewritten or fate is Fate.LOSE_ANSWER
    await check(deployment, clock)


async def test_a_bucket_is_not_used_while_its_references_may_still_be_deleted(
    deployment: Deployment, clock: ShiftedClock
) -> None:
    await deployment.put(0, "d/v1.zip", content(0), Plan())
    await deployment.delete(0, "d/v1.zip", Plan())
    (reference,) = [key for key in deployment.wire.keys(BUCKET) if "/refs/" in key]
    token = current_plan.set(Plan(call=0, fate=Fate.LATE, method="delete_object"))
    try:
        with pytest.raises(S3Error):
            await deployment.processes[0].layer.delete_bucket(BUCKET)
    finally:
        current_plan.reset(token)
    assert [late.key for late in deployment.wire.flight] == [reference]
    await deployment.put(1, "d/v2.zip", content(1), Plan())
    await deployment.wire.land(0)
    await check(deployment, clock)
