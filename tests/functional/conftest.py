"""Fixtures of the functional tests."""

from __future__ import annotations

import pytest
from support.expect import Footprint
from support.raw import RawClient
from support.server import ServerProcess


@pytest.fixture(scope="session")
def raw(server: ServerProcess) -> RawClient:
    """A client of the shared server that sends what it is told."""
    return RawClient(server)


@pytest.fixture
def footprint(server: ServerProcess, bucket: str) -> Footprint:
    """The files of the shared server as they are now, the fresh bucket included."""
    return Footprint(server.data, server.temporary)
