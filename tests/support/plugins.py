"""Plugins made for one test: a module and the metadata of its distribution, on disk."""

from __future__ import annotations

import itertools
import textwrap
from importlib import metadata
from pathlib import Path

_numbers = itertools.count(1)


class FakeSite:
    """A directory that Python can import from, with distributions in it.

    Args:
        directory: Must be on ``sys.path`` for the modules to be importable.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def install(
        self,
        name: str,
        source: str,
        *,
        distribution: str | None = None,
        version: str = "1.2.3",
    ) -> None:
        """Install a plugin.

        Args:
            name: Of the entry point.
            source: The module's text.
            distribution: ``deltaglider-<name>`` if omitted.
        """
        distribution = distribution or f"deltaglider-{name}"
        # A module is imported once per process, so every one has a name of its own.
        module = f"fake_plugin_{next(_numbers)}"
        (self.directory / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        info = self.directory / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        (info / "entry_points.txt").write_text(f"[deltaglider]\n{name} = {module}\n")

    def entry_points(self) -> list[metadata.EntryPoint]:
        """Those of this directory alone."""
        found = metadata.distributions(path=[str(self.directory)])
        return [
            entry_point
            for distribution in found
            for entry_point in distribution.entry_points
            if entry_point.group == "deltaglider"
        ]
