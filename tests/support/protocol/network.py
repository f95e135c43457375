"""What becomes of requests, and the passing of time."""

from __future__ import annotations

from collections.abc import Iterator

from .world import Actor, Case, Request, Version, World, put
from .writer import is_late

Step = tuple[str, World]


def network_steps(world: World, case: Case) -> Iterator[Step]:
    """A request reaches the backend, or is lost."""
    for request in world.flight:
        name = f"network: {request.action} of {request.sender}"
        yield f"{name} is carried out", _land(world, request)
        if case.losses:
            yield f"{name} is lost", world._replace(flight=world.flight - {request})


def _land(world: World, request: Request) -> World:
    rest = world._replace(flight=world.flight - {request})
    if request.action == "unlink":
        return _land_unlink(rest, request)
    if request.action == "drop":
        empty = all(found is None for found in rest.objects)
        at = "dropped" if empty else "kept"
        if rest.deleter.at == "dropping":
            rest = rest._replace(deleter=Actor(at))
        return rest._replace(exists=rest.exists and not empty)
    if not rest.exists:
        return _tell(rest, request, "refused", None)
    return _land_mutation(rest, request)


def _land_unlink(world: World, request: Request) -> World:
    world = world._replace(files=world.files - {request.place})
    if request.sender >= 0:
        actor = world.collectors[request.sender]
        if actor.at == "unlinking" and actor.number == request.place:
            told = actor._replace(at="unlinked")
            return world._replace(collectors=put(world.collectors, request.sender, told))
    elif world.deleter.at == "unlinking" and world.deleter.number == request.place:
        return world._replace(deleter=Actor("emptying"))
    return world


def _land_mutation(world: World, request: Request) -> World:
    key, before = request.place, world.objects[request.place]
    after: Version | None = None
    if request.action == "copy":
        source = world.objects[request.reference or 0]
        if source is None or request.expects not in (None, source.content):
            return _tell(world, request, "refused", None)
        after = Version(request.sender, source.reference, source.content)
    elif request.action != "delete":
        if request.expects is not None and (before is None or before.content != request.expects):
            return _tell(world, request, "refused", before)
        after = Version(request.sender, request.reference, request.content)
    fault = world.fault
    if request.action == "rewrite":
        if before is None or before.write != request.sender:
            fault = "a rewrite in place undoes another write"
    elif request.sender in world.acked:
        fault = "a write takes effect after its answer"
    changed = world._replace(objects=put(world.objects, key, after), fault=fault)
    return _tell(changed, request, "landed", after)


def _tell(world: World, request: Request, at: str, found: Version | None) -> World:
    actor = world.writers[request.sender]
    if actor.at != "sent":
        return world
    told = actor._replace(at=at, found=found if at == "landed" else actor.found)
    return world._replace(writers=put(world.writers, request.sender, told))


def time_steps(world: World, case: Case) -> Iterator[Step]:
    """Time passes. How much it does is what the protocol takes for granted.

    A doubt is due when the request of the write cannot be carried out any more. The grace time
    is over when besides no process still goes on with a write that was settled without it, and
    no collector still has a deletion in hand.
    """
    pending = {request.sender for request in world.flight if request.action not in _OF_PROCESSES}
    for intent in world.intents:
        if intent.state == "doubt" and intent.write not in pending:
            due = tuple(i._replace(state="due") if i == intent else i for i in world.intents)
            yield f"time: the doubt about {intent.write} is due", world._replace(intents=due)
    ages = any(r is not None and r.age == 0 and r.stage in _WAITING for r in world.refs)
    if ages and not world.flight and not _somebody_late(world, case):
        refs = tuple(
            r._replace(age=1) if r is not None and r.age == 0 and r.stage in _WAITING else r
            for r in world.refs
        )
        yield "time: the grace time is over", world._replace(refs=refs)


def _somebody_late(world: World, case: Case) -> bool:
    if any(is_late(world, number) for number in range(len(world.writers))):
        return True
    # A collection that has not begun with its deletions in time leaves them to a later one.
    at_work = _DELETING if case.guards.deletion_in_time else _DELETING[1:]
    return any(actor.at in at_work for actor in world.collectors)


_DELETING = ("deleting", "sending", "unlinking", "unlinked")
_WAITING = ("condemned", "deleting")
_OF_PROCESSES = ("unlink", "drop")
