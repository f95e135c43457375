"""A backend on a fresh directory, and a few words to speak to it with."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from deltaglider_backend_fs.backend import FsBackend
from deltaglider_backend_fs.settings import FsSettings
from deltaglider_core.interfaces.storage import Condition, ObjectInfo, ObjectMetadata
from deltaglider_core.services import SystemClock


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


class Store:
    """One bucket of a backend."""

    def __init__(self, backend: FsBackend, root: Path) -> None:
        self.backend = backend
        self.root = root
        self.path = root / "bkt"

    async def put(
        self,
        key: str,
        *parts: bytes,
        size: int | None = None,
        metadata: ObjectMetadata | None = None,
        **condition: str,
    ) -> ObjectInfo:
        return await self.backend.put_object(
            "bkt",
            key,
            chunks(*parts),
            size=size,
            metadata=metadata or ObjectMetadata(),
            condition=Condition(**condition) if condition else None,
        )

    async def get(self, key: str) -> bytes:
        async with await self.backend.get_object("bkt", key) as reader:
            return b"".join([chunk async for chunk in reader])

    async def keys(self, **options: object) -> list[str]:
        page = await self.backend.list_objects("bkt", **options)  # type: ignore[arg-type]
        return [info.key for info in page.objects]

    def descriptors(self) -> int:
        """Open files below the root, the root itself included."""
        count = 0
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                count += os.readlink(f"/proc/self/fd/{number}").startswith(str(self.root))
        return count

    def left_over(self) -> list[Path]:
        """Temporary and metadata files."""
        return [p for d in ("%dg-tmp", "%dg-meta") for p in (self.path / d).glob("*")]


@pytest.fixture
def reopen(tmp_path: Path) -> Callable[[], object]:
    """Open another backend on the same directory, as another process would."""

    async def opened() -> FsBackend:
        return await FsBackend.create(
            FsSettings(type="filesystem", path=tmp_path / "root"), SystemClock()
        )

    return opened


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    root = tmp_path / "root"
    backend = await FsBackend.create(FsSettings(type="filesystem", path=root), SystemClock())
    await backend.create_bucket("bkt")
    yield Store(backend, root)
    await backend.aclose()
