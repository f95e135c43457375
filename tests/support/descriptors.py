"""What a server has open: files and connections, as the kernel counts them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from support.samples import wait_until
from support.server import ServerProcess


def open_files(server: ServerProcess) -> int:
    """Number of open descriptors, without those of the state database."""
    count = 0
    for name in os.listdir(f"/proc/{server.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            # Each thread that reads the state opens the database when it is first needed.
            target = os.readlink(f"/proc/{server.pid}/fd/{name}")
            count += "/deltaglider_config." not in target
    return count


def connections(server: ServerProcess) -> int:
    """Number of connections to the server, on its side."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    port = f":{server.port:04X}"
    # State 01 is an established connection, 08 one that the client has closed.
    return sum(line.split()[1].endswith(port) and line.split()[3] in ("01", "08") for line in lines)


def still(server: ServerProcess) -> int:
    """Number of open files once no connection of a test is left."""
    wait_until(lambda: connections(server) == 0, "all connections are closed")
    return open_files(server)
