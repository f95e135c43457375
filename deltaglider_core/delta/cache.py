"""References as local files, verified whole and mapped read-only.

Files are named by their SHA-256, so they are never stale, whichever bucket or backend they come
from. Several processes and pipelines may share the directory: a file appears complete by a
rename, is never changed or truncated (a truncated map kills the process), only unlinked, and
each process verifies a file itself before it uses it. The budget is per process; what is in
use is never dropped, so it can be exceeded while it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import mmap
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import IntegrityError
from ..tasks import cancel_all, run_blocking
from .bodies import BLOCK
from .metrics import DeltaMetrics
from .record import is_sha256

#: Opens the bytes of a reference on its backend: an async context manager over chunks.
Fetch = Callable[[], contextlib.AbstractAsyncContextManager[AsyncIterator[bytes]]]

#: Files kept at once: every map holds a descriptor, and many systems allow 1,024 of them.
MAX_FILES = 256

#: Temporary files older than this were left by a process that died.
_STALE_SECONDS = 6 * 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceFile:
    """A verified reference in use: its path, and its bytes as a read-only map.

    The map lives as long as somebody holds it, whatever happens to the file's name.
    """

    sha256: str
    size: int
    path: Path
    data: mmap.mmap


class _Entry:
    """A cached file: ``file`` is None until this process has verified it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.pins = 0
        self.file: ReferenceFile | None = None


class ReferenceCache:
    """See the module. Belongs to one event loop.

    Args:
        directory: Made if missing.
        max_bytes: Budget; 0 keeps nothing that is not in use.
    """

    def __init__(self, directory: Path, max_bytes: int, metrics: DeltaMetrics) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._loading: dict[str, asyncio.Task[ReferenceFile]] = {}
        self._used = 0
        directory.mkdir(parents=True, exist_ok=True)
        self._take_over()
        metrics.cache_max.set(max_bytes)
        self._evict()

    @property
    def used_bytes(self) -> int:
        """Bytes of all files this cache knows."""
        return self._used

    @contextlib.asynccontextmanager
    async def open(self, sha256: str, size: int, fetch: Fetch) -> AsyncGenerator[ReferenceFile]:
        """The reference ``sha256`` of ``size`` bytes, pinned inside the ``with`` block.

        Concurrent callers share one fetch, which goes on if one of them is cancelled.

        Raises:
            IntegrityError: What ``fetch`` gave is not the reference; nothing is cached.
            OSError: No room for the file, or the directory cannot be written.
        """
        entry = self._entries.get(sha256)
        if entry is None:
            entry = self._add(sha256, size)
        self._entries.move_to_end(sha256)
        entry.pins += 1
        try:
            if entry.file is not None:
                self._metrics.cache_hits.inc()
                file = entry.file
            else:
                file = await self._load(entry, sha256, size, fetch)
            if file.size != size:
                raise IntegrityError(f"reference has {file.size} bytes instead of {size}")
            yield file
        finally:
            entry.pins -= 1
            if entry.pins == 0 and entry.file is None and sha256 not in self._loading:
                self._forget(sha256, entry)
            self._evict()

    async def drop_if_damaged(self, file: ReferenceFile) -> bool:
        """Verify a file in use again; drop it if it is no longer what it was.

        Memory of a map comes back from the disk, which can fail after the first look.
        """
        if await run_blocking(is_intact, file):
            return False
        entry = self._entries.get(file.sha256)
        if entry is not None and entry.file is file:
            self._forget(file.sha256, entry)
        return True

    def forget(self, sha256: str) -> None:
        """Drop a file whose name is gone, so that the next use fetches it again."""
        entry = self._entries.get(sha256)
        if entry is not None:
            self._forget(sha256, entry)

    async def aclose(self) -> None:
        """End fetches under way. Files stay for the next process."""
        await cancel_all(self._loading.values())

    async def _load(self, entry: _Entry, sha256: str, size: int, fetch: Fetch) -> ReferenceFile:
        task = self._loading.get(sha256)
        if task is None:
            task = asyncio.ensure_future(self._find_or_fetch(entry, sha256, size, fetch))
            self._loading[sha256] = task
            task.add_done_callback(lambda done: self._loaded(done, entry, sha256))
        return await asyncio.shield(task)

    def _loaded(self, task: asyncio.Task[ReferenceFile], entry: _Entry, sha256: str) -> None:
        del self._loading[sha256]
        failed = task.cancelled() or task.exception() is not None
        if failed and entry.pins == 0:
            self._forget(sha256, entry)
        self._evict()

    async def _find_or_fetch(
        self, entry: _Entry, sha256: str, size: int, fetch: Fetch
    ) -> ReferenceFile:
        path = self._directory / sha256
        file = await run_blocking(open_verified, path, sha256)
        if file is not None:
            self._metrics.cache_hits.inc()
        else:
            self._metrics.cache_misses.inc()
            try:
                file = await self._fetch(path, sha256, size, fetch)
            except OSError:
                # The disk is full before the budget is used up, or somebody cleared it away.
                self._directory.mkdir(parents=True, exist_ok=True)
                self._drop_idle()
                file = await self._fetch(path, sha256, size, fetch)
        self._used += file.size - entry.size
        entry.file, entry.size = file, file.size
        return file

    async def _fetch(self, path: Path, sha256: str, size: int, fetch: Fetch) -> ReferenceFile:
        temporary = self._directory / f"tmp-{secrets.token_hex(12)}"
        try:
            async with fetch() as chunks:
                written, found = await write_hashed(temporary, chunks, limit=size)
            if (written, found) != (size, sha256):
                raise IntegrityError(f"reference {sha256} has other bytes than its name says")
            # What is mapped is what was read back, not what passed through on its way.
            file = await run_blocking(open_verified, temporary, sha256)
            if file is None:
                raise IntegrityError(f"reference {sha256} did not survive its way to the cache")
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        return ReferenceFile(sha256=sha256, size=file.size, path=path, data=file.data)

    def _add(self, sha256: str, size: int) -> _Entry:
        entry = self._entries[sha256] = _Entry(size)
        self._used += size
        return entry

    def _evict(self) -> None:
        if self._used > self._max_bytes or len(self._entries) > MAX_FILES:
            for sha256, entry in list(self._entries.items()):
                if self._used <= self._max_bytes and len(self._entries) <= MAX_FILES:
                    break
                if entry.pins == 0 and sha256 not in self._loading:
                    self._forget(sha256, entry)
        self._metrics.cache_size.set(self._used)

    def _drop_idle(self) -> None:
        for sha256, entry in list(self._entries.items()):
            if entry.pins == 0 and sha256 not in self._loading:
                self._forget(sha256, entry)

    def _forget(self, sha256: str, entry: _Entry) -> None:
        if self._entries.get(sha256) is entry:
            del self._entries[sha256]
            self._used -= entry.size
        with contextlib.suppress(OSError):  # a cache that cannot shrink is no reason to fail
            os.unlink(self._directory / sha256)

    def _take_over(self) -> None:
        """Adopt the files of an earlier process, oldest first, and clear what it left over."""
        found: list[tuple[float, str, int]] = []
        for item in os.scandir(self._directory):
            with contextlib.suppress(FileNotFoundError):
                stat = item.stat(follow_symlinks=False)
                if is_sha256(item.name) and item.is_file(follow_symlinks=False):
                    found.append((stat.st_mtime, item.name, stat.st_size))
                elif item.name.startswith("tmp-") and stat.st_mtime < time.time() - _STALE_SECONDS:
                    os.unlink(item.path)
        for _, sha256, size in sorted(found):
            self._add(sha256, size)


def open_verified(path: Path, sha256: str) -> ReferenceFile | None:
    """Map a file read-only; None if it is not there or has another SHA-256."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        size = os.fstat(handle).st_size
        data = mmap.mmap(handle, size, prot=mmap.PROT_READ) if size else None
    finally:
        os.close(handle)
    if data is None:
        return None
    file = ReferenceFile(sha256=sha256, size=size, path=path, data=data)
    return file if is_intact(file) else None


def is_intact(file: ReferenceFile) -> bool:
    """Whether the map has the SHA-256 that names it; reads all of it."""
    return hashlib.sha256(file.data).hexdigest() == file.sha256


async def write_hashed(path: Path, chunks: AsyncIterator[bytes], *, limit: int) -> tuple[int, str]:
    """Write chunks to a new file; return its length and SHA-256 (hex).

    Raises:
        IntegrityError: More than ``limit`` bytes.
    """
    digest, written, block = hashlib.sha256(), 0, bytearray()

    def flush(data: bytes) -> None:
        with open(path, "ab") as file:
            file.write(data)
        digest.update(data)

    async for chunk in chunks:
        written += len(chunk)
        if written > limit:
            raise IntegrityError(f"reference is longer than {limit} bytes")
        block += chunk
        if len(block) >= BLOCK:
            await run_blocking(flush, bytes(block))
            block.clear()
    await run_blocking(flush, bytes(block))
    return written, digest.hexdigest()
