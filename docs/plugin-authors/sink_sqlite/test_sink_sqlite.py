import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path

import pytest
from deltaglider_sink_sqlite import SqliteSink

from deltaglider_core.testing import services_for_tests
from deltaglider_testkit import EventSinkConformance

Trouble = Callable[[], AbstractAsyncContextManager[None]]


class TestSqliteSink(EventSinkConformance):
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        directory = tmp_path / "events"
        directory.mkdir()
        return directory / "events.db"

    @pytest.fixture
    def sink(self, path: Path, tmp_path: Path) -> SqliteSink:
        return SqliteSink(path, services_for_tests(tmp_path))

    @pytest.fixture
    def received(self, path: Path) -> Callable[[], Awaitable[list[int]]]:
        async def ids() -> list[int]:
            with closing(sqlite3.connect(path)) as connection:
                query = "SELECT id FROM events ORDER BY id"
                return [number for (number,) in connection.execute(query)]

        return ids

    @pytest.fixture
    def broken(self, path: Path) -> Trouble:
        """The directory is not there, as on a disk that is not mounted."""

        @asynccontextmanager
        async def trouble() -> AsyncIterator[None]:
            away = path.parent.rename(path.parent.with_name("away"))
            yield
            away.rename(path.parent)

        return trouble

    @pytest.fixture
    def hung(self, path: Path) -> Trouble:
        """Another program has locked the file."""

        @asynccontextmanager
        async def trouble() -> AsyncIterator[None]:
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")
                yield

        return trouble
