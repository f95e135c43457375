"""The kit's tests, on a directory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deltaglider_backend_fs.backend import FsBackend
from deltaglider_backend_fs.settings import FsSettings
from deltaglider_core.services import SystemClock
from deltaglider_testkit import PluginConformance, StorageConformance


class TestFileSystem(StorageConformance):
    @pytest.fixture
    async def backend(self, tmp_path: Path) -> AsyncIterator[FsBackend]:
        settings = FsSettings(type="filesystem", path=tmp_path / "root")
        backend = await FsBackend.create(settings, SystemClock())
        yield backend
        await backend.aclose()


class TestPackage(PluginConformance):
    distribution = "deltaglider-backend-fs"
