"""What a storage backend implements.

Terms are those of S3. Bodies are asynchronous iterators of bytes in both directions; no
implementation may hold an object in memory. A look-up has three answers: present, absent
(``NoSuchKey``, ``NoSuchBucket``), or an error. An error is never reported as absence.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence

from ..errors import IntegrityError, NotImplementedS3
from .checksums import Checksum
from .objects import (
    Body,
    BucketInfo,
    ByteRange,
    Capabilities,
    CompletedPart,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    ObjectPage,
    ObjectReader,
    PartInfo,
    PartPage,
    UploadPage,
)


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
        """Delete; True if there was something. Without ``if_match`` an absent key is no error.

        Raises:
            NoSuchBucket
            NoSuchKey: ``condition.if_match``, and there is nothing.
            PreconditionFailed: ``condition`` does not hold.
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

        ``max_keys`` (at least 1) counts keys and common prefixes together. The metadata of an
        entry may lack internal values of more than ``MAX_LISTED_VALUE`` characters: whoever
        writes an object again takes its metadata from a HEAD or GET.
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
        from ..backend_defaults import operations

        return await operations.copy_object(
            self, source_bucket, source_key, bucket, key, source_etag, metadata, condition
        )

    async def get_object_tags(self, bucket: str, key: str) -> Mapping[str, str]:
        """The tags of an object. Raises ``NoSuchBucket``, ``NoSuchKey``."""
        info = await self.head_object(bucket, key)
        if info.metadata is None:
            raise IntegrityError("The backend described an object without its metadata.")
        return info.metadata.tags

    async def set_object_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> ObjectInfo:
        """Replace the tags of the present object, and nothing else of it.

        Bytes, ETag, Last-Modified and all other metadata stay. The tags never land on another
        version than the one whose metadata was read, and survive a power cut when this returns.

        There is no default that would be right: a copy onto itself gives another Last-Modified,
        and replaces a concurrent upload of the same bytes with its predecessor. Override it, and
        declare ``object_tags``.

        Returns:
            The object with its new tags.

        Raises:
            NoSuchBucket, NoSuchKey
            NotImplementedS3: The backend cannot do it.
        """
        raise NotImplementedS3(
            "The storage behind this bucket cannot change the tags of a stored object."
        )

    async def probe(self) -> None:
        """Check that the backend can be used; raises ``ServiceUnavailable`` with the reason."""
        await self.list_buckets()

    # --- multipart: defaults keep parts as objects below RESERVED_PREFIX -------------------

    async def create_multipart_upload(
        self, bucket: str, key: str, *, metadata: ObjectMetadata, checksum: Checksum | None = None
    ) -> str:
        """Open an upload and return its id (no ``/``).

        Args:
            checksum: Algorithm and type that the client chose for the object; no value. Without
                one it is CRC64NVME of the whole.
        """
        from ..backend_defaults import operations

        return await operations.create_multipart_upload(self, bucket, key, metadata, checksum)

    async def upload_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        part_number: int,
        body: Body,
        *,
        size: int | None,
        checksum: Callable[[], Checksum | None] | None = None,
    ) -> PartInfo:
        """Store a part (1 to 10,000), replacing one of that number.

        Args:
            checksum: Gives that of the part, of the algorithm of the upload; None as long as it
                is unknown, which it may be until the body has ended.

        Raises:
            NoSuchUpload
        """
        from ..backend_defaults import operations

        return await operations.upload_part(
            self, bucket, key, upload_id, part_number, body, size, checksum
        )

    async def list_parts(
        self, bucket: str, key: str, upload_id: str, *, part_number_marker: int = 0, max_parts: int
    ) -> PartPage:
        """Parts above the marker; none with ``max_parts=0``. Raises ``NoSuchUpload``."""
        from ..backend_defaults import operations

        return await operations.list_parts(
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
        from ..backend_defaults import operations

        return await operations.list_multipart_uploads(
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
        checksum: Checksum | None = None,
    ) -> ObjectInfo:
        """Assemble the listed parts; repeating a successful call gives the same answer.

        Where the checksums of the parts are known, or that of the object is claimed,
        ``metadata.internal["checksum"]`` of the result has that of the object. A claim is
        verified, whether they are known or not.

        Args:
            checksum: What the client says that of the object is.

        Raises:
            NoSuchUpload, InvalidPart, InvalidPartOrder, EntityTooSmall, PreconditionFailed
            BadDigest: It has another checksum.
            InvalidRequest: The client does not repeat the checksums of the parts, of which the
                one of the object is made (type ``COMPOSITE``).
        """
        from ..backend_defaults import operations

        return await operations.complete_multipart_upload(
            self, bucket, key, upload_id, parts, condition, checksum
        )

    async def abort_multipart_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """Drop an upload and its parts. Raises ``NoSuchUpload``."""
        from ..backend_defaults import operations

        await operations.abort_multipart_upload(self, bucket, key, upload_id)
