"""The distributions of the plugin guides, installed and tested as their readers would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .server import clean_environment

GUIDES = Path(__file__).parents[2] / "docs" / "plugin-authors"


def install(name: str, directory: Path) -> Path:
    """Install the distribution of one folder of the guides; returns where its modules are."""
    source = shutil.copytree(GUIDES / name, directory / name)
    target = directory / "site"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
            *("--no-build-isolation", "--target", os.fspath(target), os.fspath(source)),
        ],
        check=True,
        env=clean_environment(directory),
    )
    return target


def run_tests(name: str, site: Path, directory: Path, arguments: Sequence[str] = ()) -> str:
    """Run the tests that stand beside the distribution; returns what pytest printed.

    Raises:
        AssertionError: One failed, or was skipped, or there is none.
    """
    tests = [shutil.copy(path, directory) for path in (GUIDES / name).glob("test_*.py")]
    (directory / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, *arguments],
        cwd=directory,
        env=clean_environment(directory, {"PYTHONPATH": os.fspath(site)}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout
    assert "skipped" not in result.stdout
    return result.stdout
