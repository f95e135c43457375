"""The pytest plugin: options, marker and fixtures of the kit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from deltaglider_core.services import Services

_MIB = 1024 * 1024


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--dg-large``."""
    group = parser.getgroup("deltaglider", "DeltaGlider conformance")
    group.addoption(
        "--dg-large",
        action="store_true",
        help="memory tests use objects of 1 GiB instead of 128 MiB (also: DG_LARGE=1)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, for those who run with ``--strict-markers``."""
    config.addinivalue_line(
        "markers", "dg_memory: left out for classes whose stores_in_memory is true"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the memory tests of what lives in memory by design."""
    left_out = [
        item
        for item in items
        if item.get_closest_marker("dg_memory")
        and getattr(getattr(item, "cls", None), "stores_in_memory", False)
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def dg_large_size(request: pytest.FixtureRequest) -> int:
    """Bytes of the object in the memory tests."""
    large = request.config.getoption("--dg-large") or os.environ.get("DG_LARGE") == "1"
    return 1024 * _MIB if large else 128 * _MIB


@pytest.fixture
def dg_services(tmp_path: Path) -> Services:
    """Real ``Services`` below ``tmp_path``, with a clock that stands still."""
    from deltaglider_core.testing import services_for_tests

    return services_for_tests(tmp_path)
