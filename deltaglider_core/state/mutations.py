"""Carrying out one mutation of an object under an intent, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..errors import (
    ClientError,
    ConditionalRequestConflict,
    MissingContentLength,
    NoSuchKey,
    NoSuchUpload,
    PreconditionFailed,
    ServiceUnavailable,
    SlowDown,
)
from ..interfaces.storage import Body, ObjectInfo, StorageBackend
from ..interfaces.writes import current_write
from ..origin import Origin, current_origin
from .bucket_registry import BucketRegistry
from .examiner import LATE_COMMIT_SECONDS, Examiner, present_of
from .kinds import TAGS
from .records import BucketGoneError, Event, Present
from .writes import ActiveWrite, Journal

T = TypeVar("T")

#: How often a bucket is looked up anew that was deleted and created again meanwhile.
_ATTEMPTS = 3

#: Seconds that a look at the backend may take after an error, while the client waits.
_LOOK_SECONDS = 10.0

#: Refusals that a write may have brought upon itself, if its first answer was lost on the way and
#: a client library below us repeated it.
_ECHOES = (PreconditionFailed, NoSuchKey, NoSuchUpload, ConditionalRequestConflict)


class GuardedBody:
    """A body that remembers whether the failure of a write was its own."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self.failed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._body)
        except StopAsyncIteration:
            raise
        except BaseException:
            self.failed = True
            raise


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome(Generic[T]):
    """What a mutation left.

    Attributes:
        result: What the caller gets.
        present: What is at the key now; None for nothing.
        changed: Whether there is anything to tell.
    """

    result: T
    present: Present | None
    changed: bool = True


def stored(info: ObjectInfo) -> Outcome[ObjectInfo]:
    """The outcome of a write."""
    return Outcome(result=info, present=present_of(info))


@dataclass(frozen=True, kw_only=True, slots=True)
class Mutation(Generic[T]):
    """What is to be done.

    Attributes:
        kind: Of the intent: ``put``, ``copy``, ``kinds.RESTATE``, ``delete``, ``complete``.
        event: Kind of the event, e.g. ``ObjectCreated``.
        size: Logical bytes of what will be there; None if nobody knows.
        work: Does it; the write id is the argument's.
        recover: The outcome when the backend shows this write at the key in spite of an error.
        payload: Of the event, besides what the outcome says.
        conditional: A refusal may be the answer to a repetition of what had already happened.
        body: Read by ``work``; its own errors leave no trace on the backend.
        write_id: Chosen by the caller.
        upload: Id of the multipart upload that is completed, and ``parts`` the fingerprint of
            the list of its parts.
    """

    bucket: str
    key: str
    kind: str
    event: str
    size: int | None
    work: Callable[[ActiveWrite], Awaitable[Outcome[T]]]
    recover: Callable[[ObjectInfo], Outcome[T] | None]
    payload: Mapping[str, Any] = field(default_factory=dict)
    conditional: bool = False
    body: GuardedBody | None = None
    write_id: str | None = None
    upload: str | None = None
    parts: str | None = None


class Mutations:
    """Mutations on one backend.

    Args:
        backend: Without the layer that records mutations.
        quota: Most logical bytes of a bucket, by the name that clients use; None without one.
        check: Raises ``ServiceUnavailable`` if this process does not know the state.
    """

    def __init__(
        self,
        backend: StorageBackend,
        registry: BucketRegistry,
        journal: Journal,
        examiner: Examiner,
        quota: Callable[[str], int | None],
        check: Callable[[], None],
        log: Any,
    ) -> None:
        self._backend = backend
        self._registry = registry
        self._journal = journal
        self._examiner = examiner
        self._quota = quota
        self._check = check
        self._log = log

    async def run(self, mutation: Mutation[T]) -> T:
        """Intent, work, settlement.

        Raises:
            QuotaExceeded, ReplayedRequest
            ServiceUnavailable: The state cannot be asked. If it failed at the settlement, the
                object may be there; it is settled when the state can be asked again.
        """
        fields: dict[str, Any] = {"upload": mutation.upload, "parts": mutation.parts}
        if mutation.write_id is not None:
            fields["write_id"] = mutation.write_id
        write = await self._begin(
            mutation.bucket,
            mutation.key,
            kind=mutation.kind,
            size=mutation.size,
            event=_event(mutation, current_origin.get(), {}),
            **fields,
        )
        token = current_write.set(write)
        try:
            outcome = await mutation.work(write)
        except BaseException as error:
            found = await self._journal.shielded(self._after_error(mutation, write, error))
            if found is None:
                raise
            outcome = found
        finally:
            current_write.reset(token)
        await self.settle(mutation, write, outcome)
        return outcome.result

    async def amend(self, bucket: str, key: str, work: Callable[[], Awaitable[T]]) -> T:
        """Change what is stored beside an object, which changes no sum and is no event.

        The intent keeps it apart from a rewrite in place and from a copy of the object onto
        itself, which would not take it over. Nothing is settled: the write id at the key stays,
        and tells others what it told before.

        Raises what ``run`` raises.
        """
        write = await self._begin(bucket, key, kind=TAGS, size=0, event=None)
        try:
            result = await work()
        except BaseException:
            await self._journal.shielded(self._quietly(self._journal.give_up(write)))
            raise
        await self._journal.end(write)
        return result

    async def _begin(
        self, bucket: str, key: str, *, kind: str, size: int | None, **fields: Any
    ) -> ActiveWrite:
        self._check()
        origin = current_origin.get()
        quota = self._quota(origin.bucket or bucket)
        if quota is not None and size is None:
            raise MissingContentLength(
                "The bucket has a quota: uploads need a Content-Length or "
                "x-amz-decoded-content-length."
            )
        for attempt in range(1, _ATTEMPTS + 1):
            place = await self._registry.resolve(bucket)
            try:
                return await self._journal.begin(
                    place,
                    key,
                    kind=kind,
                    size=size or 0,
                    quota=quota,
                    signature=origin.signature,
                    **fields,
                )
            except BucketGoneError:
                self._registry.forget(bucket)
                if attempt == _ATTEMPTS:
                    raise ServiceUnavailable(
                        "The bucket is being created or deleted. Please retry."
                    ) from None
        raise AssertionError("unreachable")

    async def settle(self, mutation: Mutation[T], write: ActiveWrite, outcome: Outcome[T]) -> None:
        """Journal a mutation that happened, and find out what is at its key if need be."""
        payload = outcome.present.payload() if outcome.present is not None else {}
        event = _event(mutation, current_origin.get(), payload)
        late = LATE_COMMIT_SECONDS if self._backend.capabilities.late_commits else 0.0
        left = await self._journal.settle(
            write, outcome.present, event, changed=outcome.changed, late=late
        )
        if left is not None and not (write.unsure and late):
            try:
                await self._examiner.recheck(left)
            except Exception as error:
                # The settler goes on with it; what the client did is journaled.
                self._log.warning("key is looked at later", key=mutation.key, reason=repr(error))

    # --- errors ---------------------------------------------------------------------------

    async def _after_error(
        self, mutation: Mutation[T], write: ActiveWrite, error: BaseException
    ) -> Outcome[T] | None:
        """Find out what an error left behind; an outcome if it was none after all."""
        if (mutation.body is not None and mutation.body.failed) or _is_refusal(error, mutation):
            await self._quietly(self._journal.give_up(write))
            return None
        looked, there, found = await self._look(mutation, write)
        if found is None:
            late = self._backend.capabilities.late_commits
            # A delete that had happened would have left nothing to refuse.
            sure = there if mutation.kind == "delete" else looked
            if sure and (not late or _is_refusal(error)):
                await self._quietly(self._journal.give_up(write))
            else:
                # Not seen is not the same as not done: the request may still be on its way.
                await self._quietly(self._journal.doubt(write, LATE_COMMIT_SECONDS if late else 0))
            return None
        echo = isinstance(error, _ECHOES)
        if echo or (_is_lost_answer(error) and self._backend.capabilities.late_commits):
            self._log.info("a write whose answer was lost had happened", key=mutation.key)
            return found
        # It is there, but the backend complained: whether it is there for good is unknown.
        await self._quietly(self.settle(mutation, write, found))
        return None

    async def _look(
        self, mutation: Mutation[T], write: ActiveWrite
    ) -> tuple[bool, bool, Outcome[T] | None]:
        """Whether the backend could be asked and has an object, and the outcome if it happened."""
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                info = await self._backend.head_object(mutation.bucket, mutation.key)
        except NoSuchKey:
            return True, False, None
        except Exception as error:
            self._log.warning("cannot look for a failed write", reason=repr(error))
            return False, False, None
        present = present_of(info)
        happened = present.write_id == write.write_id
        return True, True, mutation.recover(info) if happened else None

    async def _quietly(self, work: Awaitable[Any]) -> None:
        """Finish without hiding the error that led here; the settler goes on if this fails."""
        try:
            await work
        except Exception as error:
            self._log.warning("a failed write is settled later", reason=repr(error))


def _event(mutation: Mutation[Any], origin: Origin, payload: Mapping[str, Any]) -> Event:
    return Event(
        kind=origin.kind or mutation.event,
        bucket=origin.bucket or mutation.bucket,
        source=origin.source,
        payload={**payload, **mutation.payload, **origin.payload},
    )


def _is_refusal(error: BaseException, mutation: Mutation[Any] | None = None) -> bool:
    """Whether the error says that nothing was done.

    With ``mutation``: certainly so. A condition that does not hold may be the echo of the write
    itself, whose first answer was lost on the way.
    """
    if not isinstance(error, ClientError):
        return False
    echo = isinstance(error, _ECHOES)
    return mutation is None or not (echo and mutation.conditional)


def _is_lost_answer(error: BaseException) -> bool:
    return isinstance(error, ServiceUnavailable | SlowDown | TimeoutError | ConnectionError)


__all__ = ["GuardedBody", "Mutation", "Mutations", "Outcome", "stored"]
