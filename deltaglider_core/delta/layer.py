"""The delta layer: a storage backend around another one that stores versions as deltas."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..interfaces.storage import (
    Body,
    ByteRange,
    Checksum,
    CompletedPart,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    ObjectPage,
    ObjectReader,
    StorageBackend,
    StorageLayer,
)
from ..services import Services
from .copier import Copier
from .deletion import delete_bucket
from .engine import Engine
from .forms import ASSEMBLED, with_form
from .layout import LayoutStore
from .listing import Lister
from .opener import ObjectOpener
from .optimiser import Optimiser
from .policy import DeltaPolicy
from .references import ReferenceStore
from .versions import Versions
from .writer import ObjectWriter

if TYPE_CHECKING:
    from ..settings import Settings


class DeltaLayer(StorageLayer):
    """Objects as clients see them, over a backend that has them verbatim or as deltas.

    Methods that are not here are forwarded: they concern buckets and parts, which this layer
    stores as they are.
    """

    def __init__(self, inner: StorageBackend, engine: Engine) -> None:
        super().__init__(inner)
        self._versions = Versions(inner)
        self._references = ReferenceStore(inner)
        self._layouts = LayoutStore(inner)
        self._log = engine.log
        self._opener = ObjectOpener(inner, engine, self._versions)
        self._lister = Lister(inner, engine, self._versions, self._layouts)
        self._writer = ObjectWriter(inner, engine, self._versions, self._references, self._layouts)
        self._copier = Copier(
            inner,
            engine,
            self._versions,
            self._opener,
            self._writer,
            self._references,
            self._layouts,
        )
        self._optimiser = Optimiser(inner, engine, self._versions, self._opener, self._writer)

    async def create_bucket(self, bucket: str) -> None:
        """Create it, and say in it that its layout will be known completely.

        The bucket is there whatever becomes of the second step, without which listings take
        more requests on some backends.
        """
        await self.inner.create_bucket(bucket)
        try:
            await self._layouts.mark_new(bucket)
        except Exception as error:
            self._log.warning("layout_not_marked", bucket=bucket, reason=repr(error))

    async def delete_bucket(self, bucket: str) -> None:
        """Delete it; nothing may be written meanwhile, see ``deletion.py``."""
        await delete_bucket(self.inner, bucket)

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
        return await self._writer.put(
            bucket, key, body, size=size, metadata=metadata, condition=condition
        )

    async def get_object(
        self, bucket: str, key: str, *, byte_range: ByteRange | None = None
    ) -> ObjectReader:
        return await self._opener.open(bucket, key, byte_range)

    async def head_object(self, bucket: str, key: str) -> ObjectInfo:
        return (await self._versions.head(bucket, key)).logical

    async def delete_object(
        self, bucket: str, key: str, *, condition: Condition | None = None
    ) -> bool:
        enforced = await self._versions.physical(bucket, key, condition)
        return await self.inner.delete_object(bucket, key, condition=enforced)

    async def list_objects(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        start_after: str = "",
        max_keys: int = 1000,
    ) -> ObjectPage:
        return await self._lister.list(
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
        return await self._copier.copy(
            (source_bucket, source_key),
            (bucket, key),
            source_etag=source_etag,
            metadata=metadata,
            condition=condition,
        )

    async def set_object_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> ObjectInfo:
        """Change the tags of the stored object; what says how it is stored stays as it is."""
        info = await self.inner.set_object_tags(bucket, key, tags)
        return (await self._versions.resolve(bucket, info)).logical

    async def create_multipart_upload(
        self, bucket: str, key: str, *, metadata: ObjectMetadata, checksum: Checksum | None = None
    ) -> str:
        return await self.inner.create_multipart_upload(
            bucket, key, metadata=with_form(metadata, ASSEMBLED), checksum=checksum
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
        """Assemble the parts, then store the object as a delta if that pays.

        The first result counts: a failure to make a delta is logged and the object stays as
        it was assembled.
        """
        enforced = await self._versions.physical(bucket, key, condition)
        if not self.inner.capabilities.native_multipart:
            # Its ETag is made of those of its parts and kept in the metadata.
            await self._layouts.expect_any(bucket, key)
        info = await self.inner.complete_multipart_upload(
            bucket, key, upload_id, parts, condition=enforced, checksum=checksum
        )
        return await self._optimiser.settle_upload(bucket, key, info)

    async def optimise(self, bucket: str, key: str, info: ObjectInfo) -> ObjectInfo | None:
        """Store a verbatim object as a delta if that pays; see ``Optimiser.optimise``."""
        return await self._optimiser.optimise(bucket, key, info)


@asynccontextmanager
async def open_delta_layer(
    settings: Settings, services: Services
) -> AsyncIterator[Callable[[StorageBackend], DeltaLayer]]:
    """Open the delta engine; yields what wraps a backend, to be called once for each.

    Raises:
        ConfigurationError: ``advanced.codec`` names a codec that is not installed.
    """
    async with open_engine(DeltaPolicy.from_settings(settings), services) as engine:
        yield lambda inner: DeltaLayer(inner, engine)


@asynccontextmanager
async def open_engine(policy: DeltaPolicy, services: Services) -> AsyncIterator[Engine]:
    """The same from a policy alone. Raises ``ConfigurationError``."""
    engine = Engine(policy, services)
    try:
        yield engine
    finally:
        await engine.aclose()
