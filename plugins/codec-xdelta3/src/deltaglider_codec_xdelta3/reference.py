"""A reference file, mapped and indexed once for any number of encoders."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._xdelta3 import ffi, lib

#: Slots of the largest match table, as a power of two. A slot has 8 bytes: 64 MiB.
MAX_TABLE_BITS = 23

#: A smaller table is not worth a special case.
MIN_TABLE_BITS = 10

#: Bytes between indexed positions of the reference, by level.
STEPS = {1: 32, 2: 16, 3: 8, 4: 6, 5: 5, 6: 4, 7: 3, 8: 2, 9: 1}


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """The mapped reference and its match table; both stay valid while this object lives.

    Attributes:
        reference: Owning ``uint8_t[]`` over the map.
        size: Length of the reference in bytes.
        table: Owning ``uint64_t *``.
        bits: The table has ``2 ** bits`` slots.
    """

    reference: Any
    size: int
    table: Any
    bits: int


def table_layout(size: int, level: int, max_bits: int = MAX_TABLE_BITS) -> tuple[int, int]:
    """``(bits, step)`` of the match table for a reference of ``size`` bytes.

    A reference with more positions than the largest table has slots is indexed at wider
    steps. A match shorter than a step may be missed; a longer one is found wherever it is,
    unless its entries have given way to others in the same slots.
    """
    step = STEPS[level]
    positions = max(1, size // step)
    bits = min(max(positions.bit_length(), MIN_TABLE_BITS), max_bits)
    return bits, max(step, -(-size >> bits))


class Xdelta3Reference:
    """See ``deltaglider_core.interfaces.codec.PreparedReference``."""

    def __init__(self, path: Path, *, level: int, max_bits: int = MAX_TABLE_BITS) -> None:
        """Map and index ``path``, in about 10 ns per indexed position."""
        data: mmap.mmap | bytes = b""
        with path.open("rb") as file:
            file.seek(0, 2)
            if file.tell() > 0:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        size = len(data)
        bits, step = table_layout(size, level, max_bits)
        table = ffi.gc(lib.dgx_table_new(bits), lib.dgx_table_free, 8 << bits)
        if table == ffi.NULL:
            raise MemoryError(f"No memory for a match table of {8 << bits} bytes.")
        reference = ffi.from_buffer("uint8_t[]", data)
        lib.dgx_table_fill(table, bits, reference, size, step)
        self._size = size
        self._index: Index | None = Index(reference=reference, size=size, table=table, bits=bits)

    @property
    def size(self) -> int:
        """Length of the reference in bytes."""
        return self._size

    @property
    def index(self) -> Index:
        """The index. Who holds it keeps the memory alive, also beyond ``close``."""
        if self._index is None:
            raise ValueError("The prepared reference is closed.")
        return self._index

    def close(self) -> None:
        """Free map and table as soon as no encoder uses them. Safe to call twice."""
        self._index = None
