"""Check the conventions of this repository that no linter knows.

Each rule is a function that yields violations as ``path: sentence``; ``RULES`` lists them.
``make lint`` runs all of them, and the contract tests run each of them on this tree and on
small trees that break it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

MAX_LINES = 400
MAX_FUNCTION_LINES = 80

# Files above the limit and how long each may be. This list only shrinks: an entry that is
# no longer needed is itself a violation.
LONG_FILES: dict[str, int] = {}

# The last one only inside the methods that have a default: a contract with a body elsewhere.
CONTRACT_IMPORTS = (
    "deltaglider_core.interfaces",
    "deltaglider_core.errors",
    "deltaglider_core.backend_defaults",
)

TYPE_CHECKING = {"TYPE_CHECKING", "typing.TYPE_CHECKING"}

# The dots are escaped, so these lines do not match themselves.
FOREIGN_TEXT = {
    "an address of a package registry": re.compile(
        r"\b(?:pypi\.org|pythonhosted\.org|crates\.io|npmjs\.(?:org|com)|proxy\.golang\.org"
        r"|repo\d?\.maven|deb\.debian\.org|anaconda\.org)\b"
    ),
    "a path of one machine": re.compile(r"(?<![\w.~/$}-])/(?:work|root|home)(?:/|\b(?![-.\w]))"),
    "an unfinished piece of work": re.compile(r"\b(?:TO[D]O|FIX[M]E)\b"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Import:
    """One import that is executed, as an absolute module name.

    ``from a import b`` counts as ``a.b``, since ``b`` may be a module.
    """

    module: str
    line: int


@dataclass(frozen=True)
class Tree:
    """The files of one checkout that version control knows or would take."""

    root: Path
    only: tuple[str, ...] | None = None

    @cached_property
    def files(self) -> tuple[PurePosixPath, ...]:
        """Paths relative to the root, sorted."""
        if self.only is not None:
            names = list(self.only)
        else:
            command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
            answer = subprocess.run(command, cwd=self.root, check=True, capture_output=True)
            names = [name for name in answer.stdout.decode().split("\0") if name]
        return tuple(
            PurePosixPath(name) for name in sorted(set(names)) if (self.root / name).is_file()
        )

    def python(self, *parts: str) -> Iterator[PurePosixPath]:
        """Python files below the folder ``parts``."""
        for path in self.files:
            if path.suffix == ".py" and path.parts[: len(parts)] == parts:
                yield path

    def text(self, path: PurePosixPath) -> str | None:
        """Content of a text file, or None for other files and for links."""
        target = self.root / path
        if target.is_symlink():
            return None
        raw = target.read_bytes()
        if b"\0" in raw:
            return None
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return None

    def syntax(self, path: PurePosixPath) -> ast.Module:
        """Parsed content of a Python file."""
        return ast.parse((self.root / path).read_bytes(), filename=str(path))

    def projects(self) -> Iterator[tuple[PurePosixPath, dict[str, Any]]]:
        """Every ``pyproject.toml`` of a distribution, the core's first."""
        for path in sorted(self.files, key=lambda path: (len(path.parts), path)):
            if path.name == "pyproject.toml" and len(path.parts) in (1, 3):
                yield path, tomllib.loads((self.root / path).read_text(encoding="utf-8"))


def is_test(path: PurePosixPath) -> bool:
    """Whether a file belongs to a test suite."""
    return "tests" in path.parts


def executed_imports(module: ast.Module, package: str) -> Iterator[Import]:
    """Imports of a module outside ``if TYPE_CHECKING``, those inside functions included.

    Args:
        package: The package that relative imports start from.
    """
    waiting: list[ast.AST] = [module]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in TYPE_CHECKING:
            waiting.extend(node.orelse)
        elif isinstance(node, ast.Import):
            yield from (Import(module=alias.name, line=node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                yield Import(module=f"{base}.{alias.name}", line=node.lineno)
        else:
            waiting.extend(ast.iter_child_nodes(node))


def below(module: str, *packages: str) -> bool:
    """Whether a module is one of ``packages`` or inside one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def layering(tree: Tree) -> Iterator[str]:
    """Contracts import nothing, the protocol knows no plugins, the core names no plugin."""
    for path in tree.python("deltaglider_core"):
        package = ".".join(path.parent.parts)
        folder = path.parts[1]
        for found in executed_imports(tree.syntax(path), package):
            top = found.module.partition(".")[0]
            where = f"{path}:{found.line}: imports {found.module}"
            if top != "deltaglider_core" and top.startswith("deltaglider_"):
                yield f"{where}, but the core knows no plugin"
            if (
                folder == "interfaces"
                and top not in sys.stdlib_module_names
                and not below(found.module, *CONTRACT_IMPORTS)
            ):
                yield f"{where}, but contracts need only the standard library and errors"
            if folder == "s3" and below(
                found.module,
                "deltaglider_core.plugins",
                "deltaglider_core.builtin",
                "deltaglider_core.pipeline",
            ):
                yield f"{where}, but the S3 protocol knows neither plugins nor the pipeline"


def file_sizes(tree: Tree) -> Iterator[str]:
    """No Python file outside the tests above the limit, and no stale exception."""
    for path in tree.python():
        if is_test(path):
            continue
        lines = len((tree.root / path).read_bytes().splitlines())
        allowed = LONG_FILES.get(str(path), MAX_LINES)
        if lines > allowed:
            yield f"{path}: has {lines} lines, more than {allowed}; split it by idea"
    for name, allowed in LONG_FILES.items():
        target = tree.root / name
        lines = len(target.read_bytes().splitlines()) if target.is_file() else 0
        if lines <= MAX_LINES or allowed > lines:
            yield f"{name}: has {lines} lines; adapt its exception of {allowed} in LONG_FILES"


def function_sizes(tree: Tree) -> Iterator[str]:
    """No function outside the tests above the limit, its docstring not counted."""
    for path in tree.python():
        if is_test(path):
            continue
        for node in ast.walk(tree.syntax(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                documented = ast.get_docstring(node) is not None and len(node.body) > 1
                first = node.body[1 if documented else 0]
                lines = (node.end_lineno or first.lineno) - first.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    yield f"{path}:{node.lineno}: {node.name} has {lines} lines; split it"


def frozen_records(tree: Tree) -> Iterator[str]:
    """Every record of the interfaces is frozen, keyword-only and has slots."""
    needed = {"frozen", "kw_only", "slots"}
    for path in tree.python("deltaglider_core", "interfaces"):
        for node in ast.walk(tree.syntax(path)):
            if not isinstance(node, ast.ClassDef):
                continue
            for decorator in node.decorator_list:
                call = decorator if isinstance(decorator, ast.Call) else None
                name = ast.unparse(call.func if call else decorator)
                if name.rpartition(".")[2] != "dataclass":
                    continue
                given = {
                    word.arg
                    for word in (call.keywords if call else [])
                    if isinstance(word.value, ast.Constant) and word.value.value is True
                }
                missing = ", ".join(sorted(needed - given))
                if missing:
                    yield f"{path}:{node.lineno}: record {node.name} lacks {missing}"


def foreign_text(tree: Tree) -> Iterator[str]:
    """No registry address, no path of one machine, no reminder of unfinished work."""
    for path in tree.files:
        for number, line in enumerate((tree.text(path) or "").splitlines(), 1):
            for what, pattern in FOREIGN_TEXT.items():
                if found := pattern.search(line):
                    yield f"{path}:{number}: contains {what}: {found.group()}"


def distributions(tree: Tree) -> Iterator[str]:
    """Folder, distribution, import and entry point map one to one; one version for all."""
    version = ""
    for path, metadata in tree.projects():
        project = metadata["project"]
        version = version or project["version"]
        if project["version"] != version:
            yield f"{path}: version {project['version']}, but the core has {version}"
        requirements = [*project.get("dependencies", ())]
        for extra in project.get("optional-dependencies", {}).values():
            requirements.extend(extra)
        for requirement in requirements:
            name, _, pinned = requirement.partition("==")
            if name.startswith("deltaglider-") and "[" not in name and pinned != version:
                yield f"{path}: {requirement} does not name the version {version}"
        if len(path.parts) == 3:
            yield from _plugin_names(tree, path, project)


def _plugin_names(tree: Tree, path: PurePosixPath, project: dict[str, Any]) -> Iterator[str]:
    folder = path.parts[1]
    distribution = f"deltaglider-{folder}"
    module = distribution.replace("-", "_")
    if project["name"] != distribution:
        yield f"{path}: is called {project['name']} instead of {distribution}"
    if path.parent / "src" / module / "__init__.py" not in tree.files:
        yield f"{path}: has no package src/{module}"
    groups = project.get("entry-points", {})
    # A kit for test suites registers with pytest and not with the service.
    expected = {} if "pytest11" in groups else {folder: f"{module}.plugin"}
    if groups.get("deltaglider", {}) != expected:
        yield f"{path}: the entry points of group deltaglider must be {expected}"


def unique_test_names(tree: Tree) -> Iterator[str]:
    """Test files have names of their own, since pytest imports them without packages."""
    tests = [path for path in tree.python() if is_test(path)]
    names = Counter(path.name for path in tests if path.name.startswith("test_"))
    for path in tests:
        if names[path.name] > 1:
            yield f"{path}: another test file has this name"
        if path.name == "__init__.py":
            yield f"{path}: folders of tests are not packages"


Rule = Callable[[Tree], Iterator[str]]

RULES: tuple[Rule, ...] = (
    layering,
    file_sizes,
    function_sizes,
    frozen_records,
    foreign_text,
    distributions,
    unique_test_names,
)


def main() -> None:
    """Print every violation; exit with 1 if there is one."""
    tree = Tree(Path(__file__).resolve().parent.parent)
    violations = [violation for rule in RULES for violation in rule(tree)]
    for violation in violations:
        print(violation, file=sys.stderr)
    sys.exit(1 if violations else 0)


if __name__ == "__main__":
    main()
