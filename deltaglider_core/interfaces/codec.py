"""What a delta codec implements.

The delta engine cuts an object into windows, keeps the container (record, index, digests)
itself, and asks the codec for one window at a time. Codecs never see a whole object.
Methods are blocking; they run on worker threads and must release the GIL while they work.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from .contribution import Contribution

if TYPE_CHECKING:
    from typing_extensions import Buffer


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedWindow:
    """One window as stored.

    Attributes:
        data: Self-contained bytes, decodable with the reference alone.
        span: ``(offset, length)`` of the reference that ``data`` uses; ``(0, 0)`` if none.
    """

    data: bytes
    span: tuple[int, int]


@runtime_checkable
class PreparedReference(Protocol):
    """A reference, indexed once; read-only, shared by threads, windows and uploads."""

    @property
    def size(self) -> int:
        """Length of the reference in bytes."""

    def close(self) -> None:
        """Free the index. No encode may be running."""


@runtime_checkable
class Codec(Protocol):
    """Deltas of windows against a reference."""

    @property
    def codec_id(self) -> str:
        """Stored with every delta; chooses the decoder for ever. E.g. ``xdelta3``."""

    @property
    def window_size(self) -> int:
        """Bytes of the target per window; every window but the last of an object has it."""

    def stream_header(self) -> bytes:
        """Bytes that stand before the first window, so that stock tools can read the whole."""

    def prepare(self, reference: Path) -> PreparedReference:
        """Index a reference file. The file must not change or shrink while in use."""

    def encode_window(self, prepared: PreparedReference, target: Buffer) -> EncodedWindow:
        """Encode at most ``window_size`` bytes."""

    def decode_window(self, reference: Buffer, window: Buffer, *, size: int) -> bytes:
        """Decode one window to exactly ``size`` bytes.

        ``reference`` is the whole reference; ``window`` is what ``encode_window`` gave, or
        anything at all: stored bytes are untrusted.

        Raises:
            CorruptDelta: The window is not one, or does not give ``size`` bytes.
        """


class CodecType(Contribution[Codec]):
    """A codec. New deltas use ``advanced.codec`` (default: the first); reads the stored id."""

    __slots__ = ()
