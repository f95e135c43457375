from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from deltaglider_backend_sqlite import SqliteBackend, SqliteSettings, open_backend

from deltaglider_core.testing import services_for_tests
from deltaglider_testkit import StorageConformance


class TestSqliteBackend(StorageConformance):
    @pytest.fixture
    async def backend(self, tmp_path: Path) -> AsyncIterator[SqliteBackend]:
        settings = SqliteSettings(type="sqlite", path=tmp_path / "objects.db")
        async with open_backend(settings, services_for_tests(tmp_path)) as backend:
            yield backend
