"""Fixtures of the unit tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.plugins import FakeSite


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSite:
    """A place to install plugins of the test's own; importable, and found beside ours."""
    directory = tmp_path / "site"
    directory.mkdir()
    monkeypatch.syspath_prepend(str(directory))
    return FakeSite(directory)
