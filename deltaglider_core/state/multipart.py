"""Multipart uploads: the database knows them, the backend has their parts.

Clients see upload ids of ours. The write id of the object to be is chosen at the beginning and
stored with the upload on the backend, so a Complete whose end nobody has seen is settled like any
other write: by a look at the key. Any process takes any request for any upload.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from ..backend_defaults.uploads import fingerprint
from ..errors import (
    InvalidArgument,
    InvalidPart,
    InvalidRequest,
    NoSuchUpload,
    QuotaExceeded,
    S3Error,
    ServiceUnavailable,
)
from ..interfaces.storage import (
    Body,
    CompletedPart,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    PartInfo,
    PartPage,
    StorageBackend,
    UploadPage,
)
from ..origin import current_origin
from ..tasks import run_blocking
from . import signatures, upload_listing, uploads
from .intents import BucketGoneError
from .mutations import Mutation, Mutations, Outcome, stored
from .upload_sweep import Sweeper
from .uploads import Upload, UploadChangedError, no_such_upload
from .writes import ActiveWrite

if TYPE_CHECKING:
    from .bucket_registry import BucketRef, BucketRegistry
    from .state import State

#: How often a bucket is looked up anew that was deleted and created again meanwhile.
_ATTEMPTS = 3

#: How long a Complete waits for another one of the same upload.
_PATIENCE_SECONDS = 30.0
_POLL_SECONDS = (0.02, 1.0)

_PAGE = 1000


class Multipart:
    """The multipart uploads of one backend.

    Args:
        inner: Without the layer that records mutations.
        quota: Most logical bytes of a bucket, by the name that clients use; None without one.
    """

    def __init__(
        self,
        inner: StorageBackend,
        registry: BucketRegistry,
        mutations: Mutations,
        state: State,
        quota: Callable[[str], int | None],
    ) -> None:
        self._inner = inner
        self._registry = registry
        self._mutations = mutations
        self._state = state
        self._database = state.database
        self._quota = quota

    # --- create -----------------------------------------------------------------------------

    async def create(self, bucket: str, key: str, metadata: ObjectMetadata) -> str:
        """Open an upload and return its id, 32 hex digits.

        Raises:
            NoSuchBucket, ReplayedRequest
            QuotaExceeded: Nothing may be written to the bucket.
        """
        self._state.check()
        if self._quota_of(bucket) == 0:
            raise QuotaExceeded("The quota of the bucket is 0: nothing can be written to it.")
        write_id, upload_id = secrets.token_hex(16), secrets.token_hex(16)
        named = replace(metadata, internal={**metadata.internal, "write-id": write_id})
        inner = await self._inner.create_multipart_upload(bucket, key, metadata=named)
        try:
            await self._register(bucket, key.encode(), upload_id, inner, write_id)
        except BaseException:
            # Whoever is left to see the error, nobody knows the id.
            await self._state.journal.shielded(self._drop(bucket, key, inner))
            raise
        return upload_id

    async def _register(
        self, bucket: str, key: bytes, upload_id: str, inner: str, write_id: str
    ) -> None:
        signature = current_origin.get().signature
        for _ in range(_ATTEMPTS):
            place = await self._registry.resolve(bucket)

            def create(connection: Connection, number: int = place.number) -> None:
                now = self._database.now(connection)
                if signature is not None:
                    signatures.check(connection, now, signature)
                if not uploads.is_active(connection, number):
                    raise BucketGoneError
                if signature is not None:
                    signatures.claim(connection, now, signature)
                uploads.create(
                    connection,
                    now,
                    upload_id=upload_id,
                    bucket=number,
                    key=key,
                    inner=inner,
                    write_id=write_id,
                )

            try:
                return await self._database.write(create, scope=place.number)
            except BucketGoneError:
                self._registry.forget(bucket)
        raise ServiceUnavailable("The bucket is being created or deleted. Please retry.")

    # --- parts ------------------------------------------------------------------------------

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, part_number: int, body: Body, size: int | None
    ) -> PartInfo:
        """Store a part.

        Raises:
            NoSuchUpload
            InvalidRequest: The upload is being completed.
            QuotaExceeded: The part alone would exceed the quota; what is written meanwhile, and
                the other parts, are counted by Complete.
        """
        self._state.check()
        quota = self._quota_of(bucket)
        place = await self._registry.resolve(bucket)

        def look(connection: Connection) -> tuple[Upload, bool, int]:
            now = self._database.now(connection)
            found = uploads.find_open(connection, now, place.number, key.encode(), upload_id)
            present = 0 if quota is None else uploads.bucket_size(connection, place.number)
            return found, now - found.since > uploads.TOUCH_SECONDS, present

        upload, is_stale, present = await self._database.read(look)
        if upload.state == "completing":
            raise InvalidRequest("The upload is being completed.")
        if quota is not None and present + (size or 0) > quota:
            raise QuotaExceeded(
                f"The bucket has a quota of {quota} bytes and holds {present}; there is no room "
                f"for a part of {size or 0} bytes."
            )
        if is_stale:
            await self._database.write(
                lambda c: uploads.touch(c, self._database.now(c), upload_id), scope=place.number
            )
        with _naming(upload_id):
            return await self._inner.upload_part(
                bucket, key, upload.inner, part_number, body, size=size
            )

    async def list_parts(
        self, bucket: str, key: str, upload_id: str, marker: int, max_parts: int
    ) -> PartPage:
        """Parts above the marker. Raises ``NoSuchUpload``."""
        upload = await self._find(bucket, key, upload_id, uploads.find_open)
        with _naming(upload_id):
            return await self._inner.list_parts(
                bucket, key, upload.inner, part_number_marker=marker, max_parts=max_parts
            )

    async def list_uploads(
        self,
        bucket: str,
        prefix: str,
        delimiter: str,
        key_marker: str,
        upload_id_marker: str,
        max_uploads: int,
    ) -> UploadPage:
        """Open uploads above ``(key_marker, upload_id_marker)``.

        Raises:
            NoSuchBucket
            InvalidArgument: The upload id marker cannot be an upload id.
        """
        place = await self._registry.resolve(bucket)
        if upload_id_marker and not uploads.is_upload_id(upload_id_marker):
            raise InvalidArgument(
                "Invalid uploadId marker",
                fields={"ArgumentName": "upload-id-marker", "ArgumentValue": upload_id_marker},
            )
        if max_uploads < 1:
            return UploadPage()
        query = upload_listing.Query(
            bucket=place.number,
            prefix=prefix,
            delimiter=delimiter,
            key_marker=key_marker,
            upload_id_marker=upload_id_marker,
            max_uploads=max_uploads,
        )
        return await self._database.read(lambda c: upload_listing.list_uploads(c, query))

    # --- complete ---------------------------------------------------------------------------

    async def complete(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[CompletedPart],
        condition: Condition | None,
    ) -> ObjectInfo:
        """Assemble the listed parts.

        A repetition within 15 minutes gives the same answer and writes nothing; at the same time
        as another one with the same list it waits for that.

        Raises:
            NoSuchUpload, InvalidPart, EntityTooSmall, PreconditionFailed, QuotaExceeded
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
                try:
                    return await self._complete(bucket, key, upload, parts, listed, condition)
                except UploadChangedError:
                    continue
            if upload.parts != listed:
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
    ) -> ObjectInfo:
        async def work(write: ActiveWrite) -> Outcome[ObjectInfo]:
            return stored(
                await self._inner.complete_multipart_upload(
                    bucket, key, upload.inner, parts, condition=condition
                )
            )

        with _naming(upload.upload_id):
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

    # --- the end ----------------------------------------------------------------------------

    async def abort(self, bucket: str, key: str, upload_id: str) -> None:
        """End an upload and drop its parts; those that cannot be dropped now are swept later.

        Raises:
            NoSuchUpload
            InvalidRequest: It is being completed.
        """
        self._state.check()
        place = await self._registry.resolve(bucket)

        def abort(connection: Connection) -> str:
            now = self._database.now(connection)
            return uploads.abort(connection, now, place.number, key.encode(), upload_id)

        inner = await self._database.write(abort, scope=place.number)
        await self._state.journal.shielded(self._drop(bucket, key, inner))

    async def _drop(self, bucket: str, key: str, inner: str) -> None:
        try:
            await self._inner.abort_multipart_upload(bucket, key, inner)
        except NoSuchUpload:
            return
        except Exception as error:
            self._state.log.warning(
                "parts are deleted later", bucket=bucket, key=key, reason=repr(error)
            )

    async def sweep(self, *, idle_seconds: float) -> int:
        """Abort idle uploads, delete what aborted ones left, and forget finished ones.

        Safe at any time and in several processes at once. What fails is logged and left to the
        next pass.

        Args:
            idle_seconds: Age of an upload, and of its newest part, at which it is aborted.

        Returns:
            How many uploads were aborted.

        Raises:
            StateUnavailable
        """
        return await Sweeper(self._inner, self._state, idle_seconds=idle_seconds).sweep()

    # --- both -------------------------------------------------------------------------------

    def _quota_of(self, bucket: str) -> int | None:
        return self._quota(current_origin.get().bucket or bucket)

    async def _find(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        function: Callable[[Connection, float, int, bytes, str], Upload],
    ) -> Upload:
        place: BucketRef = await self._registry.resolve(bucket)
        now = self._database.now
        return await self._database.read(
            lambda c: function(c, now(c), place.number, key.encode(), upload_id)
        )


@contextmanager
def _naming(upload_id: str) -> Iterator[None]:
    """Let errors of the backend name the upload as the client does."""
    try:
        yield
    except NoSuchUpload as error:
        raise no_such_upload(upload_id) from error
    except S3Error as error:
        if "UploadId" in error.fields:
            error.fields["UploadId"] = upload_id
        raise


__all__ = ["Multipart"]
