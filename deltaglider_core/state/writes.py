"""One mutation from its intent to its settlement, as the storage layers see it."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ClientError, ServiceUnavailable, SlowDown
from ..tasks import cancel_all
from . import intents, references
from .records import Event, Intent, KeyBusyError, Present, Settled

if TYPE_CHECKING:
    from .bucket_registry import BucketRef
    from .database import Database

T = TypeVar("T")


class ActiveWrites:
    """Write ids of the mutations that are under way in this process.

    Several mutations may have one id: all that complete one upload write under the id that the
    upload was given, though only one of them gets its intent. So an id is counted.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def __contains__(self, write_id: str) -> bool:
        return write_id in self._counts

    def add(self, write_id: str) -> None:
        """One more mutation of this id is under way."""
        self._counts[write_id] += 1

    def remove(self, write_id: str) -> None:
        """One of them has ended."""
        if self._counts[write_id] > 1:
            self._counts[write_id] -= 1
        else:
            self._counts.pop(write_id, None)


#: How long the end of a process waits for what has begun.
DRAIN_SECONDS = 15.0

#: How long a write waits for another one that replaces the object in place.
_PATIENCE_SECONDS = 20.0
#: Not longer: nobody queues, so who looks seldom loses against those that come anew.
_POLL_SECONDS = (0.01, 0.05)


class ActiveWrite:
    """A committed intent; implements ``WriteIntent``."""

    def __init__(self, database: Database, bucket: BucketRef, intent: Intent) -> None:
        self._database = database
        self._bucket = bucket
        self.intent = intent
        #: Whether nobody knows what became of a rewrite in place.
        self.unsure = False
        #: The reference that was held last, which what is written may name.
        self.held: str | None = None

    @property
    def write_id(self) -> str:
        return self.intent.write_id

    @property
    def bucket_id(self) -> str:
        return self._bucket.id

    async def hold(self, reference: str, size: int) -> bool:
        def hold(connection: Any) -> bool:
            return references.hold(
                connection,
                bucket=self.intent.bucket,
                write_id=self.intent.write_id,
                reference=reference.encode(),
                size=size,
                now=self._database.now(connection),
            )

        held = await self._database.write(hold, scope=self.intent.bucket)
        self.held = reference if held else None
        return held

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[bool]:
        intent, write = self.intent, self._database.write
        kept = await write(lambda c: intents.isolate(c, intent), scope=intent.bucket)
        try:
            yield kept
        except ClientError:
            raise
        except BaseException:
            self.unsure = kept
            raise
        finally:
            if kept and not self.unsure:
                # Should this fail, the settlement that follows ends it all the same.
                await asyncio.shield(
                    asyncio.ensure_future(
                        write(lambda c: intents.release(c, intent), scope=intent.bucket)
                    )
                )


class Journal:
    """The intents of this process.

    Args:
        database: The state.
        process: Id of this process.
        journaled: Called after each settlement.

    Attributes:
        active: What is under way in this process. An intent of ours that is not in there was left
            behind by an error and has to be examined.
    """

    def __init__(self, database: Database, process: str, journaled: Callable[[], None]) -> None:
        self._database = database
        self._journaled = journaled
        self.process = process
        self.active = ActiveWrites()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def begin(self, bucket: BucketRef, key: str, **fields: Any) -> ActiveWrite:
        """Commit an intent; the caller must end it with one of the methods below.

        Args:
            fields: Of ``Intent``.

        Raises:
            BucketGoneError
            SlowDown: The object was being rewritten for too long.
            S3Error: The mutation is refused.
        """
        fields.setdefault("write_id", secrets.token_hex(16))
        intent = Intent(bucket=bucket.number, key=key.encode(), process=self.process, **fields)
        now = self._database.now
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_SECONDS
        delay, longest = _POLL_SECONDS
        self.active.add(intent.write_id)
        try:
            while True:
                try:
                    await self._database.write(
                        lambda c: intents.begin(c, now(c), intent), scope=bucket.number
                    )
                    return ActiveWrite(self._database, bucket, intent)
                except KeyBusyError:
                    if loop.time() > deadline:
                        raise SlowDown("The object is being rewritten. Please retry.") from None
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311  # no secret
                delay = min(2 * delay, longest)
        except BaseException:
            # It may be committed nevertheless; whoever examines it finds that nothing happened.
            self.active.remove(intent.write_id)
            raise

    async def settle(
        self,
        write: ActiveWrite,
        present: Present | None,
        event: Event,
        *,
        changed: bool,
        late: float,
    ) -> str | None:
        """End a mutation that happened; see ``intents.settle``.

        Returns:
            None, or the write id of an intent that waits until somebody looked at the key.

        Raises:
            ServiceUnavailable: This process stood still for too long to vouch for what it wrote.
        """
        now = self._database.now

        def settle(connection: Any) -> Settled:
            present_time = now(connection)
            due = present_time + late if write.unsure else None
            return intents.settle(
                connection,
                present_time,
                write.intent,
                present,
                event,
                changed=changed,
                due=due,
                named=write.held is not None,
            )

        settled = await self._finish(write, settle)
        self._journaled()
        if not settled.acknowledged:
            raise ServiceUnavailable("The server stood still for too long. Please retry.")
        return settled.waiting

    async def give_up(self, write: ActiveWrite) -> None:
        """End a mutation that did not happen."""
        now = self._database.now
        await self._finish(write, lambda c: intents.give_up(c, now(c), write.intent))

    async def end(self, write: ActiveWrite) -> None:
        """End a change that is neither counted nor told; its signature stays used."""
        now, intent = self._database.now, replace(write.intent, signature=None)
        await self._finish(write, lambda c: intents.give_up(c, now(c), intent))

    async def doubt(self, write: ActiveWrite, seconds: float) -> None:
        """Leave a mutation to be examined in so many seconds."""
        now = self._database.now
        await self._finish(
            write, lambda c: intents.doubt(c, now(c), write.intent, now(c) + seconds)
        )

    async def _finish(self, write: ActiveWrite, function: Callable[[Any], T]) -> T:
        async def finish() -> T:
            try:
                return await self._database.write(function, scope=write.intent.bucket)
            finally:
                self.active.remove(write.write_id)

        return await self.shielded(finish())

    async def shielded(self, work: Awaitable[T]) -> T:
        """Await ``work``, which goes on to its end also if this task is cancelled."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Wait for everything that was shielded; what a backend never answers is settled later."""
        if self._tasks:
            _, hanging = await asyncio.wait(self._tasks, timeout=DRAIN_SECONDS)
            await cancel_all(hanging)


__all__ = ["ActiveWrite", "ActiveWrites", "Journal"]
