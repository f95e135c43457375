"""Decodes damaged windows until something gives; run in a process of its own.

``python fuzz_windows.py COUNT SEED`` exits with 0 if every damaged window was refused or gave
as many bytes as asked for. Half of the damage is inside the zstd frame, which is then whole.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import zstandard

from deltaglider_codec_xdelta3.codec import Xdelta3Codec
from deltaglider_core.errors import CorruptDelta


def damage(chance: random.Random, data: bytes) -> bytes:
    """``data`` with one to four defects, most of them near the start, where the header is."""
    result = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = min(chance.randrange(len(result) + 1), chance.choice([12, 60, len(result)]))
        match chance.randrange(5):
            case 0:
                result[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                result[place:place] = chance.randbytes(chance.randint(1, 9))
            case 2:
                del result[place : place + chance.randint(1, 9)]
            case 3:
                result[place : place + 1] = b"\xff" * chance.randint(1, 10) + b"\x7f"
            case _:
                del result[place:]
    return bytes(result)


def samples(codec: Xdelta3Codec, reference: bytes) -> list[tuple[bytes, bytes]]:
    """Pairs of a target and its window, of all kinds of instructions."""
    chance = random.Random(1)
    targets = [
        b"",
        b"x" * 500,
        reference[:3000],
        chance.randbytes(200),
        b"".join(
            reference[place : place + chance.randrange(16, 60)] + chance.randbytes(3)
            for place in (chance.randrange(len(reference)) for _ in range(40))
        ),
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference"
        path.write_bytes(reference)
        prepared = codec.prepare(path)
        return [(target, codec.encode_window(prepared, target).data) for target in targets]


def main(count: int, seed: int) -> int:
    chance = random.Random(seed)
    codec = Xdelta3Codec(level=9, window_size=64 * 1024, zstd_level=1)
    reference = chance.randbytes(5000)
    pairs = [
        (target, frame, zstandard.decompress(frame)) for target, frame in samples(codec, reference)
    ]
    refused = 0
    for _ in range(count):
        target, frame, vcdiff = chance.choice(pairs)
        if chance.random() < 0.8:
            window = zstandard.compress(damage(chance, vcdiff), 1)
        else:
            window = damage(chance, frame)
        try:
            result = codec.decode_window(reference, window, size=len(target))
        except CorruptDelta:
            refused += 1
        else:
            if len(result) != len(target):
                return 1
    print(f"{refused} of {count} refused")
    return 0 if refused > count / 2 else 2


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
