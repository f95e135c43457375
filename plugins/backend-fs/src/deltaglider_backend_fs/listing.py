"""ListObjects: a walk in key order that opens only folders which can hold keys in range."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from deltaglider_core.interfaces.storage import ObjectInfo, ObjectPage

from .directories import Bucket, descend, open_directory
from .objects import is_object, read_listed
from .paths import MAX_KEY_BYTES, Names, text_bytes
from .snapshots import Snapshots

#: Folders kept open at once; those above are opened again when the walk comes back to them.
_MAX_OPEN = 32


def list_page(
    bucket: Bucket,
    snapshots: Snapshots,
    *,
    prefix: str,
    delimiter: str,
    start_after: str,
    max_keys: int,
) -> ObjectPage:
    """One page, as ``StorageBackend.list_objects`` describes it."""
    wanted = text_bytes(prefix)
    cut = text_bytes(delimiter)
    after = text_bytes(start_after)
    objects: list[ObjectInfo] = []
    prefixes: list[str] = []
    last = ""
    walk = Walk(bucket, snapshots, wanted)
    try:
        walk.seek(max(wanted, after + b"\0") if after else wanted)
        while (found := walk.next()) is not None:
            rolled = _roll_up(found.key, wanted, cut)
            info = None
            if rolled is None:
                info = read_listed(bucket, found.key.decode(), found.parent, found.name)
                exists = info is not None
            elif rolled <= after:
                walk.seek(following(rolled))
                continue
            else:
                exists = is_object(found.parent, found.name)
            if not exists:
                continue
            if len(objects) + len(prefixes) == max_keys:
                return ObjectPage(objects=objects, prefixes=prefixes, next_after=last)
            if info is not None:
                objects.append(info)
                last = info.key
            elif rolled is not None:
                last = rolled.decode()
                prefixes.append(last)
                walk.seek(following(rolled))
    finally:
        walk.close()
    return ObjectPage(objects=objects, prefixes=prefixes)


def following(prefix: bytes) -> bytes:
    """The smallest byte string above all that begin with ``prefix``, which is UTF-8."""
    # No byte of UTF-8 is 0xff, so the last one can always be counted up.
    return prefix[:-1] + bytes([prefix[-1] + 1])


def _roll_up(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    if not delimiter:
        return None
    at = key.find(delimiter, len(prefix))
    return None if at < 0 else key[: at + len(delimiter)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A place where there may be an object; the descriptor is good until the walk goes on."""

    key: bytes
    parent: int
    name: bytes


class _Folder:
    """One level of the walk: the folder of the keys that begin with ``prefix``."""

    def __init__(self, prefix: bytes, names: Names, fd: int) -> None:
        self.prefix = prefix
        self.names = names
        self.fd = fd
        self.start = b""
        self.items: Sequence[bytes] | None = None
        self.index = 0
        self.complete = False

    def move(self, start: bytes) -> None:
        """Continue with the first item that is not below ``start``."""
        self.start = start
        # A window of a directory that is too large to hold must be read anew only beyond its end.
        if self.items is not None and (self.complete or (self.items and start <= self.items[-1])):
            self.index = bisect_left(self.items, start, self.index)
        else:
            self.items = None

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class Walk:
    """Places of possible objects whose keys begin with ``prefix``, in byte order of the keys."""

    def __init__(self, bucket: Bucket, snapshots: Snapshots, prefix: bytes) -> None:
        self._bucket = bucket
        self._codec = bucket.codec
        self._snapshots = snapshots
        self._prefix = prefix
        self._stack: list[_Folder] = []
        self._leaf = -1
        # All keys of this prefix lie in one folder, and no other needs to be read.
        base = prefix[: prefix.rfind(b"/") + 1]
        names = self._codec.key_names(base[:-1]) if base else ()
        fd = None if b"\0" in base else descend(bucket.fd, names)
        if fd is not None:
            self._stack.append(_Folder(base, names, fd))

    def seek(self, bound: bytes) -> None:
        """Go on with the first key that is not below ``bound``; never goes back."""
        while self._stack:
            folder = self._stack[-1]
            if bound.startswith(folder.prefix):
                break
            if bound < folder.prefix:
                return
            self._pop()
        else:
            return
        segment, slash, _ = bound[len(folder.prefix) :].partition(b"/")
        while slash:
            # What lies behind this folder is read only if the walk comes back.
            folder.move(following(segment + slash))
            child = self._push(folder, segment)
            if child is None:
                return
            folder = child
            segment, slash, _ = bound[len(folder.prefix) :].partition(b"/")
        folder.move(segment)

    def next(self) -> Candidate | None:
        """The next place, or None at the end."""
        while self._stack:
            folder = self._stack[-1]
            item = self._next_item(folder)
            if item is None:
                self._pop()
            elif not (folder.prefix + item).startswith(self._prefix):
                return None
            elif len(folder.prefix) + len(item) > MAX_KEY_BYTES:
                continue  # made by another program; no request can name it
            elif item.endswith(b"/"):
                child = self._push(folder, item[:-1])
                if child is not None:
                    child.move(b"")
            else:
                candidate = self._candidate(folder, item)
                if candidate is not None:
                    return candidate
        return None

    def close(self) -> None:
        """Close all folders."""
        while self._stack:
            self._pop()
        self._close_leaf()

    def _candidate(self, folder: _Folder, segment: bytes) -> Candidate | None:
        names = self._codec.segment_names(segment)
        parent = self._open(folder)
        self._close_leaf()
        if parent is not None and len(names) > 1:
            parent = descend(parent, names[:-1])
            self._leaf = -1 if parent is None else parent
        if parent is None:
            return None
        return Candidate(key=folder.prefix + segment, parent=parent, name=names[-1])

    def _next_item(self, folder: _Folder) -> bytes | None:
        while True:
            if folder.items is None:
                fd = self._open(folder)
                if fd is None:
                    return None
                snapshot = self._snapshots.read(fd, folder.start)
                folder.items, folder.complete = snapshot.items, snapshot.complete
                folder.index = bisect_left(folder.items, folder.start)
            if folder.index < len(folder.items):
                folder.index += 1
                return folder.items[folder.index - 1]
            if folder.complete:
                return None
            folder.start = folder.items[-1] + b"\0"
            folder.items = None

    def _open(self, folder: _Folder) -> int | None:
        """Descriptor of a folder, or None if it was removed meanwhile."""
        if folder.fd < 0:
            fd = descend(self._bucket.fd, folder.names)
            folder.fd = -1 if fd is None else fd
        return None if folder.fd < 0 else folder.fd

    def _push(self, folder: _Folder, segment: bytes) -> _Folder | None:
        names = self._codec.segment_names(segment)
        above = self._open(folder)
        if above is None:
            return None
        fd = open_directory(above, names[0]) if len(names) == 1 else descend(above, names)
        if fd is None:
            return None
        child = _Folder(folder.prefix + segment + b"/", folder.names + names, fd)
        self._stack.append(child)
        if len(self._stack) > _MAX_OPEN:
            self._stack[-1 - _MAX_OPEN].close()
        return child

    def _pop(self) -> None:
        self._stack.pop().close()

    def _close_leaf(self) -> None:
        if self._leaf >= 0:
            os.close(self._leaf)
            self._leaf = -1
