"""Subcommands that plugins add to ``deltaglider_proxy``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One subcommand; runs without a pipeline.

    Attributes:
        name: As typed.
        summary: One line for ``--help``.
        configure: Adds arguments.
        run: Returns the exit code.
    """

    name: str
    summary: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
