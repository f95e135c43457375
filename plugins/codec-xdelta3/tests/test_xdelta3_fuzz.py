"""Stored bytes are untrusted: whatever comes is decoded rightly or refused."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deltaglider_codec_xdelta3.codec import Xdelta3Codec
from deltaglider_core.errors import CorruptDelta

WINDOW = 64 * 1024
REFERENCE = random.Random(21).randbytes(20_000)
TARGET = REFERENCE[4_000:9_000] + b"new" * 30 + REFERENCE[:2_000] + bytes(100)
CODEC = Xdelta3Codec(level=3, window_size=WINDOW, zstd_level=3)

fuzz = settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("reference") / "reference"
    path.write_bytes(REFERENCE)
    return CODEC.encode_window(CODEC.prepare(path), TARGET).data


def decodes_or_refuses(frame: bytes, size: int = len(TARGET)) -> None:
    try:
        result = CODEC.decode_window(REFERENCE, frame, size=size)
    except CorruptDelta:
        return
    assert len(result) == size


@fuzz
@given(st.data())
def test_damage_inside_the_frame(window: bytes, data: st.DataObject) -> None:
    vcdiff = bytearray(zstandard.decompress(window))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(vcdiff)))
        vcdiff[place : place + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=12))
    decodes_or_refuses(zstandard.compress(bytes(vcdiff)))


@fuzz
@given(st.data())
def test_damage_to_the_frame(window: bytes, data: st.DataObject) -> None:
    frame = bytearray(window)
    place = data.draw(st.integers(0, len(frame) - 1))
    frame[place] ^= data.draw(st.integers(1, 255))
    decodes_or_refuses(bytes(frame))


@fuzz
@given(st.binary(max_size=80), st.integers(0, 100))
def test_anything_at_all(junk: bytes, size: int) -> None:
    decodes_or_refuses(junk, size)
    decodes_or_refuses(zstandard.compress(junk), size)


def test_every_truncation_is_refused(window: bytes) -> None:
    vcdiff = zstandard.decompress(window)
    for end in range(len(vcdiff)):
        with pytest.raises(CorruptDelta):
            CODEC.decode_window(REFERENCE, zstandard.compress(vcdiff[:end]), size=len(TARGET))
    for end in range(len(window)):
        with pytest.raises(CorruptDelta):
            CODEC.decode_window(REFERENCE, window[:end], size=len(TARGET))


def test_what_follows_the_frame_is_refused(window: bytes) -> None:
    for more in (b"\0", window):
        with pytest.raises(CorruptDelta):
            CODEC.decode_window(REFERENCE, window + more, size=len(TARGET))


def test_many_thousand_damaged_windows_in_a_process_of_their_own() -> None:
    script = Path(__file__).with_name("fuzz_windows.py")
    command = [sys.executable, script, "30000", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def stated_bomb() -> bytes:
    """1 GiB of zeros in 32 KiB, with its size in the header."""
    compressor = zstandard.ZstdCompressor().compressobj(size=1 << 30)
    chunk = bytes(1 << 20)
    return b"".join([*(compressor.compress(chunk) for _ in range(1024)), compressor.flush()])


def unstated_bomb() -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 24))


def frame_claiming(size: int) -> bytes:
    """A frame of 70,000 bytes that says it had ``size``."""
    frame = zstandard.compress(b"x" * 70_000)
    # RFC 8878, section 3.1.1.1: a single segment whose size takes the four bytes from byte 5.
    assert frame[4] >> 5 == 0b101
    return frame[:5] + struct.pack("<I", size) + frame[9:]


def behind_a_skippable_frame() -> bytes:
    return struct.pack("<II", 0x184D2A50, 4) + b"skip" + zstandard.compress(b"x")


@pytest.mark.parametrize(
    "make",
    [
        stated_bomb,
        unstated_bomb,
        lambda: frame_claiming(2**32 - 1),
        lambda: frame_claiming(500),
        behind_a_skippable_frame,
    ],
    ids=["bomb", "bomb without size", "claims 4 GiB", "claims too little", "skippable"],
)
def test_a_bomb_is_refused_before_memory_is_taken(make: Callable[[], bytes]) -> None:
    bomb = make()
    tracemalloc.start()
    try:
        for size in (100, WINDOW):
            with pytest.raises(CorruptDelta):
                CODEC.decode_window(REFERENCE, bomb, size=size)
        assert tracemalloc.get_traced_memory()[1] < 5 * WINDOW
    finally:
        tracemalloc.stop()
