"""When collections begin by themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support.layers import BUCKET, Node, StoreBackend, open_node
from support.state_clock import ShiftedClock

from deltaglider_core.settings import AdvancedSettings
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.upkeep import Upkeep

DAY = 86_400.0


@pytest.fixture
async def node(embedded_place: DatabasePlace) -> AsyncIterator[Node]:
    async with open_node(embedded_place, StoreBackend()) as opened:
        await opened.layer.create_bucket(BUCKET)
        yield opened


def listings(node: Node) -> int:
    """How often the backend was listed, which every collection does."""
    return sum(call.startswith("list_objects") for call, *_ in node.backend.calls)


async def test_the_first_start_lists_nothing_and_a_day_later_it_does(node: Node) -> None:
    upkeep = Upkeep(node.state, AdvancedSettings())
    with ShiftedClock() as clock:
        before = listings(node)
        await upkeep.collect()
        clock.advance(DAY - 60)
        await upkeep.collect()
        assert listings(node) == before
        clock.advance(120)
        await upkeep.collect()
        once = listings(node)
        assert once > before
        await upkeep.collect()
        assert listings(node) == once, "not twice in one interval"


async def test_a_lease_that_another_process_holds_costs_no_interval(node: Node) -> None:
    upkeep = Upkeep(node.state, AdvancedSettings())
    with ShiftedClock() as clock:
        await upkeep.collect()
        clock.advance(DAY + 60)
        lease = await node.state.leases.acquire("collection", 60.0)
        assert lease is not None
        before = listings(node)
        await upkeep.collect()
        assert listings(node) == before
        await lease.release()
        await upkeep.collect()
        assert listings(node) > before


async def test_an_interval_of_zero_leaves_it_to_the_command(node: Node) -> None:
    upkeep = Upkeep(node.state, AdvancedSettings(collect_interval_seconds=0))
    with ShiftedClock() as clock:
        await upkeep.collect()
        clock.advance(100 * DAY)
        before = listings(node)
        await upkeep.collect()
        assert listings(node) == before
