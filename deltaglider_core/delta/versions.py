"""Which version of an object is there: its form, its logical facts, conditions on it."""

from __future__ import annotations

from ..errors import IntegrityError, InvalidRange, NoSuchKey, ServiceUnavailable
from ..interfaces.storage import ByteRange, Condition, ObjectInfo, StorageBackend
from .container import PEEK, Head, has_magic, head_length, parse_head
from .forms import Stored, describe, describe_head, describe_verbatim, form_of

#: How often a look-up that needs several requests starts again when the object changes.
ATTEMPTS = 4

#: Bytes read to recognise a head; nearly always the whole head.
_PEEK_AHEAD = 4096


class ChangedError(ServiceUnavailable):
    """The object was overwritten between two requests for it; start again."""

    message = "The object was overwritten while it was being read. Please retry."


class Versions:
    """Look-ups on one backend."""

    def __init__(self, inner: StorageBackend) -> None:
        self._inner = inner

    async def head(self, bucket: str, key: str) -> Stored:
        """The present version.

        Raises:
            NoSuchBucket, NoSuchKey
            IntegrityError: Its metadata or its head make no sense.
        """
        return await self.resolve(bucket, await self._inner.head_object(bucket, key))

    async def resolve(self, bucket: str, info: ObjectInfo) -> Stored:
        """What ``info`` stands for; reads the beginning where no metadata states the form.

        ``info.metadata`` must not be None for lack of knowledge: a listing without metadata
        needs ``head``.
        """
        if form_of(info) is not None:
            return describe(info)
        if info.size < PEEK:
            return describe_verbatim(info)
        return await self.peek(bucket, info.key)

    async def peek(self, bucket: str, key: str) -> Stored:
        """The present version, recognised by its first bytes unless it states its form."""
        for _ in range(ATTEMPTS):
            try:
                info, start = await self._read(bucket, key, 0, _PEEK_AHEAD)
                if form_of(info) is not None:
                    return describe(info)
                if not has_magic(start):
                    return describe_verbatim(info)
                return describe_head(info, await self.read_head(bucket, info, start))
            except (ChangedError, InvalidRange):
                # An empty object has no range at all; otherwise somebody was faster.
                info = await self._inner.head_object(bucket, key)
                if info.size < PEEK:
                    return await self.resolve(bucket, info)
        raise ChangedError

    async def read_head(self, bucket: str, info: ObjectInfo, start: bytes) -> Head:
        """The head of the version ``info``, of which ``start`` has been read.

        Raises:
            ChangedError: Another version is there now.
            IntegrityError
        """
        length = head_length(start)
        if length > info.size:
            raise IntegrityError("head is longer than the object")
        if length > len(start):
            try:
                again, rest = await self._read(bucket, info.key, len(start), length)
            except InvalidRange as error:
                raise ChangedError from error
            if again.etag != info.etag:
                raise ChangedError
            start += rest
        return parse_head(start[:length])

    async def reference_of(self, bucket: str, stored: Stored) -> str | None:
        """SHA-256 (hex) of the reference of a version; None if it needs none.

        Raises:
            ChangedError: Another version is there now.
            NoSuchKey, IntegrityError
        """
        if stored.form != "delta" or stored.reference is not None:
            return stored.reference
        try:
            info, start = await self.start_of(bucket, stored.physical.key, stored.head)
        except InvalidRange as error:
            raise ChangedError from error
        if info.etag != stored.physical.etag:
            raise ChangedError
        head = await self.read_head(bucket, info, start)
        return describe_head(info, head).reference

    async def start_of(self, bucket: str, key: str, length: int) -> tuple[ObjectInfo, bytes]:
        """The present version and its first ``length`` bytes. Raises ``InvalidRange`` if empty."""
        return await self._read(bucket, key, 0, length)

    async def _read(self, bucket: str, key: str, start: int, stop: int) -> tuple[ObjectInfo, bytes]:
        span = ByteRange(first=start, last=stop - 1)
        async with await self._inner.get_object(bucket, key, byte_range=span) as reader:
            return reader.info, b"".join([chunk async for chunk in reader])

    async def physical(
        self, bucket: str, key: str, condition: Condition | None
    ) -> Condition | None:
        """Check a condition on the logical ETag, size and date; return what the backend enforces.

        The backend's condition names the version just looked at, so nothing can come between.

        Raises:
            PreconditionFailed
            NoSuchKey: ``if_match`` on an absent key.
        """
        if condition is None or not condition.names_version:
            return condition
        try:
            stored = await self.head(bucket, key)
        except NoSuchKey:
            condition.check(None)
            return Condition(if_none_match="*")
        condition.check(stored.logical)
        physical = stored.physical
        # An ETag names bytes: where the date counts, so does that of the version looked at.
        dated = condition.last_modified is not None
        return Condition(
            if_match=physical.etag, last_modified=physical.last_modified if dated else None
        )
