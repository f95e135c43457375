"""Deltas that are ready to be stored."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from ..errors import IntegrityError
from ..interfaces.codec import Codec
from ..interfaces.storage import ObjectMetadata, StorageBackend
from ..services import SpoolLease
from .bodies import chain, file_chunks
from .cache import ReferenceFile
from .container import build_head, root_of
from .encoder import EncodedBody, EncodingFailedError, encode
from .engine import Engine
from .record import Delta, Record, Reference, parse_time
from .references import references_prefix
from .spooling import Spooled


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """A delta, ready to be stored.

    Attributes:
        created: Its reference does not exist yet.
        repairs: Its reference is damaged, and has to be stored anew from the object.
    """

    record: Record
    head: bytes
    body: EncodedBody
    reference: Reference
    created: bool
    repairs: bool = False

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.head) + self.body.stored

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes."""
        return chain(self.head, file_chunks(self.body.path, self.body.stored))


class BlobMaker:
    """Makes deltas of objects of one backend."""

    def __init__(self, inner: StorageBackend, engine: Engine) -> None:
        self._inner = inner
        self._engine = engine

    async def make(
        self,
        bucket: str,
        key: str,
        spooled: Spooled,
        lease: SpoolLease,
        chosen: Reference | None,
        metadata: ObjectMetadata,
    ) -> Blob | None:
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
        # A damaged reference whose bytes come once more is stored again, and its deltas with it.
        repairs = own and chosen is not None and not await self._is_sound(bucket, chosen)
        limit = self._engine.policy.ratio(bucket) * spooled.size
        began = time.perf_counter()
        try:
            # The same bytes are at hand; a reference above the size of the cache is fetched once.
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
        return Blob(
            record=record,
            head=head,
            body=body,
            reference=reference,
            created=chosen is None,
            repairs=repairs,
        )

    async def _is_sound(self, bucket: str, reference: Reference) -> bool:
        try:
            async with self._engine.reference(self._inner, bucket, reference):
                return True
        except IntegrityError:
            self._engine.log.warning("reference_damaged", bucket=bucket, reference=reference.key)
            return False
        except OSError as error:
            raise EncodingFailedError("reference cannot be read") from error

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
