"""``deltaglider_proxy.example.yaml`` is valid and shows every setting that exists."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from support.server import command_path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "deltaglider_proxy.example.yaml"
# What the example mentions in a comment only, and why.
NOT_SHOWN = {
    "access.authentication",  # of no effect beside a key pair
    "storage.filesystem",  # the shorthand of storage.backend
    "advanced.event_file.path",  # of a package that [standard] does not install
    "advanced.event_file.fsync",
    "advanced.pipeline",  # must name exactly the active entries of a stage
}


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command_path("deltaglider_proxy"), *words],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin"},
    )


def leaves(schema: Mapping[str, Any], node: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Dotted paths of all settings in a JSON Schema with local references."""
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    if "properties" not in node:
        yield path
        return
    for name, below in node["properties"].items():
        yield from leaves(schema, below, f"{path}.{name}".lstrip("."))


def shown(document: Mapping[str, Any], path: str) -> bool:
    node: Any = document
    for name in path.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return False
        node = node[name]
    return True


def test_the_example_passes_lint() -> None:
    result = command("config", "lint", EXAMPLE)
    assert result.returncode == 0, result.stderr
    assert "ok" in result.stdout + result.stderr


def test_lint_refuses_the_example_with_a_misspelt_key(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(EXAMPLE.read_text(encoding="utf-8").replace("log_format:", "log_fromat:"))
    result = command("config", "lint", broken)
    assert result.returncode == 4
    assert "advanced.log_fromat" in result.stderr


def test_the_example_shows_every_setting() -> None:
    schema = json.loads(command("config", "schema").stdout)
    document = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    known = {path for path in leaves(schema, schema) if not path.startswith("admission")}
    assert known > NOT_SHOWN
    assert {path for path in known if not shown(document, path)} == NOT_SHOWN


def test_no_secret_of_the_example_looks_real() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert re.findall(r"secret_access_key: (.*)", text) == ["change-me-before-use"]
