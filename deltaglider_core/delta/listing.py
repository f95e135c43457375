"""Listings that show objects instead of what is stored for them."""

from __future__ import annotations

from dataclasses import replace

from ..errors import IntegrityError, NoSuchKey
from ..interfaces.storage import ObjectInfo, ObjectPage, StorageBackend
from .concurrency import bounded_map
from .engine import Engine
from .forms import describe, form_of, visible_metadata
from .hidden import list_visible
from .versions import Versions

#: Look-ups of one page under way at once.
_AT_ONCE = 8


class Lister:
    """Listings of one backend."""

    def __init__(self, inner: StorageBackend, engine: Engine, versions: Versions) -> None:
        self._inner = inner
        self._engine = engine
        self._versions = versions

    async def list(
        self, bucket: str, *, prefix: str, delimiter: str, start_after: str, max_keys: int
    ) -> ObjectPage:
        """See ``StorageBackend.list_objects``.

        An object that vanishes while the page is made is left out, so a page may be short.
        """
        page = await list_visible(
            self._inner,
            bucket,
            prefix=prefix,
            delimiter=delimiter,
            start_after=start_after,
            max_keys=max_keys,
        )

        async def logical(info: ObjectInfo) -> ObjectInfo | None:
            return await self._logical(bucket, info)

        objects = await bounded_map(logical, page.objects, limit=_AT_ONCE)
        return replace(page, objects=tuple(info for info in objects if info is not None))

    async def _logical(self, bucket: str, info: ObjectInfo) -> ObjectInfo | None:
        """The object that a listed entry stands for; None if it is gone."""
        try:
            if form_of(info) is not None:
                return describe(info).logical
            if not self._engine.policy.may_be_delta(info.key):
                return replace(info, metadata=visible_metadata(info.metadata))
            if info.metadata is not None:
                return (await self._versions.resolve(bucket, info)).logical
            found = (await self._versions.head(bucket, info.key)).logical
            return replace(found, metadata=None)
        except NoSuchKey:
            return None
        except IntegrityError as error:
            # One damaged object must not hide all others, nor itself: it can still be deleted.
            self._engine.log.error(
                "object_unreadable", bucket=bucket, key=info.key, reason=error.text
            )
            return replace(info, metadata=visible_metadata(info.metadata))
