"""Bounds that encoder and decoder share. They belong to the stored format: never lower one."""

from __future__ import annotations

MIN_WINDOW_SIZE = 64 * 1024
MAX_WINDOW_SIZE = 16 * 1024 * 1024


def max_vcdiff_size(size: int) -> int:
    """Largest VCDIFF window that may stand for ``size`` bytes of target, in bytes.

    The encoder cannot exceed it: its dearest instruction is a COPY of four bytes, which takes
    one byte of code and at most ten of address; an ADD of one byte takes two.
    """
    return 4 * size + 1024
