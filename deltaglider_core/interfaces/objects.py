"""The values that storage takes and gives: objects, listings, parts, ranges, conditions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from ..errors import InvalidRange, NoSuchKey, PreconditionFailed
from .checksums import FULL_OBJECT, Checksum

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


#: Internal values of more characters may be missing in a listing.
MAX_LISTED_VALUE = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What a backend does natively. A declared capability must hold; the testkit checks it.

    Attributes:
        conditional_writes: ``put_object`` and ``complete_multipart_upload`` decide their
            condition atomically against concurrent writers, in all processes.
        conditional_deletes: The same for ``delete_object``.
        native_multipart: Overrides the multipart methods of the base class.
        server_side_copy: ``copy_object`` moves no bytes through this process.
        listing_metadata: Entries of ``list_objects`` carry ``metadata``. Internal values of more
            than ``MAX_LISTED_VALUE`` characters may be left out there: a page of 1,000 objects
            must stay small. HEAD and GET give all of them.
        max_metadata_bytes: Most bytes of metadata (names and values) per object, or None.
        late_commits: A write whose caller has died or given up may still be carried out, as by
            a service behind a network. False only where that is impossible.
        object_tags: Both halves: ``metadata.tags`` come back with every object that was stored,
            copied or completed with them, and ``set_object_tags`` is overridden. Without it,
            clients get 501 (``NotImplemented``) for all tags, and none reach the backend.
        late_metadata: ``put_object`` stores ``metadata.completed()``, asked for after the body
            has ended. S3 takes metadata before the body, a directory after it.
    """

    conditional_writes: bool = False
    conditional_deletes: bool = False
    native_multipart: bool = False
    server_side_copy: bool = False
    listing_metadata: bool = False
    max_metadata_bytes: int | None = None
    late_commits: bool = True
    object_tags: bool = False
    late_metadata: bool = False


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
        tags: The client's object tags; kept by a copy that keeps the metadata. Empty for
            backends that do not declare ``object_tags``.
        late: Gives internal metadata that is known only once the body has ended, such as a
            checksum that comes in a trailer. Read by ``completed`` alone; whoever derives other
            metadata from these (``dataclasses.replace``) passes it on.
        tags_of_source: In the metadata of a copy: ``tags`` are those that the source had when
            somebody looked. Whoever makes the copy puts those in their place that belong to the
            version it copies, and clears this.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    user: Mapping[str, str] = field(default_factory=dict)
    internal: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    late: Callable[[], Mapping[str, str]] | None = field(default=None, compare=False, repr=False)
    tags_of_source: bool = field(default=False, compare=False, repr=False)

    def completed(self) -> ObjectMetadata:
        """What is to be stored, after the body has ended: ``late`` merged into ``internal``."""
        if self.late is None:
            return self
        return replace(self, internal={**self.internal, **self.late()}, late=None)

    def listed(self) -> ObjectMetadata:
        """As a listing shows them: without internal values above ``MAX_LISTED_VALUE``."""
        if all(len(value) <= MAX_LISTED_VALUE for value in self.internal.values()):
            return self
        short = {n: v for n, v in self.internal.items() if len(v) <= MAX_LISTED_VALUE}
        return replace(self, internal=short)

    def copied(self) -> ObjectMetadata:
        """What a copy keeps: all that is the client's, and the checksum if it is of the bytes."""
        checksum = Checksum.parse(self.internal.get("checksum", ""))
        whole = checksum is not None and checksum.value and checksum.type == FULL_OBJECT
        internal = {"checksum": str(checksum)} if whole else {}
        return ObjectMetadata(
            headers=self.headers, user=self.user, internal=internal, tags=self.tags
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectInfo:
    """An object as a listing or a HEAD shows it.

    Attributes:
        key: The decoded key.
        size: Length in bytes.
        etag: Without quotes: an MD5 in hex, ``<hex>-<parts>``, or another opaque token.
        last_modified: Aware, UTC.
        metadata: None where a listing does not carry it; in a listing perhaps without long
            internal values, see ``Capabilities.listing_metadata``.
        stored_size: Bytes that the backend keeps for it, where a layer knows.
        stored_as: ``delta`` or ``passthrough``, where a layer knows.
    """

    key: str
    size: int
    etag: str
    last_modified: datetime
    metadata: ObjectMetadata | None = None
    stored_size: int | None = None
    stored_as: str | None = None


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

    Attributes:
        last_modified: Of the present object, aware. Compared in whole seconds, which is what S3
            has, unless it has a fraction, as only we give it: then the object's is the very same.
            S3 has this and ``size`` for deletes only; a write there goes by the ETag alone. Where
            no object is present, both hold.
        size: Of the present object, in bytes.

    Source: AWS, "Conditional writes", "Conditional deletes", "DeleteObject".
    """

    if_match: str | None = None
    if_none_match: str | None = None
    last_modified: datetime | None = None
    size: int | None = None

    @property
    def names_version(self) -> bool:
        """Whether it asks for more than that there is an object, or none."""
        etags = {self.if_match, self.if_none_match} - {None, "*"}
        return bool(etags) or self.last_modified is not None or self.size is not None

    def check(self, present: ObjectInfo | None) -> None:
        """Return if it holds of the present object; ``None`` where there is none.

        Raises:
            NoSuchKey: ``if_match``, and there is no object.
            PreconditionFailed: With the header in ``Condition``.
        """
        if present is None:
            if self.if_match is not None:
                raise NoSuchKey
            return
        if self.if_match not in (None, "*", present.etag):
            raise PreconditionFailed(fields={"Condition": "If-Match"})
        if self.if_none_match in ("*", present.etag):
            raise PreconditionFailed(fields={"Condition": "If-None-Match"})
        if self.last_modified is not None and not _same_time(
            self.last_modified, present.last_modified
        ):
            raise PreconditionFailed(fields={"Condition": "x-amz-if-match-last-modified-time"})
        if self.size not in (None, present.size):
            raise PreconditionFailed(fields={"Condition": "x-amz-if-match-size"})


def _same_time(asked: datetime, present: datetime) -> bool:
    return asked == (present if asked.microsecond else present.replace(microsecond=0))


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
    """A part of an open multipart upload; ``etag`` without quotes, times aware UTC.

    Attributes:
        checksum: Of its bytes, where one is known.
    """

    part_number: int
    etag: str
    size: int
    last_modified: datetime
    checksum: Checksum | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletedPart:
    """A part as the client lists it in CompleteMultipartUpload; ``etag`` without quotes.

    Attributes:
        size: Length in bytes, where the caller has looked it up.
        checksums: What the client says of the part: lower-case algorithm to base64. A part of
            which another value of the same algorithm is known is ``InvalidPart``.
    """

    part_number: int
    etag: str
    size: int | None = field(default=None, compare=False)
    checksums: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadInfo:
    """An open multipart upload.

    Attributes:
        checksum: Algorithm and type that it was created with, where they are known; no value.
    """

    key: str
    upload_id: str
    initiated: datetime
    checksum: Checksum | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PartPage:
    """Parts in ascending order; ``next_marker`` is the last number when more follow.

    Attributes:
        checksum: Of the upload, as in ``UploadInfo``.
    """

    parts: Sequence[PartInfo] = ()
    next_marker: int | None = None
    checksum: Checksum | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadPage:
    """Uploads ordered by key, then upload id; ``next_marker`` when more follow."""

    uploads: Sequence[UploadInfo] = ()
    prefixes: Sequence[str] = ()
    next_marker: tuple[str, str] | None = None
