"""Measure what the state costs: the same writes with and without it, fairness, settlement.

Each figure is a ratio within one run, or a time that was promised:

- small PUT by eight clients with intent, event and usage, against the same server without state;
- four workers that write for a minute: the slowest against the fastest, and the 99th percentile;
- the time in which a start settles what a crash left.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import http.client
import itertools
import json
import os
import random
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, os.fspath(ROOT / "tests"))

from support.clients import boto3_client  # noqa: E402  # needs the path above
from support.raw import RawClient  # noqa: E402
from support.server import ServerProcess  # noqa: E402

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from support.signing import Signed

BUCKET = "bench"
CLIENTS = 8
SMALL = 4096
BODY = random.Random(1).randbytes(SMALL)
#: Rounds with and without state take turns, so that a busy moment of the machine meets both.
ROUNDS = 5
WORKERS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One measurement and what was promised."""

    name: str
    value: float
    unit: str
    promised: str
    reached: bool
    detail: str


def say(text: str) -> None:
    """Progress goes to standard error, so that the table can be piped."""
    print(text, file=sys.stderr, flush=True)


# --- one connection that only writes --------------------------------------------------------


class Writer:
    """A client with one connection; its requests are signed beforehand."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        self._connection.connect()

    def put(self, signed: Signed) -> tuple[float, str]:
        """Seconds of one PUT, and the process that answered it."""
        start = time.perf_counter()
        self._connection.request("PUT", signed.target, body=BODY, headers=dict(signed.headers))
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"PUT gave {answer.status}")
        return time.perf_counter() - start, answer.getheader("x-amz-id-2") or ""

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def requests(server: ServerProcess, count: int, prefix: str) -> list[Signed]:
    """PUTs of new keys, signed in their headers as SDKs do it."""
    signer = RawClient(server).signer
    digest = hashlib.sha256(BODY).hexdigest()
    return [
        signer.sign("PUT", f"/{BUCKET}/{prefix}/{number:07d}.txt", payload=digest)
        for number in range(count)
    ]


def rate(url: str, work: Sequence[Signed]) -> float:
    """PUTs per second of eight clients."""
    writers = [Writer(url) for _ in range(CLIENTS)]

    def write(number: int) -> None:
        for signed in work[number::CLIENTS]:
            writers[number].put(signed)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(CLIENTS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    for writer in writers:
        writer.close()
    return len(work) / seconds


# --- with and without state -----------------------------------------------------------------


class StatelessServer(ServerProcess):
    """The same server, built without the layer that records mutations."""

    command = (sys.executable, os.fspath(Path(__file__).resolve()), "--stateless")


def serve_stateless(arguments: Sequence[str]) -> None:
    """What ``StatelessServer`` runs: ``serve`` with an application that has no state."""
    from deltaglider_core import app, cli

    real = app.create_app

    def without_state(*positional: Any, **named: Any) -> app.Application:
        named["database"] = None
        return real(*positional, **named)

    app.create_app = without_state
    sys.exit(cli.main(list(arguments)))


def measure_cost(directory: Path, count: int) -> Figure:
    """Throughput with state as a share of the throughput without."""
    rates: dict[str, list[float]] = {"with": [], "without": []}
    with (
        ServerProcess(directory / "with") as stateful,
        StatelessServer(directory / "without") as stateless,
    ):
        servers = {"with": stateful, "without": stateless}
        for server in servers.values():
            boto3_client(server).create_bucket(Bucket=BUCKET)
        for number in range(ROUNDS + 1):
            for name, server in servers.items():
                found = rate(server.url, requests(server, count, f"r{number}"))
                if number:  # the first round warms up
                    rates[name].append(found)
                    say(f"  round {number}, {name} state: {found:,.0f} PUT/s")
        database = (directory / "with" / "deltaglider_config.db").exists()
        if not database or (directory / "without" / "deltaglider_config.db").exists():
            raise RuntimeError("the two servers do not differ in their state")
    middle = {name: statistics.median(values) for name, values in rates.items()}
    share = middle["with"] / middle["without"]
    return Figure(
        name="PUT 4 KiB, 8 clients, with / without state",
        value=share,
        unit="",
        promised="at least 0.6",
        reached=share >= 0.6,
        detail=f"{middle['with']:,.0f}/s against {middle['without']:,.0f}/s",
    )


# --- four workers ---------------------------------------------------------------------------


def even_writers(server: ServerProcess, each: int) -> list[Writer]:
    """As many connections to each worker; the kernel gives them out as it likes."""
    chosen: Counter[str] = Counter()
    writers: list[Writer] = []
    tries = itertools.count()
    deadline = time.monotonic() + 60
    while len(writers) < WORKERS * each:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no even spread over {WORKERS} workers: {dict(chosen)}")
        writer = Writer(server.url)
        _, worker = writer.put(requests(server, 1, f"spread-{next(tries)}")[0])
        if chosen[worker] < each:
            chosen[worker] += 1
            writers.append(writer)
        else:
            writer.close()
    return writers


def measure_workers(directory: Path, seconds: float) -> list[Figure]:
    """Fairness of four workers, and what a client waits."""
    counts: Counter[str] = Counter()
    times: list[float] = []
    lock = threading.Lock()
    with ServerProcess(directory / "workers", arguments=["--workers", str(WORKERS)]) as server:
        boto3_client(server).create_bucket(Bucket=BUCKET)
        writers = even_writers(server, 2)
        signer = RawClient(server).signer
        digest = hashlib.sha256(BODY).hexdigest()
        end = time.monotonic() + seconds

        def write(number: int) -> None:
            done: list[tuple[float, str]] = []
            while time.monotonic() < end:
                target = f"/{BUCKET}/w{number}/{len(done):07d}.txt"
                done.append(writers[number].put(signer.sign("PUT", target, payload=digest)))
            with lock:
                times.extend(took for took, _ in done)
                counts.update(worker for _, worker in done)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(len(writers))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for writer in writers:
            writer.close()
    slowest, fastest = min(counts.values()), max(counts.values())
    p99 = statistics.quantiles(times, n=100)[98] * 1000
    return [
        Figure(
            name="4 workers: slowest / fastest",
            value=slowest / fastest,
            unit="",
            promised="at least 0.7",
            reached=len(counts) == WORKERS and slowest / fastest >= 0.7,
            detail=f"{len(times) / seconds:,.0f} PUT/s in sum",
        ),
        Figure(
            name="4 workers: 99th percentile",
            value=p99,
            unit="ms",
            promised="below 150 ms",
            reached=p99 < 150,
            detail=f"median {statistics.median(times) * 1000:.1f} ms, max {max(times) * 1000:.0f}",
        ),
    ]


# --- settlement -----------------------------------------------------------------------------


async def crash(config: str, count: int) -> None:
    """Begin ``count`` writes, carry out every other one, and die without settling any."""
    from deltaglider_core.app import create_app
    from deltaglider_core.interfaces.storage import ObjectMetadata
    from deltaglider_core.loading import load
    from deltaglider_core.state.records import Event

    loaded = load(config=Path(config))
    app = create_app(loaded.settings, loaded.plugins, database=loaded.database)
    await app.open(serving=False)
    if app.state is None:
        raise RuntimeError("no state")
    layer, journal = app.state.layer, app.state.journal
    await layer.create_bucket(BUCKET)
    bucket = await layer.registry.resolve(BUCKET)
    event = Event(kind="ObjectCreated", bucket=BUCKET, source="bench", payload={})

    async def body() -> object:
        yield b"x" * 100

    async def begin(number: int) -> None:
        key, write_id = f"k/{number:06d}.txt", secrets.token_hex(16)
        await journal.begin(bucket, key, kind="put", size=100, event=event, write_id=write_id)
        if number % 2:
            metadata = ObjectMetadata(internal={"write-id": write_id})
            await layer.inner.put_object(
                BUCKET,
                key,
                body(),  # type: ignore[arg-type]
                size=100,
                metadata=metadata,
            )

    for start in range(0, count, 200):
        await asyncio.gather(*(begin(n) for n in range(start, min(start + 200, count))))
    os._exit(9)


def measure_settlement(directory: Path, count: int) -> Figure:
    """Seconds from the start of the server until nothing is pending."""
    server = ServerProcess(directory / "settlement")
    say(f"  {count:,} writes that a crash cuts ...")
    script = os.fspath(Path(__file__).resolve())
    died = subprocess.run(
        [sys.executable, script, "--crash", os.fspath(server.config), str(count)],
        check=False,
        stdout=subprocess.DEVNULL,
    )
    if died.returncode != 9:
        raise RuntimeError("the crash did not happen")
    start = time.perf_counter()
    with server:
        client = boto3_client(server)
        listening = time.perf_counter() - start
        while (found := stats(client))["pending_writes"]:
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        if found["total_objects"] != count // 2:
            raise RuntimeError(f"{found['total_objects']} objects instead of {count // 2}")
    return Figure(
        name=f"settle {count:,} crashed intents",
        value=seconds,
        unit="s",
        promised="below 10 s",
        reached=seconds < 10,
        detail=f"listening after {listening:.1f} s",
    )


def stats(client: S3Client) -> dict[str, int]:
    """``/_/stats``, signed."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest

    credentials = client._request_signer._credentials  # type: ignore[attr-defined]
    request = AWSRequest("GET", f"{client.meta.endpoint_url}/_/stats")
    S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
    parts = urlsplit(client.meta.endpoint_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    connection.request("GET", "/_/stats", headers=dict(request.headers))
    answer = connection.getresponse()
    document = json.loads(answer.read())
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"/_/stats gave {answer.status}: {document}")
    return dict(document)


# --- all ------------------------------------------------------------------------------------


def table(figures: Sequence[Figure]) -> str:
    """All figures beside what was promised."""
    lines = [f"{'measurement':<44}{'figure':>10}  {'promised':<14}{'':<4}"]
    for figure in figures:
        lines.append(
            f"{figure.name:<44}{figure.value:>7.2f} {figure.unit:<2}  {figure.promised:<14}"
            f"{'yes' if figure.reached else 'NO':<4} {figure.detail}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, save; fails if a figure is not reached."""
    if sys.argv[1:2] == ["--stateless"]:
        serve_stateless(sys.argv[2:])
    if sys.argv[1:2] == ["--crash"]:
        asyncio.run(crash(sys.argv[2], int(sys.argv[3])))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--puts", type=int, default=1500, help="PUTs of a round (1500)")
    parser.add_argument("--seconds", type=float, default=60, help="of the four workers (60)")
    parser.add_argument("--intents", type=int, default=10_000, help="to settle (10000)")
    parser.add_argument("--output", type=Path, default=ROOT / ".cache" / "bench")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deltaglider-bench-") as name:
        directory = Path(name)
        say("Small PUTs with and without state ...")
        figures = [measure_cost(directory, options.puts)]
        say(f"{WORKERS} workers for {options.seconds:.0f} s ...")
        figures += measure_workers(directory, options.seconds)
        say("Settlement ...")
        figures.append(measure_settlement(directory, options.intents))
    print(table(figures))
    options.output.mkdir(parents=True, exist_ok=True)
    document = [asdict(figure) for figure in figures]
    (options.output / "state.json").write_text(json.dumps(document, indent=2) + "\n")
    sys.exit(not all(figure.reached for figure in figures))


if __name__ == "__main__":
    main()
