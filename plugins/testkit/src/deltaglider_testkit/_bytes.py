"""Comparing objects: pytest explains unequal bytes line by line, which takes minutes."""

from __future__ import annotations


def check_same(actual: bytes, expected: bytes) -> None:
    """Raise ``AssertionError`` with the place of the first difference."""
    if actual == expected:
        return
    common = min(len(actual), len(expected))
    # By halves: comparing slices is fast, comparing byte by byte in Python is not.
    low, high = 0, common
    while low < high:
        middle = (low + high + 1) // 2
        if actual[low:middle] == expected[low:middle]:
            low = middle
        else:
            high = middle - 1
    raise AssertionError(
        f"{len(actual)} bytes instead of {len(expected)}, the first difference is at {low}: "
        f"{actual[low : low + 16].hex() or 'the end'} instead of "
        f"{expected[low : low + 16].hex() or 'the end'}"
    )
