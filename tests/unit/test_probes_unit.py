"""``/_/ready`` while a backend hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from deltaglider_core import probes
from deltaglider_core.errors import ServiceUnavailable
from deltaglider_core.probes import ReadyResource
from deltaglider_core.tasks import run_blocking


class Backend:
    """Its probe blocks a thread until ``answers`` is set, then raises ``error``."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.error: Exception | None = None
        self.asked = 0

    async def probe(self) -> None:
        self.asked += 1
        assert await run_blocking(self.answers.wait, 10)
        if self.error is not None:
            raise self.error


class Gateway:
    """One backend, and how many use it."""

    def __init__(self, backend: Backend) -> None:
        self.in_use = 0
        self._pipeline = SimpleNamespace(backends={"only": backend})

    @contextmanager
    def acquire(self) -> Iterator[Any]:
        self.in_use += 1
        try:
            yield self._pipeline
        finally:
            self.in_use -= 1


async def ask(resource: ReadyResource) -> tuple[int, str]:
    request = SimpleNamespace(scope={"deltaglider.exchange": SimpleNamespace()})
    response = SimpleNamespace()
    await resource.on_get(request, response)
    return response.status, response.media["backend"]


async def test_a_backend_that_hangs_is_asked_once_and_answered_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probes, "READY_TIMEOUT_SECONDS", 0.05)
    backend = Backend()
    gateway = Gateway(backend)
    resource = ReadyResource(gateway, structlog.get_logger())  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*(ask(resource) for _ in range(5)))
        answers.append(await ask(resource))
    assert set(answers) == {(503, "timeout")}
    assert backend.asked == 1
    assert gateway.in_use == 1
    backend.answers.set()
    monkeypatch.setattr(probes, "READY_TIMEOUT_SECONDS", 5)
    assert await ask(resource) == (200, "ready")
    assert gateway.in_use == 0
    backend.error = ServiceUnavailable()
    assert await ask(resource) == (503, "unreachable")
    backend.error = None
    assert await ask(resource) == (200, "ready")
    assert gateway.in_use == 0
