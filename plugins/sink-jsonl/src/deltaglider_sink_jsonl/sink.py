"""The sink: a batch of events becomes one write of lines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deltaglider_core.errors import ConfigurationError
from deltaglider_core.interfaces.events import ObjectEvent, Retry

from . import files

if TYPE_CHECKING:
    from deltaglider_core.services import Services

#: Seconds between two attempts while another process writes, and how long is tried.
_POLL_SECONDS = 0.02
_PATIENCE_SECONDS = 5.0


class JsonLinesSink:
    """Appends to one file; implements ``EventSink``.

    Args:
        path: The file; relative to the working directory.
        fsync: Whether a batch is on disk before ``deliver`` returns.
        services: Of the core.
    """

    def __init__(self, path: Path, *, fsync: bool, services: Services) -> None:
        self._path = path.absolute()
        self._fsync = fsync
        self._services = services

    async def check(self) -> None:
        """Raise ``ConfigurationError`` unless the file can be appended to."""
        try:
            await self._services.run_blocking(files.check, self._path)
        except OSError as error:
            raise ConfigurationError(
                f"advanced.event_file.path: cannot append to {self._path} "
                f"({error.strerror or error}): name a file in a directory that exists, and give "
                "the user that runs this process permission to write it"
            ) from error

    async def deliver(self, batch: Sequence[ObjectEvent]) -> None:
        """Append one line per event. Whatever fails, raises ``Retry``: no event is at fault."""
        deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        while True:
            try:
                cut = await self._services.run_blocking(self._append, batch)
                break
            except files.BusyError:
                # Not in the thread: a wait that is cancelled must end at once.
                if asyncio.get_running_loop().time() > deadline:
                    raise Retry(f"{self._path} is locked by another program") from None
                await asyncio.sleep(_POLL_SECONDS)
            except OSError as error:
                reason = error.strerror or str(error)
                raise Retry(f"cannot append to {self._path}: {reason}") from error
        if cut:
            self._services.log.warning(
                "the last line of the event file was cut; it has been ended", path=str(self._path)
            )

    def _append(self, batch: Sequence[ObjectEvent]) -> bool:
        data = "".join(f"{event.as_json()}\n" for event in batch).encode("ascii")
        return files.append(self._path, data, fsync=self._fsync)
