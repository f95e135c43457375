"""Resolve every dependency anew and write ``constraints.txt``.

The pins cover the run time, the tests, the development tools and what the isolated builds
use. They name versions only: no index, no file, no hash, so the file serves any mirror.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "constraints.txt"
GROUPS = ("dev", "bench")
HEADER = """\
# Exact versions of everything that is installed, tested with and built with.
# Made by `make lock`; do not edit by hand.
"""


def projects() -> list[Path]:
    """Folders of all distributions of this repository, the core first."""
    return [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]


def build_requirements() -> set[str]:
    """What the isolated builds install: ``build-system.requires`` of every distribution."""
    found: set[str] = set()
    for project in projects():
        metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
        found.update(metadata["build-system"]["requires"])
    return found


def pins(report: Mapping[str, Any]) -> dict[str, str]:
    """Name and version of what a pip report would install, without our own packages."""
    return {
        entry["metadata"]["name"].lower().replace("_", "-"): entry["metadata"]["version"]
        for entry in report["install"]
        if "dir_info" not in entry["download_info"]
    }


def render(resolved: Mapping[str, str]) -> str:
    """The text of the constraints file, sorted by name."""
    lines = [f"{name}=={version}\n" for name, version in sorted(resolved.items())]
    return HEADER + "".join(lines)


def resolve(python: Path, report: Path) -> dict[str, Any]:
    """Let a fresh pip resolve everything in one go; returns its report."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"}
    }
    pip = [os.fspath(python), "-m", "pip", "--quiet"]
    subprocess.run([*pip, "install", "--upgrade", "pip"], check=True, env=environment)
    groups = [word for group in GROUPS for word in ("--group", group)]
    command = [
        *pip,
        *("install", "--dry-run", "--ignore-installed", "--report", os.fspath(report)),
        *(os.fspath(project) for project in projects()),
        *groups,
        *sorted(build_requirements()),
        "pip",
    ]
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    loaded: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return loaded


def main() -> None:
    """Write the file, in one step, after everything was resolved."""
    with tempfile.TemporaryDirectory(prefix="deltaglider-lock-") as name:
        environment = Path(name) / "venv"
        venv.create(environment, with_pip=True)
        resolved = pins(resolve(environment / "bin" / "python", Path(name) / "report.json"))
    temporary = TARGET.with_suffix(".txt.new")
    temporary.write_text(render(resolved), encoding="utf-8")
    temporary.replace(TARGET)
    print(f"{TARGET.name}: {len(resolved)} pins", file=sys.stderr)


if __name__ == "__main__":
    main()
