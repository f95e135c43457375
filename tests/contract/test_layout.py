"""The conventions of ``scripts/check_layout.py``: this tree keeps them, broken trees do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import check_layout
import pytest
from check_layout import RULES, Rule, Tree

ROOT = Path(__file__).resolve().parents[2]
MakeTree = Callable[[dict[str, str]], Tree]

CORE = """\
[project]
name = "deltaglider-core"
version = "1.2.3"
[project.optional-dependencies]
standard = ["deltaglider-backend-x==1.2.3"]
"""
PLUGIN = """\
[project]
name = "deltaglider-backend-x"
version = "1.2.3"
dependencies = ["deltaglider-core==1.2.3"]
[project.entry-points.deltaglider]
backend-x = "deltaglider_backend_x.plugin"
"""


@pytest.fixture
def make_tree(tmp_path: Path) -> MakeTree:
    """Write files and return the tree of exactly these."""

    def make(files: dict[str, str]) -> Tree:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return Tree(tmp_path, only=tuple(files))

    return make


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_this_tree_keeps_the_rule(rule: Rule) -> None:
    assert list(rule(Tree(ROOT))) == []


def test_the_tree_is_found() -> None:
    names = {str(path) for path in Tree(ROOT).files}
    assert {"pyproject.toml", "deltaglider_core/errors.py", "scripts/check_layout.py"} <= names
    assert not any(name.startswith((".venv/", ".git/", "data/")) for name in names)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("deltaglider_core/interfaces/x.py", "import pydantic"),
        ("deltaglider_core/interfaces/x.py", "from ..services import Services"),
        ("deltaglider_core/interfaces/x.py", "from .. import context"),
        ("deltaglider_core/interfaces/x.py", "def f():\n    import structlog"),
        ("deltaglider_core/interfaces/x.py", "if not TYPE_CHECKING:\n    import falcon"),
        ("deltaglider_core/s3/x.py", "from ..pipeline import Pipeline"),
        ("deltaglider_core/s3/x.py", "from deltaglider_core import plugins"),
        ("deltaglider_core/s3/deep/x.py", "from ...builtin.quota import Quota"),
        ("deltaglider_core/x.py", "import deltaglider_backend_fs.backend"),
        ("deltaglider_core/x.py", "from deltaglider_codec_xdelta3 import codec"),
    ],
)
def test_a_forbidden_import_is_found(make_tree: MakeTree, path: str, line: str) -> None:
    (violation,) = check_layout.layering(make_tree({path: line}))
    assert violation.startswith(f"{path}:")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("deltaglider_core/interfaces/x.py", "import asyncio\nfrom ..errors import NoSuchKey"),
        ("deltaglider_core/interfaces/x.py", "from .storage import StorageBackend"),
        ("deltaglider_core/interfaces/__init__.py", "from . import storage"),
        (
            "deltaglider_core/interfaces/x.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..services import S",
        ),
        ("deltaglider_core/s3/x.py", "from ..context import S3Request\nimport defusedxml"),
        ("deltaglider_core/x.py", "from .pipeline import Pipeline\nimport pluggy"),
    ],
)
def test_an_allowed_import_is_not_found(make_tree: MakeTree, path: str, line: str) -> None:
    assert list(check_layout.layering(make_tree({path: line}))) == []


def test_a_long_file_is_found_but_not_a_long_test(make_tree: MakeTree) -> None:
    long = "x = 1\n" * (check_layout.MAX_LINES + 1)
    fits = "x = 1\n" * check_layout.MAX_LINES
    tree = make_tree({"a/long.py": long, "a/fits.py": fits, "tests/test_long.py": long})
    (violation,) = check_layout.file_sizes(tree)
    assert violation.startswith("a/long.py: has 401 lines")


@pytest.mark.parametrize(("lines", "allowed"), [(300, 500), (450, 500), (0, 500)])
def test_an_exception_that_is_too_wide_is_found(
    make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch, lines: int, allowed: int
) -> None:
    monkeypatch.setattr(check_layout, "LONG_FILES", {"a.py": allowed})
    tree = make_tree({"a.py": "x = 1\n" * lines})
    (violation,) = check_layout.file_sizes(tree)
    assert f"has {lines} lines; adapt" in violation


def test_an_exact_exception_is_accepted_and_does_not_grow(
    make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_layout, "LONG_FILES", {"a.py": 500})
    assert list(check_layout.file_sizes(make_tree({"a.py": "x = 1\n" * 500}))) == []
    assert list(check_layout.file_sizes(make_tree({"a.py": "x = 1\n" * 501}))) != []


def test_a_long_function_is_found_without_its_docstring(make_tree: MakeTree) -> None:
    body = "    x = 1\n" * check_layout.MAX_FUNCTION_LINES
    documented = '    """One.\n\n    Two.\n    """\n'
    tree = make_tree(
        {
            "fits.py": f"def fits():\n{documented}{body}",
            "long.py": f"class A:\n    async def long(self):\n{body.replace('    x', '        x')}"
            "        y = 2\n",
        }
    )
    (violation,) = check_layout.function_sizes(tree)
    assert violation == "long.py:2: long has 81 lines; split it"


@pytest.mark.parametrize(
    ("decorator", "lacks"),
    [
        ("@dataclass", "frozen, kw_only, slots"),
        ("@dataclass(frozen=True, kw_only=True)", "slots"),
        ("@dataclasses.dataclass(frozen=False, kw_only=True, slots=True)", "frozen"),
    ],
)
def test_a_loose_record_is_found(make_tree: MakeTree, decorator: str, lacks: str) -> None:
    text = f"{decorator}\nclass Record:\n    x: int\n"
    tree = make_tree({"deltaglider_core/interfaces/x.py": text, "deltaglider_core/y.py": text})
    (violation,) = check_layout.frozen_records(tree)
    assert violation.endswith(f"record Record lacks {lacks}")


@pytest.mark.parametrize(
    "text",
    [
        "index = https://" + "pypi" + ".org/simple",
        "see files." + "pythonhosted" + ".org",
        "cd /" + "work/main",
        "open('/" + "root')",
        'path = "/' + 'home/me/x"',
        "# " + "TO" + "DO later",
        "# " + "FIX" + "ME",
    ],
)
def test_foreign_text_is_found(make_tree: MakeTree, text: str) -> None:
    (violation,) = check_layout.foreign_text(make_tree({"docs/x.md": f"fine\n{text}\n"}))
    assert violation.startswith("docs/x.md:2: contains ")


@pytest.mark.parametrize(
    "text", ["s3://bucket/home/x", "$HOME/work/", "/workers/", "method", "~/root/", "/home-page"]
)
def test_common_text_is_not_foreign(make_tree: MakeTree, text: str) -> None:
    assert list(check_layout.foreign_text(make_tree({"docs/x.md": text}))) == []


def test_a_binary_file_and_a_link_have_no_text(make_tree: MakeTree, tmp_path: Path) -> None:
    (tmp_path / "blob.bin").write_bytes(b"\0/" + b"root/")
    (tmp_path / "link").symlink_to(tmp_path / "blob.bin")
    assert list(check_layout.foreign_text(Tree(tmp_path, only=("blob.bin", "link")))) == []


@pytest.mark.parametrize(
    ("core", "plugin", "sentence"),
    [
        (CORE, PLUGIN, ""),
        (CORE, PLUGIN.replace('version = "1.2.3"', 'version = "1.2.4"'), "but the core has 1.2.3"),
        (CORE, PLUGIN.replace("core==1.2.3", "core>=1.2"), "does not name the version 1.2.3"),
        (CORE.replace("x==1.2.3", "x==1.2.2"), PLUGIN, "does not name the version 1.2.3"),
        (CORE, PLUGIN.replace('backend-x = "', 'x = "'), "entry points of group deltaglider"),
        (CORE, PLUGIN.replace(".plugin", ".hooks"), "entry points of group deltaglider"),
        (CORE, PLUGIN.replace('"deltaglider-backend-x"', '"deltaglider-x"'), "instead of"),
    ],
)
def test_the_names_of_a_plugin_map_one_to_one(
    make_tree: MakeTree, core: str, plugin: str, sentence: str
) -> None:
    tree = make_tree(
        {
            "pyproject.toml": core,
            "plugins/backend-x/pyproject.toml": plugin,
            "plugins/backend-x/src/deltaglider_backend_x/__init__.py": "",
        }
    )
    violations = list(check_layout.distributions(tree))
    assert len(violations) == bool(sentence)
    assert all(sentence in violation for violation in violations)


def test_a_missing_package_is_found(make_tree: MakeTree) -> None:
    tree = make_tree({"pyproject.toml": CORE, "plugins/backend-x/pyproject.toml": PLUGIN})
    (violation,) = check_layout.distributions(tree)
    assert violation.endswith("has no package src/deltaglider_backend_x")


def test_test_files_with_one_name_are_found(make_tree: MakeTree) -> None:
    tree = make_tree(
        {
            "tests/unit/test_a.py": "",
            "plugins/x/tests/test_a.py": "",
            "tests/unit/test_b.py": "",
            "tests/unit/conftest.py": "",
            "tests/contract/conftest.py": "",
            "tests/unit/__init__.py": "",
        }
    )
    violations = sorted(check_layout.unique_test_names(tree))
    assert [violation.partition(":")[0] for violation in violations] == [
        "plugins/x/tests/test_a.py",
        "tests/unit/__init__.py",
        "tests/unit/test_a.py",
    ]
