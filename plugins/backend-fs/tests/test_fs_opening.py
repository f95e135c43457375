"""Opening the root: what is wrong with it is said in one sentence."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deltaglider_backend_fs import opening
from deltaglider_backend_fs.backend import FsBackend
from deltaglider_backend_fs.settings import FsSettings
from deltaglider_core.errors import ConfigurationError
from deltaglider_core.services import SystemClock

HERE = Path(__file__).parent


async def create(path: Path) -> FsBackend:
    return await FsBackend.create(FsSettings(type="filesystem", path=path), SystemClock())


async def test_missing_directories_are_made_and_nothing_is_left_in_them(tmp_path: Path) -> None:
    backend = await create(tmp_path / "a" / "b")
    assert os.listdir(tmp_path / "a" / "b") == []
    assert await backend.list_buckets() == []
    await backend.aclose()


async def refused(path: Path, *words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await create(path)
    message = str(caught.value)
    assert str(path) in message
    for word in words:
        assert word in message
    assert "\n" not in message


async def test_a_file_is_no_directory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    await refused(file, "not a directory")
    await refused(file / "below", "not a directory")
    assert file.read_bytes() == b"x"


async def test_not_writable() -> None:
    # The kernel lets nobody make files here, not even root.
    await refused(Path("/proc/self"), "not writable", "permission to write")


def test_no_permission() -> None:
    """A directory of another user's, opened by a process without privileges."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o555)
        result = subprocess.run(
            [sys.executable, str(HERE / "fs_worker.py"), "open", directory],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert "not writable (Permission denied)" in result.stdout
        assert os.listdir(directory) == []


async def test_no_attributes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(os, "setxattr", refuse)
    await refused(tmp_path, "extended attributes", "user_xattr")
    assert os.listdir(tmp_path) == []


async def test_no_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, "fsync", refuse)
    await refused(tmp_path, "durably")
    assert os.listdir(tmp_path) == []


async def test_a_root_that_folds_case_gets_the_folding_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = opening._exists
    monkeypatch.setattr(opening, "_exists", lambda fd, name: name == b"case" or real(fd, name))
    backend = await create(tmp_path)
    assert backend._root.codec.folding
    await backend.aclose()
    monkeypatch.undo()
    backend = await create(tmp_path)
    assert not backend._root.codec.folding
    await backend.aclose()


async def test_old_probes_are_removed_and_young_ones_spared(tmp_path: Path) -> None:
    for name, age in (("old", 7200), ("young", 0)):
        probe = tmp_path / f".dg-probe-{name}"
        probe.mkdir()
        (probe / "CASE").touch()
        os.utime(probe, (probe.stat().st_mtime - age,) * 2)
    await (await create(tmp_path)).aclose()
    assert os.listdir(tmp_path) == [".dg-probe-young"]


def test_settings() -> None:
    with pytest.raises(ValidationError):
        FsSettings(path=Path("/x"))  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        FsSettings(type="filesystem")  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        FsSettings(type="filesystem", path=Path("/x"), nope=1)  # type: ignore[call-arg]
    assert all(field.description for field in FsSettings.model_fields.values())


def test_the_plugin_registers_one_type(tmp_path: Path) -> None:
    from importlib.metadata import entry_points

    (entry,) = entry_points(group="deltaglider", name="backend-fs")
    plugin: Any = entry.load()
    (kind,) = plugin.dg_storage_backends()
    assert (kind.name, kind.settings) == ("filesystem", FsSettings)


def test_loading_the_plugin_loads_no_backend() -> None:
    script = (
        "import sys, deltaglider_backend_fs.plugin; "
        "print([m for m in sys.modules if m.startswith('deltaglider_backend_fs.')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert sorted(eval(result.stdout)) == [
        "deltaglider_backend_fs.plugin",
        "deltaglider_backend_fs.settings",
    ]
