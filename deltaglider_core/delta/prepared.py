"""References that a codec has indexed, kept for the next upload."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator

from ..interfaces.codec import Codec, PreparedReference
from ..tasks import cancel_all, run_blocking
from .cache import ReferenceFile

#: Indexes kept while nobody uses them. An index takes up to 64 MiB, and uploads that follow
#: each other usually share one.
MAX_IDLE = 4


_Name = tuple[str, ReferenceFile]


class _Entry:
    def __init__(self) -> None:
        self.pins = 0
        self.prepared: PreparedReference | None = None


class PreparedCache:
    """Prepared references by codec and verified file. Belongs to one event loop.

    A file that is fetched again is prepared again: what was wrong with the one before may
    be in its index.

    Args:
        max_bytes: Most bytes of references whose indexes are kept while idle.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[_Name, _Entry] = OrderedDict()
        self._loading: dict[_Name, asyncio.Task[PreparedReference]] = {}
        self._closing = False

    @contextlib.asynccontextmanager
    async def open(self, codec: Codec, file: ReferenceFile) -> AsyncGenerator[PreparedReference]:
        """The prepared ``file``, not closed before the ``with`` block ends.

        Concurrent callers share one preparation. Whatever the codec raises propagates.
        """
        name = (codec.codec_id, file)
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = _Entry()
        self._entries.move_to_end(name)
        entry.pins += 1
        try:
            if entry.prepared is None:
                task = self._loading.get(name)
                if task is None:
                    task = asyncio.ensure_future(run_blocking(codec.prepare, file.path))
                    self._loading[name] = task
                    task.add_done_callback(lambda done: self._loaded(name, entry, done))
                prepared = await asyncio.shield(task)
            else:
                prepared = entry.prepared
            yield prepared
        finally:
            entry.pins -= 1
            await self._shrink()

    async def aclose(self) -> None:
        """Close every index that is not in use; the others when their use ends."""
        self._closing = True
        await cancel_all(self._loading.values())
        await self._shrink()

    def _loaded(self, name: _Name, entry: _Entry, task: asyncio.Task[PreparedReference]) -> None:
        del self._loading[name]
        if not task.cancelled() and task.exception() is None:
            entry.prepared = task.result()

    async def _shrink(self) -> None:
        """Close the least recently used idle indexes beyond the budget."""
        idle = [
            (name, entry)
            for name, entry in self._entries.items()
            if entry.pins == 0 and name not in self._loading
        ]
        kept = sum(0 if entry.prepared is None else entry.prepared.size for _, entry in idle)
        count = len(idle)
        for name, entry in idle:
            size = 0 if entry.prepared is None else entry.prepared.size
            within = count <= MAX_IDLE and kept <= self._max_bytes and not self._closing
            if within and entry.prepared is not None:
                continue
            del self._entries[name]
            count, kept = count - 1, kept - size
            if entry.prepared is not None:
                await run_blocking(entry.prepared.close)
