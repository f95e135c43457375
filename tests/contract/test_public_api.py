"""What ``deltaglider_core`` exports is listed, sorted, importable and documented."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import deltaglider_core

NAMES = list(deltaglider_core.__all__)


def test_the_list_is_sorted_and_without_repetition() -> None:
    assert sorted(set(NAMES)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_name_exists(name: str) -> None:
    assert getattr(deltaglider_core, name) is not None


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_class_or_function_is_documented(name: str) -> None:
    value = getattr(deltaglider_core, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value)


def test_no_name_starts_with_an_underscore() -> None:
    assert [name for name in NAMES if name.startswith("_") and name != "__version__"] == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        getattr(deltaglider_core, "no_such" + "_name")


def test_a_star_import_gives_exactly_the_list() -> None:
    program = "from deltaglider_core import *\nprint(*sorted(vars()), sep='\\n')"
    command = [sys.executable, "-I", "-c", program]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    found = {name for name in printed if not name.startswith("__") or name == "__version__"}
    assert found - {"__version__"} == set(NAMES) - {"__version__"}
