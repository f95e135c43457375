"""Transactions on references: who may use one, and which may go.

Every function runs inside ``Database.write`` with the bucket's number as scope, as those on
intents do. Whether a reference may be named is decided here, in one order for all processes:

- a writer *holds* a reference before it names it; one that is condemned is refused;
- a collection *judges* what its listing has not found named: it condemns what no intent names,
  and marks what was condemned a waiting time before the listing began as being deleted.

So nothing names a condemned reference that was not written, or on its way, when it was
condemned; what was on its way arrives within the waiting time; and the listing of the second
collection sees all of it. The sum ``buckets.reference_bytes`` always equals the one over ``refs``.

The functions of a collection run behind the fence of its lease (``Lease.write``), so one that
was paused, and replaced meanwhile, neither marks nor judges any more when it wakes up.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from ..errors import AccessDenied, NoSuchBucket
from .tables import buckets, facts, intents, refs


class NotOwnerError(AccessDenied):
    """The bucket belongs to another deployment, which alone collects in it."""

    message = "The bucket is owned by another deployment, which alone may collect in it."


class Verdict(Enum):
    """What a collection decided about one reference."""

    KEEP = "keep"  #: something names it, or it is too young to be judged
    REPRIEVE = "reprieve"  #: it was condemned, and something names it
    CONDEMN = "condemn"  #: nothing names it, and from now on nothing may
    WAIT = "wait"  #: it is condemned, not for long enough
    DELETE = "delete"  #: it is condemned for long enough: delete it on the backend, then forget it


@dataclass(frozen=True, kw_only=True, slots=True)
class Pass:
    """One collection of one bucket.

    Attributes:
        bucket: Number of the bucket in the database.
        id: Random, 32 hex digits.
        started: Unix time by the clock of the database, before the listing.
    """

    bucket: int
    id: str
    started: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A reference with its verdict; ``marked`` is the ``condemned`` that it has now."""

    key: bytes
    size: int
    verdict: Verdict
    marked: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What was decided about one page of references; ``after`` is where the next one begins."""

    judged: Sequence[Judged] = field(default=())
    after: bytes | None = None


_KEY = (refs.c.bucket == bindparam("b"), refs.c.key == bindparam("k"))
_STATE = select(refs.c.condemned, refs.c.deleting).where(*_KEY)
_TOUCH = update(refs).where(*_KEY).values(registered=bindparam("now"))
_HOLD = update(intents).where(intents.c.write_id == bindparam("w")).values(reference=bindparam("k"))
_ADD = (
    update(buckets)
    .where(buckets.c.number == bindparam("b"))
    .values(
        reference_bytes=buckets.c.reference_bytes + bindparam("more"),
        version=buckets.c.version + 1,
    )
    .returning(buckets.c.version)
)
_CHANGE = (
    update(refs)
    .where(*_KEY)
    .values(condemned=bindparam("condemned"), deleting=bindparam("deleting"))
)
_SEEN = update(refs).where(*_KEY).values(seen=bindparam("id"))
_FORGET = (
    delete(refs)
    .where(*_KEY, refs.c.deleting.is_(True), refs.c.condemned == bindparam("marked"))
    .returning(refs.c.size)
)


# --- writers --------------------------------------------------------------------------------


def hold(
    connection: Connection, *, bucket: int, write_id: str, reference: bytes, size: int, now: float
) -> bool:
    """Let an intent name a reference, instead of the one that it named before.

    An unknown reference, about to be created or older than the database, becomes known. A writer
    holds before it stores, so what a crash leaves on the backend is known and will be collected.

    Args:
        bucket: Number of the bucket in the database.
        reference: Its key, UTF-8.
        size: Its length in bytes.

    Returns:
        False if it is condemned, or if the intent is gone because its process was taken for
        dead: then nothing keeps the reference, and nothing may be written that names it.
    """
    place = {"b": bucket, "k": reference}
    row = connection.execute(_STATE, place).first()
    if row is not None and (row.condemned is not None or row.deleting):
        return False
    if connection.execute(_HOLD, {"w": write_id, "k": reference}).rowcount != 1:
        return False
    if row is None:
        _insert(connection, bucket, reference, size, now)
    else:
        # A collection under way may have listed the key of this write already: it leaves alone
        # what was in use since it began.
        connection.execute(_TOUCH, {**place, "now": now})
    return True


def _insert(connection: Connection, bucket: int, key: bytes, size: int, now: float) -> None:
    version = connection.execute(_ADD, {"b": bucket, "more": size}).scalar()
    if version is None:
        raise NoSuchBucket
    connection.execute(
        insert(refs).values(
            bucket=bucket, key=key, size=size, version=version, registered=now, deleting=False
        )
    )


# --- one collection -------------------------------------------------------------------------


def begin(connection: Connection, *, bucket: int, now: float) -> Pass:
    """Begin a collection.

    Raises:
        NoSuchBucket: It is being deleted, or was.
        NotOwnerError
    """
    _check_active(connection, bucket)
    owner = select(buckets.c.owner).where(buckets.c.number == bucket)
    deployment = select(facts.c.value).where(facts.c.name == "deployment")
    if connection.execute(owner).scalar() != connection.execute(deployment).scalar_one():
        raise NotOwnerError
    return Pass(bucket=bucket, id=secrets.token_hex(16), started=now)


def _check_active(connection: Connection, bucket: int) -> None:
    state = select(buckets.c.state).where(buckets.c.number == bucket)
    if connection.execute(state).scalar() != "active":
        raise NoSuchBucket


def found(connection: Connection, bucket: int, listed: Mapping[bytes, int], *, now: float) -> None:
    """Take note of references that a listing showed: key and size in bytes of each.

    Those that are unknown were made before the database, or by a writer whose row was forgotten
    while its request was on the way.
    """
    known = {
        row.key: row.size
        for row in connection.execute(
            select(refs.c.key, refs.c.size).where(
                refs.c.bucket == bucket, refs.c.key.in_(list(listed))
            )
        )
    }
    for key, size in listed.items():
        if key not in known:
            _insert(connection, bucket, key, size, now)
        elif known[key] != size:
            connection.execute(_ADD, {"b": bucket, "more": size - known[key]})
            connection.execute(
                update(refs).where(refs.c.bucket == bucket, refs.c.key == key).values(size=size)
            )


def mark(
    connection: Connection,
    begun: Pass,
    named: Callable[[bytes], bool],
    *,
    after: bytes = b"",
    limit: int = 2000,
) -> bytes | None:
    """Mark the references of one page that something names as seen by this collection.

    Args:
        named: Whether a key is one of those that were found named.
        after: Where the page begins.

    Returns:
        Where the next page begins, or None if this was the last.
    """
    rows = _page(connection, begun, after, limit)
    seen = [
        {"b": begun.bucket, "k": row.key, "id": begun.id}
        for row in rows
        if row.seen != begun.id and named(row.key)
    ]
    if seen:
        connection.execute(_SEEN, seen)
    return rows[-1].key if len(rows) == limit else None


def judge(
    connection: Connection,
    begun: Pass,
    *,
    now: float,
    grace: float,
    after: bytes = b"",
    limit: int = 200,
    dry_run: bool = False,
) -> Judgement:
    """Decide about one page of references, after everything that is named has been marked.

    Args:
        now: By the clock of the database.
        grace: Waiting time in seconds between the condemnation of a reference and the beginning
            of the listing that proves that it may go. After it, no request of a writer or of an
            earlier collection may still be on its way to the backend.
        dry_run: Decide, and change nothing.

    Raises:
        NoSuchBucket: It is being deleted, or was.
    """
    _check_active(connection, begun.bucket)
    rows = _page(connection, begun, after, limit)
    keys = [row.key for row in rows]
    names = select(intents.c.reference).where(
        intents.c.bucket == begun.bucket, intents.c.reference.in_(keys)
    )
    held = set(connection.execute(names).scalars())
    judged = []
    for row in rows:
        verdict = _verdict(row, begun, grace, row.key in held)
        marked = _marked(row, verdict, now)
        judged.append(Judged(key=row.key, size=row.size, verdict=verdict, marked=marked))
        deleting = verdict is Verdict.DELETE or (verdict is Verdict.WAIT and row.deleting)
        if not dry_run and (marked, deleting) != (row.condemned, row.deleting):
            connection.execute(
                _CHANGE,
                {"b": begun.bucket, "k": row.key, "condemned": marked, "deleting": deleting},
            )
    return Judgement(judged=judged, after=rows[-1].key if len(rows) == limit else None)


def _verdict(row: Any, begun: Pass, grace: float, held: bool) -> Verdict:
    seen = row.seen == begun.id
    if row.condemned is None:
        young = row.registered >= begun.started
        return Verdict.KEEP if seen or held or young else Verdict.CONDEMN
    waited = row.condemned <= begun.started - grace
    if seen:
        # A request to delete it may still be on its way, so nothing new may name it.
        return Verdict.REPRIEVE if waited or not row.deleting else Verdict.WAIT
    return Verdict.DELETE if waited and not held else Verdict.WAIT


def _marked(row: Any, verdict: Verdict, now: float) -> float | None:
    """The new ``condemned`` of a reference."""
    if verdict is Verdict.REPRIEVE:
        return None
    since: float | None = row.condemned
    return now if verdict in (Verdict.CONDEMN, Verdict.DELETE) else since


def forget(connection: Connection, begun: Pass, deleted: Sequence[Judged]) -> None:
    """Drop references that are gone from the backend. One about which somebody else has decided
    since is left alone."""
    for each in deleted:
        place = {"b": begun.bucket, "k": each.key, "marked": each.marked}
        size = connection.execute(_FORGET, place).scalar()
        if size is not None:
            connection.execute(_ADD, {"b": begun.bucket, "more": -size})


def _page(connection: Connection, begun: Pass, after: bytes, limit: int) -> Sequence[Any]:
    return connection.execute(
        select(refs)
        .where(refs.c.bucket == begun.bucket, refs.c.key > after)
        .order_by(refs.c.key)
        .limit(limit)
    ).all()


def condemned(
    connection: Connection, *, bucket: int, after: bytes = b"", limit: int = 1000
) -> Sequence[tuple[bytes, int, float]]:
    """A page of the condemned references: key, size in bytes, since when (Unix time)."""
    rows = connection.execute(
        select(refs.c.key, refs.c.size, refs.c.condemned)
        .where(refs.c.bucket == bucket, refs.c.key > after, refs.c.condemned.is_not(None))
        .order_by(refs.c.key)
        .limit(limit)
    ).all()
    return [(row.key, row.size, row.condemned) for row in rows]


__all__ = [
    "Judged",
    "Judgement",
    "NotOwnerError",
    "Pass",
    "Verdict",
    "begin",
    "condemned",
    "forget",
    "found",
    "hold",
    "judge",
    "mark",
]
