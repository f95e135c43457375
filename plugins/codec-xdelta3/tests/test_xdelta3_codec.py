"""Round trips through the codec, and what it costs."""

from __future__ import annotations

import mmap
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deltaglider_codec_xdelta3.codec import Xdelta3Codec
from deltaglider_codec_xdelta3.reference import MAX_TABLE_BITS, Xdelta3Reference, table_layout
from deltaglider_core.errors import CorruptDelta
from deltaglider_core.interfaces.codec import Codec, EncodedWindow, PreparedReference

WINDOW = 64 * 1024
MIB = 1024 * 1024

PREVIOUS = random.Random(1).randbytes(200_000)


def encode(codec: Xdelta3Codec, folder: Path, reference: bytes, target: bytes) -> list[bytes]:
    """The windows of ``target``; each is checked to decode on its own."""
    path = folder / "reference"
    path.write_bytes(reference)
    prepared = codec.prepare(path)
    parts = [
        target[start : start + codec.window_size]
        for start in range(0, max(len(target), 1), codec.window_size)
    ]
    windows = [codec.encode_window(prepared, part).data for part in parts]
    prepared.close()
    for window, part in zip(reversed(windows), reversed(parts), strict=True):
        assert codec.decode_window(reference, window, size=len(part)) == part
    return windows


def edited(data: bytes, seed: int) -> bytes:
    """``data`` with changes, insertions and deletions here and there."""
    chance = random.Random(seed)
    result = bytearray(data)
    for _ in range(20):
        place = chance.randrange(len(result))
        result[place : place + chance.randrange(50)] = chance.randbytes(chance.randrange(50))
    return bytes(result)


def test_is_a_codec(codec: Xdelta3Codec, tmp_path: Path) -> None:
    (tmp_path / "reference").write_bytes(PREVIOUS)
    assert isinstance(codec, Codec)
    assert isinstance(codec.prepare(tmp_path / "reference"), PreparedReference)
    assert codec.codec_id == "xdelta3"
    assert codec.window_size == WINDOW


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW + 5])
@pytest.mark.parametrize("reference", [b"", b"a", PREVIOUS[:9], PREVIOUS])
def test_round_trip(codec: Xdelta3Codec, tmp_path: Path, size: int, reference: bytes) -> None:
    windows = encode(codec, tmp_path, reference, edited(PREVIOUS + b"end", 2)[:size])
    assert len(windows) == max(1, -(-size // WINDOW))


@pytest.mark.parametrize("level", range(1, 10))
def test_every_level_finds_the_previous_version(tmp_path: Path, level: int) -> None:
    codec = Xdelta3Codec(level=level, window_size=WINDOW, zstd_level=1)
    target = edited(PREVIOUS, 3)
    assert sum(map(len, encode(codec, tmp_path, PREVIOUS, target))) < len(target) / 20


def test_unrelated_data_costs_next_to_nothing_extra(codec: Xdelta3Codec, tmp_path: Path) -> None:
    target = random.Random(4).randbytes(2 * WINDOW)
    assert sum(map(len, encode(codec, tmp_path, PREVIOUS, target))) < len(target) + 200


@pytest.mark.parametrize("exponent", [4, 12, 16])
def test_reference_of_a_power_of_two(codec: Xdelta3Codec, tmp_path: Path, exponent: int) -> None:
    reference = PREVIOUS[: 1 << exponent]
    windows = encode(codec, tmp_path, reference, reference)
    assert sum(map(len, windows)) < 60


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_round_trip_of_anything(tmp_path: Path, data: st.DataObject) -> None:
    pieces = [PREVIOUS[:300], PREVIOUS[5000:5040], bytes(500), b"ab" * 90, b"\xff" * 33, b"xyz"]
    some = st.lists(st.sampled_from(pieces) | st.binary(max_size=40), max_size=12).map(b"".join)
    codec = Xdelta3Codec(level=9, window_size=WINDOW, zstd_level=1)
    encode(codec, tmp_path, data.draw(some), data.draw(some))


def test_moved_blocks_are_found(tmp_path: Path) -> None:
    codec = Xdelta3Codec(level=3, window_size=4 * MIB, zstd_level=3)
    reference = random.Random(5).randbytes(20 * MIB)
    moved = reference[10 * MIB :] + reference[: 10 * MIB]
    assert sum(map(len, encode(codec, tmp_path, reference, moved))) < 500


def test_a_target_of_one_byte_is_a_run(codec: Xdelta3Codec, tmp_path: Path) -> None:
    assert len(encode(codec, tmp_path, PREVIOUS, bytes(WINDOW))[0]) < 40


def test_a_window_of_countless_short_matches(tmp_path: Path) -> None:
    """Exceeds the memory that one encoder may have for instructions: 32 MiB."""
    chance = random.Random(6)
    reference = chance.randbytes(256 * 1024)
    codec = Xdelta3Codec(level=9, window_size=16 * MIB, zstd_level=1)
    target = b"".join(
        reference[place : place + 16]
        for place in (chance.randrange(len(reference) - 16) for _ in range(MIB))
    )
    (window,) = encode(codec, tmp_path, reference, target)
    assert len(window) < len(target) / 2


def test_span_is_the_part_of_the_reference_in_use(codec: Xdelta3Codec, tmp_path: Path) -> None:
    path = tmp_path / "reference"
    path.write_bytes(PREVIOUS)
    prepared = codec.prepare(path)
    assert prepared.size == len(PREVIOUS)
    encoded = codec.encode_window(prepared, PREVIOUS[50_000:60_000])
    assert encoded.span == (50_000, 10_000)
    assert codec.encode_window(prepared, b"nothing alike").span == (0, 0)
    # Nothing outside the span is read: other bytes there do not change the result.
    other = bytes(50_000) + PREVIOUS[50_000:60_000] + bytes(140_000)
    assert codec.decode_window(other, encoded.data, size=10_000) == PREVIOUS[50_000:60_000]


def test_threads_give_what_one_thread_gives(tmp_path: Path) -> None:
    codec = Xdelta3Codec(level=3, window_size=WINDOW, zstd_level=3)
    reference = random.Random(7).randbytes(2 * MIB)
    target = edited(reference, 8)
    path = tmp_path / "reference"
    path.write_bytes(reference)
    prepared = codec.prepare(path)
    parts = [target[start : start + WINDOW] for start in range(0, len(target), WINDOW)]
    serial = [codec.encode_window(prepared, part) for part in parts]
    start = threading.Barrier(4)

    def work(_: int) -> tuple[list[EncodedWindow], list[bytes]]:
        start.wait()
        windows = [codec.encode_window(prepared, part) for part in parts]
        sizes = map(len, parts)
        return windows, [
            codec.decode_window(reference, window.data, size=size)
            for window, size in zip(windows, sizes, strict=True)
        ]

    with ThreadPoolExecutor(4) as pool:
        for windows, decoded in pool.map(work, range(4)):
            assert windows == serial
            assert decoded == parts


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_takes_any_buffer(
    codec: Xdelta3Codec, tmp_path: Path, wrap: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "reference"
    path.write_bytes(PREVIOUS)
    target = PREVIOUS[100:40_000]
    window = codec.encode_window(codec.prepare(path), wrap(target)).data
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert codec.decode_window(mapped, wrap(window), size=len(target)) == target
        mapped.close()  # nothing holds on to the map
    assert codec.decode_window(wrap(PREVIOUS), window, size=len(target)) == target


def test_a_reference_outlives_its_file_name(codec: Xdelta3Codec, tmp_path: Path) -> None:
    path = tmp_path / "reference"
    path.write_bytes(PREVIOUS)
    prepared = codec.prepare(path)
    path.unlink()
    assert len(codec.encode_window(prepared, PREVIOUS[:WINDOW]).data) < 60


def test_closed_reference(codec: Xdelta3Codec, tmp_path: Path) -> None:
    path = tmp_path / "reference"
    path.write_bytes(PREVIOUS)
    prepared = codec.prepare(path)
    prepared.close()
    prepared.close()
    with pytest.raises(ValueError, match="closed"):
        codec.encode_window(prepared, b"")


def test_missing_reference(codec: Xdelta3Codec, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        codec.prepare(tmp_path / "absent")


def test_refuses_more_than_a_window(codec: Xdelta3Codec, tmp_path: Path) -> None:
    path = tmp_path / "reference"
    path.write_bytes(PREVIOUS)
    with pytest.raises(ValueError, match="at most 65536"):
        codec.encode_window(codec.prepare(path), bytes(WINDOW + 1))


def test_refuses_a_reference_of_another_codec(codec: Xdelta3Codec) -> None:
    class Other:
        size = 0

        def close(self) -> None:
            """Nothing to free."""

    with pytest.raises(TypeError, match="Other"):
        codec.encode_window(Other(), b"")


def test_a_shorter_reference_is_refused(codec: Xdelta3Codec, tmp_path: Path) -> None:
    path = tmp_path / "reference"
    path.write_bytes(PREVIOUS)
    window = codec.encode_window(codec.prepare(path), PREVIOUS[50_000:60_000]).data
    with pytest.raises(CorruptDelta, match="reference of 59999"):
        codec.decode_window(PREVIOUS[:59_999], window, size=10_000)


@pytest.mark.parametrize("size", [-1, 0, 9_999, 10_001, 16 * MIB + 1, 2**70])
def test_wrong_size(codec: Xdelta3Codec, tmp_path: Path, size: int) -> None:
    path = tmp_path / "reference"
    path.write_bytes(PREVIOUS)
    window = codec.encode_window(codec.prepare(path), PREVIOUS[50_000:60_000]).data
    with pytest.raises(CorruptDelta):
        codec.decode_window(PREVIOUS, window, size=size)


@pytest.mark.parametrize("size", [0, 1, 10_000, 14 * 10**6, 10**9, 5 * 2**40])
@pytest.mark.parametrize("level", [1, 3, 9])
def test_the_table_is_bounded_and_holds_the_whole_reference(size: int, level: int) -> None:
    bits, step = table_layout(size, level)
    assert bits <= MAX_TABLE_BITS
    assert step << bits >= size


def test_a_coarser_step_still_finds_what_moved(tmp_path: Path) -> None:
    """A reference with more positions than slots, made small by a smaller table."""
    reference = random.Random(9).randbytes(8 * MIB)
    path = tmp_path / "reference"
    path.write_bytes(reference)
    codec = Xdelta3Codec(level=9, window_size=4 * MIB, zstd_level=3)
    prepared = Xdelta3Reference(path, level=9, max_bits=12)
    assert prepared.index.bits == 12
    target = reference[5 * MIB :] + reference[: 1 * MIB]
    encoded = codec.encode_window(prepared, target)
    assert len(encoded.data) < 200
    assert codec.decode_window(reference, encoded.data, size=len(target)) == target
