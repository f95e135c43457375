"""How much buckets hold: read from the sums that every write keeps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from .tables import buckets, intents


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What a bucket holds, or several together.

    Attributes:
        objects: Number of objects.
        size: Bytes as clients see them.
        stored: Bytes on the backend, references included; parts of open uploads are not.
        pending: Writes that are under way or not settled yet.
        complete: Whether all objects are known; else some were there before us, and a
            reconciliation has to count them.
    """

    bucket: str
    objects: int
    size: int
    stored: int
    pending: int
    complete: bool

    @property
    def saved_percent(self) -> float | None:
        """Share of the bytes that need not be stored, 0 to 99.99; None without any."""
        if not self.size:
            return None
        return round(min(max((1 - self.stored / self.size) * 100, 0.0), 99.99), 2)


def usage(connection: Connection, names: Collection[str] | None = None) -> Sequence[Usage]:
    """Usage of the buckets that take writes, by name; of those in ``names`` if given."""
    waiting = (
        select(intents.c.bucket, func.count().label("pending"))
        .group_by(intents.c.bucket)
        .subquery()
    )
    query = (
        select(buckets, func.coalesce(waiting.c.pending, 0).label("pending"))
        .select_from(buckets.outerjoin(waiting, waiting.c.bucket == buckets.c.number))
        .where(buckets.c.state == "active")
        .order_by(buckets.c.name)
    )
    if names is not None:
        query = query.where(buckets.c.name.in_(list(names)))
    return [
        Usage(
            bucket=row.name,
            objects=row.objects,
            size=row.size,
            stored=row.stored + row.reference_bytes,
            pending=row.pending,
            complete=row.complete,
        )
        for row in connection.execute(query)
    ]


def total(parts: Sequence[Usage]) -> Usage:
    """Several buckets as one."""
    return Usage(
        bucket="",
        objects=sum(part.objects for part in parts),
        size=sum(part.size for part in parts),
        stored=sum(part.stored for part in parts),
        pending=sum(part.pending for part in parts),
        complete=all(part.complete for part in parts),
    )


def as_json(found: Usage) -> Mapping[str, object]:
    """The names of ``/_/stats``."""
    return {
        "total_objects": found.objects,
        "total_original_size": found.size,
        "total_stored_size": found.stored,
        "savings_percentage": found.saved_percent,
        "pending_writes": found.pending,
        "complete": found.complete,
    }


__all__ = ["Usage", "as_json", "total", "usage"]
