"""The order of a stage: declared by its entries, or written down in the configuration."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from .errors import ConfigurationError
from .interfaces.contribution import Order

_PHASES = {"first": 0, "normal": 1, "last": 2}


def resolve_order(stage: str, orders: Mapping[str, Order]) -> tuple[str, ...]:
    """Sort the entries of a stage by what they declare.

    ``before`` and ``after`` bind; among entries that are free to go, the phase decides, then
    the name, so the result is equal on every machine.

    Args:
        stage: For messages, e.g. ``storage_layers``.
        orders: By name of the entry.

    Raises:
        ConfigurationError: A required entry is missing, or the entries form a cycle.
    """
    followers: dict[str, set[str]] = {name: set() for name in orders}
    for name, order in orders.items():
        for required in order.requires:
            if required not in orders:
                raise ConfigurationError(
                    f"{stage}: {name!r} requires {required!r}, which is not active; install or "
                    "enable the plugin that provides it"
                )
        for other in order.before:
            if other in orders:
                followers[name].add(other)
        for other in order.after:
            if other in orders:
                followers[other].add(name)

    waiting = dict.fromkeys(orders, 0)
    for targets in followers.values():
        for target in targets:
            waiting[target] += 1
    ready = [(_PHASES[orders[name].phase], name) for name, count in waiting.items() if not count]
    heapq.heapify(ready)
    result: list[str] = []
    while ready:
        _, name = heapq.heappop(ready)
        result.append(name)
        for target in followers[name]:
            waiting[target] -= 1
            if not waiting[target]:
                heapq.heappush(ready, (_PHASES[orders[target].phase], target))
    if len(result) < len(orders):
        left = {name for name in orders if name not in result}
        path = " -> ".join(_cycle(followers, left))
        raise ConfigurationError(
            f"{stage}: the order contradicts itself: {path}; each must stand before the next"
        )
    return tuple(result)


def _cycle(followers: Mapping[str, set[str]], left: set[str]) -> list[str]:
    """One cycle among the entries that could not be placed, its first name repeated last."""
    # Some of them only follow a cycle. Every one has an unplaced predecessor, though, so
    # walking backwards must come around.
    before = {name: min(p for p in left if name in followers[p]) for name in left}
    path = [min(left)]
    while before[path[-1]] not in path:
        path.append(before[path[-1]])
    cycle = path[path.index(before[path[-1]]) :]
    cycle.reverse()
    start = cycle.index(min(cycle))
    cycle = cycle[start:] + cycle[:start]
    return [*cycle, cycle[0]]


def override_order(stage: str, listed: Sequence[str], active: Sequence[str]) -> tuple[str, ...]:
    """The order that the configuration lists, which must name exactly the active entries.

    Raises:
        ConfigurationError: With what is missing, unknown or listed twice.
    """
    problems = []
    if missing := [name for name in active if name not in listed]:
        problems.append(f"missing: {', '.join(missing)}")
    if unknown := [name for name in listed if name not in active]:
        problems.append(f"unknown: {', '.join(dict.fromkeys(unknown))}")
    if twice := sorted({name for name in listed if listed.count(name) > 1}):
        problems.append(f"listed twice: {', '.join(twice)}")
    if problems:
        raise ConfigurationError(
            f"advanced.pipeline.{stage} must list exactly the active entries; "
            + "; ".join(problems),
            exit_code=4,
        )
    return tuple(listed)
