"""Multipart uploads: the database knows them, the backend has their parts.

Clients see upload ids of ours. The write id of the object to be is chosen at the beginning and
stored with the upload on the backend, so a Complete whose end nobody has seen is settled like any
other write: by a look at the key. Any process takes any request for any upload.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from ..errors import (
    InvalidArgument,
    InvalidRequest,
    NoSuchUpload,
    QuotaExceeded,
    ServiceUnavailable,
)
from ..interfaces.storage import (
    Body,
    Checksum,
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
from . import signatures, sums, upload_listing, uploads
from .mutations import Mutations
from .records import BucketGoneError
from .upload_completion import Completer, Finder, naming
from .upload_sweep import Sweeper
from .uploads import Upload

if TYPE_CHECKING:
    from .bucket_registry import BucketRef, BucketRegistry
    from .state import State

#: How often a bucket is looked up anew that was deleted and created again meanwhile.
_ATTEMPTS = 3


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

    async def create(
        self, bucket: str, key: str, metadata: ObjectMetadata, checksum: Checksum | None
    ) -> str:
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
        inner = await self._inner.create_multipart_upload(
            bucket, key, metadata=named, checksum=checksum
        )
        try:
            await self._register(bucket, key.encode(), upload_id, inner, write_id, checksum)
        except BaseException:
            # Whoever is left to see the error, nobody knows the id.
            await self._state.journal.shielded(self._drop(bucket, key, inner))
            raise
        return upload_id

    async def _register(
        self,
        bucket: str,
        key: bytes,
        upload_id: str,
        inner: str,
        write_id: str,
        checksum: Checksum | None,
    ) -> None:
        signature = current_origin.get().signature
        for _ in range(_ATTEMPTS):
            place = await self._registry.resolve(bucket)

            def create(connection: Connection, number: int = place.number) -> None:
                now = self._database.now(connection)
                fresh = signature is not None and signatures.check(connection, now, signature)
                if not uploads.is_active(connection, number):
                    raise BucketGoneError
                if fresh and signature is not None:
                    signatures.claim(connection, now, signature)
                uploads.create(
                    connection,
                    now,
                    upload_id=upload_id,
                    bucket=number,
                    key=key,
                    inner=inner,
                    write_id=write_id,
                    checksum=checksum,
                )

            try:
                return await self._database.write(create, scope=place.number)
            except BucketGoneError:
                self._registry.forget(bucket)
        raise ServiceUnavailable("The bucket is being created or deleted. Please retry.")

    # --- parts ------------------------------------------------------------------------------

    async def upload_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        part_number: int,
        body: Body,
        size: int | None,
        checksum: Callable[[], Checksum | None] | None,
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
            present = 0
            if quota is not None:
                # What the upload will replace does not count, as in a PUT.
                row = sums.find(connection, place.number, key.encode())
                replaced = row.facts.size if row is not None and row.facts is not None else 0
                present = uploads.bucket_size(connection, place.number) - replaced
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
        with naming(upload_id):
            return await self._inner.upload_part(
                bucket, key, upload.inner, part_number, body, size=size, checksum=checksum
            )

    async def list_parts(
        self, bucket: str, key: str, upload_id: str, marker: int, max_parts: int
    ) -> PartPage:
        """Parts above the marker; none with ``max_parts=0``. Raises ``NoSuchUpload``."""
        upload = await self._find(bucket, key, upload_id, uploads.find_open)
        if max_parts < 1:
            return PartPage(checksum=upload.checksum)
        with naming(upload_id):
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

    async def complete(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[CompletedPart],
        condition: Condition | None,
        checksum: Checksum | None,
    ) -> ObjectInfo:
        """Assemble the listed parts; see ``Completer``."""
        completer = Completer(self._inner, self._mutations, self._find)
        return await completer.complete(bucket, key, upload_id, parts, condition, checksum)

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
        function: Finder,
    ) -> Upload:
        place: BucketRef = await self._registry.resolve(bucket)
        now = self._database.now
        return await self._database.read(
            lambda c: function(c, now(c), place.number, key.encode(), upload_id)
        )


__all__ = ["Multipart"]
