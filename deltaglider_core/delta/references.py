"""References on the backend: their names, which ones there are, creating and confirming them.

A reference is the plain bytes of an object under a name that contains their SHA-256::

    .deltaglider/refs/<deltaspace>/<sha256>

A name never changes its bytes, so nodes that create references at once cannot harm each other
and a cached copy is never stale. The deltaspace of a key is what stands before its last ``/``.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from ..errors import NoSuchKey, PreconditionFailed
from ..interfaces.storage import Condition, ObjectInfo, ObjectMetadata, StorageBackend
from ..tasks import bounded_map
from .record import REFERENCES_PREFIX, Reference, is_sha256

#: References that one deltaspace gets on its own; later families use what is there.
MAX_REFERENCES = 16

#: References looked at when one is chosen, newest first.
_CONSIDERED = 2 * MAX_REFERENCES

#: Pages of a deltaspace read to find the newest; bounds a folder full of copies.
_MAX_PAGES = 4

_KEY_LIMIT = 1024
_REMEMBERED = 4096
_DIGITS = re.compile(r"[0-9]+(?:[._-][0-9]+)*")


def deltaspace(key: str) -> str:
    """The part of ``key`` before its last ``/``; empty at the root of the bucket."""
    return key.rpartition("/")[0]


def references_prefix(key: str) -> str:
    """Prefix of the references for ``key``; ends with ``/``.

    A deltaspace whose references would have keys beyond S3's 1,024 bytes is replaced by
    ``%`` and its SHA-256.
    """
    space = deltaspace(key)
    if not space:
        return REFERENCES_PREFIX
    encoded = space.encode("utf-8", "surrogatepass")
    if len(REFERENCES_PREFIX) + len(encoded) + 1 + 64 > _KEY_LIMIT:
        space = "%" + hashlib.sha256(encoded).hexdigest()
    return f"{REFERENCES_PREFIX}{space}/"


def family(key: str) -> str:
    """What versions of one file have in common: its name, lower case, runs of digits folded.

    Returns at most 128 ASCII characters, fit for metadata.
    """
    folded = _DIGITS.sub("0", key.rpartition("/")[2].lower())
    quoted = quote(folded, safe="", errors="surrogatepass")
    if len(quoted) <= 128:
        return quoted
    return hashlib.sha256(folded.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A reference that a new object may use; ``source`` is the family it came from."""

    reference: Reference
    source: str
    created: datetime


def choose(candidates: Sequence[Candidate], wanted: str, sha256: str) -> Reference | None:
    """Choose among the references of a deltaspace for an object of the family ``wanted``.

    One with the very bytes of the object, which has the given SHA-256; else the newest of the
    same family. Without one the object becomes a reference itself (None), until there are so
    many that the newest of any family has to do.
    """
    newest = sorted(candidates, key=lambda each: each.created, reverse=True)
    for candidate in newest:
        if candidate.reference.sha256 == sha256:
            return candidate.reference
    for candidate in newest:
        if candidate.source == wanted:
            return candidate.reference
    return None if len(newest) < MAX_REFERENCES else newest[0].reference


class ReferenceStore:
    """The references in the buckets of one backend."""

    def __init__(self, inner: StorageBackend) -> None:
        self._inner = inner
        # Immutable facts about immutable objects; saves a HEAD per reference and upload on
        # backends whose listings carry no metadata.
        self._sources: OrderedDict[tuple[str, str, str], str] = OrderedDict()

    async def candidates(self, bucket: str, key: str) -> Sequence[Candidate]:
        """The newest references that ``key`` may use. An error is never "none"."""
        prefix = references_prefix(key)
        found: list[ObjectInfo] = []
        after: str | None = ""
        for _ in range(_MAX_PAGES):
            page = await self._inner.list_objects(
                bucket, prefix=prefix, delimiter="/", start_after=after or ""
            )
            found += [
                info
                for info in page.objects
                if info.size > 0 and is_sha256(info.key.removeprefix(prefix))
            ]
            after = page.next_after
            if after is None:
                break
        found.sort(key=lambda info: info.last_modified, reverse=True)

        async def candidate(info: ObjectInfo) -> Candidate | None:
            source = await self._source(bucket, info)
            if source is None:
                return None
            sha256 = info.key.removeprefix(prefix)
            return Candidate(
                reference=Reference(key=info.key, sha256=sha256, size=info.size),
                source=source,
                created=info.last_modified,
            )

        known = await bounded_map(candidate, found[:_CONSIDERED], limit=8)
        return [each for each in known if each is not None]

    async def _source(self, bucket: str, info: ObjectInfo) -> str | None:
        """The family that a reference came from; None if it is gone."""
        if info.metadata is not None:
            return info.metadata.internal.get("source", "")
        name = (bucket, info.key, info.etag)
        source = self._sources.get(name)
        if source is None:
            try:
                head = await self._inner.head_object(bucket, info.key)
            except NoSuchKey:
                return None
            source = "" if head.metadata is None else head.metadata.internal.get("source", "")
            self._sources[name] = source
            while len(self._sources) > _REMEMBERED:
                self._sources.popitem(last=False)
        return source

    async def create(
        self,
        bucket: str,
        key: str,
        body: AsyncIterator[bytes],
        *,
        sha256: str,
        size: int,
        replace: bool = False,
    ) -> None:
        """Store a reference for the family of ``key``. One that is there already is fine.

        Args:
            replace: It is there, but damaged.
        """
        conditional = self._inner.capabilities.conditional_writes and not replace
        internal = {"form": "reference", "sha256": sha256, "source": family(key)}
        try:
            await self._inner.put_object(
                bucket,
                references_prefix(key) + sha256,
                body,
                size=size,
                metadata=ObjectMetadata(internal=internal),
                condition=Condition(if_none_match="*") if conditional else None,
            )
        except PreconditionFailed:
            return

    async def confirm(self, bucket: str, reference: Reference) -> bool:
        """Ask the backend whether a reference is there, whole. An error is never "no"."""
        try:
            info = await self._inner.head_object(bucket, reference.key)
        except NoSuchKey:
            return False
        return info.size == reference.size
