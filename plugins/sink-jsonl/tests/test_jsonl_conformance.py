"""The kit's tests, on a file."""

from __future__ import annotations

import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deltaglider_core.services import Services
from deltaglider_sink_jsonl.sink import JsonLinesSink
from deltaglider_testkit import EventSinkConformance, PluginConformance
from deltaglider_testkit.events import Received, Trouble


class TestJsonLines(EventSinkConformance):
    @pytest.fixture
    def sink(self, file: Any, dg_services: Services) -> JsonLinesSink:
        return JsonLinesSink(file.path, fsync=True, services=dg_services)

    @pytest.fixture
    def received(self, file: Any) -> Received:
        async def read() -> list[int]:
            found: list[int] = file.ids()
            return found

        return read

    @pytest.fixture
    def broken(self, file: Any) -> Trouble:
        """The directory is not there, as on a disk that is not mounted."""

        @asynccontextmanager
        async def trouble() -> AsyncIterator[None]:
            away = file.path.parent.rename(file.path.parent.with_name("away"))
            yield
            away.rename(file.path.parent)

        return trouble

    @pytest.fixture
    def hung(self, file: Any) -> Trouble:
        """Another program has locked the file."""

        @asynccontextmanager
        async def trouble() -> AsyncIterator[None]:
            with file.path.open("rb") as other:
                fcntl.flock(other, fcntl.LOCK_EX)
                yield

        return trouble


class TestPackage(PluginConformance):
    distribution = "deltaglider-sink-jsonl"
