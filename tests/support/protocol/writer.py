"""Somebody who carries out one operation: intent, reference, request, settlement."""

from __future__ import annotations

from collections.abc import Iterator

from . import database as db
from .world import REWRITTEN, Actor, Case, Operation, Request, World, put

#: Where a writer is while its operation is under way.
OVER = frozenset({"idle", "done", "failed", "dead"})

Step = tuple[str, World]

#: Notes of a writer: it creates the reference that it holds; it rewrites what it has stored.
_CREATES, _REWRITES = 1, 2


def writer_steps(world: World, case: Case, number: int) -> Iterator[Step]:
    """What the writer may do next."""
    actor, operation = world.writers[number], case.operations[number]
    for label, following in _next(world, case, number, actor, operation):
        yield f"{operation.kind} {number}: {label}", following
    if world.crashes and actor.at not in OVER and not _lapsed(world, number, actor):
        following = _at(world, number, Actor("dead"))
        yield f"{operation.kind} {number}: dies", following._replace(crashes=world.crashes - 1)


def _lapsed(world: World, number: int, actor: Actor) -> bool:
    """Whether the writer has sent something and its intent was settled by somebody else.

    Such a process does not die as well: nobody would be left to say that it wrote.
    """
    return actor.at not in ("begun", "held") and db.intent_of(world, number) is None


def is_late(world: World, number: int) -> bool:
    """Whether the writer goes on although somebody else has settled its intent."""
    at = world.writers[number].at
    return at not in OVER and db.intent_of(world, number) is None


def _at(world: World, number: int, actor: Actor) -> World:
    return world._replace(writers=put(world.writers, number, actor))


def _next(world: World, case: Case, w: int, actor: Actor, op: Operation) -> Iterator[Step]:
    match actor.at:
        case "idle" if op.after is None or op.after in world.acked:
            begun = db.begin(world, case, w)
            after = "failed" if begun is None else "begun"
            yield "begins" if begun else "is refused", _at(begun or world, w, Actor(after))
        case "begun":
            yield from _choose(world, case, w, op)
        case "held":
            yield _confirm(world, case, w, actor)
        case "confirmed":  # where the hold comes too late
            yield _take(world, case, w, actor.held, actor, "ready")
        case "ready":
            yield "sends", _send(world, case, w, actor, op)
        case "sent":
            if case.losses or not any(r.sender == w for r in world.flight):
                yield "gets no answer", _at(world, w, actor._replace(at="unsure"))
        case "unsure":
            yield _look(world, case, w, actor, op)
        case "doubtful" if actor.note == _REWRITES:
            settled = db.settle_rewrite(world, case, w)
            yield "answers, and leaves the rewrite in doubt", _answer(settled, w)
        case "doubtful":
            yield "leaves it in doubt", _at(db.doubt(world, case, w), w, Actor("failed"))
        case "refused" if actor.note == _REWRITES:
            yield _settle(world, case, w, actor)
        case "refused":
            yield "gives up", _at(db.give_up(world, w), w, Actor("failed"))
        case "landed":
            yield from _after_landing(world, case, w, actor, op)
        case "rewriting":
            yield from _rewrite(world, case, w, actor, op)
        case "settling":
            yield _settle(world, case, w, actor)
        case "late":
            yield _confirm_late(world, w, actor)


# --- before the request ---------------------------------------------------------------------


def _choose(world: World, case: Case, w: int, op: Operation) -> Iterator[Step]:
    if op.kind == "copy":
        source = world.objects[op.source or 0]
        if source is None:
            yield "finds no source", _at(db.give_up(world, w), w, Actor("failed"))
            return
        reads = Actor("ready", found=source)
        if source.reference is None:
            yield "reads its source", _at(world, w, reads)
            return
        yield _take(world, case, w, source.reference, reads, "held")
        return
    if op.kind in ("delete", "complete"):
        yield "is ready", _at(world, w, Actor("ready"))
        return
    for reference in op.choice:
        yield _take(world, case, w, reference, Actor(""), "held")
    if op.creates is not None:
        yield _take(world, case, w, op.creates, Actor("", note=_CREATES), "held")
    if not op.choice and op.creates is None:
        yield "is ready", _at(world, w, Actor("ready"))


def _take(world: World, case: Case, w: int, reference: int | None, actor: Actor, then: str) -> Step:
    """Hold a reference; without it the object is stored as it is."""
    if reference is None:
        raise AssertionError("nothing to hold")
    late = not case.guards.hold_before_confirm
    if late and then == "held":
        return f"chooses reference {reference}", _at(
            world, w, actor._replace(at=then, held=reference)
        )
    kept = db.hold(world, case, w, reference)
    if kept is None and db.intent_of(world, w) is None:
        return "has no intent any more", _at(world, w, Actor("failed"))
    if kept is None:
        return f"may not hold reference {reference}", _at(world, w, _verbatim(actor))
    return f"holds reference {reference}", _at(kept, w, actor._replace(at=then, held=reference))


def _verbatim(actor: Actor) -> Actor:
    """Go on without a reference. A copy decodes its source, so it depends on it no more."""
    if actor.note == _REWRITES:
        return actor._replace(at="settling", held=None)
    return actor._replace(at="ready", held=None, found=None)


def _confirm(world: World, case: Case, w: int, actor: Actor) -> Step:
    """Look for the reference on the backend, or create it."""
    reference = actor.held
    if reference is None:
        raise AssertionError("nothing to confirm")
    if actor.note == _CREATES and reference not in world.files:
        if not world.exists:
            return "finds no bucket", _at(db.give_up(world, w), w, Actor("failed"))
        return f"creates reference {reference}", world._replace(files=world.files | {reference})
    if reference not in world.files and case.guards.confirm:
        return f"misses reference {reference}", _at(world, w, _verbatim(actor))
    then = "ready" if case.guards.hold_before_confirm else "confirmed"
    if actor.note == _REWRITES:
        then = "rewriting"
    return f"confirms reference {reference}", _at(world, w, actor._replace(at=then))


# --- the request ----------------------------------------------------------------------------


def _send(world: World, case: Case, w: int, actor: Actor, op: Operation) -> World:
    request = Request("put", w, op.key, reference=actor.held, content=w)
    if op.kind == "delete":
        request = Request("delete", w, op.key)
    elif op.kind == "copy" and actor.found is not None:
        source = actor.found
        expects = source.content if case.guards.copy_names_its_source else None
        request = Request(
            "copy", w, op.key, reference=op.source, content=source.content, expects=expects
        )
    return _at(world._replace(flight=world.flight | {request}), w, actor._replace(at="sent"))


def _look(world: World, case: Case, w: int, actor: Actor, op: Operation) -> Step:
    """A HEAD at once tells that a put happened; about a delete or a rewrite it proves nothing."""
    present = world.objects[op.key]
    if actor.note == _REWRITES:
        at = "doubtful" if case.guards.rewrite_waits else "settling"
        return "cannot tell whether it was rewritten", _at(world, w, actor._replace(at=at))
    if op.kind == "delete":
        proved = present is None and not case.guards.absence_proves_nothing
    else:
        proved = present is not None and present.write == w
    after = actor._replace(at="landed", found=present) if proved else Actor("doubtful")
    return "looks " + ("and finds its write" if proved else "in vain"), _at(world, w, after)


def _after_landing(world: World, case: Case, w: int, actor: Actor, op: Operation) -> Iterator[Step]:
    if op.kind != "complete" or actor.note == _REWRITES:
        yield _settle(world, case, w, actor)
        return
    present = world.objects[op.key]
    if present is None or present.write != w or db.intent_of(world, w) is None:
        yield "finds another object", _at(world, w, actor._replace(at="settling"))
        return
    reads = Actor("", found=present, note=_REWRITES)
    for reference in op.choice:
        yield _take(world, case, w, reference, reads, "held")


def _rewrite(world: World, case: Case, w: int, actor: Actor, op: Operation) -> Iterator[Step]:
    alone = db.isolate(world, case, w)
    if alone is None or actor.found is None:
        yield "leaves the object as it is", _at(world, w, actor._replace(at="settling", held=None))
        return
    request = Request(
        "rewrite",
        w,
        op.key,
        reference=actor.held,
        content=REWRITTEN + w,
        expects=actor.found.content,
    )
    sent = alone._replace(flight=alone.flight | {request})
    yield "sends the rewrite", _at(sent, w, actor._replace(at="sent"))


# --- after the request ----------------------------------------------------------------------


def _settle(world: World, case: Case, w: int, actor: Actor) -> Step:
    late = db.intent_of(world, w) is None
    after = db.settle(world, case, w, actor.found)
    if not (late and case.guards.lapsed_confirms):
        return "settles and answers", _answer(after, w)
    if after.bucket != "active":
        return "settles late, the bucket goes", _at(after, w, Actor("failed"))
    if actor.held is None:
        return "settles late and answers", _answer(after, w)
    kept = db.hold(after, case, w, actor.held)
    if kept is None:
        return "settles late, its reference is condemned", _at(after, w, Actor("failed"))
    return "settles late", _at(kept, w, Actor("late", held=actor.held))


def _confirm_late(world: World, w: int, actor: Actor) -> Step:
    if actor.held not in world.files:
        return "misses its reference", _at(world, w, Actor("failed"))
    return "confirms its reference and answers", _answer(world, w)


def _answer(world: World, w: int) -> World:
    return _at(world._replace(acked=world.acked | {w}), w, Actor("done"))
