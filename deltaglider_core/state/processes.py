"""Which processes share the state, and which of them are certainly dead.

Each process has a random id and a row. What a dead process has left behind, its intents above all,
others bring to an end; so it matters that a living one is hardly ever taken for dead, and a dead
one soon. With the embedded database a locked file tells both exactly, and the row only says whose
it is. With PostgreSQL the process renews its row every second and counts as dead when it has not
done so for ten, by the clock of the database: one that was paused for longer finds its intents
settled by others.
"""

from __future__ import annotations

import functools
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection, delete, func, insert, select, update

from ..tasks import run_blocking
from .errors import StateUnavailable
from .liveness import LivenessFiles
from .tables import intents, processes

if TYPE_CHECKING:
    from .database import Database

T = TypeVar("T")

#: Seconds between two renewals of the row of a process.
HEARTBEAT_SECONDS = 1.0

#: Seconds after the last renewal for which a process counts as alive.
TTL_SECONDS = 10.0

#: The ids that are asked for in one statement; databases limit the number of parameters.
_CHUNK = 500


class Processes:
    """The processes that share a database, seen from one of them; obtain with ``open_processes``.

    Attributes:
        id: Random id of this process, 32 hex digits.
    """

    def __init__(
        self, database: Database, files: LivenessFiles | None, process: str, ttl: float
    ) -> None:
        self._database = database
        self._files = files
        self._ttl = ttl
        self.id = process

    async def heartbeat(self) -> None:
        """Say that this process is alive; its row is made anew if somebody has removed it.

        Raises:
            StateUnavailable: The database cannot be asked.
        """
        if self._files is not None:
            await run_blocking(_checked, self._files.hold)
            # The lock is the sign of life; nothing is written as long as the row is there.
            if await self._database.read(self._is_known):
                return
        await self._database.write(self._renew)

    async def dead(self) -> set[str]:
        """Ids that have a row or own intents, and whose process is certainly dead.

        Raises:
            StateUnavailable: The database or the files cannot be asked.
        """
        known, lapsed = await self._database.read(self._known)
        if self._files is None:
            return lapsed
        return await run_blocking(_checked, self._files.dead, known)

    async def forget_dead(self) -> int:
        """Remove the rows of dead processes that own no intents any more; returns how many.

        Raises:
            StateUnavailable: The database or the files cannot be asked.
        """
        dead = sorted(await self.dead())
        removed = 0
        for start in range(0, len(dead), _CHUNK):
            some = dead[start : start + _CHUNK]
            removed += await self._database.write(functools.partial(self._remove, dead=some))
        if self._files is not None:
            await run_blocking(_checked, self._files.sweep)
        return removed

    async def leave(self) -> None:
        """Remove the row of this process: intents that it leaves behind are settled by others."""
        try:
            with suppress(StateUnavailable):
                query = delete(processes).where(processes.c.id == self.id)
                await self._database.write(lambda connection: connection.execute(query).rowcount)
        finally:
            if self._files is not None:
                await run_blocking(self._files.release)

    def _is_known(self, connection: Connection) -> bool:
        mine = select(processes.c.id).where(processes.c.id == self.id)
        return connection.execute(mine).first() is not None

    def _renew(self, connection: Connection) -> None:
        now = self._database.now(connection)
        mine = update(processes).where(processes.c.id == self.id)
        if connection.execute(mine.values(expires=now + self._ttl)).rowcount == 0:
            row = {"id": self.id, "host": socket.gethostname()[:255], "pid": os.getpid()}
            row |= {"started": now, "expires": now + self._ttl}
            connection.execute(insert(processes).values(row))

    def _known(self, connection: Connection) -> tuple[set[str], set[str]]:
        """All ids but our own; and those that have shown no sign of life for too long."""
        now = self._database.now(connection)
        rows = connection.execute(select(processes.c.id, processes.c.expires)).all()
        owners = connection.execute(
            select(intents.c.process, func.max(intents.c.started).label("latest")).group_by(
                intents.c.process
            )
        ).all()
        known = {row.id for row in rows} | {owner.process for owner in owners}
        # An intent is a sign of life as well: its process may not have had time for a row yet.
        alive = {row.id for row in rows if row.expires > now}
        alive |= {owner.process for owner in owners if owner.latest > now - self._ttl}
        return known - {self.id}, known - alive - {self.id}

    def _remove(self, connection: Connection, dead: list[str]) -> int:
        gone = delete(processes).where(
            processes.c.id.in_(dead),
            processes.c.id.not_in(select(intents.c.process)),
        )
        if self._files is None:
            # It may have been paused and come back since it was looked at.
            gone = gone.where(processes.c.expires <= self._database.now(connection))
        return connection.execute(gone).rowcount


@asynccontextmanager
async def open_processes(
    database: Database,
    *,
    files: Path | None,
    ttl_seconds: float = TTL_SECONDS,
    patient: bool = False,
) -> AsyncIterator[Processes]:
    """Enter this process among those that share a database; leave at the end of the block.

    Somebody has to call ``heartbeat`` every ``HEARTBEAT_SECONDS``; see ``housekeeping``.

    Args:
        database: What is shared.
        files: Directory for the files that show who is alive, ``<database>.processes`` beside
            an embedded database; None where processes run on several machines.
        ttl_seconds: How long the row counts after its last renewal.
        patient: A database that cannot be asked is no error; the first heartbeat that reaches it
            makes the row.

    Raises:
        StateUnavailable: The database cannot be asked, or the files cannot be made.
    """
    process = secrets.token_hex(16)
    held = LivenessFiles(files, process) if files is not None else None
    found = Processes(database, held, process, ttl_seconds)
    try:
        # The file first: whoever sees the row must find it locked.
        if held is not None:
            await run_blocking(_checked, held.hold)
        try:
            await found.heartbeat()
        except StateUnavailable:
            if not patient:
                raise
        yield found
    finally:
        await found.leave()


def _checked(function: Callable[..., T], /, *args: object) -> T:
    """Call what works on files; what the system refuses leaves unknown who is alive."""
    try:
        return function(*args)
    except OSError as error:
        raise StateUnavailable("It is not known which processes are alive.") from error


__all__ = ["HEARTBEAT_SECONDS", "TTL_SECONDS", "Processes", "open_processes"]
