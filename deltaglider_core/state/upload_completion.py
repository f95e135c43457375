"""CompleteMultipartUpload: once, whoever asks, however often."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from sqlalchemy import Connection

from ..backend_defaults.uploads import fingerprint
from ..errors import InvalidPart, InvalidRequest, NoSuchUpload, S3Error, ServiceUnavailable
from ..interfaces.storage import Checksum, CompletedPart, Condition, ObjectInfo, StorageBackend
from ..tasks import run_blocking
from . import uploads
from .mutations import Mutation, Mutations, Outcome, stored
from .uploads import Upload, UploadChangedError, no_such_upload
from .writes import ActiveWrite

#: ``find`` or ``find_open`` of ``uploads``.
Finder = Callable[[Connection, float, int, bytes, str], Upload]

#: How long a Complete waits for another one of the same upload.
_PATIENCE_SECONDS = 30.0
_POLL_SECONDS = (0.02, 1.0)

_PAGE = 1000


class Completer:
    """Completes uploads of one backend.

    Args:
        inner: Without the layer that records mutations.
        find: Looks an upload up by bucket, key, id and what may be found.
    """

    def __init__(
        self,
        inner: StorageBackend,
        mutations: Mutations,
        find: Callable[[str, str, str, Finder], Awaitable[Upload]],
    ) -> None:
        self._inner = inner
        self._mutations = mutations
        self._find = find

    async def complete(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[CompletedPart],
        condition: Condition | None,
        checksum: Checksum | None,
    ) -> ObjectInfo:
        """Assemble the listed parts.

        Args:
            checksum: What the client says that of the object is.

        A repetition within 15 minutes gives the same answer and writes nothing; at the same time
        as another one with the same list it waits for that.

        Raises:
            NoSuchUpload, InvalidPart, EntityTooSmall, PreconditionFailed, QuotaExceeded, BadDigest
            InvalidRequest: The upload is being completed with another list.
            ServiceUnavailable: Another Complete takes too long.
        """
        listed = await run_blocking(fingerprint, parts)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_SECONDS
        delay, longest = _POLL_SECONDS
        while True:
            upload = await self._find(bucket, key, upload_id, uploads.find)
            if upload.state == "done":
                if upload.parts != listed:
                    raise InvalidPart(fields={"UploadId": upload_id})
                return upload.completed_object()
            if upload.state == "open":
                # Somebody else may begin or end it first.
                with suppress(UploadChangedError):
                    return await self._complete(
                        bucket, key, upload, parts, listed, condition, checksum
                    )
            elif upload.parts != listed:
                raise InvalidRequest("The upload is being completed with another list of parts.")
            if loop.time() > deadline:
                raise ServiceUnavailable("The upload is being completed by another request.")
            await asyncio.sleep(delay)
            delay = min(2 * delay, longest)

    async def _complete(
        self,
        bucket: str,
        key: str,
        upload: Upload,
        parts: Sequence[CompletedPart],
        listed: str,
        condition: Condition | None,
        checksum: Checksum | None,
    ) -> ObjectInfo:
        async def work(write: ActiveWrite) -> Outcome[ObjectInfo]:
            return stored(
                await self._inner.complete_multipart_upload(
                    bucket, key, upload.inner, parts, condition=condition, checksum=checksum
                )
            )

        with naming(upload.upload_id):
            size = await self._size(bucket, key, upload, parts)
            return await self._mutations.run(
                Mutation(
                    bucket=bucket,
                    key=key,
                    kind="complete",
                    event="ObjectCreated",
                    size=size,
                    work=work,
                    recover=stored,
                    conditional=True,
                    write_id=upload.write_id,
                    upload=upload.upload_id,
                    parts=listed,
                )
            )

    async def _size(
        self, bucket: str, key: str, upload: Upload, parts: Sequence[CompletedPart]
    ) -> int:
        """Bytes of the object to be; parts that are not there are for the backend to refuse.

        Raises:
            NoSuchUpload
            UploadChangedError: It was completed meanwhile.
        """
        sizes = [part.size for part in parts if part.size is not None]
        if len(sizes) == len(parts):
            return sum(sizes)
        wanted = {part.part_number for part in parts}
        size, marker = 0, 0
        while True:
            try:
                page = await self._inner.list_parts(
                    bucket, key, upload.inner, part_number_marker=marker, max_parts=_PAGE
                )
            except NoSuchUpload:
                now = await self._find(bucket, key, upload.upload_id, uploads.find)
                if now.state != "open":
                    raise UploadChangedError from None
                raise
            size += sum(part.size for part in page.parts if part.part_number in wanted)
            if page.next_marker is None:
                return size
            marker = page.next_marker


@contextmanager
def naming(upload_id: str) -> Iterator[None]:
    """Let errors of the backend name the upload as the client does."""
    try:
        yield
    except NoSuchUpload as error:
        raise no_such_upload(upload_id) from error
    except S3Error as error:
        if "UploadId" in error.fields:
            error.fields["UploadId"] = upload_id
        raise


__all__ = ["Completer", "Finder", "naming"]
