"""Faults of the backend under a real server, armed and disarmed while it runs."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from support.plugins import FakeSite

SOURCE = Path(__file__).with_name("fault_layer.py")

Action = Literal[
    "observe", "error", "ambiguous", "hang", "delay", "cut", "stale", "die", "die-after"
]

_names = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong, and at which calls of the backend.

    Attributes:
        action: ``error`` instead of the work; ``ambiguous``: the work, then an error; ``hang``
            until the fault is disarmed; ``delay`` by ``seconds``; ``cut`` a body, in either
            direction, after so many ``bytes``; ``stale``: the answer that the same look-up got
            the last time; ``die`` by SIGKILL, before the work or after it; ``observe``: nothing.
        method, bucket, key: Patterns of ``fnmatch``; of listings the key is their prefix.
        nth: First matching call that it concerns, counted from 1 over all processes.
        times: Number of calls that it concerns.
        error: An S3 error of the core, ``OSError`` or ``TimeoutError``; empty for a cut body
            that just ends.
    """

    action: Action
    method: str = "*"
    bucket: str = "*"
    key: str = "*"
    nth: int = 1
    times: int = 1_000_000
    error: str = "ServiceUnavailable"
    seconds: float = 0.0
    bytes: int = 0
    name: str = field(default_factory=lambda: f"fault-{next(_names)}")


class Faults:
    """The fault layer for one server.

    Args:
        directory: For the plugin and for the control file; created if missing.
        remote: The backend passes for one behind a network, which may carry out a request whose
            sender has given up.
    """

    def __init__(self, directory: Path, *, remote: bool = False) -> None:
        self._remote = remote
        self._site = directory / "site"
        self._site.mkdir(parents=True)
        self._control = directory / "faults.json"
        self._armed: list[Fault] = []
        FakeSite(self._site).install("faults", SOURCE.read_text(encoding="utf-8"))

    @property
    def environment(self) -> Mapping[str, str]:
        """What the server needs to find both."""
        found = {
            "PYTHONPATH": os.fspath(self._site),
            "DELTAGLIDER_TEST_FAULTS": os.fspath(self._control),
        }
        return found | ({"DELTAGLIDER_TEST_REMOTE": "1"} if self._remote else {})

    @contextlib.contextmanager
    def armed(self, fault: Fault) -> Iterator[Fault]:
        """The fault is in force inside the block."""
        self._armed.append(fault)
        self._write()
        try:
            yield fault
        finally:
            self._armed.remove(fault)
            self._write()

    def calls(self, fault: Fault) -> list[str]:
        """The calls that matched, as ``method bucket/key``, in their order."""
        try:
            text = self._control.with_name(f"{fault.name}.calls").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return text.splitlines()

    def _write(self) -> None:
        draft = self._control.with_suffix(".draft")
        draft.write_text(json.dumps([dataclasses.asdict(fault) for fault in self._armed]))
        draft.replace(self._control)
