"""Copies within one backend, without decoding where the stored bytes can be copied.

A copy under another name is a new object, stored as one: it has no parts, and its checksum is of
the whole. A copy onto itself gives an object other metadata and leaves it what it is: its ETag,
its parts and its checksum stay, whatever its form. It replaces the very version that it was made
of, so nothing that is written or deleted meanwhile is undone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import PreconditionFailed
from ..interfaces.checksums import Checksum
from ..interfaces.storage import Condition, ObjectInfo, ObjectMetadata, StorageBackend
from ..interfaces.writes import current_write
from ..part_table import PartTable
from .engine import Engine
from .forms import ASSEMBLED, VERBATIM, Stored, check_head, describe, fields_of, with_form
from .layout import LayoutStore
from .opener import ObjectOpener
from .references import ReferenceStore
from .versions import ATTEMPTS, ChangedError, Versions
from .writer import ObjectWriter

#: Internal metadata of its own that a copy onto itself keeps, besides its ETag.
_OF_ITSELF = ("checksum", "parts")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bytes:
    """Stored bytes that can be copied as they are.

    Attributes:
        fields: Internal metadata that the copy needs.
    """

    fields: dict[str, str]


class Copier:
    """Copies on one backend."""

    def __init__(
        self,
        inner: StorageBackend,
        engine: Engine,
        versions: Versions,
        opener: ObjectOpener,
        writer: ObjectWriter,
        references: ReferenceStore,
        layouts: LayoutStore,
    ) -> None:
        self._inner = inner
        self._engine = engine
        self._versions = versions
        self._opener = opener
        self._writer = writer
        self._references = references
        self._layouts = layouts

    async def copy(
        self,
        source: tuple[str, str],
        target: tuple[str, str],
        *,
        source_etag: str | None,
        metadata: ObjectMetadata | None,
        condition: Condition | None,
    ) -> ObjectInfo:
        """See ``StorageBackend.copy_object``; ``source`` and ``target`` are bucket and key.

        Raises:
            ChangedError: Without ``source_etag``, if the source changed again and again.
        """
        for attempt in range(1, ATTEMPTS + 1):
            stored = await self._versions.head(*source)
            if source_etag not in (None, stored.logical.etag):
                raise PreconditionFailed("The source of the copy has another ETag.")
            given = _given(stored, metadata, itself=source == target)
            try:
                found = await self._bytes(source, target, stored)
                if found is None:
                    return await self._decode(source, target, stored, given, condition)
                return await self._copy(source, target, stored, found, given, condition)
            except ChangedError:
                # Onto itself, it may have been written anew with the same bytes: another look
                # tells.
                if source_etag is not None and (source != target or attempt == ATTEMPTS):
                    raise PreconditionFailed("The source changed during the copy.") from None
                if attempt == ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    async def _bytes(
        self, source: tuple[str, str], target: tuple[str, str], stored: Stored
    ) -> _Bytes | None:
        """What can be copied as it is; None if the copy has to be written like an upload."""
        takes_deltas = self._engine.takes_deltas(*target)
        if stored.form == "delta":
            # The reference belongs to the bucket, and where deltas are switched off a copy
            # must not bring one in.
            if source[0] != target[0] or not (takes_deltas or source == target):
                return None
            return await self._delta(source, stored)
        # A verbatim source may become a delta under its new name. Under its own name, or one
        # that takes no deltas, its bytes are what would be stored. The bytes of a reference
        # may be anything at all, also what needs wrapping.
        if stored.form == "reference" or (takes_deltas and source != target):
            return None
        fields = dict(ASSEMBLED if stored.form == "assembled" else VERBATIM)
        if stored.form == "wrapped":
            fields = {"form": "wrapped", "head": str(stored.head), "etag": stored.logical.etag}
        if stored.sha256 is not None:
            fields["sha256"] = stored.sha256
        return _Bytes(fields=fields)

    async def _delta(self, source: tuple[str, str], stored: Stored) -> _Bytes | None:
        info, start = await self._versions.start_of(*source, stored.head)
        if info.etag != stored.physical.etag:
            raise ChangedError
        head = await self._versions.read_head(source[0], info, start)
        check_head(stored, head)
        delta = head.record.delta
        if delta is None:
            return None
        write, reference = current_write.get(), delta.reference
        if write is not None and not await write.hold(reference.key, reference.size):
            return None
        if not await self._references.confirm(source[0], reference):
            return None
        fields = fields_of(replace(head.record, modified=None), head.length)
        fields["etag"] = stored.logical.etag
        return _Bytes(fields=fields)

    async def _copy(
        self,
        source: tuple[str, str],
        target: tuple[str, str],
        stored: Stored,
        found: _Bytes,
        metadata: ObjectMetadata,
        condition: Condition | None,
    ) -> ObjectInfo:
        own = {name: metadata.internal[name] for name in ("etag",) if name in metadata.internal}
        whole = with_form(metadata, {**found.fields, **own})
        if source == target:
            enforced = self._this_version(stored, condition)
        else:
            enforced = await self._versions.physical(*target, condition)
        await self._layouts.expect(*target, whole.internal)
        try:
            info = await self._inner.copy_object(
                *source,
                *target,
                source_etag=stored.physical.etag,
                metadata=whole,
                condition=enforced,
            )
        except PreconditionFailed:
            # Of the source or of the target? Only another look at the source tells.
            now = await self._versions.head(*source)
            if source == target or now.physical.etag != stored.physical.etag:
                raise ChangedError from None
            raise
        return describe(replace(info, metadata=whole)).logical

    def _this_version(self, stored: Stored, condition: Condition | None) -> Condition | None:
        """The condition of a copy onto itself, for the backend: just ``stored`` is replaced.

        The date, because an ETag names bytes: the same bytes with other metadata and tags may
        have been written meanwhile.

        Raises:
            PreconditionFailed: ``condition`` does not hold of ``stored``.
        """
        if condition is not None:
            condition.check(stored.logical)
        if condition is None and not self._inner.capabilities.conditional_writes:
            return None
        physical = stored.physical
        return Condition(if_match=physical.etag, last_modified=physical.last_modified)

    async def _decode(
        self,
        source: tuple[str, str],
        target: tuple[str, str],
        stored: Stored,
        metadata: ObjectMetadata,
        condition: Condition | None,
    ) -> ObjectInfo:
        """Read the source as a client would and write it as an upload."""
        if source == target:
            self._this_version(stored, condition)
            logical = stored.logical
            condition = Condition(if_match=logical.etag, last_modified=logical.last_modified)
        async with await self._opener.open(*source) as reader:
            if reader.info.etag != stored.logical.etag:
                raise ChangedError
            return await self._writer.put(
                *target,
                aiter(reader),
                size=reader.info.size,
                metadata=metadata,
                condition=condition,
            )


def _given(stored: Stored, metadata: ObjectMetadata | None, *, itself: bool) -> ObjectMetadata:
    """The metadata of a copy of ``stored``, as far as they do not describe its form.

    Args:
        metadata: That the caller gives; None for those of the source.
        itself: The copy takes the place of its source.
    """
    given = _kept(stored) if metadata is None else metadata
    source = stored.logical.metadata or ObjectMetadata()
    if given.tags_of_source:
        given = replace(given, tags=source.tags, tags_of_source=False)
    if not itself:
        return given
    stays = {name: source.internal[name] for name in _OF_ITSELF if name in source.internal}
    # A backend gives a copy of a multipart upload of its own another ETag.
    if stored.logical.etag != stored.physical.etag or "parts" in stays:
        stays["etag"] = stored.logical.etag
    asked = Checksum.parse(given.internal.get("checksum", ""))
    table = PartTable.from_text(stays.get("parts", ""))
    if asked is not None and table is not None:
        stays["parts"] = table.agreeing(asked).to_text()
    return replace(given, internal={**stays, **given.internal})


def _kept(stored: Stored) -> ObjectMetadata:
    """What a copy without metadata of its own takes from its source."""
    source = (stored.logical.metadata or ObjectMetadata()).copied()
    write = current_write.get()
    internal = {} if write is None else {"write-id": write.write_id}
    return replace(source, internal={**source.internal, **internal})
