"""``PluginConformance`` on a sound package, and on the same package with one defect each.

All packages lie in one folder, as ``deltaglider_mine0`` and so on, and one pytest runs the kit
on all of them.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping

import pytest

PLUGIN = """\
from contextlib import asynccontextmanager

from deltaglider_core.hookspecs import hookimpl
from deltaglider_core.interfaces.contribution import SettingsSection
from deltaglider_core.interfaces.routing import RouterType

from .settings import MineSettings


@asynccontextmanager
async def open_router(settings, services):
    yield object()


@hookimpl
def dg_routers():
    yield RouterType(name="mine", summary="Sends buckets here.", open=open_router)


@hookimpl
def dg_settings():
    yield SettingsSection(mount="advanced.mine", model=MineSettings)
"""
SETTINGS = '''\
from deltaglider_core.settings import Section, setting


class MineSettings(Section):
    """Settings."""

    depth: int = setting(3, description="How deep.")
'''
README = "| Setting | Default | Meaning |\n|---|---|---|\n| `depth` | 3 | How deep. |\n"
METADATA = "Metadata-Version: 2.1\nName: deltaglider-mine\nVersion: 1\nRequires-Dist: boto3\n"
TESTS = """\
from deltaglider_testkit import PluginConformance
"""
TEST = """

class Test{number}(PluginConformance):
    distribution = "deltaglider-mine{number}"
"""

FILES = {
    "deltaglider_mine/pyproject.toml": "",
    "deltaglider_mine/README.md": README,
    "deltaglider_mine/__init__.py": "",
    "deltaglider_mine/py.typed": "",
    "deltaglider_mine/plugin.py": PLUGIN,
    "deltaglider_mine/settings.py": SETTINGS,
    "deltaglider_mine-1.dist-info/METADATA": METADATA,
    "deltaglider_mine-1.dist-info/RECORD": "",
    "deltaglider_mine-1.dist-info/entry_points.txt": (
        "[deltaglider]\nmine = deltaglider_mine.plugin\n"
    ),
}

Edit = Callable[[dict[str, str]], None]


def substitute(path: str, old: str, new: str) -> Edit:
    """An edit of one file."""

    def edit(files: dict[str, str]) -> None:
        assert old in files[path]
        files[path] = files[path].replace(old, new)

    return edit


def remove(path: str) -> Edit:
    """An edit that drops a file."""

    def edit(files: dict[str, str]) -> None:
        del files[path]

    return edit


_CODE, _MODEL = "deltaglider_mine/plugin.py", "deltaglider_mine/settings.py"
_ENTRY = "deltaglider_mine-1.dist-info/entry_points.txt"
DEFECTS: dict[str, tuple[Edit, set[str]]] = {
    "sound": (substitute(_CODE, "", ""), set()),
    "hook without marker": (
        substitute(_CODE, "@hookimpl\ndef dg_routers", "def dg_routers"),
        {"test_known_hooks"},
    ),
    "mistyped hook": (substitute(_CODE, "dg_routers", "dg_router"), {"test_known_hooks"}),
    "name in upper case": (substitute(_CODE, 'name="mine"', 'name="Mine"'), {"test_names"}),
    "no summary": (substitute(_CODE, "Sends buckets here.", " "), {"test_names"}),
    "driver imported": (
        substitute(_CODE, "from deltaglider_core.hook", "import boto3\nfrom deltaglider_core.hook"),
        {"test_import_is_light"},
    ),
    "slow import": (
        substitute(_CODE, "from .settings", "import time\ntime.sleep(0.15)\nfrom .settings"),
        {"test_import_is_light"},
    ),
    "no description": (
        substitute(_MODEL, 'setting(3, description="How deep.")', "3"),
        {"test_settings"},
    ),
    "any key taken": (
        substitute(_MODEL, '    """Settings."""\n', '    model_config = {"extra": "allow"}\n'),
        {"test_settings"},
    ),
    "not typed": (remove("deltaglider_mine/py.typed"), {"test_typed"}),
    "setting not in README": (
        substitute("deltaglider_mine/README.md", "`depth`", "`width`"),
        {"test_readme"},
    ),
    "no entry point": (
        substitute(_ENTRY, "[deltaglider]", "[other]"),
        {"test_entry_point"},
    ),
}


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, set[str]]:
    """Names of the tests that failed, by defect."""
    root = tmp_path_factory.mktemp("packages")
    tests = TESTS
    for number, (edit, _) in enumerate(DEFECTS.values()):
        files = dict(FILES)
        edit(files)
        for name, text in files.items():
            path = root / name.replace("_mine", f"_mine{number}")
            path.parent.mkdir(exist_ok=True)
            path.write_text(re.sub(r"(deltaglider[-_]mine)\b", rf"\g<1>{number}", text))
        tests += TEST.format(number=number)
    (root / "test_mine.py").write_text(tests)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=line", "-rfE", "-p", "no:cacheprovider"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    failed: dict[str, set[str]] = {defect: set() for defect in DEFECTS}
    names = list(DEFECTS)
    for number, test in re.findall(
        r"^(?:FAILED|ERROR) \S+?::Test(\d+)::(test_\w+)", done.stdout, re.MULTILINE
    ):
        failed[names[int(number)]].add(test)
    return failed


@pytest.mark.timeout(300)
@pytest.mark.parametrize("defect", DEFECTS)
def test_fails_exactly(failures: Mapping[str, set[str]], defect: str) -> None:
    assert failures[defect] == DEFECTS[defect][1]
