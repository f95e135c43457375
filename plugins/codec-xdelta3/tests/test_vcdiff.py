"""Headers and instructions of VCDIFF windows, spelt out byte by byte (RFC 3284)."""

from __future__ import annotations

import zlib

import pytest
import zstandard

from deltaglider_codec_xdelta3.codec import Xdelta3Codec
from deltaglider_codec_xdelta3.vcdiff import Window, parse_window
from deltaglider_core.errors import CorruptDelta

REFERENCE = b"0123456789abcdef"

#: Codes of the default table: RUN, ADD, ADD of 1, COPY of any size in mode SELF, HERE,
#: NEAR 0 and SAME 0, and ADD of 1 followed by COPY of 4 in mode SELF.
RUN, ADD, ADD_1 = 0, 1, 2
COPY_SELF, COPY_HERE, COPY_NEAR, COPY_SAME = 19, 35, 51, 115
ADD_1_COPY_4 = 163


def number(value: int) -> bytes:
    """A base-128 integer."""
    result = bytes([value & 127])
    while value := value >> 7:
        result = bytes([value & 127 | 128]) + result
    return result


def window(
    instructions: bytes = b"",
    data: bytes = b"",
    addresses: bytes = b"",
    *,
    size: int,
    source: tuple[int, int] | None = (0, 16),
    checksum: int | None = None,
    delta_indicator: int = 0,
) -> bytes:
    """A window that is consistent in all that is not given otherwise."""
    indicator = (source is not None) | (checksum is not None) << 2
    head = bytes([indicator])
    if source is not None:
        head += number(source[1]) + number(source[0])
    body = number(size) + bytes([delta_indicator])
    body += number(len(data)) + number(len(instructions)) + number(len(addresses))
    if checksum is not None:
        body += checksum.to_bytes(4, "big")
    body += data + instructions + addresses
    return head + number(len(body)) + body


def decode(codec: Xdelta3Codec, vcdiff: bytes, size: int) -> bytes:
    return codec.decode_window(REFERENCE, zstandard.compress(vcdiff), size=size)


def test_parses_a_header() -> None:
    data = window(b"\x02", b"x", source=(300, 5), size=1, checksum=7)
    assert parse_window(data) == parse_window(memoryview(data))
    parsed = parse_window(data)
    assert isinstance(parsed, Window)
    assert parsed.source == (300, 5)
    assert parsed.target_size == 1
    assert parsed.checksum == 7
    assert data[parsed.data.offset :] == b"x\x02"
    assert (parsed.data.length, parsed.instructions.length, parsed.addresses.length) == (1, 1, 0)


@pytest.mark.parametrize(
    ("vcdiff", "expected"),
    [
        (window(size=0), b""),
        (window(bytes([ADD_1]), b"x", size=1, source=None), b"x"),
        (window(bytes([ADD, 3]), b"xyz", size=3), b"xyz"),
        (window(bytes([RUN, 5]), b"-", size=5), b"-----"),
        (window(bytes([COPY_SELF, 6]), b"", b"\x0a", size=6), b"abcdef"),
        (window(bytes([COPY_HERE, 4]), b"", b"\x10", size=4), b"0123"),
        (window(bytes([COPY_SELF, 4, COPY_NEAR, 4]), b"", b"\x02\x03", size=8), b"23455678"),
        (window(bytes([COPY_SELF, 4, COPY_SAME, 4]), b"", b"\x02\x02", size=8), b"23452345"),
        (window(bytes([ADD_1_COPY_4]), b"+", b"\x00", size=5), b"+0123"),
        (window(bytes([ADD, 2, COPY_SELF, 7]), b"ab", b"\x10", size=9), b"ababababa"),
        (window(bytes([COPY_SELF, 4]), b"", b"\x00", size=4, source=(6, 10)), b"6789"),
        (window(bytes([COPY_SELF, 4]), b"", b"\x00", size=4, source=(12, 4)), b"cdef"),
        (window(bytes([ADD, 0, ADD_1]), b"x", size=1), b"x"),
    ],
)
def test_instructions(codec: Xdelta3Codec, vcdiff: bytes, expected: bytes) -> None:
    assert decode(codec, vcdiff, len(expected)) == expected


def test_checksum(codec: Xdelta3Codec) -> None:
    right = window(bytes([ADD_1]), b"x", size=1, checksum=zlib.adler32(b"x"))
    assert decode(codec, right, 1) == b"x"
    with pytest.raises(CorruptDelta, match="Adler-32"):
        decode(codec, window(bytes([ADD_1]), b"y", size=1, checksum=zlib.adler32(b"x")), 1)


HUGE = number(2**63)

DEFECTS = {
    "nothing": b"",
    "indicator only": b"\x01",
    "VCD_TARGET": b"\x02" + window(size=0)[1:],
    "unknown indicator": b"\x08" + window(size=0, source=None)[1:],
    "secondary compression": window(bytes([ADD_1]), b"x", size=1, delta_indicator=1),
    "source beyond the reference": window(size=0, source=(0, 17)),
    "source starts beyond": window(size=0, source=(17, 0)),
    "source of huge length": window(size=0, source=(0, 2**64 - 1)),
    "source at a huge offset": window(size=0, source=(2**64 - 1, 2)),
    "number beyond 64 bits": b"\x01" + b"\xff" * 10 + b"\x00",
    "number without end": b"\x01" + b"\x80" * 5000,
    "one byte too few": window(bytes([ADD_1]), b"x", size=1)[:-1],
    "one byte too many": window(bytes([ADD_1]), b"x", size=1) + b"x",
    "sections longer than the window": b"\x00\x06\x01\x00\x02\x01\x00x",
    "huge section": b"\x00" + number(4 + len(HUGE)) + b"\x01\x00" + HUGE + b"\x01\x00",
    "wrapping sections": b"\x00" + number(3 + 2 * len(HUGE)) + b"\x01\x00" + HUGE * 2 + b"\x00",
    "add beyond the target": window(bytes([ADD, 2]), b"xy", size=1),
    "add of huge size": window(bytes([ADD]) + HUGE, b"x", size=1),
    "add without data": window(bytes([ADD, 2]), b"x", size=2),
    "run without data": window(bytes([RUN, 2]), b"", size=2),
    "run beyond the target": window(bytes([RUN]) + HUGE, b"x", size=1),
    "size cut off": window(bytes([ADD]), b"x", size=1),
    "size without end": window(bytes([ADD]) + b"\xff" * 11, b"x", size=1),
    "copy without address": window(bytes([COPY_SELF, 1]), size=1),
    "same copy without address": window(bytes([COPY_SAME, 1]), size=1),
    "copy from here": window(bytes([COPY_SELF, 1]), b"", number(16), size=1),
    "copy from beyond": window(bytes([COPY_SELF, 1]), b"", HUGE, size=1),
    "copy from before": window(bytes([COPY_HERE, 1]), b"", number(17), size=1),
    "copy at distance 0": window(bytes([COPY_HERE, 1]), b"", b"\x00", size=1),
    "near address wraps": window(
        bytes([COPY_SELF, 1, COPY_NEAR, 1]), b"", b"\x02" + number(2**64 - 1), size=2
    ),
    "same address of nothing": window(bytes([COPY_SAME, 1]), b"", b"\x00", size=1, source=None),
    "copy across the border": window(bytes([ADD_1, COPY_SELF, 2]), b"x", b"\x0f", size=3),
    "target too short": window(bytes([ADD_1]), b"x", size=2),
    "target empty": window(size=1),
    "data left over": window(bytes([ADD_1]), b"xy", size=1),
    "addresses left over": window(bytes([ADD_1]), b"x", b"\x00", size=1),
}


@pytest.mark.parametrize("vcdiff", DEFECTS.values(), ids=DEFECTS.keys())
def test_defects(codec: Xdelta3Codec, vcdiff: bytes) -> None:
    """Each window is refused for every size that it might be taken for."""
    for size in range(4):
        with pytest.raises(CorruptDelta):
            decode(codec, vcdiff, size)
