"""Writing objects: as a delta where it pays, verbatim otherwise."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from ..errors import IntegrityError, NoSuchKey, PreconditionFailed
from ..interfaces.codec import Codec
from ..interfaces.storage import Condition, ObjectInfo, ObjectMetadata, StorageBackend
from ..services import SpoolLease
from .bodies import chain, file_chunks, split_start
from .cache import ReferenceFile
from .concurrency import run_owned
from .container import PEEK, build_head, has_magic, root_of
from .deletion import BucketDeletion
from .encoder import EncodedBody, EncodingFailedError, encode
from .engine import Engine
from .forms import VERBATIM, describe, fields_of, with_form
from .policy import MIN_SIZE
from .record import Delta, Record, Reference, parse_time
from .references import ReferenceStore, choose, family, references_prefix
from .spooling import Spooled, SpoolFullError, spool_body
from .versions import Versions


@dataclass(frozen=True, kw_only=True, slots=True)
class _Blob:
    """A delta, ready to be stored. ``created`` if its reference does not exist yet."""

    record: Record
    head: bytes
    body: EncodedBody
    reference: Reference
    created: bool

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.head) + self.body.stored

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes."""
        return chain(self.head, file_chunks(self.body.path, self.body.stored))


class ObjectWriter:
    """Writes to one backend."""

    def __init__(
        self,
        inner: StorageBackend,
        engine: Engine,
        versions: Versions,
        references: ReferenceStore,
        deletion: BucketDeletion,
    ) -> None:
        self._inner = inner
        self._engine = engine
        self._versions = versions
        self._references = references
        self._deletion = deletion

    async def put(
        self,
        bucket: str,
        key: str,
        body: AsyncIterator[bytes],
        *,
        size: int | None,
        metadata: ObjectMetadata,
        condition: Condition | None = None,
    ) -> ObjectInfo:
        """Store an object; see ``StorageBackend.put_object``. Returns logical facts."""
        if size is None or not self.fits(bucket, key, size):
            return await self._stream(bucket, key, body, size, metadata, condition)
        async with self.room_for_delta(bucket, size) as lease:
            if lease is None:
                return await self._stream(bucket, key, body, size, metadata, condition)
            try:
                spooled = await spool_body(body, lease.path("body"), size)
            except SpoolFullError as full:
                self._engine.log.warning("spool_full", bucket=bucket, key=key)
                return await self._stream(bucket, key, full.rest, size, metadata, condition)
            stored = await self.put_delta(
                bucket, key, spooled, lease, metadata=metadata, condition=condition
            )
            if stored is not None:
                return stored
            enforced = await self._versions.physical(bucket, key, condition)
            return await self._put_spooled(bucket, key, spooled, metadata, enforced)

    def fits(self, bucket: str, key: str, size: int) -> bool:
        """Whether an object of this name and size may become a delta."""
        return size >= MIN_SIZE and self._engine.takes_deltas(bucket, key)

    @asynccontextmanager
    async def room_for_delta(self, bucket: str, size: int) -> AsyncGenerator[SpoolLease | None]:
        """Room for an object and its delta, or None if the spool has none."""
        window = 0 if self._engine.codec is None else self._engine.codec.window_size
        delta = int(self._engine.policy.ratio(bucket) * size) + min(window, size)
        async with self._room(size + delta) as lease:
            yield lease

    @asynccontextmanager
    async def _room(self, size: int) -> AsyncGenerator[SpoolLease | None]:
        lease = self._engine.spool.try_reserve(size)
        try:
            yield lease
        finally:
            if lease is not None:
                await run_owned(lease.close)

    # --- verbatim -------------------------------------------------------------------------

    async def _stream(
        self,
        bucket: str,
        key: str,
        body: AsyncIterator[bytes],
        size: int | None,
        metadata: ObjectMetadata,
        condition: Condition | None,
    ) -> ObjectInfo:
        """Pass a body on as it comes; nothing but its first bytes is looked at."""
        start = await split_start(body, PEEK)
        whole: AsyncIterator[bytes] = chain(start, body)
        enforced = await self._versions.physical(bucket, key, condition)
        if not has_magic(start):
            return await self._store(bucket, key, whole, size, metadata, VERBATIM, enforced)
        # The ETag of wrapped bytes is known only after they have been read once.
        async with self._room(size or 0) as lease:
            if size is not None and lease is not None:
                try:
                    spooled = await spool_body(whole, lease.path("body"), size)
                except SpoolFullError as full:
                    whole = full.rest
                else:
                    return await self._put_spooled(bucket, key, spooled, metadata, enforced)
            record = Record(form="wrapped", size=size, etag=metadata.internal.get("etag"))
            return await self.put_wrapped(bucket, key, whole, record, metadata, enforced)

    async def _put_spooled(
        self,
        bucket: str,
        key: str,
        spooled: Spooled,
        metadata: ObjectMetadata,
        enforced: Condition | None,
    ) -> ObjectInfo:
        """Store a spooled object verbatim, wrapped if need be."""
        if has_magic(spooled.start):
            etag = metadata.internal.get("etag", spooled.md5)
            record = Record(form="wrapped", size=spooled.size, etag=etag, sha256=spooled.sha256)
            return await self.put_wrapped(bucket, key, spooled.chunks(), record, metadata, enforced)
        form = {**VERBATIM, "sha256": spooled.sha256}
        return await self._store(
            bucket, key, spooled.chunks(), spooled.size, metadata, form, enforced
        )

    async def put_wrapped(
        self,
        bucket: str,
        key: str,
        body: AsyncIterator[bytes],
        record: Record,
        metadata: ObjectMetadata,
        enforced: Condition | None,
    ) -> ObjectInfo:
        """Store bytes that begin with our magic behind a head that says so."""
        head = build_head(record)
        size = None if record.size is None else len(head) + record.size
        fields = fields_of(record, len(head))
        return await self._store(bucket, key, chain(head, body), size, metadata, fields, enforced)

    async def _store(
        self,
        bucket: str,
        key: str,
        body: AsyncIterator[bytes],
        size: int | None,
        metadata: ObjectMetadata,
        form: Mapping[str, str],
        enforced: Condition | None,
    ) -> ObjectInfo:
        info = await self._inner.put_object(
            bucket,
            key,
            body,
            size=size,
            metadata=with_form(metadata, form),
            condition=enforced,
        )
        self._engine.metrics.decisions.labels("passthrough").inc()
        return _logical(info, metadata, form)

    # --- deltas ---------------------------------------------------------------------------

    async def put_delta(
        self,
        bucket: str,
        key: str,
        spooled: Spooled,
        lease: SpoolLease,
        *,
        metadata: ObjectMetadata,
        condition: Condition | None = None,
        replaces: ObjectInfo | None = None,
    ) -> ObjectInfo | None:
        """Store a spooled object as a delta if that pays; None if it does not.

        Args:
            metadata: ``etag`` and ``modified`` in ``internal`` become the object's.
            condition: On the logical ETag.
            replaces: Instead: replace just this version, as the backend reported it.
        """
        candidates = await self._references.candidates(bucket, key)
        chosen = choose(candidates, family(key), spooled.sha256)
        blob: _Blob | None = None
        try:
            blob = await self._encode(bucket, key, spooled, lease, chosen, metadata)
        except EncodingFailedError as error:
            self._engine.log.warning(
                "encoding_failed", bucket=bucket, key=key, reason=repr(error.__cause__ or error)
            )
        if blob is None:
            return None
        if blob.created:
            await self._references.create(
                bucket, key, spooled.chunks(), sha256=spooled.sha256, size=spooled.size
            )
        if not await self._references.confirm(bucket, blob.reference):
            self._engine.log.warning("reference_gone", bucket=bucket, key=key)
            return None
        if replaces is not None:
            enforced = self._only_over(replaces)
            chunks = self._unless_changed(bucket, replaces, blob.chunks())
        else:
            enforced = await self._versions.physical(bucket, key, condition)
            chunks = blob.chunks()
        return await self._commit(bucket, key, spooled, blob, chunks, metadata, enforced)

    async def _unless_changed(
        self, bucket: str, before: ObjectInfo, chunks: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """Let the last chunk pass only if ``before`` is still in place, metadata included.

        An ETag names bytes: the same bytes with other metadata, as an object copied onto
        itself has, fulfil every condition on it.
        """
        held = b""
        async for chunk in chunks:
            if held:
                yield held
            held = chunk
        now = await self._inner.head_object(bucket, before.key)
        if (now.last_modified, now.metadata) != (before.last_modified, before.metadata):
            raise PreconditionFailed(fields={"Condition": "If-Match"})
        yield held

    async def _encode(
        self,
        bucket: str,
        key: str,
        spooled: Spooled,
        lease: SpoolLease,
        chosen: Reference | None,
        metadata: ObjectMetadata,
    ) -> _Blob | None:
        """Encode against the chosen reference, or against the object itself if there is none.

        Errors of the backend propagate; whatever else goes wrong is ``EncodingFailedError``.
        """
        codec = self._engine.codec
        if codec is None:
            return None
        reference = chosen or Reference(
            key=references_prefix(key) + spooled.sha256, sha256=spooled.sha256, size=spooled.size
        )
        own = reference.sha256 == spooled.sha256
        limit = self._engine.policy.ratio(bucket) * spooled.size
        began = time.perf_counter()
        try:
            if own:
                opened = self._engine.own_reference(spooled)
            else:
                opened = self._engine.reference(self._inner, bucket, reference)
            async with opened as file:
                try:
                    body = await self._encode_with(codec, file, spooled, lease, limit)
                finally:
                    # The check of each window read the same map as the encoder did.
                    damaged = await self._engine.cache.drop_if_damaged(file)
                if damaged:
                    raise IntegrityError("the reference was damaged in the cache")
        except (IntegrityError, OSError) as error:
            raise EncodingFailedError("reference cannot be used") from error
        finally:
            self._engine.metrics.encode.observe(time.perf_counter() - began)
        if body is None:
            return None
        delta = Delta(
            codec=codec.codec_id, reference=reference, stored=body.stored, root=root_of(body.groups)
        )
        modified = metadata.internal.get("modified")
        record = Record(
            form="delta",
            size=spooled.size,
            etag=metadata.internal.get("etag", spooled.md5),
            sha256=spooled.sha256,
            modified=None if modified is None else parse_time(modified),
            delta=delta,
        )
        head = build_head(record, body.groups)
        if len(head) + body.stored >= limit:
            return None
        return _Blob(
            record=record, head=head, body=body, reference=reference, created=chosen is None
        )

    async def _encode_with(
        self, codec: Codec, file: ReferenceFile, spooled: Spooled, lease: SpoolLease, limit: float
    ) -> EncodedBody | None:
        try:
            async with self._engine.prepared.open(codec, file) as prepared:
                return await encode(
                    codec, prepared, file, spooled, lease.path("delta"), limit=limit
                )
        except FileNotFoundError as error:
            # Another process dropped the file from a shared cache directory.
            self._engine.cache.forget(file.sha256)
            raise EncodingFailedError("reference left the cache") from error
        except EncodingFailedError:
            raise
        except Exception as error:
            raise EncodingFailedError("reference cannot be indexed") from error

    async def _commit(
        self,
        bucket: str,
        key: str,
        spooled: Spooled,
        blob: _Blob,
        chunks: AsyncIterator[bytes],
        metadata: ObjectMetadata,
        enforced: Condition | None,
    ) -> ObjectInfo:
        fields = fields_of(blob.record, len(blob.head))
        info = await self._inner.put_object(
            bucket,
            key,
            chunks,
            size=blob.size,
            metadata=with_form(metadata, fields),
            condition=enforced,
        )
        if not await self.is_safe(bucket, blob.reference):
            # The bucket is being deleted, which takes the reference away: see deletion.py.
            self._engine.log.warning("reference_lost", bucket=bucket, key=key)
            try:
                only = self._only_over(info)
                return await self._put_spooled(bucket, key, spooled, metadata, only)
            except (PreconditionFailed, NoSuchKey):
                # This write happened and was followed by another: nobody reads it any more.
                return _logical(info, metadata, fields)
        metrics = self._engine.metrics
        metrics.decisions.labels("reference" if blob.created else "delta").inc()
        metrics.ratio.observe(blob.size / spooled.size)
        metrics.saved.inc(spooled.size - blob.size)
        return _logical(info, metadata, fields)

    async def is_safe(self, bucket: str, reference: Reference) -> bool:
        """Whether a delta that was just stored will keep its reference; see ``deletion.py``."""
        if await self._deletion.announced(bucket):
            return False
        return await self._references.confirm(bucket, reference)

    def _only_over(self, info: ObjectInfo) -> Condition | None:
        """The condition that replaces just the version ``info``, where the backend has it."""
        conditional = self._inner.capabilities.conditional_writes
        return Condition(if_match=info.etag) if conditional else None


def _logical(info: ObjectInfo, metadata: ObjectMetadata, form: Mapping[str, str]) -> ObjectInfo:
    """The object behind what the backend just reported to have stored."""
    return describe(replace(info, metadata=with_form(metadata, form))).logical
