"""Resolve every dependency anew and write the files of pins.

``constraints.txt`` covers the run time, the tests, the development tools and what the isolated
builds use. The clients of the tests that live apart have files of their own below
``tests/clients``. They name versions and no index and no file, so they serve any mirror.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "constraints.txt"
GROUPS = ("dev", "bench")
#: Each has a ``requirements.txt`` and gets a ``constraints.txt``.
APART = (ROOT / "tests" / "clients" / "s3fs",)
JAVASCRIPT = ROOT / "tests" / "clients" / "js"
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


def everything() -> list[str]:
    """What pip has to resolve for ``.venv``, as words of its command line."""
    groups = [word for group in GROUPS for word in ("--group", group)]
    packages = [os.fspath(project) for project in projects()]
    return [*packages, *groups, *sorted(build_requirements()), "pip"]


def pip(python: Path, *words: str) -> None:
    """Run pip without anybody's constraints."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"}
    }
    command = [os.fspath(python), "-m", "pip", "--quiet", "install", *words]
    subprocess.run(command, check=True, cwd=ROOT, env=environment)


def resolve(python: Path, report: Path, words: Sequence[str]) -> dict[str, str]:
    """Let pip resolve ``words`` in one go; returns name and version of everything."""
    pip(python, "--dry-run", "--ignore-installed", "--report", os.fspath(report), *words)
    return pins(json.loads(report.read_text(encoding="utf-8")))


def write(target: Path, resolved: Mapping[str, str]) -> None:
    """Write a file of pins in one step."""
    temporary = target.with_suffix(".txt.new")
    temporary.write_text(render(resolved), encoding="utf-8")
    temporary.replace(target)
    print(f"{target.relative_to(ROOT)}: {len(resolved)} pins", file=sys.stderr)


def lock_javascript() -> None:
    """Resolve the npm packages anew; the file has versions and hashes and no addresses."""
    (JAVASCRIPT / "package-lock.json").unlink(missing_ok=True)
    words = ("--package-lock-only", "--omit-lockfile-registry-resolved", "--no-audit", "--no-fund")
    subprocess.run(["npm", "install", *words, "--loglevel=error"], cwd=JAVASCRIPT, check=True)


def main() -> None:
    """Write the files after everything was resolved."""
    with tempfile.TemporaryDirectory(prefix="deltaglider-lock-") as name:
        environment = Path(name) / "venv"
        venv.create(environment, with_pip=True)
        python, report = environment / "bin" / "python", Path(name) / "report.json"
        pip(python, "--upgrade", "pip")
        found = {TARGET: resolve(python, report, everything())}
        for folder in APART:
            words = ("--requirement", os.fspath(folder / "requirements.txt"))
            found[folder / "constraints.txt"] = resolve(python, report, words)
    for target, resolved in found.items():
        write(target, resolved)
    lock_javascript()


if __name__ == "__main__":
    main()
