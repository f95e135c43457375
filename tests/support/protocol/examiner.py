"""Somebody who looks at keys, and settles what nobody else settles."""

from __future__ import annotations

from collections.abc import Iterator

from . import database as db
from .world import Case, Intent, Look, World, put
from .writer import OVER

Step = tuple[str, World]


def examiner_steps(world: World, case: Case, number: int) -> Iterator[Step]:
    """Take up an intent and look at its key; or take note of what was seen.

    Reading the row and looking are one step: what happens between them is either a step of the
    database, which makes the look count no more, or one of the backend, which could as well
    have happened before both.
    """
    look = world.examiners[number]
    if look is not None:
        settled = db.examined(world, case, look.intent, look.found)
        yield f"examiner {number}: settles {look.intent.write}", _at(settled, number, None)
        return
    if any(other is None for other in world.examiners[:number]):
        return  # they are all alike: the first one that is free will do
    for intent in world.intents:
        if _is_for_examination(world, case, intent):
            sees = Look(intent, world.objects[intent.key])
            yield f"examiner {number}: looks for {intent.write}", _at(world, number, sees)


def _is_for_examination(world: World, case: Case, intent: Intent) -> bool:
    if intent.state == "open":
        at = world.writers[intent.write].at
        return at == "dead" or (case.lapses and at not in OVER)
    return intent.state in ("recheck", "due")


def _at(world: World, number: int, look: Look | None) -> World:
    return world._replace(examiners=put(world.examiners, number, look))
