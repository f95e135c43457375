"""Sorted contents of directories, kept between the pages of a listing."""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .directories import descend, open_directory
from .paths import PART, SELF, KeyCodec, Names

#: A directory that changed less than this before it was read may change once more without
#: getting another time stamp (kernels stamp in ticks, some file systems in 2 s).
MIN_AGE_NS = 2_000_000_000

#: Device, inode, times of modification and change: as long as they are the same, so are the names.
Identity = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """Items of a directory from some point on, in byte order.

    An item is a segment that may be a key, or a segment and ``/``: a folder. A folder
    contributes both, since it may hold the object of its own name.

    Attributes:
        complete: False if there are more items behind the last one.
    """

    items: Sequence[bytes]
    complete: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cached:
    items: list[bytes]
    identity: Identity
    #: Folders of long segments, which are read with the directory they stand in.
    inner: tuple[tuple[Names, Identity], ...]


class Snapshots:
    """Least recently used snapshots, up to a number of names in all; safe in threads.

    Args:
        budget: Most items held. A directory with more is read anew for each page, by which
            never more than this many are in memory.
        window: Items taken at a time from such a directory.
    """

    def __init__(self, codec: KeyCodec, budget: int = 1_000_000, window: int = 8192) -> None:
        self._codec = codec
        self._budget = budget
        self._window = window
        self._held = 0
        self._cache: OrderedDict[tuple[int, int], _Cached] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, directory: int, start: bytes) -> Snapshot:
        """Items of an open directory; those below ``start`` may be missing."""
        identity = _identity(directory)
        cached = self._lookup(directory, identity)
        if cached is not None:
            return Snapshot(items=cached.items, complete=True)
        began = time.time_ns()
        scan = _Scan(directory, self._codec)
        items: list[bytes] = []
        for item in scan:
            items.append(item)
            if len(items) > self._budget:
                return self._first(items, scan, start)
        items.sort()
        inner = tuple(scan.inner)
        youngest = max([identity[2], *(one[2] for _, one in inner)])
        if youngest + MIN_AGE_NS <= began and _identity(directory) == identity:
            self._keep(_Cached(items=items, identity=identity, inner=inner))
        return Snapshot(items=items, complete=True)

    def _first(self, items: list[bytes], scan: Iterator[bytes], start: bytes) -> Snapshot:
        items = heapq.nsmallest(self._window, (item for item in items if item >= start))
        while True:
            # Batches keep memory bounded; each pass drops what is beyond the window.
            batch = list(itertools.islice(scan, self._window))
            if not batch:
                return Snapshot(items=items, complete=len(items) < self._window)
            items = heapq.nsmallest(
                self._window, [*items, *(item for item in batch if item >= start)]
            )

    def _lookup(self, directory: int, identity: Identity) -> _Cached | None:
        with self._lock:
            cached = self._cache.get(identity[:2])
            if cached is not None:
                self._cache.move_to_end(identity[:2])
        if cached is None or cached.identity != identity:
            return None
        for names, inner in cached.inner:
            fd = descend(directory, names)
            if fd is None:
                return None
            try:
                if _identity(fd) != inner:
                    return None
            finally:
                os.close(fd)
        return cached

    def _keep(self, snapshot: _Cached) -> None:
        place = snapshot.identity[:2]
        with self._lock:
            old = self._cache.pop(place, None)
            self._held += len(snapshot.items) - (len(old.items) if old else 0)
            self._cache[place] = snapshot
            while self._held > self._budget:
                _, evicted = self._cache.popitem(last=False)
                self._held -= len(evicted.items)


class _Scan(Iterator[bytes]):
    """Items of a directory in the order of the file system; ``inner`` is complete at the end."""

    def __init__(self, directory: int, codec: KeyCodec) -> None:
        self.inner: list[tuple[Names, Identity]] = []
        self._codec = codec
        self._items = self._read(directory, ())

    def __next__(self) -> bytes:
        return next(self._items)

    def _read(self, directory: int, above: Names) -> Iterator[bytes]:
        with os.scandir(directory) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                if name == SELF:
                    continue
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder and name.startswith(PART):
                    yield from self._read_inner(directory, (*above, name))
                    continue
                if not is_folder and not entry.is_file(follow_symlinks=False):
                    continue
                segment = self._codec.segment((*above, name))
                if segment is None:
                    continue
                yield segment
                if is_folder:
                    yield segment + b"/"

    def _read_inner(self, directory: int, names: Names) -> Iterator[bytes]:
        fd = open_directory(directory, names[-1])
        if fd is None:
            return
        try:
            self.inner.append((names, _identity(fd)))
            yield from self._read(fd, names)
        finally:
            os.close(fd)


def _identity(directory: int) -> Identity:
    facts = os.fstat(directory)
    return facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns
