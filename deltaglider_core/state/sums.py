"""Rows of objects and the sums of their bucket, which always change together.

The sums of a bucket equal the sums over its rows after every transaction. Whether a row equals
what is on the backend is the business of those who call: see ``intents`` and ``examiner``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from .prepared import Prepared
from .tables import buckets, intents, objects


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """An object that is there: its size as clients see it, and its bytes on the backend."""

    size: int
    stored: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What is known of a key. ``facts`` is None for a key that was deleted during a scan."""

    facts: Facts | None
    version: int


_WHERE = (objects.c.bucket == bindparam("b"), objects.c.key == bindparam("k"))
_SELECT = Prepared(select(objects.c.size, objects.c.stored, objects.c.version).where(*_WHERE))
_INSERT = Prepared(
    insert(objects).values({column.name: bindparam(column.name) for column in objects.columns})
)
_UPDATE = Prepared(
    update(objects)
    .where(*_WHERE)
    .values(size=bindparam("size"), stored=bindparam("stored"), version=bindparam("version"))
)
_DELETE = Prepared(delete(objects).where(*_WHERE))
_ADD = Prepared(
    update(buckets)
    .where(buckets.c.number == bindparam("b"))
    .values(
        objects=buckets.c.objects + bindparam("more"),
        size=buckets.c.size + bindparam("more_size"),
        stored=buckets.c.stored + bindparam("more_stored"),
        version=buckets.c.version + 1,
    )
    .returning(buckets.c.version, buckets.c.scanning)
)


def find(connection: Connection, bucket: int, key: bytes) -> Row | None:
    """The row of a key, or None."""
    found: Any = _SELECT.run(connection, {"b": bucket, "k": key}).first()
    if found is None:
        return None
    size, stored, version = found
    facts = None if size is None else Facts(size=size, stored=stored)
    return Row(facts=facts, version=version)


def put(connection: Connection, bucket: int, key: bytes, facts: Facts | None) -> None:
    """Say what is at a key now; None for nothing. A bucket without a row is left alone."""
    row = find(connection, bucket, key)
    before = row.facts if row is not None else None
    more = (facts is not None) - (before is not None)
    change = {
        "b": bucket,
        "more": more,
        "more_size": (facts.size if facts else 0) - (before.size if before else 0),
        "more_stored": (facts.stored if facts else 0) - (before.stored if before else 0),
    }
    found: Any = _ADD.run(connection, change).first()
    if found is None:
        return
    version, scanning = found
    place = {"b": bucket, "k": key}
    if facts is None and not scanning:
        if row is not None:
            _DELETE.run(connection, place)
        return
    values = {
        "size": facts.size if facts else None,
        "stored": facts.stored if facts else None,
        "version": version,
    }
    if row is None:
        _INSERT.run(connection, {"bucket": bucket, "key": key, **values})
    else:
        _UPDATE.run(connection, {**place, **values})


_LARGEST = (
    select(intents.c.key, func.max(intents.c.size).label("size"))
    .where(intents.c.bucket == bindparam("b"), intents.c.key != bindparam("k"))
    .group_by(intents.c.key)
    .subquery()
)
_GROWTH = select(_LARGEST.c.size, func.coalesce(objects.c.size, 0)).select_from(
    _LARGEST.outerjoin(
        objects, (objects.c.bucket == bindparam("b")) & (objects.c.key == _LARGEST.c.key)
    )
)
_OF_KEY = select(func.max(intents.c.size)).where(
    intents.c.bucket == bindparam("b"), intents.c.key == bindparam("k")
)
_TOTAL = select(buckets.c.size).where(buckets.c.number == bindparam("b"))


def size_at_most(connection: Connection, bucket: int, key: bytes, size: int) -> int:
    """The largest size that the bucket can have once all that has begun is done, bytes.

    For each key that is being written the larger of what is there and what may come counts, so
    no order in which writes and deletes end can lead above it.

    Args:
        size: Of what is to be written at ``key`` besides.
    """
    place = {"b": bucket, "k": key}
    total: int = connection.execute(_TOTAL, {"b": bucket}).scalar() or 0
    growth: int = sum(max(0, new - old) for new, old in connection.execute(_GROWTH, place))
    row = find(connection, bucket, key)
    present = row.facts.size if row is not None and row.facts is not None else 0
    others: int = connection.execute(_OF_KEY, place).scalar() or 0
    return total + growth + max(0, max(size, others) - present)


__all__ = ["Facts", "Row", "find", "put", "size_at_most"]
