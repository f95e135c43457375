"""The places of one process, and what is counted when there is none."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from deltaglider_core.errors import SlowDown
from deltaglider_core.limits import Limits, descriptor_limit, raise_descriptor_limit
from deltaglider_core.settings import AdvancedSettings


class Bench:
    """Limits with their metrics."""

    def __init__(self, places: int, queue_seconds: float) -> None:
        self.registry = CollectorRegistry()
        self.settings = AdvancedSettings(
            max_concurrent_requests=places, request_queue_seconds=queue_seconds
        )
        self.limits = Limits(self.settings, self.registry)

    @property
    def in_flight(self) -> float | None:
        return self.registry.get_sample_value("deltaglider_http_requests_in_flight")

    def refused(self, limit: str = "requests") -> float | None:
        return self.registry.get_sample_value("deltaglider_http_refusals_total", {"limit": limit})


async def test_a_request_waits_for_its_turn_in_order() -> None:
    bench = Bench(1, 20)
    order: list[int] = []

    async def one(number: int) -> None:
        async with bench.limits.request():
            assert bench.in_flight == 1
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(*map(one, range(20))), 10)
    assert order == list(range(20))
    assert (bench.in_flight, bench.refused()) == (0, 0)


@pytest.mark.parametrize("queue_seconds", [0, 0.02])
async def test_nobody_waits_for_ever(queue_seconds: float) -> None:
    bench = Bench(2, queue_seconds)
    async with bench.limits.request(), bench.limits.request():
        with pytest.raises(SlowDown) as caught:
            async with bench.limits.request():
                raise AssertionError("a third of two")
        assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "1")
        assert (bench.in_flight, bench.refused()) == (2, 1)
    async with bench.limits.request():
        assert bench.in_flight == 1


async def test_who_leaves_the_queue_takes_nothing_along() -> None:
    bench = Bench(1, 20)

    async def one() -> None:
        async with bench.limits.request():
            await asyncio.Event().wait()

    for _ in range(3):
        tasks = [asyncio.create_task(one()) for _ in range(4)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert (bench.in_flight, bench.refused()) == (0, 0)
    async with bench.limits.request():
        assert bench.in_flight == 1


async def test_new_settings_count_for_new_requests() -> None:
    bench = Bench(1, 0)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(bench.limits.request())
        bench.limits.apply(bench.settings.model_copy(update={"max_concurrent_requests": 2}))
        for _ in range(2):
            await stack.enter_async_context(bench.limits.request())
        with pytest.raises(SlowDown):
            await stack.enter_async_context(bench.limits.request())
    assert bench.in_flight == 0


@pytest.fixture
def descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_connections_leave_room_for_files(descriptors: None) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    assert descriptor_limit() == 512
    bench = Bench(1, 1)
    assert bench.limits.max_connections == 256
    bench.limits.apply(bench.settings.model_copy(update={"max_connections": 9}))
    assert bench.limits.max_connections == 9
    raise_descriptor_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
