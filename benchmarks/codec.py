"""Measures the codec on two files, beside the stock command line if there is one.

    python benchmarks/codec.py REFERENCE TARGET [--level N] [--zstd-level N] [--window BYTES]

Prints one line per way: speed of encoding and decoding in MB/s of target, bytes of the delta,
and their share of the target. Speeds hold for this machine and this moment; compare lines.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from deltaglider_codec_xdelta3.codec import Xdelta3Codec

T = TypeVar("T")


def timed(function: Callable[[], T], runs: int = 3) -> tuple[T, float]:
    """The result and the seconds it took, the best of some runs."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return result, min(seconds)


def run(pool: ThreadPoolExecutor, work: Callable[..., bytes], *of: Sequence[object]) -> list[bytes]:
    """The results of ``work``, in order."""
    return list(pool.map(work, *of))


def report(name: str, target: int, encode: float, decode: float, size: int) -> None:
    """Print one line."""
    print(
        f"{name:<28} encode {target / encode / 1e6:7.0f} MB/s   "
        f"decode {target / decode / 1e6:7.0f} MB/s   {size:>12,} bytes   {size / target:7.4f}"
    )


def measure_codec(codec: Xdelta3Codec, level: int, reference: Path, target: bytes) -> None:
    """Our codec: with one thread and with two."""
    content = reference.read_bytes()
    size = codec.window_size
    parts = [memoryview(target)[at : at + size] for at in range(0, len(target), size)]
    prepared, preparing = timed(lambda: codec.prepare(reference))
    print(f"reference indexed in {preparing * 1000:.0f} ms, once for all windows and uploads")

    def encode(part: memoryview) -> bytes:
        return codec.encode_window(prepared, part).data

    def decode(window: bytes, part: memoryview) -> bytes:
        return codec.decode_window(content, window, size=len(part))

    for threads in (1, 2):
        with ThreadPoolExecutor(threads) as pool:
            windows, encoding = timed(partial(run, pool, encode, parts))
            decoded, decoding = timed(partial(run, pool, decode, windows, parts))
        if b"".join(decoded) != target:
            sys.exit("The round trip changed the target.")
        stored = len(codec.stream_header()) + sum(map(len, windows))
        name = f"level {level}, {threads} thread{'s' * (threads > 1)}"
        report(name, len(target), encoding, decoding, stored)
    prepared.close()


def measure_stock(program: str, reference: Path, target: Path) -> None:
    """The command line in a subprocess: its defaults, and its fastest level."""
    with tempfile.TemporaryDirectory() as folder:
        delta, back = Path(folder) / "delta", Path(folder) / "back"
        for options in ([], ["-1", "-S", "none"]):
            encode = [program, "-e", "-f", *options, "-s", reference, target, delta]
            decode = [program, "-d", "-f", "-s", reference, delta, back]
            _, encoding = timed(partial(subprocess.run, encode, check=True))
            _, decoding = timed(partial(subprocess.run, decode, check=True))
            name = " ".join(["xdelta3", *options])
            size = target.stat().st_size
            report(name, size, encoding, decoding, delta.stat().st_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("reference", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--level", type=int, default=3)
    parser.add_argument("--zstd-level", type=int, default=3)
    parser.add_argument("--window", type=int, default=4 * 1024 * 1024)
    parser.add_argument("--xdelta3", default=shutil.which("xdelta3"), help="the stock program")
    options = parser.parse_args()
    codec = Xdelta3Codec(
        level=options.level, window_size=options.window, zstd_level=options.zstd_level
    )
    target = options.target.read_bytes()
    if not target:
        sys.exit("The target is empty.")
    measure_codec(codec, options.level, options.reference, target)
    if options.xdelta3:
        measure_stock(options.xdelta3, options.reference, options.target)


if __name__ == "__main__":
    main()
