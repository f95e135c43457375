"""The parent of several workers before a configuration that cannot be."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import uvicorn
from structlog.testing import capture_logs

from deltaglider_core.errors import ConfigurationError
from deltaglider_core.supervisor import Supervisor
from deltaglider_core.worker_metrics import metrics_directory


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConfigurationError("advanced: no"), "reload refused, the old configuration goes on"),
        (RecursionError("too deep"), "reload failed, the old configuration goes on"),
        (UnicodeError("no text"), "reload failed, the old configuration goes on"),
        (None, ""),
    ],
)
def test_only_a_good_configuration_reaches_the_workers(
    error: Exception | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check() -> None:
        if error is not None:
            raise error

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("nothing is served here")

    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    structlog.reset_defaults()
    with metrics_directory(tmp_path) as metrics, capture_logs() as logged:
        supervisor = Supervisor(
            uvicorn.Config(app), [], check=check, ready=lambda: None, metrics=metrics
        )
        running: Any = SimpleNamespace(pid=4711, exitcode=None)
        supervisor.processes = [running, SimpleNamespace(pid=4712, exitcode=1)]  # type: ignore[list-item]
        supervisor.handle_hup()
    assert [line["event"] for line in logged] == ([words] if words else [])
    assert sent == ([] if words else [(4711, signal.SIGHUP)])
