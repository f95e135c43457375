"""Writing objects: as a delta where it pays, verbatim otherwise."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from ..errors import PreconditionFailed
from ..interfaces.storage import Condition, ObjectInfo, ObjectMetadata, StorageBackend
from ..interfaces.writes import current_write
from ..services import SpoolLease
from ..tasks import run_blocking
from .blobs import Blob, BlobMaker
from .bodies import chain, split_start
from .container import PEEK, build_head, has_magic
from .encoder import EncodingFailedError
from .engine import Engine
from .forms import VERBATIM, describe, fields_of, with_form
from .layout import LayoutStore
from .policy import MIN_SIZE
from .record import Record, Reference
from .references import ReferenceStore, choose, family
from .spooling import Spooled, SpoolFullError, spool_body
from .versions import Versions

#: References that are tried when one after the other turns out to be condemned.
_MAX_REFUSALS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class _Choice:
    """A reference that is held; None for the object itself."""

    reference: Reference | None


class ObjectWriter:
    """Writes to one backend."""

    def __init__(
        self,
        inner: StorageBackend,
        engine: Engine,
        versions: Versions,
        references: ReferenceStore,
        layouts: LayoutStore,
    ) -> None:
        self._inner = inner
        self._engine = engine
        self._versions = versions
        self._references = references
        self._layouts = layouts
        self._blobs = BlobMaker(inner, engine)

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
            metadata = metadata.completed()
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
                await run_blocking(lease.close)

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
                    metadata = metadata.completed()
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
        info = await self._put(bucket, key, body, size, metadata, form, enforced)
        self._engine.metrics.decisions.labels("passthrough").inc()
        return info

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
        choice = await self._choose(bucket, key, spooled.sha256)
        blob: Blob | None = None
        try:
            if choice is not None:
                blob = await self._blobs.make(
                    bucket, key, spooled, lease, choice.reference, metadata
                )
        except EncodingFailedError as error:
            self._engine.log.warning(
                "encoding_failed", bucket=bucket, key=key, reason=repr(error.__cause__ or error)
            )
        if blob is None or not await self._settle_reference(bucket, key, spooled, blob):
            return None
        if replaces is None:
            enforced = await self._versions.physical(bucket, key, condition)
            return await self._commit(bucket, key, spooled, blob, blob.chunks(), metadata, enforced)
        async with alone() as undisturbed:
            if not undisturbed:
                return None
            conditional = self._inner.capabilities.conditional_writes
            enforced = Condition(if_match=replaces.etag) if conditional else None
            chunks = self.unless_changed(bucket, replaces, blob.chunks())
            return await self._commit(bucket, key, spooled, blob, chunks, metadata, enforced)

    async def _choose(self, bucket: str, key: str, sha256: str) -> _Choice | None:
        """Choose a reference and hold it; None if the object cannot become a delta now."""
        candidates = list(await self._references.candidates(bucket, key))
        write = current_write.get()
        for _ in range(_MAX_REFUSALS):
            chosen = choose(candidates, family(key), sha256)
            if write is None or chosen is None:
                return _Choice(reference=chosen)
            if await write.hold(chosen.key, chosen.size):
                return _Choice(reference=chosen)
            # Its collection has begun. To create it again is refused as well.
            if chosen.sha256 == sha256:
                return None
            candidates = [each for each in candidates if each.reference != chosen]
        return None

    async def _settle_reference(self, bucket: str, key: str, spooled: Spooled, blob: Blob) -> bool:
        """Create the reference of a delta if it is new; whether the delta may be stored."""
        reference = blob.reference
        if blob.created:
            write = current_write.get()
            if write is not None and not await write.hold(reference.key, reference.size):
                return False
            await self._references.create(
                bucket, key, spooled.chunks(), sha256=spooled.sha256, size=spooled.size
            )
        elif blob.repairs:
            await self._references.create(
                bucket,
                key,
                spooled.chunks(),
                sha256=spooled.sha256,
                size=spooled.size,
                replace=True,
            )
            self._engine.log.warning("reference_repaired", bucket=bucket, reference=reference.key)
        if not await self._references.confirm(bucket, reference):
            self._engine.log.warning("reference_gone", bucket=bucket, key=key)
            return False
        return True

    async def unless_changed(
        self, bucket: str, before: ObjectInfo, chunks: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """Let the last chunk pass only if ``before`` is still in place, metadata included.

        An ETag names bytes: the same bytes with other metadata, as an object copied onto
        itself has, fulfil every condition on it. What is recorded as a write is kept out by
        ``WriteIntent.alone``; this is for everything else.
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

    async def _commit(
        self,
        bucket: str,
        key: str,
        spooled: Spooled,
        blob: Blob,
        chunks: AsyncIterator[bytes],
        metadata: ObjectMetadata,
        enforced: Condition | None,
    ) -> ObjectInfo:
        fields = fields_of(blob.record, len(blob.head))
        info = await self._put(bucket, key, chunks, blob.size, metadata, fields, enforced)
        metrics = self._engine.metrics
        metrics.decisions.labels("reference" if blob.created else "delta").inc()
        metrics.ratio.observe(blob.size / spooled.size)
        if not blob.created:  # else its bytes are stored as the reference
            metrics.saved.inc(spooled.size - blob.size)
        return info

    async def _put(
        self,
        bucket: str,
        key: str,
        body: AsyncIterator[bytes],
        size: int | None,
        metadata: ObjectMetadata,
        form: Mapping[str, str],
        enforced: Condition | None,
    ) -> ObjectInfo:
        whole = with_form(metadata, form)
        if not self._inner.capabilities.late_metadata:
            whole = replace(whole, late=None)
        await self._layouts.expect(bucket, key, whole.internal)
        info = await self._inner.put_object(
            bucket, key, body, size=size, metadata=whole, condition=enforced
        )
        return describe(replace(info, metadata=whole.completed())).logical


@asynccontextmanager
async def alone() -> AsyncGenerator[bool]:
    """Keep other mutations off the key of the present write; False if they came before.

    Where mutations are not recorded, nothing can be kept off: True.
    """
    write = current_write.get()
    if write is None:
        yield True
        return
    async with write.alone() as undisturbed:
        yield undisturbed
