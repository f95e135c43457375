"""Ending multipart uploads that nobody will end any more.

Times are those of the database. What cannot be decided because somebody does not answer stays as
it is; an upload is given up only in a transaction that finds it open and idle still.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, or_, select

from ..errors import NoSuchBucket, NoSuchUpload
from ..interfaces.storage import StorageBackend, UploadInfo
from . import uploads
from .bucket_registry import read_identity
from .tables import buckets
from .tables import uploads as rows

if TYPE_CHECKING:
    from .state import State

#: Uploads that are taken up at once, and those that are forgotten in one transaction.
_BATCH = 1000


class Sweeper:
    """One pass over the uploads of one backend.

    Args:
        inner: Without the layer that records mutations.
    """

    def __init__(self, inner: StorageBackend, state: State, *, idle_seconds: float) -> None:
        self._inner = inner
        self._state = state
        self._database = state.database
        self._idle = idle_seconds
        self._here: dict[str, bool] = {}

    async def sweep(self) -> int:
        """See ``Multipart.sweep``."""
        await self._forget_done()
        aborted = 0
        async for row in self._ending():
            try:
                aborted += await self._end(row)
            except Exception as error:
                self._complain(error, bucket=row.name, upload=row.upload_id)
        for bucket in await self._database.read(self._own_buckets):
            try:
                aborted += await self._drop_unknown(bucket)
            except Exception as error:
                self._complain(error, bucket=bucket.name)
        return aborted

    def _complain(self, error: Exception, **fields: str) -> None:
        self._state.log.warning("uploads are swept later", reason=repr(error), **fields)

    async def _is_here(self, bucket: str, identity: str) -> bool:
        """Whether the name still stands for the bucket of this id, on this backend."""
        if identity not in self._here:
            try:
                found = await read_identity(self._inner, bucket)
            except NoSuchBucket:
                found = None
            self._here[identity] = found is not None and found.id == identity
        return self._here[identity]

    async def _drop(self, bucket: str, key: str, inner: str) -> None:
        with suppress(NoSuchUpload):
            await self._inner.abort_multipart_upload(bucket, key, inner)

    async def _newest_part(self, bucket: str, key: str, inner: str) -> float | None:
        """When the last part came, Unix seconds; None if there is no part."""
        newest, marker = None, 0
        while True:
            try:
                page = await self._inner.list_parts(
                    bucket, key, inner, part_number_marker=marker, max_parts=_BATCH
                )
            except NoSuchUpload:
                return None
            times = [part.last_modified.timestamp() for part in page.parts]
            newest = max(times if newest is None else [newest, *times], default=None)
            if page.next_marker is None:
                return newest
            marker = page.next_marker

    # --- uploads that the database knows ----------------------------------------------------

    async def _forget_done(self) -> None:
        def forget(connection: Connection) -> int:
            return uploads.forget_done(connection, self._database.now(connection), _BATCH)

        while await self._database.write(forget) == _BATCH:
            pass

    async def _ending(self) -> AsyncIterator[Any]:
        """Uploads that may be idle, and aborted ones that need not be remembered."""
        after = ""

        def read(connection: Connection) -> Sequence[Any]:
            now = self._database.now(connection)
            quiet = now - self._idle - uploads.TOUCH_SECONDS
            idle = and_(rows.c.state == "open", rows.c.since <= quiet)
            over = and_(rows.c.state == "aborted", rows.c.since <= now - uploads.REMEMBER_SECONDS)
            return connection.execute(
                select(rows, buckets.c.name, buckets.c.id)
                .join(buckets, buckets.c.number == rows.c.bucket)
                .where(buckets.c.state == "active", rows.c.upload_id > after, or_(idle, over))
                .order_by(rows.c.upload_id)
                .limit(_BATCH)
            ).all()

        while batch := await self._database.read(read):
            for row in batch:
                yield row
            after = batch[-1].upload_id

    async def _end(self, row: Any) -> bool:
        """Abort an idle upload, or forget an aborted one; True if it was aborted now."""
        if not await self._is_here(row.name, row.id):
            return False
        bucket, key = row.name, row.key.decode()
        if row.state == "aborted":
            # Once more: a part that was on its way may have come after the upload was dropped.
            await self._drop(bucket, key, row.inner)
            await self._database.write(
                lambda c: uploads.forget_aborted(c, row.upload_id), scope=row.bucket
            )
            return False
        newest = await self._newest_part(bucket, key, row.inner)

        def expire(connection: Connection) -> bool:
            now = self._database.now(connection)
            if newest is not None and now - newest < self._idle:
                return False
            return uploads.expire(connection, now, row.upload_id, self._idle)

        if not await self._database.write(expire, scope=row.bucket):
            return False
        self._state.log.info("idle upload aborted", bucket=bucket, key=key, upload=row.upload_id)
        await self._drop(bucket, key, row.inner)
        return True

    # --- uploads that only the backend knows ------------------------------------------------

    def _own_buckets(self, connection: Connection) -> Sequence[Any]:
        """Buckets in which nobody else opens uploads."""
        return connection.execute(
            select(buckets.c.number, buckets.c.name, buckets.c.id).where(
                buckets.c.state == "active", buckets.c.owner == self._state.deployment
            )
        ).all()

    async def _drop_unknown(self, bucket: Any) -> int:
        """Abort what processes opened that died before they could note it; returns how many."""
        if not await self._is_here(bucket.name, bucket.id):
            return 0
        dropped = 0
        marker = ("", "")
        while True:
            page = await self._inner.list_multipart_uploads(
                bucket.name,
                key_marker=marker[0],
                upload_id_marker=marker[1],
                max_uploads=_BATCH,
            )
            for upload in await self._unknown(bucket.number, page.uploads):
                await self._drop(bucket.name, upload.key, upload.upload_id)
                self._state.log.info("unknown upload aborted", bucket=bucket.name, key=upload.key)
                dropped += 1
            if page.next_marker is None:
                return dropped
            marker = page.next_marker

    async def _unknown(self, number: int, found: Sequence[UploadInfo]) -> Sequence[UploadInfo]:
        """Those that are old and not in the database.

        It is asked after the backend, so what is old enough is in it if it ever will be. Without
        a row there are no parts that a client could still complete.
        """

        def read(connection: Connection) -> Sequence[UploadInfo]:
            before = self._database.now(connection) - self._idle
            old = [upload for upload in found if upload.initiated.timestamp() <= before]
            if not old:
                return old
            names = rows.c.inner.in_([upload.upload_id for upload in old])
            query = select(rows.c.inner).where(rows.c.bucket == number, names)
            known = set(connection.execute(query).scalars())
            return [upload for upload in old if upload.upload_id not in known]

        return await self._database.read(read)


__all__ = ["Sweeper"]
