"""Processes that do not wait for the disk: their fsync succeeds at once.

Of a test most time would go by while a disk writes what is deleted a moment later. A process
that is killed takes nothing of the page cache with it, so only the tests of power cuts need to
know what was on disk, and those note it in a library of their own (``power``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("no_sync_shim.c")
#: Libraries that the dynamic linker loads first, into every process that is started (ld.so(8)).
VARIABLE = "LD_PRELOAD"


class NoSync:
    """The library, and the variable that loads it, until ``undo``."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="dg-no-sync-"))
        self._directory.chmod(0o755)  # PostgreSQL runs as somebody else
        library = self._directory / "no_sync_shim.so"
        command = ["cc", "-Wall", "-Werror", "-O2", "-shared", "-fPIC", "-o"]
        subprocess.run([*command, library, SOURCE], check=True, timeout=60)
        self._before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = preloaded(library)

    def undo(self) -> None:
        """Leave the variable as it was found, and nothing on disk."""
        if self._before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = self._before
        shutil.rmtree(self._directory)


def preloaded(library: Path) -> str:
    """The value of the variable with a library before those that are loaded already."""
    return " ".join([os.fspath(library), *os.environ.get(VARIABLE, "").split()])
