"""The private directory of a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deltaglider_core.errors import ConfigurationError
from deltaglider_core.workdir import work_directory


def test_is_private_and_goes_away(tmp_path: Path) -> None:
    base = tmp_path / "base"
    with work_directory(base) as directory:
        assert directory.parent == base
        assert base.stat().st_mode & 0o777 == 0o700
        assert directory.stat().st_mode & 0o777 == 0o700
        (directory / "file").write_bytes(b"x")
    assert not directory.exists()


def test_living_processes_keep_theirs(tmp_path: Path) -> None:
    with work_directory(tmp_path) as first, work_directory(tmp_path) as second:
        assert first != second
        assert first.is_dir()
        assert second.is_dir()


def test_directory_of_a_killed_process_is_swept(tmp_path: Path) -> None:
    code = (
        "import sys, signal; from pathlib import Path\n"
        "from deltaglider_core.workdir import work_directory\n"
        "with work_directory(Path(sys.argv[1])) as d:\n"
        "    (d / 'spooled').write_bytes(b'x' * 1000); print(d, flush=True); signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        left = Path(child.stdout.readline().strip())
        with work_directory(tmp_path):
            assert (left / "spooled").exists(), "a living process lost its directory"
        os.kill(child.pid, signal.SIGKILL)
    assert left.exists()
    with work_directory(tmp_path):
        assert not left.exists()


def test_base_that_others_can_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigurationError, match="DGP_SPOOL_DIR"), work_directory(tmp_path):
        pass


def test_base_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    with pytest.raises(ConfigurationError, match="file"), work_directory(path):
        pass
