"""Conformance of delta codecs."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deltaglider_core.errors import CorruptDelta
from deltaglider_core.interfaces.codec import Codec, EncodedWindow, PreparedReference

from ._bytes import check_same


def related(reference: bytes, seed: int = 0) -> bytes:
    """A later version: pieces of the reference moved, changed and inserted."""
    rng = random.Random(seed)
    pieces = [reference[start : start + 10_000] for start in range(0, len(reference), 10_000)]
    for number in range(0, len(pieces), 7):
        pieces[number] = rng.randbytes(500) + pieces[number][1000:]
    pieces.insert(len(pieces) // 2, pieces[0])
    return b"".join(pieces)


class CodecConformance:
    """What every ``Codec`` must do.

    Inherit, and override the fixture ``codec``. Windows of up to ``window`` bytes are used;
    the codec's own ``window_size`` may be larger.
    """

    window = 256 * 1024

    @pytest.fixture
    def codec(self) -> Codec:
        """The codec under test, open."""
        raise NotImplementedError("override the fixture `codec`")

    @pytest.fixture
    def reference(self) -> bytes:
        """Bytes of the reference: 600 KB of which nothing repeats."""
        return random.Random(1).randbytes(600_000)

    @pytest.fixture
    def reference_path(self, reference: bytes, tmp_path: Path) -> Path:
        """The reference as a file."""
        path = tmp_path / "reference"
        path.write_bytes(reference)
        return path

    @pytest.fixture
    def prepared(self, codec: Codec, reference_path: Path) -> Iterator[PreparedReference]:
        """The reference, indexed."""
        prepared = codec.prepare(reference_path)
        yield prepared
        prepared.close()

    def windows(self, codec: Codec, target: bytes) -> list[bytes]:
        """The target, cut."""
        size = min(self.window, codec.window_size)
        return [target[start : start + size] for start in range(0, len(target), size)]

    def test_identity(self, codec: Codec, prepared: PreparedReference, reference: bytes) -> None:
        assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", codec.codec_id)
        assert codec.window_size >= 64 * 1024
        assert isinstance(codec.stream_header(), bytes)
        assert prepared.size == len(reference)

    def test_round_trip(self, codec: Codec, prepared: PreparedReference, reference: bytes) -> None:
        stored = 0
        target = related(reference)
        for window in self.windows(codec, target):
            encoded = codec.encode_window(prepared, window)
            check_same(codec.decode_window(reference, encoded.data, size=len(window)), window)
            stored += len(encoded.data)
        assert stored < len(target) / 4, "a related target must become small"

    def test_windows_are_independent(
        self, codec: Codec, prepared: PreparedReference, reference: bytes
    ) -> None:
        windows = self.windows(codec, related(reference))
        encoded = [codec.encode_window(prepared, window) for window in windows]
        for window, delta in reversed(list(zip(windows, encoded, strict=True))):
            check_same(codec.decode_window(reference, delta.data, size=len(window)), window)

    def test_span(self, codec: Codec, prepared: PreparedReference, reference: bytes) -> None:
        """The span lies in the reference, and nothing outside of it is needed."""
        for window in self.windows(codec, related(reference)):
            encoded = codec.encode_window(prepared, window)
            offset, length = encoded.span
            assert 0 <= offset <= offset + length <= len(reference)
            other = bytearray(len(reference))
            other[offset : offset + length] = reference[offset : offset + length]
            check_same(codec.decode_window(bytes(other), encoded.data, size=len(window)), window)

    def test_unrelated_target(
        self, codec: Codec, prepared: PreparedReference, reference: bytes
    ) -> None:
        window = random.Random(2).randbytes(min(self.window, codec.window_size))
        encoded = codec.encode_window(prepared, window)
        check_same(codec.decode_window(reference, encoded.data, size=len(window)), window)
        assert len(encoded.data) < len(window) * 1.1 + 1024

    @pytest.mark.parametrize("size", [0, 1, 2, 15, 1000])
    def test_small_target(
        self, codec: Codec, prepared: PreparedReference, reference: bytes, size: int
    ) -> None:
        for window in (reference[5000 : 5000 + size], b"\0" * size):
            encoded = codec.encode_window(prepared, window)
            check_same(codec.decode_window(reference, encoded.data, size=size), window)

    @pytest.mark.parametrize("size", [0, 1, 20])
    def test_small_reference(self, codec: Codec, tmp_path: Path, size: int) -> None:
        path = tmp_path / "small"
        path.write_bytes(b"r" * size)
        prepared = codec.prepare(path)
        try:
            assert prepared.size == size
            window = random.Random(3).randbytes(50_000) + b"r" * 50
            encoded = codec.encode_window(prepared, window)
            check_same(codec.decode_window(b"r" * size, encoded.data, size=len(window)), window)
        finally:
            prepared.close()

    def test_full_window(self, codec: Codec, prepared: PreparedReference, reference: bytes) -> None:
        window = (reference * (codec.window_size // len(reference) + 1))[: codec.window_size]
        encoded = codec.encode_window(prepared, window)
        check_same(codec.decode_window(reference, encoded.data, size=len(window)), window)

    def test_buffers(self, codec: Codec, prepared: PreparedReference, reference: bytes) -> None:
        """Any contiguous buffer will do, so that nobody needs to copy."""
        window = related(reference)[:50_000]
        encoded = codec.encode_window(prepared, memoryview(bytearray(window)))
        again = codec.decode_window(
            memoryview(reference), bytearray(encoded.data), size=len(window)
        )
        check_same(bytes(again), window)

    def test_threads(self, codec: Codec, prepared: PreparedReference, reference: bytes) -> None:
        windows = [window for seed in range(6) for window in self._some(codec, reference, seed)]

        def there_and_back(window: bytes) -> bool:
            encoded = codec.encode_window(prepared, window)
            return codec.decode_window(reference, encoded.data, size=len(window)) == window

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(there_and_back, windows))

    def _some(self, codec: Codec, reference: bytes, seed: int) -> list[bytes]:
        return self.windows(codec, related(reference, seed))

    def test_wrong_size(self, codec: Codec, prepared: PreparedReference, reference: bytes) -> None:
        window = related(reference)[:50_000]
        encoded = codec.encode_window(prepared, window)
        for size in (0, 1, 49_999, 50_001, 10_000_000):
            with pytest.raises(CorruptDelta):
                codec.decode_window(reference, encoded.data, size=size)

    def _attack(self, codec: Codec, reference: bytes, data: bytes, window: bytes) -> None:
        """Damage is reported, or harmless; it is never a crash or another error."""
        try:
            decoded = codec.decode_window(reference, data, size=len(window))
        except CorruptDelta:
            return
        assert len(decoded) == len(window)

    def test_truncated_window(
        self, codec: Codec, prepared: PreparedReference, reference: bytes
    ) -> None:
        window = related(reference)[:50_000]
        data = codec.encode_window(prepared, window).data
        for length in {0, 1, 2, 3, 4, 5, len(data) // 2, len(data) - 1}:
            with pytest.raises(CorruptDelta):
                codec.decode_window(reference, data[:length], size=len(window))

    def test_flipped_bits(
        self, codec: Codec, prepared: PreparedReference, reference: bytes
    ) -> None:
        rng = random.Random(4)
        window = related(reference)[:50_000]
        data = codec.encode_window(prepared, window).data
        places = [*range(min(len(data), 200)), *rng.choices(range(len(data)), k=300)]
        for place in places:
            damaged = bytearray(data)
            damaged[place] ^= 1 << rng.randrange(8)
            self._attack(codec, reference, bytes(damaged), window)

    def test_garbage(self, codec: Codec, prepared: PreparedReference, reference: bytes) -> None:
        rng = random.Random(5)
        for length in (0, 1, 10, 100, 10_000):
            for _ in range(20):
                with pytest.raises(CorruptDelta):
                    codec.decode_window(reference, rng.randbytes(length), size=1000)

    def test_wrong_reference(
        self, codec: Codec, prepared: PreparedReference, reference: bytes
    ) -> None:
        window = related(reference)[:50_000]
        encoded: EncodedWindow = codec.encode_window(prepared, window)
        for wrong in (b"", b"x", reference[: len(reference) // 2], reference[::-1]):
            self._attack(codec, wrong, encoded.data, window)

    def test_reference_absent(self, codec: Codec, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="absent"):
            codec.prepare(tmp_path / "absent")
