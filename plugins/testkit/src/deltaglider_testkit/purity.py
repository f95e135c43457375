"""Runs pure functions where files, sockets and subprocesses are out of reach."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

#: Audit events of I/O: Python documentation, "Audit events table".
_BLOCKED = (
    "open",
    "os.",
    "shutil.",
    "socket.",
    "sqlite3.",
    "subprocess.",
    "urllib.",
    "http.",
    "glob.",
)

_blocking = threading.local()
_installed = threading.Lock()
_hooked: list[Callable[[str, tuple[Any, ...]], None]] = []


class ImpureError(AssertionError):
    """A function that must be pure tried to do I/O."""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if getattr(_blocking, "on", False) and event.startswith(_BLOCKED):
        _blocking.on = False  # the failure itself may open source files for its report
        raise ImpureError(f"{event}{arguments!r:.200}")


@contextmanager
def no_io() -> Iterator[None]:
    """Within, I/O of this thread raises ``ImpureError`` (audit hooks, PEP 578)."""
    with _installed:
        if not _hooked:
            sys.addaudithook(_audit)  # can never be removed, hence only one
            _hooked.append(_audit)
    _blocking.on = True
    try:
        yield
    finally:
        _blocking.on = False


#: Names with which careless code falls over: empty, long, hostile, not ASCII.
STRANGE_NAMES = (
    "",
    "a",
    "bucket",
    "UPPER",
    "..",
    "../../etc/passwd",
    "a/b",
    "*",
    "%00",
    "\0",
    "caf\u00e9",
    "\u202e",
    "x" * 5000,
    "' OR 1=1 --",
    "${jndi:ldap://x}",
)
