"""Leases: what only one process does at a time, decided by the database and its clock.

A lease has an owner, an epoch and an end. It can be taken when it has ended, and each taking
raises the epoch. Its owner may be paused at any moment for any time (SIGSTOP, a page fault, a
hypervisor), so holding one proves nothing by itself: what must not be done by two is done in a
transaction that begins with ``Lease.check``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Update, insert, select, update

from ..errors import ServiceUnavailable
from ..tasks import cancel_all
from .errors import StateUnavailable
from .tables import leases

if TYPE_CHECKING:
    from .database import Database

T = TypeVar("T")

#: Renewals per lifetime of a lease: two may be lost before the third is too late.
_RENEWALS = 3
#: How often one is tried again, per lifetime, while the database cannot be asked.
_RETRIES = 20


class LeaseLost(ServiceUnavailable):
    """The lease has ended, or another one holds it. Nothing more may be done under it."""

    message = "Another process has taken over what this one was doing. Please retry."


class Lease:
    """A lease that was acquired; obtain it with ``Leases.acquire``.

    Attributes:
        name: What is leased.
        owner: Id of the process that took it.
        epoch: Rises with every taking of this name, so that two holders never have the same.
        ttl: Seconds from the last renewal to the end.
    """

    def __init__(
        self, database: Database, *, name: str, owner: str, epoch: int, ttl: float, began: float
    ) -> None:
        self._database = database
        self.name = name
        self.owner = owner
        self.epoch = epoch
        self.ttl = ttl
        self._deadline = began + ttl

    def __repr__(self) -> str:
        return f"Lease({self.name!r}, owner={self.owner!r}, epoch={self.epoch})"

    @property
    def remaining(self) -> float:
        """Seconds for which it holds unless the process is paused; 0 when it does not.

        Counted from before the database was asked, so it ends here before it ends there.
        """
        return max(0.0, self._deadline - time.monotonic())

    def check(self, connection: Connection) -> None:
        """Raise ``LeaseLost`` unless it holds; nobody else can take it until the commit.

        The fence: the first statement of every transaction that only the holder may commit.
        """
        mine = (leases.c.name == self.name, leases.c.owner == self.owner)
        query = select(leases.c.expires).where(*mine, leases.c.epoch == self.epoch)
        # A taker has to wait for this transaction: else it could begin between check and commit.
        expires = connection.execute(query.with_for_update(read=True)).scalar_one_or_none()
        if expires is None or expires <= self._database.now(connection):
            raise LeaseLost

    async def write(self, function: Callable[[Connection], T], *, scope: int | str = "") -> T:
        """``Database.write`` behind the fence. Raises ``LeaseLost``, ``StateUnavailable``."""

        def fenced(connection: Connection) -> T:
            self.check(connection)
            return function(connection)

        return await self._database.write(fenced, scope=scope)

    async def renew(self) -> None:
        """Hold it for another ``ttl`` seconds from now.

        Raises:
            LeaseLost: It has ended, or another one has taken it. It cannot be renewed any more.
            StateUnavailable: The database cannot be asked; try again while ``remaining``.
        """
        began = time.monotonic()
        try:
            await self._database.write(self._extend, scope=_scope(self.name))
        except LeaseLost:
            self._deadline = 0.0
            raise
        self._deadline = began + self.ttl

    async def release(self, *, rest: float = 0.0) -> None:
        """Give it back; nothing happens if it is lost already.

        Args:
            rest: Seconds for which nobody shall take it, this process included.
        """
        self._deadline = 0.0

        def end(connection: Connection) -> None:
            with suppress(LeaseLost):
                self.check(connection)
                connection.execute(self._set(expires=self._database.now(connection) + rest))

        await self._database.write(end, scope=_scope(self.name))

    async def keep(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something and renew meanwhile; when the lease is lost, cancel it at once.

        The lease is not given back at the end.

        Returns:
            What ``work`` returns; it has ended in every case.

        Raises:
            LeaseLost: It was lost, or could not be renewed in time.
        """
        working = asyncio.create_task(work)
        renewing = asyncio.create_task(self._renew_until_lost())
        try:
            await asyncio.wait((working, renewing), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise LeaseLost from renewing.exception()
        finally:
            await cancel_all((working, renewing))

    async def _renew_until_lost(self) -> None:
        pause = self.ttl / _RENEWALS
        while remaining := self.remaining:
            await asyncio.sleep(min(pause, remaining))
            try:
                async with asyncio.timeout(self.remaining):
                    await self.renew()
                pause = self.ttl / _RENEWALS
            except StateUnavailable:
                pause = self.ttl / _RETRIES
            except (LeaseLost, TimeoutError):
                return

    def _extend(self, connection: Connection) -> None:
        self.check(connection)
        connection.execute(self._set(expires=self._database.now(connection) + self.ttl))

    def _set(self, **values: Any) -> Update:
        mine = (leases.c.name == self.name, leases.c.epoch == self.epoch)
        return update(leases).where(*mine).values(values)


class Leases:
    """The leases that one process may take.

    Args:
        database: Where they are kept.
        owner: Id of this process.
    """

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self._owner = owner

    async def acquire(self, name: str, ttl: float) -> Lease | None:
        """Take a lease for ``ttl`` seconds, unless anybody holds it, this process included.

        Raises:
            StateUnavailable: The database cannot be asked. If it did commit, nobody has the
                lease until it ends by itself.
        """
        began = time.monotonic()

        def take(connection: Connection) -> int | None:
            query = select(leases.c.epoch, leases.c.expires).where(leases.c.name == name)
            found = connection.execute(query).one_or_none()
            now = self._database.now(connection)
            if found is not None and found.expires > now:
                return None
            values = {"owner": self._owner, "expires": now + ttl}
            if found is None:
                connection.execute(insert(leases).values(name=name, epoch=1, **values))
                return 1
            epoch = int(found.epoch) + 1
            old = (leases.c.name == name, leases.c.epoch == found.epoch)
            taken = connection.execute(update(leases).where(*old).values(epoch=epoch, **values))
            return epoch if taken.rowcount == 1 else None

        epoch = await self._database.write(take, scope=_scope(name))
        if epoch is None:
            return None
        return Lease(
            self._database, name=name, owner=self._owner, epoch=epoch, ttl=ttl, began=began
        )


def _scope(name: str) -> str:
    return f"lease:{name}"


__all__ = ["Lease", "LeaseLost", "Leases"]
