"""CompleteMultipartUpload for backends without multipart uploads of their own.

The multipart ETag. S3 gives an assembled object the ETag ``md5(part MD5s)-N``, known before
the first byte is written; the object itself is written by ``put_object``, for which the
backend shows an ETag of its own. So Complete stores the multipart ETag as
``metadata.internal["etag"]`` and returns it in ``ObjectInfo.etag``; mapping the stored value
in HEAD, GET and listings is up to the layer that owns logical ETags (the delta layer does it
for objects of any form). On a bare backend the two differ: there, ``internal["etag"]`` of a
HEAD equals what Complete answered.

What a Complete guarantees:

- Each part is read once, one at a time, and must still have the ETag and size that were
  checked; a part replaced meanwhile fails the call and nothing becomes visible.
- Right before the last bytes reach ``put_object`` the record is moved to COMMITTING. That is
  the moment at which it wins over other Completes and over Abort: the loser stores nothing.
- The checksum of the object is put together from those of its parts, which were verified or
  computed when they came, and compared with what the client says, before a byte is written.
  Those that are not known are computed while the parts are read; then it is compared before the
  last bytes reach ``put_object``. See ``assembled``.
- Afterwards the record says DONE, so that a repeated call gives the same answer, also after
  the key was overwritten, and never writes again.

A process that dies between claim and commit leaves an upload that can be completed or aborted
two minutes later; where the state records writes, it can be completed as soon as the intent of
the dead process is settled. On backends without conditional writes, and while a backend commits
for longer than that, two processes can both commit; they commit the same bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from ..errors import (
    IntegrityError,
    InvalidPart,
    InvalidRequest,
    NoSuchKey,
    S3Error,
    ServiceUnavailable,
)
from ..interfaces.storage import (
    Checksum,
    CompletedPart,
    Condition,
    ObjectInfo,
    PartInfo,
    StorageBackend,
)
from ..interfaces.writes import current_write
from ..tasks import run_blocking
from .assembled import Assembled, without_parts
from .parts import part_fields, present_parts
from .uploads import (
    Record,
    State,
    SupersededError,
    find,
    fingerprint,
    part_key,
    remove,
    sweep,
    transition,
)

#: How long a Complete waits for another one of the same upload that is committing.
_PATIENCE_SECONDS = 30.0
_POLL_SECONDS = (0.02, 1.0)


async def complete_multipart_upload(
    backend: StorageBackend,
    bucket: str,
    key: str,
    upload_id: str,
    parts: Sequence[CompletedPart],
    condition: Condition | None,
    checksum: Checksum | None,
) -> ObjectInfo:
    """Assemble the listed parts; see the module for what is guaranteed."""
    listed = await run_blocking(fingerprint, parts)
    record = await _settled(backend, bucket, key, upload_id, listed)
    if record.state is State.DONE:
        return _answer(record, listed)
    assembly = _Assembly(backend, bucket, record, listed)
    try:
        stored = await present_parts(backend, bucket, upload_id, parts)
        whole = await run_blocking(
            Assembled,
            record,
            parts,
            stored,
            claimed=checksum,
            capabilities=backend.capabilities,
        )
        body = assembly.body([(part, stored[part.part_number]) for part in parts], whole)
        async with contextlib.aclosing(body):  # a backend that refuses may not have read it
            info = await backend.put_object(
                bucket, key, body, size=whole.size, metadata=whole.metadata, condition=condition
            )
    except (S3Error, SupersededError) as error:
        if not await assembly.release():
            raise
        # Another Complete may have won and deleted the parts under our hands.
        record = await _settled(backend, bucket, key, upload_id, listed)
        if record.state is State.DONE:
            return _answer(record, listed)
        if isinstance(error, SupersededError):
            raise ServiceUnavailable("The upload is in use by another request.") from error
        raise
    except BaseException:
        await assembly.release()
        raise
    # Without the table of its parts, which the record does not keep for a repetition.
    metadata = without_parts(whole.metadata.completed())
    info = replace(info, etag=whole.etag, metadata=metadata)
    # The object is stored: a client that goes away now must not leave the claim standing.
    if await asyncio.shield(assembly.finish(info)):
        await remove(backend, bucket, upload_id, keep_record=True)
        await sweep(backend, bucket, upload_id)
    return info


def _answer(record: Record, listed: str) -> ObjectInfo:
    """What the Complete that did the work answered."""
    if record.parts != listed:
        raise InvalidPart(fields={"UploadId": record.upload_id})
    if record.last_modified is None:
        raise IntegrityError(f"The record of upload {record.upload_id} has no date.")
    return ObjectInfo(
        key=record.key,
        size=record.size,
        etag=record.etag,
        last_modified=record.last_modified,
        metadata=replace(
            record.metadata,
            internal={
                **record.metadata.internal,
                "etag": record.etag,
                **({"checksum": record.checksum} if record.checksum else {}),
            },
        ),
    )


async def _settled(
    backend: StorageBackend, bucket: str, key: str, upload_id: str, listed: str
) -> Record:
    """The record, once no live request is committing the same part list.

    Under an intent of the state there is none: the intents of an upload follow one another, so
    a claim that stands was left by a process that has died.

    Raises:
        NoSuchUpload
        InvalidRequest: Another part list is being completed.
        ServiceUnavailable: It took too long.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    delay, longest = _POLL_SECONDS
    while True:
        record = await find(backend, bucket, key, upload_id)
        if not record.claimed or current_write.get() is not None:
            return record
        if record.parts != listed:
            raise InvalidRequest("The upload is being completed with another list of parts.")
        if time.monotonic() > deadline:
            raise ServiceUnavailable("The upload is being completed by another request.")
        await asyncio.sleep(delay)
        delay = min(2 * delay, longest)


class _Assembly:
    """One attempt to turn the parts of an upload into its object."""

    def __init__(self, backend: StorageBackend, bucket: str, record: Record, listed: str) -> None:
        self._backend = backend
        self._bucket = bucket
        self._open = replace(record, state=State.OPEN)
        self._record = replace(record, parts=listed)
        self._claimed = False

    async def body(
        self, parts: Sequence[tuple[CompletedPart, PartInfo]], whole: Assembled
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of all parts; the last chunk leaves after the claim only.

        Before that, they have the checksums that they are said to have.
        """
        held = b""
        for part, expected in parts:
            hasher = whole.hasher(part)
            async with contextlib.aclosing(self._part(part, expected)) as chunks:
                async for chunk in chunks:
                    if held:
                        yield held
                    held = chunk
                    if hasher is not None:
                        await hasher.update(chunk)
            if hasher is not None:
                whole.hashed(part, hasher)
        await whole.finish()
        await self._claim()
        if held:
            yield held

    async def _part(self, part: CompletedPart, expected: PartInfo) -> AsyncGenerator[bytes, None]:
        upload_id = self._record.upload_id
        fields = part_fields(upload_id, part)
        try:
            reader = await self._backend.get_object(
                self._bucket, part_key(upload_id, part.part_number)
            )
        except NoSuchKey as error:
            raise InvalidPart(fields=fields) from error
        async with reader:
            if reader.info.etag != expected.etag or reader.info.size != expected.size:
                raise InvalidPart(fields=fields)
            remaining = expected.size
            async for chunk in reader:
                remaining -= len(chunk)
                if chunk:
                    yield chunk
            if remaining:
                raise IntegrityError(
                    f"Part {part.part_number} of upload {upload_id} is {remaining} bytes off."
                )

    async def _claim(self) -> None:
        claim = replace(self._record, state=State.COMMITTING)
        self._record = await transition(self._backend, self._bucket, self._record, claim)
        self._claimed = True

    async def release(self) -> bool:
        """After a failure: the upload is open again.

        False if the claim could not be given up; it ages, and is void two minutes later.
        """
        if self._claimed:
            try:
                await transition(self._backend, self._bucket, self._record, self._open)
            except SupersededError:
                return True
            except (S3Error, OSError):
                return False
        return True

    async def finish(self, info: ObjectInfo) -> bool:
        """Record the answer; False if that failed.

        The call succeeds in any case. Without the record the parts stay, and a repeated
        Complete assembles the same object again.
        """
        done = replace(
            self._record,
            state=State.DONE,
            etag=info.etag,
            size=info.size,
            last_modified=info.last_modified,
            checksum="" if info.metadata is None else info.metadata.internal.get("checksum", ""),
        )
        try:
            await transition(self._backend, self._bucket, self._record, done)
        except (S3Error, OSError, SupersededError):
            return False
        return True
