"""The Makefile, the pins and the script that looks at the machine first."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import check_host
import lock
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
TARGETS = [
    *("setup", "run", "demo", "bench", "big", "soak", "fuzz"),
    *("test", "test-plugin", "lint", "type", "format", "docs", "compatibility"),
    *("dist", "lock", "clean", "help"),
]


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def declared() -> list[str]:
    """Every requirement of every distribution: run time, groups and builds."""
    found: list[str] = []
    for project in lock.projects():
        metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
        found += metadata["build-system"]["requires"] + metadata["project"].get("dependencies", [])
        for group in metadata.get("dependency-groups", {}).values():
            found += [entry for entry in group if isinstance(entry, str)]
    return found


def test_every_requirement_is_pinned_within_its_bounds() -> None:
    pins = pinned()
    for text in declared():
        requirement = Requirement(text)
        if not requirement.name.startswith("deltaglider-"):
            version = pins.get(canonicalize_name(requirement.name))
            assert version is not None, f"{text} is not pinned; run make lock"
            assert requirement.specifier.contains(version), f"{text}, but the pin is {version}"


def test_the_pins_are_names_and_versions_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9.-]+==[0-9][a-z0-9.]*", line) for line in pins)
    assert list(pinned()) == sorted(pinned())
    assert len(pinned()) == len(pins)
    assert lock.render(pinned()) == (ROOT / "constraints.txt").read_text(encoding="utf-8")


def test_a_report_of_pip_becomes_pins_without_our_own_packages() -> None:
    def entry(name: str, version: str, **info: object) -> dict[str, object]:
        return {"metadata": {"name": name, "version": version}, "download_info": info}

    report = {
        "install": [
            entry("PyYAML", "6.0.3", url="https://index/p.whl", archive_info={}),
            entry("mypy_extensions", "1.2.0", url="file:///wheels/m.whl", archive_info={}),
            entry("deltaglider-core", "0.1.0", url="file:///src", dir_info={}),
        ]
    }
    assert lock.pins(report) == {"pyyaml": "6.0.3", "mypy-extensions": "1.2.0"}


def make(*words: str) -> subprocess.CompletedProcess[str]:
    # MAKEFLAGS of a surrounding `make test` would change what the inner one prints.
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    return subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_plain_make_lists_every_target() -> None:
    result = make()
    assert result.returncode == 0
    listed = re.findall(r"^  make ([a-z-]+) ", result.stdout, flags=re.MULTILINE)
    assert sorted(listed) == sorted(TARGETS)


@pytest.mark.parametrize("target", ["setup", "run", "test", "lint", "type", "demo", "bench"])
def test_a_target_makes_the_environment_it_needs(target: str, tmp_path: Path) -> None:
    result = make("--dry-run", target, f"VENV={tmp_path / 'fresh'}")
    assert result.returncode == 0, result.stderr
    assert "check_host.py" in result.stdout
    assert f"-m venv {tmp_path / 'fresh'}" in result.stdout


@pytest.mark.parametrize("plugin", ["", "nosuch", "..", "../docs", "-x"])
def test_an_unknown_plugin_is_one_sentence(plugin: str) -> None:
    result = make("test-plugin", f"P={plugin}")
    assert result.returncode != 0
    assert "codec-xdelta3" in result.stderr
    assert "Traceback" not in result.stderr


def test_ci_runs_lint_types_and_tests_and_stops_at_the_first_failure(tmp_path: Path) -> None:
    folder = tmp_path / ".ci"
    folder.mkdir()
    script = folder / "run"
    script.write_bytes((ROOT / ".ci" / "run").read_bytes())
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111 == 0o111
    makefile = tmp_path / "Makefile"
    makefile.write_text("lint type test:\n\t@echo ran $@\n")
    result = subprocess.run(["bash", script], capture_output=True, text=True, check=True)
    assert re.findall(r"^ran (\w+)$", result.stdout, flags=re.MULTILINE) == ["lint", "type", "test"]
    makefile.write_text("lint test:\n\t@echo ran $@\ntype:\n\t@false\n")
    broken = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert broken.returncode != 0
    assert "ran test" not in broken.stdout


def test_this_machine_is_good_enough() -> None:
    assert check_host.problem(sys.version_info[:2], os.environ) == ""


@pytest.mark.parametrize(
    ("version", "environ", "header", "words"),
    [
        ((3, 10), {}, True, ["Python 3.11 or newer", "3.10", "PYTHON="]),
        ((3, 11), {"CC": "no-such-compiler -m64"}, True, ["C compiler", "(no-such-compiler)"]),
        ((3, 13), {"CC": "true"}, False, ["headers", "Python.h", "python3-dev"]),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(
    version: tuple[int, int], environ: dict[str, str], header: bool, words: list[str]
) -> None:
    sentence = check_host.problem(version, environ, exists=lambda path: header)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert all(word in sentence for word in words)


@pytest.mark.parametrize(
    ("environ", "configured", "command"),
    [
        ({}, "gcc -pthread", "gcc"),
        ({"CC": "clang -O2"}, "gcc", "clang"),
        ({"CC": ""}, "", "cc"),
    ],
)
def test_the_compiler_is_the_one_that_builds_call(
    environ: dict[str, str], configured: str, command: str
) -> None:
    assert check_host.compiler(environ, configured) == command
