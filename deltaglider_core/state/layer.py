"""The outermost storage layer: no mutation without an intent, none without its event and count."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..interfaces.storage import (
    Body,
    Checksum,
    CompletedPart,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    PartInfo,
    PartPage,
    StorageBackend,
    StorageLayer,
    UploadPage,
)
from ..origin import current_origin
from .bucket_lifecycle import BucketLifecycle
from .bucket_registry import BucketRegistry
from .examiner import Examiner
from .kinds import RESTATE
from .multipart import Multipart
from .mutations import GuardedBody, Mutation, Mutations, Outcome, stored
from .writes import ActiveWrite

if TYPE_CHECKING:
    from ..services import Services
    from ..settings import Settings
    from .state import State


class StateLayer(StorageLayer):
    """Records mutations of one backend in the state database.

    Methods that are not here are forwarded: they change nothing.

    Args:
        quota: Most logical bytes of a bucket, by the name that clients use; None without one.
    """

    def __init__(
        self, inner: StorageBackend, state: State, quota: Callable[[str], int | None]
    ) -> None:
        super().__init__(inner)
        self.state = state
        self._quota = quota
        self.registry = BucketRegistry(inner, state.database, lambda: state.deployment)
        self.examiner = Examiner(inner, state.database, state.log)
        self._mutations = Mutations(
            inner, self.registry, state.journal, self.examiner, quota, state.check, state.log
        )
        self.lifecycle = BucketLifecycle(inner, self.registry, state)
        self.multipart = Multipart(inner, self.registry, self._mutations, state, quota)

    # --- buckets --------------------------------------------------------------------------

    async def create_bucket(self, bucket: str) -> None:
        await self.lifecycle.create(bucket)

    async def delete_bucket(self, bucket: str) -> None:
        await self.lifecycle.delete(bucket)

    # --- objects --------------------------------------------------------------------------

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
        guarded = GuardedBody(body)

        async def work(write: ActiveWrite) -> Outcome[ObjectInfo]:
            return stored(
                await self.inner.put_object(
                    bucket,
                    key,
                    guarded,
                    size=size,
                    metadata=with_write_id(metadata, write.write_id),
                    condition=condition,
                )
            )

        return await self._mutations.run(
            Mutation(
                bucket=bucket,
                key=key,
                kind="put",
                event="ObjectCreated",
                size=size,
                work=work,
                recover=stored,
                conditional=condition is not None,
                body=guarded,
            )
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
        size: int | None = None
        itself = (source_bucket, source_key) == (bucket, key)
        quota = self._quota(current_origin.get().bucket or bucket)
        if metadata is None or source_etag is None or quota is not None:
            source = await self.inner.head_object(source_bucket, source_key)
            if metadata is None:
                metadata = (source.metadata or ObjectMetadata()).copied()
                metadata = replace(metadata, tags_of_source=True)
            # Size and metadata are of this version of the source, so the bytes have to be, too.
            source_etag, size = source_etag or source.etag, source.size
        given = metadata

        async def work(write: ActiveWrite) -> Outcome[ObjectInfo]:
            return stored(
                await self.inner.copy_object(
                    source_bucket,
                    source_key,
                    bucket,
                    key,
                    source_etag=source_etag,
                    metadata=with_write_id(given, write.write_id),
                    condition=condition,
                )
            )

        return await self._mutations.run(
            Mutation(
                bucket=bucket,
                key=key,
                kind=RESTATE if itself else "copy",
                event="ObjectCopied",
                size=size,
                work=work,
                recover=stored,
                payload={"source_bucket": source_bucket, "source_key": source_key},
                conditional=True,
            )
        )

    async def delete_object(
        self, bucket: str, key: str, *, condition: Condition | None = None
    ) -> bool:
        async def work(write: ActiveWrite) -> Outcome[bool]:
            removed = await self.inner.delete_object(bucket, key, condition=condition)
            return Outcome(result=removed, present=None, changed=removed)

        return await self._mutations.run(
            Mutation(
                bucket=bucket,
                key=key,
                kind="delete",
                event="ObjectDeleted",
                size=0,
                work=work,
                recover=lambda info: None,
                conditional=condition is not None,
            )
        )

    async def set_object_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> ObjectInfo:
        return await self._mutations.amend(
            bucket, key, lambda: self.inner.set_object_tags(bucket, key, tags)
        )

    # --- multipart ------------------------------------------------------------------------

    async def create_multipart_upload(
        self, bucket: str, key: str, *, metadata: ObjectMetadata, checksum: Checksum | None = None
    ) -> str:
        return await self.multipart.create(bucket, key, metadata, checksum)

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
        return await self.multipart.upload_part(
            bucket, key, upload_id, part_number, body, size, checksum
        )

    async def list_parts(
        self, bucket: str, key: str, upload_id: str, *, part_number_marker: int = 0, max_parts: int
    ) -> PartPage:
        return await self.multipart.list_parts(
            bucket, key, upload_id, part_number_marker, max_parts
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
        return await self.multipart.list_uploads(
            bucket, prefix, delimiter, key_marker, upload_id_marker, max_uploads
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
        return await self.multipart.complete(bucket, key, upload_id, parts, condition, checksum)

    async def abort_multipart_upload(self, bucket: str, key: str, upload_id: str) -> None:
        await self.multipart.abort(bucket, key, upload_id)


def with_write_id(metadata: ObjectMetadata, write_id: str) -> ObjectMetadata:
    """Metadata that names the write."""
    return replace(metadata, internal={**metadata.internal, "write-id": write_id})


@asynccontextmanager
async def open_state_layer(
    settings: Settings, services: Services
) -> AsyncIterator[Callable[[StorageBackend], StorageBackend]]:
    """Open the layer over the state of this process; without a state nothing is wrapped.

    Raises:
        ConfigurationError: There is a quota and no state that could count.
    """
    quotas = {
        name: bucket.quota_bytes
        for name, bucket in settings.storage.buckets.items()
        if bucket.quota_bytes is not None
    }
    state: Any = services.state
    if state is None:
        if quotas:
            raise ConfigurationError("storage.buckets: a quota needs the state database")
        yield lambda inner: inner
        return
    layers: list[StateLayer] = []

    def wrap(inner: StorageBackend) -> StateLayer:
        layer = StateLayer(inner, state, quotas.get)
        layers.append(layer)
        state.attach(layer)
        return layer

    try:
        yield wrap
    finally:
        for layer in layers:
            state.detach(layer)


__all__ = ["StateLayer", "open_state_layer", "with_write_id"]
