"""The processes of a running server, as /proc shows them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def workers_of(pid: int) -> set[int]:
    """Process ids of the living workers below a supervisor."""
    return {
        child for child in children_of(pid) if b"spawn_main" in _command(Path(f"/proc/{child}"))
    }


def children_of(pid: int) -> set[int]:
    """Process ids of the living children of a process."""
    return {int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _parent(entry) == pid}


def is_running(pid: int) -> bool:
    """Whether a process exists and is more than a zombie."""
    return _parent(Path(f"/proc/{pid}")) is not None


def process_of(server_port: int, client_port: int, candidates: Iterable[int]) -> int:
    """Which of the candidates has accepted a connection over IPv4, found by its socket."""
    inode = None
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{server_port:04X}") and fields[2].endswith(f":{client_port:04X}"):
            inode = fields[9]
    for pid in candidates:
        if f"socket:[{inode}]" in _open_files(pid):
            return pid
    raise AssertionError("none of these processes has accepted the connection")


def _open_files(pid: int) -> list[str]:
    found = []
    for entry in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            found.append(os.readlink(entry))
        except OSError:  # closed meanwhile
            continue
    return found


def _parent(entry: Path) -> int | None:
    """Process id of the parent; None for a zombie and for one that is gone."""
    try:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[1])


def _command(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""
