"""The table of clients and operations is that of this tree; the clients can be installed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import compatibility
import install_clients
import pytest
import s3_operations
from compatibility import Client
from lock import render
from support.compatibility import CAPABILITIES

ROOT = Path(__file__).resolve().parents[2]
RERUN = "run make compatibility and commit docs/reference/s3-compatibility.md"


@pytest.fixture(scope="module")
def page() -> str:
    return compatibility.PAGE.read_text(encoding="utf-8")


# --- the page ------------------------------------------------------------------------------


def test_the_page_has_the_clients_that_are_tested(page: str) -> None:
    rows = {row["client"]: row for row in compatibility.table(page, "Clients")}
    declared = compatibility.declared()
    assert len(declared) >= 10
    assert set(rows) == set(declared), RERUN
    for client, capabilities in declared.items():
        shown = {name: rows[client][name] for name in CAPABILITIES}
        assert shown == {name: "✓" * (name in capabilities) for name in CAPABILITIES}, RERUN


def test_the_page_has_the_operations_of_the_model(page: str) -> None:
    shown = {row["operation"]: row["served"] for row in compatibility.table(page, "Operations")}
    assert shown == {found.name: found.served for found in s3_operations.operations()}, RERUN


def test_the_clients_needed_the_operations_that_they_must(page: str) -> None:
    rows = {row["operation"]: row["clients"] for row in compatibility.table(page, "Operations")}
    assert rows["PutObject"] == "all"
    assert rows["GetObject"] == "all"
    assert {"boto3", "minio-py"} <= set(rows["UploadPart"].split(", "))
    assert rows["PutBucketPolicy"] == ""


# --- operations ----------------------------------------------------------------------------


def test_every_refusal_has_a_reason_and_every_served_operation_a_test() -> None:
    for operation in s3_operations.operations():
        if operation.handler is None:
            assert operation.note, f"{operation.name} needs an entry in REASONS"
        elif operation.handler not in {*s3_operations.SHARED, *s3_operations.BESIDE}:
            assert s3_operations.tested_by(operation), f"nothing tests {operation.name}"


def test_every_handler_is_in_the_table() -> None:
    from deltaglider_core.s3.handlers import HANDLERS

    shown = {operation.handler for operation in s3_operations.operations()}
    assert shown - {None} == set(HANDLERS) - {"not_implemented", "method_not_allowed"}


def test_no_operation_is_taken_for_another() -> None:
    """A subresource that is not known would overwrite, delete or create what it belongs to."""
    for operation in s3_operations.operations():
        plain = operation.handler in s3_operations.BESIDE or operation.handler is None
        if not plain and operation.handler not in s3_operations.SHARED:
            assert operation.handler == operation.method, operation.name


def test_a_method_in_a_test_counts(tmp_path: Path) -> None:
    path = tmp_path / "test_x.py"
    path.write_text('s3.put_object(Bucket="b")\nurl("head_object")\n# s3.get_object()\n')
    assert {"put_object", "head_object"} <= set(s3_operations._names(path))
    assert "get_object" not in set(s3_operations._names(path))


# --- rows ----------------------------------------------------------------------------------


def row(scheme: str, *steps: tuple[str, str], client: str = "b") -> dict[str, object]:
    return {
        "client": client,
        "version": "1",
        "scheme": scheme,
        "steps": [{"step": name, "outcome": outcome} for name, outcome in steps],
        "operations": ["put_object"],
    }


def test_one_failure_spoils_a_capability() -> None:
    rows = [
        row("http", ("tree", "passed"), ("range", "passed"), ("copy", "passed")),
        row("https", ("tree", "passed"), ("range", "failed")),
        row("https", ("range", "passed")),
        row("http", ("list", "failed")),
        row("http", client="A"),
    ]
    found = compatibility.merge(rows)
    assert list(found) == ["A", "b"]
    cells = {name: compatibility.cell(found["b"], name) for name in CAPABILITIES}
    assert {name: text for name, text in cells.items() if text} == {
        "tree": "✓",
        "range": "fails: https",
        "copy": "http only",
        "list": "fails: http",
    }


def test_a_rendered_page_is_read_back() -> None:
    client = Client("1.2", {("tree", scheme): True for scheme in compatibility.SCHEMES})
    client.operations.add("put_object")
    text = compatibility.render({"one": client, "two": Client("3")})
    (one, two) = compatibility.table(text, "Clients")
    assert (one["client"], one["version"], one["tree"], one["copy"]) == ("one", "1.2", "✓", "")
    assert (two["client"], two["tree"]) == ("two", "")
    rows = {row["operation"]: row for row in compatibility.table(text, "Operations")}
    assert rows["PutObject"]["clients"] == "one"
    assert rows["PutObject"]["served"] == "yes"


# --- installing ----------------------------------------------------------------------------


def test_this_machine_can_run_the_clients() -> None:
    assert install_clients.problem() == ""


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ({"curl"}, "apt-get install curl"),
        ({"node"}, "apt-get install nodejs npm"),
        ({"npm"}, "Node.js 20 or newer with npm"),
        ({"restic", "apt-get"}, "the package is called restic"),
        ({"restic", "dpkg-deb"}, "the package is called restic"),
        ({"restic"}, ""),
    ],
)
def test_what_is_missing_is_named(missing: set[str], words: str) -> None:
    sentence = install_clients.problem(lambda name: None if name in missing else f"/bin/{name}")
    assert words in sentence
    assert bool(sentence) == bool(words)


@pytest.mark.parametrize("version", ["v18.20.1\n", "v8.0.0", "unknown", ""])
def test_an_old_node_is_named(version: str) -> None:
    assert "Node.js 20 or newer" in install_clients.node_problem(version)
    assert install_clients.node_problem("v20.0.0\n") == ""


def test_the_pins_of_s3fs_are_names_and_versions() -> None:
    text = (install_clients.S3FS / "constraints.txt").read_text(encoding="utf-8")
    pins = dict(line.split("==") for line in text.splitlines() if not line.startswith("#"))
    assert text == render(pins)
    assert "s3fs" in pins


def test_the_npm_lock_has_hashes_and_no_addresses() -> None:
    lock = json.loads((install_clients.JAVASCRIPT / "package-lock.json").read_text())
    packages = {name: found for name, found in lock["packages"].items() if name}
    assert all(re.fullmatch(r"sha512-\S+", found["integrity"]) for found in packages.values())
    assert not any("resolved" in found for found in packages.values())
    wanted = json.loads((install_clients.JAVASCRIPT / "package.json").read_text())["dependencies"]
    assert lock["packages"][""]["dependencies"] == wanted
    assert {f"node_modules/{name}" for name in wanted} <= set(packages)
