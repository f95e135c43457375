"""Transactions on intents: begin, settle, give up, examine.

Every function runs inside ``Database.write`` with the bucket's number as scope, so those on one
bucket follow one another in all processes.

Two intents on one key at the same time are *contended*: the order in which their writes reached
the backend is not known. Then none of them says what is at the key. Each journals its own event,
and looks at the key after its own write has ended; the answer counts only if nobody settled the
key meanwhile (``disturbed``). The last of them looks after all writes have ended, so its answer
is right, and one that begins later is contended itself.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    exists,
    insert,
    literal,
    select,
    update,
)

from ..errors import QuotaExceeded, ServiceUnavailable
from . import events, signatures, sums, uploads
from .kinds import TAGS, keeps_off
from .prepared import Prepared
from .records import BucketGoneError, Event, Intent, KeyBusyError, Present, Settled
from .tables import buckets, intents

_AT_KEY = (intents.c.bucket == bindparam("b"), intents.c.key == bindparam("k"))
_PEERS = select(intents.c.kind, intents.c.state, intents.c.exclusive).where(*_AT_KEY)
_BUCKET = select(buckets.c.state, buckets.c.complete).where(buckets.c.number == bindparam("b"))
_COLUMNS = (
    "write_id",
    "bucket",
    "key",
    "kind",
    "process",
    "started",
    "state",
    "size",
    "contended",
    "exclusive",
    "disturbed",
    "had",
    "told",
    "upload",
    "event",
)
_INSERT = insert(intents)
# The usual case in one statement: the bucket is there and nobody else is at the key.
_INSERT_ALONE = Prepared(
    insert(intents).from_select(
        list(_COLUMNS),
        select(*(bindparam(f"v_{name}", type_=intents.c[name].type) for name in _COLUMNS)).where(
            exists(
                select(literal(1)).where(
                    buckets.c.number == bindparam("b"), buckets.c.state == "active"
                )
            ),
            ~exists(select(literal(1)).where(*_AT_KEY)),
        ),
    )
)
_CONTEND = update(intents).where(*_AT_KEY).values(contended=True)
_DISTURB = update(intents).where(*_AT_KEY).values(disturbed=intents.c.disturbed + 1)
# Deletes at a key that nobody has settled; see ``had`` and ``told`` in ``tables``.
_DELETES = update(intents).where(*_AT_KEY, intents.c.kind == "delete", intents.c.state != "recheck")
_SET_HAD = _DELETES.where(intents.c.write_id != bindparam("w")).values(
    had=bindparam("v_had"), told=False
)
_FIRST_HAD = _DELETES.where(intents.c.contended.is_(False)).values(had=bindparam("v_had"))
_TELL = _DELETES.where(
    intents.c.write_id != bindparam("w"), intents.c.had.is_(True), intents.c.told.is_(False)
).values(told=True)
_MINE = (intents.c.write_id == bindparam("w"), intents.c.process == bindparam("p"))
_END_ALONE = Prepared(delete(intents).where(*_MINE, intents.c.contended.is_(False)))
_END = delete(intents).where(intents.c.write_id == bindparam("w"))
_FIND = select(intents).where(intents.c.write_id == bindparam("w"))
#: What an intent must still have for a look to count. A row that came back, or was put in doubt
#: anew, has other times.
_AS_LOOKED = ("state", "disturbed", "started", "due")
_RECHECK_LATER = (
    update(intents)
    .where(*_MINE)
    .values(state="recheck", event=None, contended=True, due=bindparam("v_due"))
)
_RECHECK = (
    update(intents).where(*_MINE).values(state="recheck", event=None, reference=None, due=None)
)


def begin(connection: Connection, now: float, intent: Intent) -> None:
    """Commit to a mutation.

    Raises:
        BucketGoneError, KeyBusyError
        QuotaExceeded: Nothing may be written.
        ReplayedRequest: The signature has changed something already.
        NoSuchUpload, UploadChangedError: The upload to complete is not open.
    """
    signature = intent.signature
    if signature is not None and not signatures.check(connection, now, signature):
        signature = None  # claimed by this request already
    if intent.upload is not None:
        uploads.check(connection, intent.bucket, intent.upload)
    if intent.quota is not None:
        _check_quota(connection, intent, intent.quota)
    values = {
        "write_id": intent.write_id,
        "bucket": intent.bucket,
        "key": intent.key,
        "kind": intent.kind,
        "process": intent.process,
        "started": now,
        "state": "open",
        "size": intent.size,
        "contended": False,
        "exclusive": False,
        "disturbed": 0,
        "had": False,
        "told": False,
        "upload": intent.upload,
        "event": None if intent.event is None else intent.event.dump(),
    }
    place = {"b": intent.bucket, "k": intent.key}
    alone = {f"v_{name}": value for name, value in values.items()}
    if _INSERT_ALONE.run(connection, {**alone, **place}).rowcount != 1:
        bucket = connection.execute(_BUCKET, place).first()
        if bucket is None or bucket.state != "active":
            raise BucketGoneError
        if any(keeps_off(*peer, intent.kind) for peer in connection.execute(_PEERS, place)):
            raise KeyBusyError
        # Nothing was settled at the key since the first of them began.
        had = _had(connection, intent.bucket, intent.key, complete=bucket.complete)
        connection.execute(_FIRST_HAD, {**place, "v_had": had})
        connection.execute(_CONTEND, place)
        connection.execute(_INSERT, {**values, "contended": True, "had": had})
    if signature is not None:
        signatures.claim(connection, now, signature)
    if intent.upload is not None:
        uploads.completing(connection, now, intent.upload, intent.parts or "")


def _had(connection: Connection, bucket: int, key: bytes, *, complete: bool) -> bool:
    """Whether there is an object to delete, as far as is known."""
    row = sums.find(connection, bucket, key)
    return not complete if row is None else row.facts is not None


def _check_quota(connection: Connection, intent: Intent, quota: int) -> None:
    if intent.kind == "delete":
        return
    if quota == 0:
        raise QuotaExceeded("The quota of the bucket is 0: nothing can be written to it.")
    if intent.kind == TAGS:
        return
    after = sums.size_at_most(connection, intent.bucket, intent.key, intent.size)
    if after > quota:
        raise QuotaExceeded(
            f"The bucket has a quota of {quota} bytes; with this object of {intent.size} bytes "
            f"and what is being written it could reach {after}."
        )


def settle(
    connection: Connection,
    now: float,
    intent: Intent,
    present: Present | None,
    event: Event,
    *,
    changed: bool,
    due: float | None = None,
    named: bool = False,
) -> Settled:
    """End a mutation that happened.

    Args:
        present: What it left at the key; None for nothing.
        event: What is journaled.
        changed: False if there was nothing to delete; then nothing is journaled, unless it was a
            delete that nobody has settled that took it away.
        due: A rewrite in place may still be carried out until then: the key is looked at after
            that, and kept until somebody has.
        named: Whether what was written names a reference.

    Raises:
        ServiceUnavailable: This process was taken for dead, and its bucket is gone.
    """
    w = intent.write_id
    mine = {"w": w, "p": intent.process}
    if intent.upload is not None and present is not None:
        uploads.completed(connection, now, intent.upload, present, intent.parts)
    if due is None and _END_ALONE.run(connection, mine).rowcount == 1:
        sums.put(connection, intent.bucket, intent.key, present.facts if present else None)
        if changed:
            _journal(connection, now, w, intent.key, event)
        return Settled(waiting=None)
    row = connection.execute(_FIND, {"w": w}).first()
    ended = _RECHECK if due is None else _RECHECK_LATER
    if row is not None and connection.execute(ended, {**mine, "v_due": due}).rowcount == 1:
        if _tells(connection, row, changed=changed):
            _journal(connection, now, w, intent.key, event)
            # For those that begin before somebody has looked, which decides.
            sums.put(connection, intent.bucket, intent.key, present.facts if present else None)
        return Settled(waiting=w)
    # This process was taken for dead and somebody looked at the key, perhaps before this write
    # had reached it.
    bucket = connection.execute(_BUCKET, {"b": intent.bucket}).first()
    if bucket is None or bucket.state != "active":
        raise ServiceUnavailable("The bucket was deleted meanwhile. Please retry.")
    if named:
        # Nobody has held the reference since then.
        text = None if intent.event is None else intent.event.dump()
        _come_back(connection, now, intent, state="doubt", due=None, event=text)
        return Settled(waiting=w, acknowledged=False)
    if changed and not events.has(connection, w):
        _journal(connection, now, w, intent.key, event)
    _come_back(connection, now, intent, state="recheck", due=due, event=None)
    return Settled(waiting=w)


def _tells(connection: Connection, row: Any, *, changed: bool) -> bool:
    """Whether a contended mutation that happened is journaled; the deletes beside it take note.

    The answer to a delete can be lost with its process. Its client repeats it and finds nothing,
    and somebody has to tell that the object is gone, exactly once.
    """
    place = {"b": row.bucket, "k": row.key, "w": row.write_id}
    if row.kind != "delete":
        connection.execute(_SET_HAD, {**place, "v_had": True})
        return changed
    if changed:
        connection.execute(_SET_HAD, {**place, "v_had": False})
        return not row.told
    return connection.execute(_TELL, place).rowcount > 0


def _journal(connection: Connection, now: float, write_id: str, key: bytes, event: Event) -> None:
    events.append(
        connection,
        now=now,
        write_id=write_id,
        kind=event.kind,
        bucket=event.bucket,
        key=key,
        source=event.source,
        payload=event.payload,
    )


def _come_back(
    connection: Connection,
    now: float,
    intent: Intent,
    *,
    state: str,
    due: float | None,
    event: str | None,
) -> None:
    """Make the row anew of an intent that somebody has settled who took its process for dead."""
    connection.execute(_CONTEND, {"b": intent.bucket, "k": intent.key})
    if connection.execute(_FIND, {"w": intent.write_id}).first() is not None:
        return  # another process goes on with the same upload, and looks in the end
    connection.execute(
        _INSERT,
        {
            "write_id": intent.write_id,
            "bucket": intent.bucket,
            "key": intent.key,
            "kind": intent.kind,
            "process": intent.process,
            "started": now,
            "state": state,
            "due": due,
            "size": intent.size,
            "contended": True,
            "exclusive": False,
            "disturbed": 0,
            "had": False,
            # Of a write: its event may be journaled already.
            "told": intent.kind != "delete",
            "upload": intent.upload,
            "event": event,
        },
    )


def give_up(connection: Connection, now: float, intent: Intent) -> None:
    """End a mutation that certainly did not happen, nor will."""
    # A Complete has one write id in all processes; that of another one goes on.
    mine = delete(intents).where(
        intents.c.write_id == intent.write_id, intents.c.process == intent.process
    )
    ended = connection.execute(mine).rowcount == 1
    if intent.upload is not None and ended:
        uploads.reopened(connection, now, intent.upload)
    if intent.signature is not None:
        signatures.give_back(connection, intent.signature)


def doubt(connection: Connection, now: float, intent: Intent, due: float) -> None:
    """Leave a mutation whose outcome nobody knows to be examined, not before ``due``.

    Whoever took this process for dead may have put it in doubt already, with a time that is too
    early for a request that was sent since, or have settled it.
    """
    left = connection.execute(
        update(intents)
        .where(intents.c.write_id == intent.write_id, intents.c.process == intent.process)
        .values(state="doubt", due=due)
    )
    bucket = connection.execute(_BUCKET, {"b": intent.bucket}).first()
    if left.rowcount != 1 and bucket is not None and bucket.state != "deleted":
        event = None if intent.event is None else intent.event.dump()
        _come_back(connection, now, intent, state="doubt", due=due, event=event)
    if intent.signature is not None:
        # The client was told that it failed, and may repeat it.
        signatures.give_back(connection, intent.signature)


def isolate(connection: Connection, intent: Intent) -> bool:
    """Keep others from beginning on the key; False if another one has been there."""
    row = connection.execute(_FIND, {"w": intent.write_id}).first()
    if row is None or row.contended or row.disturbed:
        return False
    connection.execute(
        update(intents).where(intents.c.write_id == intent.write_id).values(exclusive=True)
    )
    return True


def release(connection: Connection, intent: Intent) -> None:
    """Let others begin again."""
    connection.execute(
        update(intents).where(intents.c.write_id == intent.write_id).values(exclusive=False)
    )


def examined(
    connection: Connection, now: float, row: Any, present: Present | None, *, delete_counts: bool
) -> bool:
    """Take note of a look at the key of an intent, and end the intent.

    Args:
        row: The intent as it was read before the look.
        present: What the look found; None for nothing.
        delete_counts: Whether a key without a row may have had an object nevertheless.

    Returns:
        False if somebody was faster: look again, or find the intent gone.
    """
    current = connection.execute(_FIND, {"w": row.write_id}).first()
    if current is None:
        return True
    if any(getattr(current, name) != getattr(row, name) for name in _AS_LOOKED):
        return False
    if current.state != "recheck":
        if current.kind != "delete":
            happened = present is not None and present.write_id == current.write_id
        elif present is not None:
            happened = False
        elif current.contended:
            happened = current.had and not current.told
        else:
            happened = _had(connection, current.bucket, current.key, complete=not delete_counts)
        if (
            happened
            and current.event is not None
            and not (current.told and events.has(connection, row.write_id))
        ):
            _tells(connection, current, changed=True)
            _journal(connection, now, row.write_id, current.key, _event_of(current, present))
        if current.upload is not None:
            if happened and present is not None:
                uploads.completed(connection, now, current.upload, present)
            else:
                uploads.reopened(connection, now, current.upload)
    connection.execute(_END, {"w": row.write_id})
    sums.put(connection, current.bucket, current.key, present.facts if present else None)
    connection.execute(_DISTURB, {"b": current.bucket, "k": current.key})
    return True


def _event_of(row: Any, present: Present | None) -> Event:
    event = Event.load(row.event)
    if present is None:
        return event
    payload = {**event.payload, **present.payload()}
    return Event(kind=event.kind, bucket=event.bucket, source=event.source, payload=payload)


__all__ = ["begin", "doubt", "examined", "give_up", "isolate", "release", "settle"]
