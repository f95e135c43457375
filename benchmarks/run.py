"""Measure a running server from outside; every figure stands beside a floor of the same run.

A figure alone says more about the machine than about the server, so each one is given as a
ratio: large objects against the same bytes written to and read from a plain file, small ones
against ``/_/health`` through the same HTTP client, the listing against reading the directory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import urllib3

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, os.fspath(ROOT / "tests"))

from support.clients import boto3_client  # noqa: E402  # needs the path above
from support.server import ServerProcess  # noqa: E402

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1024 * 1024
LARGE = 64 * MIB
SMALL = 4096
CLIENTS = 8
SAMPLE = 5000  # requests that are enough for a rate
REPEATS = 3
BUCKET = "bench"
BAR_WIDTH = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One measurement.

    Attributes:
        name: What was measured.
        value: In ``unit``; larger is better.
        floor: The same unit: what the machine does without the server.
        against: What the floor is.
    """

    name: str
    value: float
    unit: str
    floor: float
    against: str

    @property
    def ratio(self) -> float:
        """Share of the floor that the server reaches."""
        return self.value / self.floor


def say(text: str) -> None:
    """Progress goes to standard error, so that the table can be piped."""
    print(text, file=sys.stderr, flush=True)


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def median_rate(amount: float, action: Callable[[], object]) -> float:
    """``amount`` per second, the median of a few repetitions."""
    return statistics.median(amount / seconds(action) for _ in range(REPEATS))


def write_durably(path: Path, data: bytes) -> None:
    """What any durable store has to do at the least."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_in_chunks(path: Path) -> None:
    """Read a file as a server would, a chunk at a time."""
    with path.open("rb", buffering=0) as file:
        while file.read(MIB):
            pass


def drain(client: S3Client, key: str) -> None:
    """Download an object and throw it away, a chunk at a time."""
    body = client.get_object(Bucket=BUCKET, Key=key)["Body"]
    for _ in body.iter_chunks(MIB):
        pass


def next_release(data: bytes) -> bytes:
    """The same bytes with two hundred short edits and one insertion, as a release has them."""
    rng = random.Random(2)
    edited = bytearray(data)
    for _ in range(200):
        place = rng.randrange(len(edited) - 256)
        edited[place : place + 256] = rng.randbytes(256)
    edited[len(edited) // 2 : len(edited) // 2] = rng.randbytes(4096)
    return bytes(edited)


def measure_large(server: ServerProcess, client: S3Client) -> list[Figure]:
    """Throughput of objects of 64 MiB, stored verbatim and stored as a delta."""
    verbatim = random.Random(1).randbytes(LARGE)
    release = next_release(verbatim)
    plain = server.directory / "plain"
    written = median_rate(LARGE / MIB, lambda: write_durably(plain, verbatim))
    read = median_rate(LARGE / MIB, lambda: read_in_chunks(plain))
    plain.unlink()

    def put(key: str, data: bytes) -> None:
        client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def rates(key: str, data: bytes) -> tuple[float, float]:
        stored = median_rate(len(data) / MIB, lambda: put(key, data))
        return stored, median_rate(len(data) / MIB, lambda: drain(client, key))

    say("Objects of 64 MiB, verbatim ...")
    verbatim_put, verbatim_get = rates("large/random.bin.gz", verbatim)
    say("Objects of 64 MiB, as a delta of the release before ...")
    put("releases/app-1.tar", verbatim)
    delta_put, delta_get = rates("releases/app-2.tar", release)
    to_file, from_file = "write and fsync a file", "read a file"
    return [
        Figure(name=name, value=value, unit="MiB/s", floor=floor, against=against)
        for name, value, floor, against in (
            ("PUT 64 MiB verbatim", verbatim_put, written, to_file),
            ("GET 64 MiB verbatim", verbatim_get, read, from_file),
            ("PUT 64 MiB delta", delta_put, written, to_file),
            ("GET 64 MiB delta", delta_get, read, from_file),
        )
    ]


def request_rate(pool: urllib3.PoolManager, jobs: Sequence[tuple[str, str, bytes | None]]) -> float:
    """Requests per second of eight clients; each job is a method, an address and a body."""

    def call(job: tuple[str, str, bytes | None]) -> None:
        method, address, body = job
        answer = pool.request(method, address, body=body, retries=False)
        if answer.status != 200:
            raise RuntimeError(f"{method} {address.partition('?')[0]} gave {answer.status}")

    with ThreadPoolExecutor(CLIENTS) as threads:
        return len(jobs) / seconds(lambda: list(threads.map(call, jobs)))


def measure_small(server: ServerProcess, client: S3Client, keys: int) -> list[Figure]:
    """Rates of objects of 4 KiB and of the listing of all of them.

    The addresses are presigned beforehand, so that the client costs the same in every
    figure and the server verifies a signature in each request.
    """
    names = [f"small/{number:06d}.txt" for number in range(keys)]
    body = random.Random(3).randbytes(SMALL)
    pool = urllib3.PoolManager(maxsize=CLIENTS, block=True)

    def presigned(operation: str) -> list[str]:
        return [
            client.generate_presigned_url(operation, Params={"Bucket": BUCKET, "Key": name})
            for name in names
        ]

    say("Requests for /_/health, the floor of small requests ...")
    health = request_rate(pool, [("GET", f"{server.url}/_/health", None)] * min(keys, SAMPLE))
    say(f"{keys:,} objects of 4 KiB with {CLIENTS} clients ...")
    put = request_rate(pool, [("PUT", address, body) for address in presigned("put_object")])
    reads = presigned("get_object")[:SAMPLE]
    get = request_rate(pool, [("GET", address, None) for address in reads])
    say(f"Listing of {keys:,} keys ...")
    listed = median_rate(keys, lambda: list_all(client, keys))
    directory = server.data / BUCKET / "small"
    scanned = median_rate(keys, lambda: [entry.stat() for entry in os.scandir(directory)])
    floor = "/_/health"
    return [
        Figure(name="PUT 4 KiB, 8 clients", value=put, unit="1/s", floor=health, against=floor),
        Figure(name="GET 4 KiB, 8 clients", value=get, unit="1/s", floor=health, against=floor),
        Figure(
            name=f"list {keys:,} keys",
            value=listed,
            unit="keys/s",
            floor=scanned,
            against="scandir and stat",
        ),
    ]


def list_all(client: S3Client, expected: int) -> None:
    """List every key of the small objects, page by page."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="small/")
    found = sum(page["KeyCount"] for page in pages)
    if found != expected:
        raise RuntimeError(f"the listing has {found} keys instead of {expected}")


def table(figures: Sequence[Figure]) -> str:
    """All figures, their floors and their ratios, with bars."""
    lines = [f"{'measurement':<24}{'figure':>16}{'floor':>16}  {'ratio':>6}"]
    for figure in figures:
        bar = "#" * max(round(BAR_WIDTH * min(figure.ratio, 1.0)), 1)
        lines.append(
            f"{figure.name:<24}{figure.value:>9,.0f} {figure.unit:<6}{figure.floor:>9,.0f} "
            f"{figure.unit:<6}  {figure.ratio:>6.3f}  {bar}"
        )
    return "\n".join(lines)


def save(figures: Sequence[Figure], output: Path) -> None:
    """Write ``run.json`` and, where matplotlib is installed, ``run.png``."""
    output.mkdir(parents=True, exist_ok=True)
    machine = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
    }
    rows = [asdict(figure) | {"ratio": figure.ratio} for figure in figures]
    document = {"machine": machine, "figures": rows}
    (output / "run.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    say(f"Saved {output / 'run.json'}")
    try:
        from matplotlib import pyplot as plt  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        say("There is no picture without matplotlib; make bench installs it.")
        return
    picture, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    labels = [f"{figure.name}\nagainst {figure.against}" for figure in figures]
    ratios = [figure.ratio for figure in figures]
    axes.plot(ratios, labels, "o", color="#2a6f97")
    for ratio, label, figure in zip(ratios, labels, figures, strict=True):
        text = f"{ratio:.3f}  ({figure.value:,.0f} {figure.unit})"
        white = {"color": "white", "pad": 1}
        axes.annotate(
            text,
            (ratio, label),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            bbox=white,
        )
    axes.axvline(1, color="grey", linestyle=":", zorder=0)
    axes.margins(y=0.12)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(min(0.001, *ratios), 10)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("share of the floor that the server reaches (1 = floor)")
    picture.savefig(output / "run.png", dpi=120)
    say(f"Saved {output / 'run.png'}")


def main() -> None:
    """Start a server, measure, print, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keys", type=int, default=20_000, help="small objects (20000)")
    parser.add_argument("--output", type=Path, default=ROOT / ".cache" / "bench")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="deltaglider-bench-") as directory,
        ServerProcess(Path(directory)) as server,
    ):
        client = boto3_client(server)
        client.create_bucket(Bucket=BUCKET)
        figures = measure_large(server, client) + measure_small(server, client, options.keys)
    print(table(figures))
    save(figures, options.output)


if __name__ == "__main__":
    main()
