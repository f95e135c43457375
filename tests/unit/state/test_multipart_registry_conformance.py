"""The conformance tests of multipart uploads, on uploads that the database knows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar

import pytest
from support.upload_node import open_node

from deltaglider_core.interfaces.storage import StorageBackend
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.testing import MemoryBackend
from deltaglider_testkit.storage.multipart import MultipartTests
from deltaglider_testkit.storage.uploads import UploadTests


class TestRegistry(MultipartTests, UploadTests):
    stores_in_memory: ClassVar[bool] = True
    logical_etags: ClassVar[bool] = True

    @pytest.fixture
    async def backend(self, embedded_place: DatabasePlace) -> AsyncIterator[StorageBackend]:
        async with open_node(embedded_place, MemoryBackend()) as node:
            yield node.layer
