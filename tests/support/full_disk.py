"""A disk that is full for the log of the state database, and for nothing else."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from support.no_sync import VARIABLE, preloaded

SOURCE = Path(__file__).with_name("full_disk_shim.c")


class FullDisk:
    """Works below one server.

    Args:
        directory: For the library and for the file that switches it on; created if missing.
        suffix: The end of the names of the files that cannot be written.
    """

    def __init__(self, directory: Path, suffix: str = "-wal") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._suffix = suffix
        self._switch = directory / "full"
        self._library = directory / "full_disk_shim.so"
        command = ["cc", "-Wall", "-Werror", "-O2", "-shared", "-fPIC", "-o"]
        subprocess.run(
            [*command, os.fspath(self._library), os.fspath(SOURCE), "-ldl"], check=True, timeout=60
        )

    @property
    def environment(self) -> Mapping[str, str]:
        """What the server needs."""
        return {
            VARIABLE: preloaded(self._library),
            "FULL_DISK_SUFFIX": self._suffix,
            "FULL_DISK_SWITCH": os.fspath(self._switch),
        }

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """No room inside the block."""
        self._switch.touch()
        try:
            yield
        finally:
            self._switch.unlink()
