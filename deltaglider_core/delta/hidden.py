"""Listings without our own keys, with exact pages."""

from __future__ import annotations

from dataclasses import dataclass

from ..interfaces.storage import RESERVED_PREFIX, ObjectInfo, ObjectPage, StorageBackend

#: ``start_after`` that skips our keys: U+10FFFF sorts above every character they contain.
#: Should one sort above it nevertheless, it is filtered out as well.
_BEHIND_HIDDEN = f"{RESERVED_PREFIX}\U0010ffff"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """A key (with its facts) or a common prefix."""

    name: str
    info: ObjectInfo | None


async def any_visible(inner: StorageBackend, bucket: str, prefix: str = "") -> bool:
    """Whether a key of clients begins with ``prefix``."""
    found, _ = await _Walk(inner, bucket, prefix, "").take("", 1)
    return bool(found)


async def list_visible(
    inner: StorageBackend,
    bucket: str,
    *,
    prefix: str,
    delimiter: str,
    start_after: str,
    max_keys: int,
) -> ObjectPage:
    """As ``StorageBackend.list_objects``, as if nothing below ``RESERVED_PREFIX`` existed."""
    if prefix.startswith(RESERVED_PREFIX):
        await inner.head_bucket(bucket)
        return ObjectPage()
    walk = _Walk(inner, bucket, prefix, delimiter)
    entries, following = await walk.take(start_after, max_keys)
    if following is not None and RESERVED_PREFIX.startswith(prefix) and following < _BEHIND_HIDDEN:
        # What follows may be our keys alone; then this page is the last.
        rest, _ = await walk.take(following, 1)
        following = following if rest else None
    return ObjectPage(
        objects=tuple(entry.info for entry in entries if entry.info is not None),
        prefixes=tuple(entry.name for entry in entries if entry.info is None),
        next_after=following,
    )


class _Walk:
    """Reads pages of the backend and drops what is ours."""

    def __init__(self, inner: StorageBackend, bucket: str, prefix: str, delimiter: str) -> None:
        self._inner = inner
        self._bucket = bucket
        self._prefix = prefix
        self._delimiter = delimiter

    async def take(self, after: str, count: int) -> tuple[list[_Entry], str | None]:
        """The next ``count`` visible entries above ``after``, fewer only at the end.

        Also the last of them if the backend has more, visible or not; else None.
        """
        found: list[_Entry] = []
        while True:
            page = await self._inner.list_objects(
                self._bucket,
                prefix=self._prefix,
                delimiter=self._delimiter,
                start_after=after,
                max_keys=count - len(found),
            )
            entries = [_Entry(name=info.key, info=info) for info in page.objects]
            entries += [_Entry(name=name, info=None) for name in page.prefixes]
            entries.sort(key=lambda entry: entry.name)
            visible = [entry for entry in entries if not await self._is_hidden(entry)]
            found += visible
            if page.next_after is None:
                return found, None
            if len(found) == count:
                return found, found[-1].name
            after = page.next_after
            if len(visible) < len(entries):
                after = max(after, _BEHIND_HIDDEN)

    async def _is_hidden(self, entry: _Entry) -> bool:
        if entry.name.startswith(RESERVED_PREFIX):
            return True
        if entry.info is not None or not RESERVED_PREFIX.startswith(entry.name):
            return False
        # An unusual delimiter rolled our keys up together with keys of clients, perhaps.
        return not await any_visible(self._inner, self._bucket, entry.name)
