"""What a listing of the backend does not show: small immutable objects, one for each fact.

Some stored objects have another size or ETag than the objects that they stand for. On a backend
whose listings carry no metadata, only a request for each such object tells. So that not every
key has to be asked for, the bucket itself says which ones are in doubt::

    .deltaglider/layout/1                 the facts below are complete
    .deltaglider/layout/suffix/<suffix>   objects with this suffix may be listed wrongly

A suffix fact is written before the first object of that suffix that needs it becomes visible,
and never removed, so a listing that reads the facts after its page misses none. A bucket without
the first object, which only a bucket created by us has, is trusted in nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from ..errors import PreconditionFailed
from ..interfaces.storage import RESERVED_PREFIX, Condition, ObjectMetadata, StorageBackend
from ..interfaces.writes import current_write
from .bodies import no_bytes

LAYOUT_PREFIX = f"{RESERVED_PREFIX}layout/"
#: Says that this layout, version 1, was kept since the bucket was created.
MARKER = f"{LAYOUT_PREFIX}1"
_SUFFIXES = f"{LAYOUT_PREFIX}suffix/"

#: Facts read with one request. A bucket with more of them is in doubt as a whole.
MAX_FACTS = 1000

_MAX_SUFFIX = 64
_REMEMBERED = 1024

# A quoted suffix never has a "%" without two hex digits behind it.
_NO_SUFFIX = "%none"
_LONG_SUFFIX = "%long"


def fact_of(key: str) -> str:
    """The name of the suffix fact about ``key``.

    The suffix is what stands behind the last dot of the name behind the last ``/``, in lower
    case, percent-quoted; all suffixes of more than 64 characters share one fact, and so do all
    names without one.
    """
    _, dot, suffix = key.rpartition("/")[2].rpartition(".")
    if not dot or not suffix:
        return _SUFFIXES + _NO_SUFFIX
    quoted = quote(suffix.lower(), safe="", errors="surrogatepass")
    return _SUFFIXES + (quoted if len(quoted) <= _MAX_SUFFIX else _LONG_SUFFIX)


def is_listed_wrongly(internal: Mapping[str, str]) -> bool:
    """Whether an object with this internal metadata is listed with another size or ETag."""
    return internal.get("form") in ("delta", "wrapped") or "etag" in internal


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The facts of one bucket. ``trusted`` is False if they do not tell everything."""

    trusted: bool
    facts: frozenset[str] = field(default=frozenset())

    def is_doubtful(self, key: str) -> bool:
        """Whether an object may have another size or ETag than the backend lists."""
        return not self.trusted or fact_of(key) in self.facts


class LayoutStore:
    """The facts in the buckets of one backend."""

    def __init__(self, inner: StorageBackend) -> None:
        self._inner = inner
        self._known: OrderedDict[tuple[str, str], frozenset[str] | None] = OrderedDict()

    async def read(self, bucket: str) -> Layout:
        """The facts at this moment; read them after the page that they are needed for."""
        facts = await self._read(bucket)
        if facts is None:
            return Layout(trusted=False)
        return Layout(trusted=MARKER in facts, facts=facts)

    async def _read(self, bucket: str) -> frozenset[str] | None:
        """Keys of all facts, or None if there are too many to be of use."""
        page = await self._inner.list_objects(bucket, prefix=LAYOUT_PREFIX, max_keys=MAX_FACTS)
        if page.next_after is not None:
            return None
        return frozenset(info.key for info in page.objects)

    async def mark_new(self, bucket: str) -> None:
        """Say that the facts of a bucket that was just created will be complete."""
        page = await self._inner.list_objects(bucket, max_keys=1)
        # Some services report success for a bucket that was there already.
        if not page.objects:
            await self._write(bucket, MARKER)

    async def expect(self, bucket: str, key: str, internal: Mapping[str, str]) -> None:
        """Called before an object with this internal metadata becomes visible."""
        if is_listed_wrongly(internal):
            await self.expect_any(bucket, key)

    async def expect_any(self, bucket: str, key: str) -> None:
        """The same where the metadata is not known yet."""
        fact = fact_of(key)
        write = current_write.get()
        # Without the id of the bucket, another one of the same name could be mistaken for it.
        place = None if write is None else (bucket, write.bucket_id)
        if place is not None and place in self._known:
            known = self._known[place]
            self._known.move_to_end(place)
        else:
            known = await self._read(bucket)
        if known is not None and fact not in known:
            await self._write(bucket, fact)
            known |= {fact}
        if place is not None:
            # Another task may have added a fact meanwhile.
            others = self._known.get(place, frozenset())
            self._known[place] = None if known is None or others is None else known | others
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    async def _write(self, bucket: str, name: str) -> None:
        conditional = self._inner.capabilities.conditional_writes
        try:
            await self._inner.put_object(
                bucket,
                name,
                no_bytes(),
                size=0,
                metadata=ObjectMetadata(),
                condition=Condition(if_none_match="*") if conditional else None,
            )
        except PreconditionFailed:
            return  # somebody was faster
