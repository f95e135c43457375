"""One zstd frame around each window (RFC 8878)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import zstandard

from deltaglider_core.errors import CorruptDelta

if TYPE_CHECKING:
    from typing_extensions import Buffer


def pack(data: Buffer, *, level: int) -> bytes:
    """``data`` as one frame that states its content size."""
    return zstandard.ZstdCompressor(level=level, write_content_size=True).compress(memoryview(data))


def unpack(frame: Buffer, *, limit: int) -> bytes:
    """The content of ``frame``, which must be exactly one frame.

    The size that the frame states is checked before anything is allocated for the content.

    Raises:
        CorruptDelta: Not a single frame, no stated size, a size above ``limit`` bytes, a
            dictionary, or damage.
    """
    view = memoryview(frame)
    try:
        parameters = zstandard.get_frame_parameters(view)
        if parameters.content_size in (
            zstandard.CONTENTSIZE_UNKNOWN,
            zstandard.CONTENTSIZE_ERROR,
        ):
            raise CorruptDelta("The zstd frame of the window does not state its size.")
        if parameters.content_size > limit:
            raise CorruptDelta(
                f"The zstd frame of the window states {parameters.content_size} bytes; "
                f"at most {limit} are possible."
            )
        # A context is cheap beside a window and, unlike a shared one, safe in threads.
        return zstandard.ZstdDecompressor().decompress(view, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptDelta(f"The zstd frame of the window is damaged: {error}") from error
