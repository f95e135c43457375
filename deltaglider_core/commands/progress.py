"""One line of progress on a terminal, rewritten in place."""

from __future__ import annotations

import sys

_ERASE = "\r\x1b[K"


class ProgressLine:
    """Shows how far a command is, on standard error and only if that is a terminal.

    Args:
        name: What is worked on; begins the line.
        quiet: Show nothing.
    """

    def __init__(self, name: str, *, quiet: bool) -> None:
        self._name = name
        self._live = not quiet and sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._live:
            print(f"{_ERASE}{self._name}: {text}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Erase the line, before anything else is printed."""
        if self._live:
            print(_ERASE, end="", file=sys.stderr, flush=True)


__all__ = ["ProgressLine"]
