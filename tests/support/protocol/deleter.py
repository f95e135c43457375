"""Somebody who deletes the bucket, and what settles it if he dies."""

from __future__ import annotations

from collections.abc import Iterator

from .world import Actor, Case, Request, World

Step = tuple[str, World]

#: The sender of the requests of a deleter, who has no write id.
DELETER = -1


def deleter_steps(world: World, case: Case) -> Iterator[Step]:
    """Close the bucket, look whether it is empty, delete the references, then the bucket."""
    actor = world.deleter
    for label, following in _next(world, case, actor):
        yield f"bucket deletion: {label}", following
    if actor.at not in ("idle", "done", "failed", "dead") and world.crashes:
        dead = world._replace(deleter=Actor("dead"), crashes=world.crashes - 1)
        yield "bucket deletion: dies", dead


def _next(world: World, case: Case, actor: Actor) -> Iterator[Step]:
    match actor.at:
        case "idle" if world.intents and case.guards.deletion_refuses_intents:
            yield "is refused", world._replace(deleter=Actor("failed"))
        case "idle":
            yield "closes the bucket", world._replace(bucket="deleting", deleter=Actor("closed"))
        case "closed":
            empty = all(found is None for found in world.objects)
            after = Actor("emptying" if empty else "kept")
            yield f"finds it {'empty' if empty else 'in use'}", world._replace(deleter=after)
        case "emptying" if world.files:
            reference = min(world.files)
            request = Request("unlink", DELETER, reference)
            yield (
                f"sends the deletion of {reference}",
                world._replace(
                    flight=world.flight | {request}, deleter=Actor("unlinking", number=reference)
                ),
            )
        case "emptying":
            request = Request("drop", DELETER, 0)
            yield (
                "sends the deletion of the bucket",
                world._replace(flight=world.flight | {request}, deleter=Actor("dropping")),
            )
        case "unlinking" | "dropping":
            if case.losses or not any(r.sender == DELETER for r in world.flight):
                yield "gets no answer", world._replace(deleter=Actor("dead"))
        case "kept":
            yield "opens the bucket again", world._replace(bucket="active", deleter=Actor("failed"))
        case "dropped":
            yield "answers", world._replace(bucket="deleted", deleter=Actor("done"))
        case "dead" if world.bucket == "deleting":
            pending = any(r.sender == DELETER for r in world.flight)
            if not (pending and case.guards.deletion_waits):
                state = "active" if world.exists else "deleted"
                yield f"somebody finds the bucket {state}", world._replace(bucket=state)
