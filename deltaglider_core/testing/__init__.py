"""Helpers for tests of plugins and of programs that embed the core; pytest is not needed."""

from .builders import body, broken_body, metadata, read, request
from .clock import FakeClock
from .memory import MemoryBackend
from .services import services_for_tests

__all__ = [
    "FakeClock",
    "MemoryBackend",
    "body",
    "broken_body",
    "metadata",
    "read",
    "request",
    "services_for_tests",
]
