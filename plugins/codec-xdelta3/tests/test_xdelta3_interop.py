"""Both ways with the stock xdelta3 command line."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard

from deltaglider_codec_xdelta3.codec import Xdelta3Codec
from deltaglider_codec_xdelta3.vcdiff import FILE_HEADER
from deltaglider_core.errors import CorruptDelta

if TYPE_CHECKING:
    from .conftest import StockXdelta3

WINDOW = 64 * 1024
CHANCE = random.Random(11)
REFERENCE = CHANCE.randbytes(150_000) + b"some text, over and over; " * 2000 + bytes(3000)
TARGET = REFERENCE[70_000:] + CHANCE.randbytes(20_000) + REFERENCE[:90_000]


def unpack(frames: bytes) -> bytes:
    """As ``zstd -dc`` does: all frames, one after the other."""
    with zstandard.ZstdDecompressor().stream_reader(frames, read_across_frames=True) as reader:
        return reader.read()


def encode(codec: Xdelta3Codec, folder: Path, reference: bytes, target: bytes) -> list[bytes]:
    path = folder / "reference"
    path.write_bytes(reference)
    prepared = codec.prepare(path)
    starts = range(0, max(len(target), 1), WINDOW)
    return [codec.encode_window(prepared, target[at : at + WINDOW]).data for at in starts]


@pytest.mark.parametrize("level", [1, 3, 9])
@pytest.mark.parametrize(
    ("reference", "target"),
    [
        (REFERENCE, TARGET),
        (REFERENCE, CHANCE.randbytes(100)),
        (REFERENCE, b""),
        (b"", REFERENCE),
        (REFERENCE[: 1 << 16], REFERENCE[: 1 << 17]),
    ],
    ids=["versions", "unrelated", "empty", "no reference", "power of two"],
)
def test_stock_decodes_the_whole(
    stock: StockXdelta3, tmp_path: Path, level: int, reference: bytes, target: bytes
) -> None:
    codec = Xdelta3Codec(level=level, window_size=WINDOW, zstd_level=3)
    blob = codec.stream_header() + b"".join(encode(codec, tmp_path, reference, target))
    assert stock.decode(reference, unpack(blob)) == target


def test_stock_decodes_any_window_alone(
    stock: StockXdelta3, codec: Xdelta3Codec, tmp_path: Path
) -> None:
    windows = encode(codec, tmp_path, REFERENCE, TARGET)
    assert len(windows) == 4
    for number, window in enumerate(windows):
        part = TARGET[number * WINDOW : (number + 1) * WINDOW]
        assert stock.decode(REFERENCE, unpack(codec.stream_header() + window)) == part


def test_stock_decodes_a_window_of_countless_short_matches(
    stock: StockXdelta3, tmp_path: Path
) -> None:
    """In the mode with little memory the source segment is the whole reference."""
    reference = REFERENCE[:140_000]
    places = (CHANCE.randrange(len(reference) - 16) for _ in range(900_000))
    target = b"".join(reference[place : place + 16] for place in places)
    codec = Xdelta3Codec(level=9, window_size=16 * 1024 * 1024, zstd_level=1)
    (tmp_path / "reference").write_bytes(reference)
    encoded = codec.encode_window(codec.prepare(tmp_path / "reference"), target)
    assert encoded.span == (0, len(reference))
    assert stock.decode(reference, unpack(codec.stream_header() + encoded.data)) == target


@pytest.mark.parametrize("options", [["-n"], [], ["-n", "-9"], ["-1"]])
@pytest.mark.parametrize(
    ("reference", "target"), [(REFERENCE, TARGET), (REFERENCE, b"x"), (b"", TARGET)]
)
def test_decodes_stock_windows(
    stock: StockXdelta3,
    codec: Xdelta3Codec,
    options: list[str],
    reference: bytes,
    target: bytes,
) -> None:
    vcdiff = stock.encode(reference, target, *options)
    assert vcdiff.startswith(FILE_HEADER)
    window = zstandard.compress(vcdiff[len(FILE_HEADER) :])
    assert codec.decode_window(reference, window, size=len(target)) == target


def test_checks_the_checksum_of_a_stock_window(stock: StockXdelta3, codec: Xdelta3Codec) -> None:
    target = b"a literal that nothing precedes"
    vcdiff = stock.encode(REFERENCE, target)
    forged = vcdiff[len(FILE_HEADER) :].replace(b"literal", b"LITERAL")
    with pytest.raises(CorruptDelta, match="Adler-32"):
        codec.decode_window(REFERENCE, zstandard.compress(forged), size=len(target))


def test_refuses_secondary_compression(stock: StockXdelta3, codec: Xdelta3Codec) -> None:
    """Such windows cannot be decoded alone; the indicator in the window says so."""
    target = b"".join(b"line %d of many\n" % number for number in range(3000))
    vcdiff = stock.encode(b"", target, "-n", "-S", "djw")
    assert vcdiff[4] & 1
    with pytest.raises(CorruptDelta, match="secondary"):
        codec.decode_window(b"", zstandard.compress(vcdiff[6:]), size=len(target))
