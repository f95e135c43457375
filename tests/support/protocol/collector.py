"""Somebody who collects references that nothing names any more."""

from __future__ import annotations

from collections.abc import Iterator

from . import database as db
from .world import Actor, Case, Request, World, put

Step = tuple[str, World]


def collector_steps(world: World, case: Case, number: int) -> Iterator[Step]:
    """The next step of one pass: list, key after key; judge; delete.

    ``Actor.number`` is the key or reference it is at, ``held`` the reference it just read,
    ``note`` the number of its collection.
    """
    actor = world.collectors[number]
    name = f"collector {number}"
    for label, following in _next(world, case, number, actor):
        yield f"{name}: {label}", following
    if actor.at not in ("idle", "dead") and world.crashes:
        following = _at(world, number, Actor("dead"))
        yield f"{name}: dies", following._replace(crashes=world.crashes - 1)


def _at(world: World, number: int, actor: Actor) -> World:
    return world._replace(collectors=put(world.collectors, number, actor))


def _next(world: World, case: Case, c: int, actor: Actor) -> Iterator[Step]:
    fenced = world.lease == c
    match actor.at:
        case "idle":
            if world.passes[c] and _lease_is_free(world, case):
                begun = db.start_collection(world, c)
                begun = begun._replace(passes=put(begun.passes, c, world.passes[c] - 1))
                yield "begins", _at(begun, c, Actor("listing", note=begun.collections))
        case "listing" if actor.number == len(world.objects):
            yield "has listed everything", _at(world, c, actor._replace(at="judging"))
        case "listing":
            found = world.objects[actor.number]
            reads = actor._replace(number=actor.number + 1)
            if found is not None and found.reference is not None:
                reads = reads._replace(at="marking", held=found.reference)
            yield f"reads key {actor.number}", _at(world, c, reads)
        case "marking" if fenced or not case.guards.fenced_marks:
            marked = db.mark(world, actor.held or 0, actor.note)
            yield (
                f"marks reference {actor.held}",
                _at(marked, c, actor._replace(at="listing", held=None)),
            )
        case "judging" if fenced or not case.guards.fenced_judgement:
            judged = db.judge(world, case, actor.note)
            yield "judges", _at(judged, c, Actor("deleting", note=actor.note))
        case "marking" | "judging":
            yield "has lost its lease", _at(world, c, _IDLE)
        case "deleting":
            yield from _delete(world, c, actor)
        case "sending":
            request = Request("unlink", c, actor.number, content=actor.note)
            sent = world._replace(flight=world.flight | {request})
            yield (
                f"sends the deletion of {actor.number}",
                _at(sent, c, actor._replace(at="unlinking")),
            )
        case "unlinking":
            request = Request("unlink", c, actor.number, content=actor.note)
            if case.losses or request not in world.flight:
                yield "gets no answer", _at(world, c, _IDLE)
        case "unlinked":
            noted = db.forget(world, actor.number, actor.note)
            yield "forgets it", _at(noted, c, Actor("deleting", note=actor.note))


def _delete(world: World, c: int, actor: Actor) -> Iterator[Step]:
    """Take up the next reference; nothing can fence the deletion of a file on a backend."""
    doomed = [
        number
        for number, row in enumerate(world.refs)
        if row is not None and row.stage == "deleting" and row.marked == actor.note
    ]
    if not doomed:
        yield "ends", _at(world, c, _IDLE)
        return
    takes = Actor("sending", number=doomed[0], note=actor.note)
    yield f"takes up reference {doomed[0]}", _at(world, c, takes)


def _lease_is_free(world: World, case: Case) -> bool:
    if world.lease < 0 or case.lapsing_leases:
        return True
    return world.collectors[world.lease].at in ("idle", "dead")


_IDLE = Actor("idle")
