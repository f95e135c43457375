"""Settings of the codec, mounted at ``advanced.xdelta3``."""

from __future__ import annotations

from pydantic import Field

from deltaglider_core.settings import Section

from .limits import MAX_WINDOW_SIZE, MIN_WINDOW_SIZE


class Xdelta3Settings(Section):
    """Deltas with xdelta3 in this process."""

    level: int = Field(
        3,
        ge=1,
        le=9,
        description="Effort of the search for matches: 1 is fastest, 9 finds most.",
    )
    window_size: int = Field(
        4 * 1024 * 1024,
        ge=MIN_WINDOW_SIZE,
        le=MAX_WINDOW_SIZE,
        description=(
            "Bytes of an object that are encoded and decoded at once, 64 KiB to 16 MiB. A larger "
            "window gives a smaller delta, but takes more memory and a range reads more."
        ),
    )
    zstd_level: int = Field(
        3,
        ge=1,
        le=19,
        description="Compression level of zstd, which packs each encoded window.",
    )
