"""The codec: windows of VCDIFF, encoded by xdelta3, each packed in a zstd frame."""

from __future__ import annotations

import errno
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltaglider_core.errors import CorruptDelta
from deltaglider_core.interfaces.codec import EncodedWindow, PreparedReference

from . import frames
from ._xdelta3 import ffi, lib
from .limits import MAX_WINDOW_SIZE, max_vcdiff_size
from .reference import Xdelta3Reference
from .vcdiff import FILE_HEADER, Window, parse_window

if TYPE_CHECKING:
    from typing_extensions import Buffer

# xdelta3 fills a static table on first use, without a lock. The import lock is one.
lib.dgx_initialize()

_new_output = ffi.new_allocator(should_clear_after_alloc=False)


class Xdelta3Codec:
    """See ``deltaglider_core.interfaces.codec.Codec``. Safe to use from many threads.

    Windows carry no Adler-32: the container keeps a SHA-256 of each, which is checked before
    a byte leaves. Windows of other encoders that have one are checked against it.

    Args:
        level: How densely a reference is indexed, 1 to 9; see ``reference.STEPS``.
        window_size: Bytes of target per window, at most ``MAX_WINDOW_SIZE``.
        zstd_level: Level of the compression of each window.
    """

    def __init__(self, *, level: int, window_size: int, zstd_level: int) -> None:
        self._level = level
        self._window_size = window_size
        self._zstd_level = zstd_level

    @property
    def codec_id(self) -> str:
        return "xdelta3"

    @property
    def window_size(self) -> int:
        return self._window_size

    def stream_header(self) -> bytes:
        return frames.pack(FILE_HEADER, level=self._zstd_level)

    def prepare(self, reference: Path) -> Xdelta3Reference:
        return Xdelta3Reference(reference, level=self._level)

    def encode_window(self, prepared: PreparedReference, target: Buffer) -> EncodedWindow:
        """See the protocol.

        Raises:
            TypeError: ``prepared`` is of another codec.
            ValueError: ``prepared`` is closed, or ``target`` is longer than a window.
            MemoryError
            RuntimeError: xdelta3 failed, which is a defect in this package.
        """
        if not isinstance(prepared, Xdelta3Reference):
            raise TypeError(f"Not a reference that xdelta3 prepared: {type(prepared).__name__}.")
        index = prepared.index
        source = ffi.from_buffer("uint8_t[]", target)
        if len(source) > self._window_size:
            raise ValueError(f"A window has at most {self._window_size} bytes, not {len(source)}.")
        output = ffi.gc(ffi.new("dgx_output *"), lib.dgx_output_free)
        try:
            status = lib.dgx_encode(
                index.reference,
                index.size,
                index.table,
                index.bits,
                source,
                len(source),
                output,
            )
            if status == errno.ENOMEM:
                raise MemoryError("No memory to encode a window.")
            if status != 0:
                raise RuntimeError(f"xdelta3 failed to encode a window with status {status}.")
            if output.size > max_vcdiff_size(len(source)):
                raise RuntimeError(f"xdelta3 made {output.size} bytes of {len(source)}.")
            vcdiff = memoryview(ffi.buffer(output.data, output.size))
            span = parse_window(vcdiff).source
            return EncodedWindow(data=frames.pack(vcdiff, level=self._zstd_level), span=span)
        finally:
            ffi.release(output)

    def decode_window(self, reference: Buffer, window: Buffer, *, size: int) -> bytes:
        if not 0 <= size <= MAX_WINDOW_SIZE:
            raise CorruptDelta(f"A window cannot have {size} bytes.")
        vcdiff = frames.unpack(window, limit=max_vcdiff_size(size))
        header = parse_window(vcdiff)
        if header.target_size != size:
            raise CorruptDelta(f"The window gives {header.target_size} bytes, not {size}.")
        data = _decode(ffi.from_buffer("uint8_t[]", reference), vcdiff, header)
        if header.checksum is not None and zlib.adler32(data) != header.checksum:
            raise CorruptDelta("The window does not give what its Adler-32 says.")
        return data


def _decode(reference: Any, vcdiff: bytes, header: Window) -> bytes:
    """Run the instructions of ``vcdiff`` on ``reference``, an ``uint8_t[]``."""
    offset, length = header.source
    if offset > len(reference) or length > len(reference) - offset:
        raise CorruptDelta(
            f"The window copies from bytes {offset} to {offset + length} of a reference of "
            f"{len(reference)} bytes."
        )
    base = ffi.from_buffer("uint8_t[]", vcdiff)
    target = _new_output("uint8_t[]", header.target_size)
    decoded = lib.dgx_decode(
        _bytes(reference + offset, length),
        *(
            _bytes(base + section.offset, section.length)
            for section in (header.data, header.instructions, header.addresses)
        ),
        target,
        header.target_size,
    )
    if not decoded:
        raise CorruptDelta("The instructions of the window are damaged.")
    return bytes(ffi.buffer(target))


def _bytes(pointer: Any, size: int) -> Any:
    """A ``dgx_bytes``; whoever made ``pointer`` keeps the memory alive."""
    return ffi.new("dgx_bytes *", (pointer, size))[0]
