"""The transactions of the protocol as pure functions; None means refused.

They mirror ``deltaglider_core/state/intents.py`` and ``references.py``, statement by statement
where it matters; each is one step of the model, as each is one transaction in the database.
"""

from __future__ import annotations

from .world import Case, Intent, Reference, Version, World, put

# --- intents --------------------------------------------------------------------------------


def intent_of(world: World, write: int) -> Intent | None:
    """The intent of a write, or None if it is gone."""
    for intent in world.intents:
        if intent.write == write:
            return intent
    return None


def _with(world: World, changed: Intent) -> World:
    rest = [each for each in world.intents if each.write != changed.write]
    return world._replace(intents=tuple(sorted([*rest, changed])))


def _without(world: World, write: int) -> World:
    return world._replace(intents=tuple(i for i in world.intents if i.write != write))


def _contend(world: World, case: Case, key: int) -> World:
    if not case.guards.contention:
        return world
    return world._replace(
        intents=tuple(i._replace(contended=True) if i.key == key else i for i in world.intents)
    )


def begin(world: World, case: Case, write: int) -> World | None:
    """Commit an intent; refused on a bucket that goes, a busy key, an exceeded quota."""
    key = case.operations[write].key
    if world.bucket != "active" and case.guards.begin_refuses_deleting:
        return None
    peers = [i for i in world.intents if i.key == key]
    if any(peer.exclusive for peer in peers):
        return None
    if case.quota is not None and _size_at_most(world, case, write) > case.quota:
        return None
    contended = bool(peers) and case.guards.contention
    intent = Intent(write, key, "open", contended, 0, None, False)
    return _with(_contend(world, case, key), intent)


def _size_at_most(world: World, case: Case, write: int) -> int:
    """Size of the bucket once everything that has begun, and this write, has happened."""
    operation = case.operations[write]
    if operation.kind == "delete":
        return 0
    intents = world.intents if case.guards.quota_reserves else ()
    total = 0
    for key, row in enumerate(world.rows):
        coming = [case.size_of(i.write) for i in intents if i.key == key and not _deletes(case, i)]
        if key == operation.key:
            coming.append(operation.size)
        total += max([case.size_of(None if row is None else row.write), *coming])
    return total


def _deletes(case: Case, intent: Intent) -> bool:
    return case.operations[intent.write].kind == "delete"


def _journal(world: World, write: int) -> World:
    count = world.events[write] + 1
    return world._replace(events=put(world.events, write, count))


def _journal_once(world: World, case: Case, write: int) -> World:
    """Journal what somebody else may have journaled already."""
    if world.events[write] and case.guards.journal_once:
        return world
    return _journal(world, write)


def settle(world: World, case: Case, write: int, row: Version | None) -> World:
    """End a mutation that happened and left ``row`` at the key, as far as the writer knows."""
    intent = intent_of(world, write)
    if intent is None:
        world = _journal_once(world, case, write)
        if not case.guards.lapsed_rechecks:
            return world
        return _return(world, case, write, "recheck")
    world = _journal(world, write)
    if intent.contended:
        return _with(world, intent._replace(state="recheck", reference=None, exclusive=False))
    world = _without(world, write)
    return world._replace(rows=put(world.rows, intent.key, row))


def _return(world: World, case: Case, write: int, state: str) -> World:
    """Bring back the intent of a write whose process was wrongly taken for dead."""
    key = case.operations[write].key
    intent = Intent(write, key, state, True, 0, None, False, _RETURNED)
    return _with(_contend(world, case, key), intent)


def give_up(world: World, write: int) -> World:
    """End a mutation that certainly did not happen, nor will."""
    return _without(world, write)


def doubt(world: World, case: Case, write: int) -> World:
    """Leave a mutation to be examined once its request cannot be carried out any more."""
    intent = intent_of(world, write)
    if intent is None:
        return _return(world, case, write, "doubt") if case.guards.doubt_renewed else world
    if intent.state != "open" and not case.guards.doubt_renewed:
        return world
    return _with(world, _doubtful(case, intent))


def settle_rewrite(world: World, case: Case, write: int) -> World:
    """End a mutation that happened, but for a rewrite in place of which nobody knows."""
    world = _journal_once(world, case, write)
    intent = intent_of(world, write)
    if intent is None:
        return _return(world, case, write, "doubt")
    return _with(world, _doubtful(case, intent))


def _doubtful(case: Case, intent: Intent) -> Intent:
    kept = intent.exclusive and case.guards.doubt_keeps_key
    return intent._replace(state="doubt", stamp=intent.stamp + 1, exclusive=kept)


def isolate(world: World, case: Case, write: int) -> World | None:
    """Keep others from beginning on the key; None if another one has been there."""
    if not case.guards.alone:
        return world
    intent = intent_of(world, write)
    if intent is None or intent.contended or intent.disturbed:
        return None
    return _with(world, intent._replace(exclusive=True))


def examined(world: World, case: Case, before: Intent, present: Version | None) -> World:
    """Take note of a look at the key of an intent, which was ``before`` when it was looked at.

    Unless somebody was faster, an open one that may still be carried out is put in doubt, and
    every other one ends: with an event if it happened, and with what was seen as the row.
    """
    intent = intent_of(world, before.write)
    if intent is None or intent.state != before.state:
        return world
    if intent.stamp != before.stamp and case.guards.stale_looks:
        return world
    if intent.disturbed != before.disturbed and case.guards.disturbance:
        return world
    happened = _happened(world, case, intent, present)
    if intent.state == "open" and case.guards.doubt_waits and not _proved(case, intent, present):
        return _with(world, _doubtful(case, intent))
    if intent.state != "recheck" and happened:
        world = _journal_once(world, case, intent.write)
    world = _without(world, intent.write)
    return world._replace(
        rows=put(world.rows, intent.key, present),
        intents=tuple(
            i._replace(disturbed=i.disturbed + 1) if i.key == intent.key else i
            for i in world.intents
        ),
    )


def _happened(world: World, case: Case, intent: Intent, present: Version | None) -> bool:
    if _deletes(case, intent):
        return present is None and world.rows[intent.key] is not None
    return present is not None and present.write == intent.write


def _proved(case: Case, intent: Intent, present: Version | None) -> bool:
    """Whether a look at once proves that nothing of the mutation is still to come."""
    if _deletes(case, intent):
        return present is None and not case.guards.absence_proves_nothing
    if present is None or present.write != intent.write:
        return False
    # A rewrite in place has the write id of what it replaces.
    return not (intent.exclusive and case.guards.rewrite_waits)


#: More than the stamps that a row gets before it comes back; that happens once.
_RETURNED = 10

# --- references -----------------------------------------------------------------------------


def hold(world: World, case: Case, write: int, reference: int) -> World | None:
    """Let the intent name a reference, which gets a row if it has none; None if refused."""
    if not case.guards.hold:
        return world
    row = world.refs[reference]
    if row is not None and row.stage != "live" and case.guards.hold_refuses_condemned:
        return None
    intent = intent_of(world, write)
    if intent is None:
        return None
    used = Reference("live", 0, True, 0) if row is None else row._replace(young=True)
    world = world._replace(refs=put(world.refs, reference, used))
    return _with(world, intent._replace(reference=reference))


def start_collection(world: World, collector: int) -> World:
    """Take the lease; what was used or waited long enough before counts from here on."""
    refs = tuple(
        None if r is None else r._replace(young=False, age=2 if r.age == 1 else r.age)
        for r in world.refs
    )
    return world._replace(lease=collector, collections=world.collections + 1, refs=refs)


def mark(world: World, number: int, collection: int) -> World:
    """Note that something names a reference."""
    row = world.refs[number]
    if row is None:
        row = Reference("live", 0, True, 0)
    return world._replace(refs=put(world.refs, number, row._replace(seen=collection)))


def judge(world: World, case: Case, collection: int) -> World:
    """What a complete listing means for each reference."""
    refs = tuple(
        None if row is None else _judged(world, case, number, row, collection)
        for number, row in enumerate(world.refs)
    )
    return world._replace(refs=refs)


def _judged(world: World, case: Case, number: int, row: Reference, collection: int) -> Reference:
    guards, seen = case.guards, row.seen == collection
    held = guards.condemn_spares_held and any(i.reference == number for i in world.intents)
    if row.stage == "live":
        if seen or held or row.young:
            return row
        if guards.condemn_before_delete:
            return row._replace(stage="condemned", age=0)
        return row._replace(stage="deleting", age=0, marked=collection)
    waited = row.age == 2 or (row.age == 1 and not guards.second_listing) or not guards.grace
    if row.stage == "deleting" and not guards.deleting_waits:
        waited = True
    if seen:
        return row._replace(stage="live", age=0) if waited or row.stage != "deleting" else row
    if waited and not held:
        return row._replace(stage="deleting", age=0, marked=collection)
    return row


def forget(world: World, number: int, collection: int) -> World:
    """Drop a reference whose file was deleted, unless somebody else has decided about it since."""
    row = world.refs[number]
    if row is None or row.stage != "deleting" or row.marked != collection:
        return world
    return world._replace(refs=put(world.refs, number, None))
