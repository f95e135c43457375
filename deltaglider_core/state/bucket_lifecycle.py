"""Creating and deleting buckets under intents.

While a bucket is being deleted no mutation can begin in it, and it is not deleted while one is
under way, so nothing that was acknowledged goes with it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, exists, insert, or_, select, update

from ..errors import BucketNotEmpty, ClientError, NoSuchBucket, OperationAborted, ServiceUnavailable
from ..interfaces.storage import StorageBackend
from ..origin import Signature, current_origin
from . import signatures
from .bucket_registry import (
    BucketRef,
    BucketRegistry,
    Identity,
    insert_bucket,
    read_identity,
    retire_others,
    set_state,
    write_identity,
)
from .collect import lease_name
from .examiner import LATE_COMMIT_SECONDS
from .records import BucketGoneError, KeyBusyError
from .snapshot import changed
from .tables import buckets, intents, leases

if TYPE_CHECKING:
    from .state import State

#: How long DeleteBucket waits for mutations that are under way in the bucket.
_PATIENCE_SECONDS = 5.0
_POLL_SECONDS = 0.05


class BucketLifecycle:
    """Creates and deletes the buckets of one backend.

    Args:
        backend: Without the layer that records mutations.
    """

    def __init__(self, backend: StorageBackend, registry: BucketRegistry, state: State) -> None:
        self._backend = backend
        self._registry = registry
        self._state = state

    # --- create ---------------------------------------------------------------------------

    async def create(self, name: str) -> None:
        """Create a bucket. Raises ``BucketAlreadyOwnedByYou``."""
        self._state.check()
        identity = self._registry.new_identity()
        intent = self._intent()
        signature = current_origin.get().signature

        def begin(connection: Connection) -> int:
            now = self._state.database.now(connection)
            fresh = signature is not None and signatures.check(connection, now, signature)
            number = insert_bucket(connection, now, name, identity, "creating", complete=True)
            self._record(connection, intent, number, "create_bucket")
            if fresh and signature is not None:
                signatures.claim(connection, now, signature)
            return number

        async def work() -> None:
            number = await self._write(begin, "buckets")
            ref = BucketRef(number=number, id=identity.id, name=name)
            try:
                await self._backend.create_bucket(name)
            except ClientError:
                await self._end(ref, intent, None, signature)
                raise
            except Exception:
                # The bucket may be there although the answer says otherwise.
                if not await self._settle_creation(ref, intent, signature):
                    raise
                return
            if not await self._settle_creation(ref, intent, signature):
                raise ServiceUnavailable("The bucket vanished while it was created. Please retry.")

        await self._alive(intent, work())
        self._registry.forget(name)

    async def _settle_creation(
        self, ref: BucketRef, intent: str, signature: Signature | None = None
    ) -> bool:
        """Find out whether a bucket was created, and end its intent; False if it was not."""
        identity = Identity(id=ref.id, owner=self._state.deployment)
        try:
            found = await write_identity(self._backend, ref.name, identity)
        except NoSuchBucket:
            if self._backend.capabilities.late_commits and not await self._is_due(intent):
                await self._postpone(intent)
            else:
                await self._end(ref, intent, None, signature)
            return False
        # Somebody may have used the new bucket, and given it an id, before this request could.
        await self._end(ref, intent, "active" if found.id == ref.id else None, None)
        return True

    # --- delete ---------------------------------------------------------------------------

    async def delete(self, name: str) -> None:
        """Delete an empty bucket.

        Raises:
            NoSuchBucket, BucketNotEmpty
            OperationAborted: Something is being written to it, or its references are collected.
        """
        self._state.check()
        intent = self._intent()
        signature = current_origin.get().signature

        async def work() -> None:
            ref = await self._begin_deletion(name, intent, signature)
            try:
                await self._backend.delete_bucket(name)
            except Exception as error:
                answered = isinstance(error, BucketNotEmpty | NoSuchBucket)
                gone = await self._settle_deletion(ref, intent, signature, answered=answered)
                if not gone or isinstance(error, ClientError):
                    raise
            else:
                await self._end(ref, intent, "deleted", None)

        try:
            await self._alive(intent, work())
        finally:
            self._registry.forget(name)

    async def _begin_deletion(
        self, name: str, intent: str, signature: Signature | None
    ) -> BucketRef:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_SECONDS
        while True:
            ref = await self._registry.resolve(name)

            def begin(
                connection: Connection, number: int = ref.number, identity: str = ref.id
            ) -> None:
                now = self._state.database.now(connection)
                fresh = signature is not None and signatures.check(connection, now, signature)
                state = connection.execute(
                    select(buckets.c.state).where(buckets.c.number == number)
                ).scalar()
                if state != "active":
                    raise BucketGoneError
                busy = select(exists(select(intents.c.write_id).where(intents.c.bucket == number)))
                # A collection must not go on in a bucket that is created anew under the name.
                collected = select(
                    exists(
                        select(leases.c.name).where(
                            leases.c.name == lease_name(identity), leases.c.expires > now
                        )
                    )
                )
                if connection.execute(busy).scalar() or connection.execute(collected).scalar():
                    raise KeyBusyError
                set_state(connection, number, "deleting")
                self._record(connection, intent, number, "delete_bucket")
                if fresh and signature is not None:
                    signatures.claim(connection, now, signature)
                changed(connection)

            try:
                await self._write(begin, ref.number)
                return ref
            except (BucketGoneError, KeyBusyError):
                self._registry.forget(name)
                if loop.time() > deadline:
                    raise OperationAborted(fields={"BucketName": name}) from None
            await asyncio.sleep(_POLL_SECONDS)

    async def _settle_deletion(
        self,
        ref: BucketRef,
        intent: str,
        signature: Signature | None = None,
        *,
        answered: bool = False,
    ) -> bool:
        """Find out whether a bucket was deleted, and end its intent; True if it is gone.

        Unless everything that was sent has been ``answered``, the deletion of a reference may still
        be on its way: a write that named it would be lost, so the bucket stays closed for a while.
        """
        try:
            found = await read_identity(self._backend, ref.name)
        except NoSuchBucket:
            await self._end(ref, intent, "deleted", None)
            return True
        late = self._backend.capabilities.late_commits and not answered
        if late and not await self._is_due(intent):
            await self._postpone(intent)
            return False
        # Without its id it lost its references, too, and is another bucket from now on.
        kept = found is not None and found.id == ref.id
        await self._end(ref, intent, "active" if kept else "deleted", signature)
        return False

    # --- both -----------------------------------------------------------------------------

    def _intent(self) -> str:
        return secrets.token_hex(16)

    async def _alive(self, intent: str, work: Awaitable[None]) -> None:
        """Carry it out to its end, also if the client goes away."""
        journal = self._state.journal
        journal.active.add(intent)

        async def whole() -> None:
            try:
                await work
            finally:
                journal.active.remove(intent)

        await journal.shielded(whole())

    async def _write(self, function: Callable[[Connection], Any], scope: int | str) -> Any:
        return await self._state.database.write(function, scope=scope)

    def _record(self, connection: Connection, intent: str, number: int, kind: str) -> None:
        connection.execute(
            insert(intents).values(
                write_id=intent,
                bucket=number,
                key=b"",
                kind=kind,
                process=self._state.journal.process,
                started=self._state.database.now(connection),
                state="open",
                size=0,
                contended=False,
                exclusive=False,
                disturbed=0,
            )
        )

    async def _end(
        self, ref: BucketRef, intent: str, state: str | None, signature: Signature | None
    ) -> None:
        """End an intent; the bucket gets ``state``, or its row goes if that is None."""

        def end(connection: Connection) -> None:
            ended = connection.execute(delete(intents).where(intents.c.write_id == intent))
            if ended.rowcount != 1:
                return  # settled by somebody else
            if state is None:
                connection.execute(delete(buckets).where(buckets.c.number == ref.number))
            else:
                set_state(connection, ref.number, state)
                if state == "active":
                    retire_others(connection, ref.name, ref.id)
            if signature is not None:
                signatures.give_back(connection, signature)
            changed(connection)

        await self._write(end, ref.number)

    async def _postpone(self, intent: str) -> None:
        def postpone(connection: Connection) -> None:
            due = self._state.database.now(connection) + LATE_COMMIT_SECONDS
            connection.execute(
                update(intents)
                .where(intents.c.write_id == intent, intents.c.state == "open")
                .values(state="doubt", due=due)
            )

        await self._write(postpone, "buckets")

    async def _is_due(self, intent: str) -> bool:
        state = await self._state.database.read(
            lambda c: c.execute(
                select(intents.c.state).where(intents.c.write_id == intent)
            ).scalar()
        )
        return state != "open"

    async def settle_left(self, dead: frozenset[str]) -> int:
        """Settle what dead processes, and failed attempts of this one, left; returns how many."""
        journal, database = self._state.journal, self._state.database

        def left(connection: Connection) -> Sequence[Any]:
            return connection.execute(
                select(intents, buckets.c.id, buckets.c.name)
                .join(buckets, buckets.c.number == intents.c.bucket)
                .where(
                    intents.c.process.in_([journal.process, *dead]),
                    intents.c.kind.in_(("create_bucket", "delete_bucket")),
                    or_(intents.c.due.is_(None), intents.c.due <= database.now(connection)),
                )
            ).all()

        count = 0
        for row in await database.read(left):
            if row.write_id in journal.active:
                continue
            ref = BucketRef(number=row.bucket, id=row.id, name=row.name)
            settle = self._settle_creation if row.kind == "create_bucket" else self._settle_deletion
            try:
                await settle(ref, row.write_id)
                count += 1
            except Exception as error:
                self._state.log.warning(
                    "cannot settle a bucket yet", bucket=row.name, reason=repr(error)
                )
        return count


__all__ = ["BucketLifecycle"]
