"""Bringing objects that were stored as they came into their best form, in place."""

from __future__ import annotations

from dataclasses import replace

from ..errors import NoSuchKey, PreconditionFailed
from ..interfaces.storage import Condition, ObjectInfo, ObjectMetadata, StorageBackend
from .container import PEEK, has_magic
from .engine import Engine
from .forms import (
    Stored,
    as_listed,
    describe,
    describe_verbatim,
    form_of,
)
from .opener import ObjectOpener
from .record import Record, format_time, is_etag
from .spooling import SpoolFullError, spool_body
from .versions import Versions
from .writer import ObjectWriter, alone


class Optimiser:
    """Rewrites on one backend. What it replaces is always the very version that it read."""

    def __init__(
        self,
        inner: StorageBackend,
        engine: Engine,
        versions: Versions,
        opener: ObjectOpener,
        writer: ObjectWriter,
    ) -> None:
        self._inner = inner
        self._engine = engine
        self._versions = versions
        self._opener = opener
        self._writer = writer

    async def optimise(self, bucket: str, key: str, info: ObjectInfo) -> ObjectInfo | None:
        """Store a verbatim object as a delta if that pays and if it is still ``info``.

        The object keeps its ETag, its metadata and its Last-Modified.

        Args:
            info: The object as a client sees it; its ETag must still be the object's.

        Returns:
            Its new facts, or None if it stayed as it is.

        Raises:
            S3Error: The backend failed; the object is as it was.
        """
        # Without the backend's condition, a concurrent upload could be replaced by its
        # predecessor.
        conditional = self._inner.capabilities.conditional_writes
        if not conditional or not self._writer.fits(bucket, key, info.size):
            return None
        async with self._writer.room_for_delta(bucket, info.size) as lease:
            if lease is None:
                return None
            physical = await self._inner.get_object(bucket, key)
            async with physical:
                stored = _verbatim(physical.info)
                if stored is None or stored.logical.etag != info.etag or not is_etag(info.etag):
                    return None
                try:
                    spooled = await spool_body(
                        aiter(physical), lease.path("body"), stored.logical.size
                    )
                except SpoolFullError:
                    return None
            if has_magic(spooled.start):
                return None
            try:
                return await self._writer.put_delta(
                    bucket,
                    key,
                    spooled,
                    lease,
                    metadata=_rewritten(stored),
                    replaces=stored.physical,
                )
            except (PreconditionFailed, NoSuchKey):
                return None

    async def settle_upload(self, bucket: str, key: str, info: ObjectInfo) -> ObjectInfo:
        """What follows a completed multipart upload; returns the object's facts.

        Both steps are attempts, whose failure is logged: the object is complete as it is. Bytes
        that begin with our magic are wrapped, so that they stay what they are even for
        somebody who loses their metadata; then a delta is tried.
        """
        internal = {} if info.metadata is None else info.metadata.internal
        info = replace(as_listed(info), etag=internal.get("etag", info.etag))
        try:
            if info.size >= PEEK:
                info = await self._wrap(bucket, key, info) or info
            return await self.optimise(bucket, key, info) or info
        except Exception as error:
            self._engine.log.warning("optimise_failed", bucket=bucket, key=key, reason=repr(error))
            return info

    async def _wrap(self, bucket: str, key: str, info: ObjectInfo) -> ObjectInfo | None:
        """Wrap an object if its bytes need it and it is still ``info``; its new facts if so."""
        try:
            now, start = await self._versions.start_of(bucket, key, PEEK)
            stored = _verbatim(now)
            if not has_magic(start) or stored is None or stored.logical.etag != info.etag:
                return None
            async with await self._inner.get_object(bucket, key) as physical:
                if physical.info.etag != now.etag:
                    return None
                record = Record(form="wrapped", size=now.size, etag=info.etag)
                async with alone() as undisturbed:
                    if not undisturbed:
                        return None
                    return await self._writer.put_wrapped(
                        bucket,
                        key,
                        self._writer.unless_changed(bucket, now, aiter(physical)),
                        record,
                        _rewritten(stored),
                        Condition(if_match=now.etag),
                    )
        except (PreconditionFailed, NoSuchKey):
            return None  # overwritten or deleted meanwhile


def _verbatim(info: ObjectInfo) -> Stored | None:
    """A version whose stored bytes are the object's, or None."""
    if form_of(info) is None:
        return describe_verbatim(info)
    stored = describe(info)
    return stored if stored.form in ("verbatim", "assembled") else None


def _rewritten(stored: Stored) -> ObjectMetadata:
    """Metadata for another form of the same object: everything a client sees stays."""
    metadata = stored.physical.metadata or ObjectMetadata()
    kept = {
        "etag": stored.logical.etag,
        "modified": format_time(stored.logical.last_modified),
    }
    return replace(metadata, internal={**metadata.internal, **kept})
