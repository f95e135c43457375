"""Headers of VCDIFF (RFC 3284, section 4), read with every length checked.

Only what the codec writes, and what stock xdelta3 writes without secondary compression, is
accepted: the default code table, source segments from the reference, plain sections.
"""

from __future__ import annotations

from dataclasses import dataclass

from deltaglider_core.errors import CorruptDelta

#: Magic, version 0, no secondary compressor, no code table, no application header.
FILE_HEADER = b"\xd6\xc3\xc4\x00\x00"

#: Window indicator bits. VCD_ADLER32 is an extension of xdelta3.
VCD_SOURCE = 0x01
VCD_ADLER32 = 0x04

_MAX_INTEGER = 2**64 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """Where a section of a window lies: offset from the window's first byte, and length."""

    offset: int
    length: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """The header of a window; every field has been checked against the others.

    Attributes:
        source: ``(offset, length)`` of the source segment in the reference; ``(0, 0)`` if none.
        target_size: Length of the decoded window in bytes.
        checksum: Adler-32 of the decoded window, or None.
        data: Bytes of ADD and RUN.
        instructions: Instructions and their sizes.
        addresses: Addresses of COPY.
    """

    source: tuple[int, int]
    target_size: int
    checksum: int | None
    data: Section
    instructions: Section
    addresses: Section


class _Reader:
    """Reads the fields of a header in order; running out of bytes is a defect."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = data
        self.position = 0

    def byte(self) -> int:
        if self.position >= len(self._data):
            raise CorruptDelta("The VCDIFF window ends within its header.")
        value = self._data[self.position]
        self.position += 1
        return value

    def integer(self) -> int:
        """A base-128 integer, most significant group first (section 2)."""
        value = 0
        while True:
            byte = self.byte()
            value = value << 7 | byte & 0x7F
            if value > _MAX_INTEGER:
                raise CorruptDelta("A number in the VCDIFF header exceeds 64 bits.")
            if not byte & 0x80:
                return value


def parse_window(data: bytes | memoryview) -> Window:
    """Read the header of ``data``, which must be exactly one window of unsigned bytes.

    Raises:
        CorruptDelta: It is not, or uses a feature that this codec never writes.
    """
    reader = _Reader(data)
    indicator = reader.byte()
    if indicator & ~(VCD_SOURCE | VCD_ADLER32):
        raise CorruptDelta(f"The VCDIFF window has the indicator {indicator:#x}.")
    source = (0, 0)
    if indicator & VCD_SOURCE:
        length = reader.integer()
        source = (reader.integer(), length)
    encoded = reader.integer()
    if encoded != len(data) - reader.position:
        raise CorruptDelta("The VCDIFF window is not as long as it says.")
    target_size = reader.integer()
    if reader.byte():
        raise CorruptDelta("The VCDIFF window has sections with secondary compression.")
    lengths = [reader.integer() for _ in range(3)]
    checksum = None
    if indicator & VCD_ADLER32:
        checksum = int.from_bytes(bytes(reader.byte() for _ in range(4)), "big")
    if sum(lengths) != len(data) - reader.position:
        raise CorruptDelta("The sections of the VCDIFF window do not fill it.")
    sections = []
    offset = reader.position
    for length in lengths:
        sections.append(Section(offset=offset, length=length))
        offset += length
    return Window(
        source=source,
        target_size=target_size,
        checksum=checksum,
        data=sections[0],
        instructions=sections[1],
        addresses=sections[2],
    )
