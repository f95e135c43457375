"""``PluginConformance`` on a sound package, and on the same package with one defect each."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PLUGIN = '''\
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
'''
SETTINGS = '''\
from deltaglider_core.settings import Section, setting


class MineSettings(Section):
    """Settings."""

    depth: int = setting(3, description="How deep.")
'''
README = "| Setting | Default | Meaning |\n|---|---|---|\n| `depth` | 3 | How deep. |\n"
METADATA = "Metadata-Version: 2.1\nName: deltaglider-mine\nVersion: 1\nRequires-Dist: boto3\n"
TESTS = '''\
from deltaglider_testkit import PluginConformance


class TestPackage(PluginConformance):
    distribution = "deltaglider-mine"
'''

FILES = {
    "pyproject.toml": "",
    "README.md": README,
    "deltaglider_mine/__init__.py": "",
    "deltaglider_mine/py.typed": "",
    "deltaglider_mine/plugin.py": PLUGIN,
    "deltaglider_mine/settings.py": SETTINGS,
    "deltaglider_mine-1.dist-info/METADATA": METADATA,
    "deltaglider_mine-1.dist-info/RECORD": "",
    "deltaglider_mine-1.dist-info/entry_points.txt": (
        "[deltaglider]\nmine = deltaglider_mine.plugin\n"
    ),
    "test_mine.py": TESTS,
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
    "driver imported": (substitute(_CODE, "from deltaglider_core.hook", "import boto3\nfrom "
        "deltaglider_core.hook"), {"test_import_is_light"}),
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
    "setting not in README": (substitute("README.md", "`depth`", "`width`"), {"test_readme"}),
    "no entry point": (
        substitute(_ENTRY, "[deltaglider]", "[other]"),
        {"test_entry_point"},
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_fails_exactly(tmp_path: Path, defect: str) -> None:
    edit, expected = DEFECTS[defect]
    files = dict(FILES)
    edit(files)
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=line", "-rfE", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    failed = set(re.findall(r"^(?:FAILED|ERROR) \S+?::(test_\w+)$|^(?:FAILED|ERROR) "
        r"\S+::(test_\w+)", done.stdout, re.MULTILINE))
    names = {one or two for one, two in failed}
    assert names == expected, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)
