"""What a storage backend and a storage layer implement.

Terms are those of S3. Bodies are asynchronous iterators of bytes in both directions; no
implementation may hold an object in memory. A look-up has three answers: present, absent
(``NoSuchKey``, ``NoSuchBucket``), or an error. An error is never reported as absence.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..errors import InvalidRange
from .contribution import Contribution

Body = AsyncIterator[bytes]

#: Keys below this prefix of every bucket belong to DeltaGlider; clients never see them.
RESERVED_PREFIX = ".deltaglider/"

#: Response headers that S3 stores with an object, besides ``x-amz-meta-*``.
STORED_HEADERS = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What a backend does natively. A declared capability must hold; the testkit checks it.

    Attributes:
        conditional_writes: ``put_object`` and ``complete_multipart_upload`` decide their
            condition atomically against concurrent writers, in all processes.
        conditional_deletes: The same for ``delete_object``.
        native_multipart: Overrides the multipart methods of the base class.
        server_side_copy: ``copy_object`` moves no bytes through this process.
        listing_metadata: Entries of ``list_objects`` carry ``metadata``.
        max_metadata_bytes: Most bytes of metadata (names and values) per object, or None.
    """

    conditional_writes: bool = False
    conditional_deletes: bool = False
    native_multipart: bool = False
    server_side_copy: bool = False
    listing_metadata: bool = False
    max_metadata_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketInfo:
    """A bucket: its name and creation time (aware, UTC)."""

    name: str
    created: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectMetadata:
    """What is stored beside the bytes of an object.

    Attributes:
        headers: Lower-case names out of ``STORED_HEADERS``.
        user: The client's ``x-amz-meta-*``, names lower-case and without that prefix.
        internal: Ours (write id, stored form, logical size). Stored apart from ``user``: no
            client can set or see a name in here.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    user: Mapping[str, str] = field(default_factory=dict)
    internal: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectInfo:
    """An object as a listing or a HEAD shows it.

    Attributes:
        key: The decoded key.
        size: Length in bytes.
        etag: Without quotes: an MD5 in hex, ``<hex>-<parts>``, or another opaque token.
        last_modified: Aware, UTC.
        metadata: None where a listing does not carry it.
    """

    key: str
    size: int
    etag: str
    last_modified: datetime
    metadata: ObjectMetadata | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ByteRange:
    """One range as RFC 9110 section 14.1.2 writes it, not yet held against a size.

    ``first=2, last=5`` is ``bytes=2-5``; ``first=2, last=None`` is ``bytes=2-``;
    ``first=None, last=5`` is the last five bytes, ``bytes=-5``.
    """

    first: int | None
    last: int | None

    def __str__(self) -> str:
        return "bytes={}-{}".format(
            "" if self.first is None else self.first, "" if self.last is None else self.last
        )

    def resolve(self, size: int) -> tuple[int, int]:
        """Return ``(start, stop)``, half open, within an object of ``size`` bytes.

        Raises:
            InvalidRange: If no byte of the object is in the range.
        """
        if self.first is None:
            length = min(self.last or 0, size)
            if length <= 0:
                raise InvalidRange(size=size, requested=str(self))
            return size - length, size
        if self.first >= size:
            raise InvalidRange(size=size, requested=str(self))
        stop = size if self.last is None else min(self.last + 1, size)
        return self.first, stop


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """What must hold of the present object when a write or delete commits.

    ETags are compared without quotes, against the ETag that this same interface reports.
    ``"*"`` means any object. A condition that does not hold raises ``PreconditionFailed``;
    ``if_match`` on an absent key raises ``NoSuchKey``.
    """

    if_match: str | None = None
    if_none_match: str | None = None


class ObjectReader:
    """An opened object: its facts, and its bytes as an asynchronous iterator.

    Args:
        info: The object as it was when it was opened; the bytes belong to just that version.
        chunks: Yields the bytes of ``[start, stop)``.
        start: First byte delivered.
        stop: One past the last byte delivered; ``info.size`` without a range.
        close: Frees what the reader holds; called exactly once, also if nothing was read.
    """

    def __init__(
        self,
        info: ObjectInfo,
        chunks: Body,
        *,
        start: int = 0,
        stop: int | None = None,
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.info = info
        self.start = start
        self.stop = info.size if stop is None else stop
        self._chunks = chunks
        self._close = close
        self._closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks

    async def __aenter__(self) -> ObjectReader:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop reading and free what is held. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        try:
            aclose = getattr(self._chunks, "aclose", None)
            if aclose is not None:
                await aclose()
        finally:
            if self._close is not None:
                await self._close()


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectPage:
    """One page of a listing, in byte order of the UTF-8 keys.

    Attributes:
        objects: Keys that are not rolled up.
        prefixes: Rolled-up common prefixes; they end with the delimiter.
        next_after: ``start_after`` of the next page, or None when this is the last one.
            It is the greatest entry of this page.
    """

    objects: Sequence[ObjectInfo] = ()
    prefixes: Sequence[str] = ()
    next_after: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PartInfo:
    """A part of an open multipart upload; ``etag`` without quotes, times aware UTC."""

    part_number: int
    etag: str
    size: int
    last_modified: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletedPart:
    """A part as the client lists it in CompleteMultipartUpload; ``etag`` without quotes."""

    part_number: int
    etag: str


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadInfo:
    """An open multipart upload."""

    key: str
    upload_id: str
    initiated: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class PartPage:
    """Parts in ascending order; ``next_marker`` is the last number when more follow."""

    parts: Sequence[PartInfo] = ()
    next_marker: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadPage:
    """Uploads ordered by key, then upload id; ``next_marker`` when more follow."""

    uploads: Sequence[UploadInfo] = ()
    prefixes: Sequence[str] = ()
    next_marker: tuple[str, str] | None = None


class StorageBackend(abc.ABC):
    """Objects in buckets: the ten methods below suffice for a complete S3 service.

    Copy, batch delete and multipart uploads have defaults built on the ten: slower, never
    wrong, and never with an object in memory.
    """

    @property
    @abc.abstractmethod
    def capabilities(self) -> Capabilities:
        """What this backend does natively."""

    @abc.abstractmethod
    async def list_buckets(self) -> Sequence[BucketInfo]:
        """All buckets, sorted by name."""

    @abc.abstractmethod
    async def create_bucket(self, bucket: str) -> None:
        """Create it. Raises ``BucketAlreadyOwnedByYou`` if it exists."""

    @abc.abstractmethod
    async def head_bucket(self, bucket: str) -> BucketInfo:
        """Raises ``NoSuchBucket``."""

    @abc.abstractmethod
    async def delete_bucket(self, bucket: str) -> None:
        """Delete an empty bucket. Raises ``NoSuchBucket``, ``BucketNotEmpty``."""

    @abc.abstractmethod
    async def put_object(
        self,
        bucket: str,
        key: str,
        body: Body,
        *,
        size: int | None,
        metadata: ObjectMetadata,
        condition: Condition | None = None,
    ) -> ObjectInfo:
        """Store an object, atomically and durably, replacing the present one.

        The object becomes visible only after the body has ended without an error, and when
        this returns it survives a power cut. An exception from ``body`` leaves no trace and
        propagates. ``size`` is the number of bytes to come, or None if unknown.

        Raises:
            NoSuchBucket, PreconditionFailed, NoSuchKey: The last one for ``if_match`` on an
                absent key.
            IncompleteBody: The body ended before or went beyond ``size``.
            InsufficientStorage: No room left.
        """

    @abc.abstractmethod
    async def get_object(
        self, bucket: str, key: str, *, byte_range: ByteRange | None = None
    ) -> ObjectReader:
        """Open an object; facts and bytes belong to one version even if it is overwritten.

        Raises:
            NoSuchBucket, NoSuchKey
            InvalidRange: With the size of the object.
        """

    @abc.abstractmethod
    async def head_object(self, bucket: str, key: str) -> ObjectInfo:
        """Raises ``NoSuchBucket``, ``NoSuchKey``."""

    @abc.abstractmethod
    async def delete_object(
        self, bucket: str, key: str, *, condition: Condition | None = None
    ) -> bool:
        """Delete; True if there was something. An absent key is no error.

        Raises:
            NoSuchBucket
            PreconditionFailed: ``condition.if_match`` differs.
        """

    @abc.abstractmethod
    async def list_objects(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        start_after: str = "",
        max_keys: int = 1000,
    ) -> ObjectPage:
        """One page, sorted; only entries (keys or common prefixes) above ``start_after``.

        ``max_keys`` (at least 1) counts keys and common prefixes together.
        """

    # --- defaults -----------------------------------------------------------------------

    async def copy_object(
        self,
        source_bucket: str,
        source_key: str,
        bucket: str,
        key: str,
        *,
        source_etag: str | None = None,
        metadata: ObjectMetadata | None = None,
        condition: Condition | None = None,
    ) -> ObjectInfo:
        """Copy within this backend; ``metadata=None`` keeps the source's.

        Raises:
            PreconditionFailed: The source no longer has ``source_etag``.
        """
        from . import _defaults

        return await _defaults.copy_object(
            self, source_bucket, source_key, bucket, key, source_etag, metadata, condition
        )

    async def probe(self) -> None:
        """Check that the backend can be used; raises ``ServiceUnavailable`` with the reason."""
        await self.list_buckets()

    # --- multipart: defaults keep parts as objects below RESERVED_PREFIX -------------------

    async def create_multipart_upload(
        self, bucket: str, key: str, *, metadata: ObjectMetadata
    ) -> str:
        """Open an upload and return its id (no ``/``)."""
        from . import _defaults

        return await _defaults.create_multipart_upload(self, bucket, key, metadata)

    async def upload_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        part_number: int,
        body: Body,
        *,
        size: int | None,
    ) -> PartInfo:
        """Store a part (1 to 10,000), replacing one of that number. Raises ``NoSuchUpload``."""
        from . import _defaults

        return await _defaults.upload_part(self, bucket, key, upload_id, part_number, body, size)

    async def list_parts(
        self, bucket: str, key: str, upload_id: str, *, part_number_marker: int = 0, max_parts: int
    ) -> PartPage:
        """Parts above the marker. Raises ``NoSuchUpload``."""
        from . import _defaults

        return await _defaults.list_parts(
            self, bucket, key, upload_id, part_number_marker, max_parts
        )

    async def list_multipart_uploads(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        upload_id_marker: str = "",
        max_uploads: int = 1000,
    ) -> UploadPage:
        """Open uploads above ``(key_marker, upload_id_marker)``."""
        from . import _defaults

        return await _defaults.list_multipart_uploads(
            self, bucket, prefix, delimiter, key_marker, upload_id_marker, max_uploads
        )

    async def complete_multipart_upload(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[CompletedPart],
        *,
        condition: Condition | None = None,
    ) -> ObjectInfo:
        """Assemble the listed parts; repeating a successful call gives the same answer.

        Raises:
            NoSuchUpload, InvalidPart, EntityTooSmall, PreconditionFailed
        """
        from . import _defaults

        return await _defaults.complete_multipart_upload(
            self, bucket, key, upload_id, parts, condition
        )

    async def abort_multipart_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """Drop an upload and its parts. Raises ``NoSuchUpload``."""
        from . import _defaults

        await _defaults.abort_multipart_upload(self, bucket, key, upload_id)


class StorageLayer(StorageBackend):
    """A backend around another one. Forwards every method by name; override what you change.

    A test compares this class with ``StorageBackend``: a default that is not forwarded would
    silently read whole objects through this process.
    """

    def __init__(self, inner: StorageBackend) -> None:
        self.inner = inner

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    async def list_buckets(self) -> Sequence[BucketInfo]:
        return await self.inner.list_buckets()

    async def create_bucket(self, bucket: str) -> None:
        await self.inner.create_bucket(bucket)

    async def head_bucket(self, bucket: str) -> BucketInfo:
        return await self.inner.head_bucket(bucket)

    async def delete_bucket(self, bucket: str) -> None:
        await self.inner.delete_bucket(bucket)

    async def put_object(
        self,
        bucket: str,
        key: str,
        body: Body,
        *,
        size: int | None,
        metadata: ObjectMetadata,
        condition: Condition | None = None,
    ) -> ObjectInfo:
        return await self.inner.put_object(
            bucket, key, body, size=size, metadata=metadata, condition=condition
        )

    async def get_object(
        self, bucket: str, key: str, *, byte_range: ByteRange | None = None
    ) -> ObjectReader:
        return await self.inner.get_object(bucket, key, byte_range=byte_range)

    async def head_object(self, bucket: str, key: str) -> ObjectInfo:
        return await self.inner.head_object(bucket, key)

    async def delete_object(
        self, bucket: str, key: str, *, condition: Condition | None = None
    ) -> bool:
        return await self.inner.delete_object(bucket, key, condition=condition)

    async def list_objects(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        start_after: str = "",
        max_keys: int = 1000,
    ) -> ObjectPage:
        return await self.inner.list_objects(
            bucket,
            prefix=prefix,
            delimiter=delimiter,
            start_after=start_after,
            max_keys=max_keys,
        )

    async def copy_object(
        self,
        source_bucket: str,
        source_key: str,
        bucket: str,
        key: str,
        *,
        source_etag: str | None = None,
        metadata: ObjectMetadata | None = None,
        condition: Condition | None = None,
    ) -> ObjectInfo:
        return await self.inner.copy_object(
            source_bucket,
            source_key,
            bucket,
            key,
            source_etag=source_etag,
            metadata=metadata,
            condition=condition,
        )

    async def probe(self) -> None:
        await self.inner.probe()

    async def create_multipart_upload(
        self, bucket: str, key: str, *, metadata: ObjectMetadata
    ) -> str:
        return await self.inner.create_multipart_upload(bucket, key, metadata=metadata)

    async def upload_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        part_number: int,
        body: Body,
        *,
        size: int | None,
    ) -> PartInfo:
        return await self.inner.upload_part(bucket, key, upload_id, part_number, body, size=size)

    async def list_parts(
        self, bucket: str, key: str, upload_id: str, *, part_number_marker: int = 0, max_parts: int
    ) -> PartPage:
        return await self.inner.list_parts(
            bucket, key, upload_id, part_number_marker=part_number_marker, max_parts=max_parts
        )

    async def list_multipart_uploads(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        upload_id_marker: str = "",
        max_uploads: int = 1000,
    ) -> UploadPage:
        return await self.inner.list_multipart_uploads(
            bucket,
            prefix=prefix,
            delimiter=delimiter,
            key_marker=key_marker,
            upload_id_marker=upload_id_marker,
            max_uploads=max_uploads,
        )

    async def complete_multipart_upload(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[CompletedPart],
        *,
        condition: Condition | None = None,
    ) -> ObjectInfo:
        return await self.inner.complete_multipart_upload(
            bucket, key, upload_id, parts, condition=condition
        )

    async def abort_multipart_upload(self, bucket: str, key: str, upload_id: str) -> None:
        await self.inner.abort_multipart_upload(bucket, key, upload_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageBackendType(Contribution[StorageBackend]):
    """A kind of backend, selected by ``storage.backend.type``.

    Attributes:
        settings: Subclass of ``deltaglider_core.BackendSettings`` whose ``type`` field is
            ``Literal[<name>]`` without a default.
    """

    settings: type[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageLayerType(Contribution[Callable[[StorageBackend], StorageLayer]]):
    """A layer around every backend, outermost first: quota, delta, encryption, backend.

    ``open`` yields a function that wraps one backend; it is called once per backend.
    """


__all__ = [
    "RESERVED_PREFIX",
    "STORED_HEADERS",
    "Body",
    "BucketInfo",
    "ByteRange",
    "Capabilities",
    "CompletedPart",
    "Condition",
    "ObjectInfo",
    "ObjectMetadata",
    "ObjectPage",
    "ObjectReader",
    "PartInfo",
    "PartPage",
    "StorageBackend",
    "StorageBackendType",
    "StorageLayer",
    "StorageLayerType",
    "UploadInfo",
    "UploadPage",
]
