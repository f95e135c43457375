"""Listings that show objects instead of what is stored for them."""

from __future__ import annotations

from dataclasses import replace

from ..errors import IntegrityError, NoSuchKey
from ..interfaces.storage import ObjectInfo, ObjectPage, StorageBackend
from ..tasks import bounded_map
from .engine import Engine
from .forms import as_listed, describe, form_of
from .hidden import list_visible
from .layout import Layout, LayoutStore
from .versions import Versions

#: Look-ups of one page under way at once.
_AT_ONCE = 8


class Lister:
    """Listings of one backend."""

    def __init__(
        self, inner: StorageBackend, engine: Engine, versions: Versions, layouts: LayoutStore
    ) -> None:
        self._inner = inner
        self._engine = engine
        self._versions = versions
        self._layouts = layouts

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

        # Read after the page: a fact is there before the first object that it concerns.
        without = any(info.metadata is None for info in page.objects)
        layout = await self._layouts.read(bucket) if without else None
        objects: dict[str, ObjectInfo | None] = {}
        unknown: list[ObjectInfo] = []
        for info in page.objects:
            if self._is_doubtful(info, layout):
                unknown.append(info)
            else:
                objects[info.key] = self._known(bucket, info)

        async def look_up(info: ObjectInfo) -> None:
            objects[info.key] = await self._look_up(bucket, info)

        await bounded_map(look_up, unknown, limit=_AT_ONCE)
        found = (objects[info.key] for info in page.objects)
        return replace(page, objects=tuple(info for info in found if info is not None))

    def _is_doubtful(self, info: ObjectInfo, layout: Layout | None) -> bool:
        if info.metadata is None:
            return layout is None or layout.is_doubtful(info.key)
        # Metadata that states no form may have been lost in a copy by somebody else.
        return form_of(info) is None and self._engine.policy.may_be_delta(info.key)

    def _known(self, bucket: str, info: ObjectInfo) -> ObjectInfo:
        """An entry that states its form, or that is what it looks like."""
        if form_of(info) is None:
            return as_listed(info)
        try:
            return describe(info).logical
        except IntegrityError as error:
            return self._damaged(bucket, info, error)

    async def _look_up(self, bucket: str, info: ObjectInfo) -> ObjectInfo | None:
        """An entry about which only a request of its own tells; None if it is gone."""
        try:
            if info.metadata is not None:
                return (await self._versions.resolve(bucket, info)).logical
            found = (await self._versions.head(bucket, info.key)).logical
            return replace(found, metadata=None)
        except NoSuchKey:
            return None
        except IntegrityError as error:
            return self._damaged(bucket, info, error)

    def _damaged(self, bucket: str, info: ObjectInfo, error: IntegrityError) -> ObjectInfo:
        # One damaged object must not hide all others, nor itself: it can still be deleted.
        self._engine.log.error("object_unreadable", bucket=bucket, key=info.key, reason=error.text)
        return as_listed(info)
