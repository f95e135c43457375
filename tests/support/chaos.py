"""Load, a death at a random moment, a restart, and the comparison with the model; repeated.

Every decision comes from the seed: which requests each client sends in which order, when and how
processes die, what a power cut takes. How the requests of several clients meet is up to the
machine, so a seed repeats the situation, not the interleaving; ``make soak`` repeats it often.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.clients import boto3_client
from support.journal import verify_journal
from support.load import BUCKET, BUCKET_IS_THERE, Client
from support.model import Mismatch, Model, Place, Version
from support.power import Disk
from support.samples import POLL_SECONDS
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Variable that repeats a campaign.
SEED_VARIABLE = "CHAOS_SEED"

CLIENTS = 6
#: Most seconds of load before a death, however little was acknowledged.
LOAD_SECONDS = 20.0


def new_seed() -> str:
    """The seed of the environment, or a fresh one."""
    return os.environ.get(SEED_VARIABLE) or f"{random.SystemRandom().randrange(10**9)}"


class Load:
    """Clients at work, from the beginning of the block to its end."""

    def __init__(self, server: ServerProcess, clients: Sequence[Client], seed: str) -> None:
        self._server = server
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(client, seed), daemon=True)
            for client in clients
        ]

    def _run(self, client: Client, seed: str) -> None:
        try:
            client.run(self._server, seed, self._stop)
        except BaseException as error:
            self._errors.append(error)
            self._stop.set()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def failed(self) -> bool:
        """Whether a client has met something that must not be."""
        return bool(self._errors)

    def end(self) -> None:
        """Let every client finish its request. Raises what a client has met."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]


class Campaign:
    """Rounds of load and death on one server, with one model of all of them.

    Args:
        server: Running, with nothing in it; it runs between the rounds.
        seed: Decides everything that chance decides.
        disk: The disk of the server; then power cuts are among the deaths.
        journal: Compare events and usage as well.
        say: Receives one line per round.
    """

    def __init__(
        self,
        server: ServerProcess,
        seed: str,
        *,
        disk: Disk | None = None,
        journal: bool = False,
        say: Callable[[str], None] = print,
    ) -> None:
        self.server = server
        self.seed = seed
        self.model = Model()
        self.rounds = 0
        self._disk = disk
        self._journal = journal
        self._say = say
        self._clients = [Client(self.model, number) for number in range(CLIENTS)]
        with self._client() as s3:
            write = self.model.begin(Place(bucket="", key=BUCKET), BUCKET_IS_THERE, "")
            s3.create_bucket(Bucket=BUCKET)
            self.model.acknowledge(write)

    def run_round(self, death: str | None = None) -> None:
        """One round.

        Args:
            death: ``kill`` (everything), ``kill-workers``, ``stop`` (in order) or ``cut`` (the
                power); chosen by the seed if omitted.

        Raises:
            Mismatch: The server broke a promise; the seed is in what was said.
        """
        self.rounds += 1
        chance = random.Random(f"{self.seed}/{self.rounds}")
        deaths = ["kill", "kill", "kill-workers", "stop"]
        drawn = chance.choice(deaths if self._disk is None else [*deaths, "cut", "cut"])
        death = death or drawn
        began, before = time.monotonic(), self.model.acknowledged
        lost = self.model.unanswered
        self._say(f"round {self.rounds}: seed {self.seed}, {death}")
        with Load(self.server, self._clients, f"{self.seed}/{self.rounds}") as load:
            self._wait(load, chance.randrange(5, 60))
            time.sleep(chance.random() * 0.3)
            note = getattr(self, f"_{death.replace('-', '_')}")(load, chance)
        self.check(chance)
        self._say(
            f"  {self.model.acknowledged - before} acknowledged, "
            f"{self.model.unanswered - lost} unanswered{note}, {time.monotonic() - began:.1f} s"
        )

    def _wait(self, load: Load, more: int) -> None:
        """Wait until so many more writes are acknowledged."""
        wanted = self.model.acknowledged + more
        deadline = time.monotonic() + LOAD_SECONDS
        while self.model.acknowledged < wanted and time.monotonic() < deadline and not load.failed:
            time.sleep(POLL_SECONDS)

    # --- deaths ---------------------------------------------------------------------------

    def _kill(self, load: Load, _: random.Random) -> str:
        self.server.kill()
        load.end()
        self.server.start()
        return ""

    def _stop(self, load: Load, _: random.Random) -> str:
        self.server.stop()
        load.end()
        self.server.start()
        return ""

    def _cut(self, load: Load, chance: random.Random) -> str:
        assert self._disk is not None
        self.server.kill()
        load.end()
        loss = self._disk.cut(chance, keep=chance.choice([0.0, 0.5, 0.9]))
        self.server.start()
        return f", {loss}"

    def _kill_workers(self, load: Load, chance: random.Random) -> str:
        count = 0
        for _ in range(chance.randrange(1, 4)):
            if workers := worker_pids(self.server.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(workers), signal.SIGKILL)
                    count += 1
            elif not count:  # a single process has no workers: all of it dies
                return self._kill(load, chance)
            self._wait(load, chance.randrange(20))
            time.sleep(chance.random() * 0.3)
        load.end()
        return f", {count} workers killed"

    # --- checks ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def _client(self) -> Iterator[S3Client]:
        s3 = boto3_client(self.server)
        yield s3
        s3.close()

    def check(self, chance: random.Random | None = None) -> None:
        """Hold everything that the server holds against the model; with nobody writing.

        Args:
            chance: What was not written since the last check is read again by chance; always,
                if it is omitted.
        """
        with self._client() as s3:
            present = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
            known = {place.key for place in self.model.places("")}
            if strange := present - known:
                raise Mismatch(f"buckets that nobody has created: {strange}")
            for bucket in sorted(known):
                found = BUCKET_IS_THERE if bucket in present else None
                self.model.verify(Place(bucket="", key=bucket), found)
                self._check_bucket(s3, bucket, bucket in present, chance)
            if self._journal:
                verify_journal(self.server, s3, self.model.verify_events)

    def _check_bucket(
        self, s3: S3Client, bucket: str, present: bool, chance: random.Random | None
    ) -> None:
        listed: dict[str, tuple[int, str]] = {}
        if present:
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for entry in page.get("Contents", []):
                    listed[entry["Key"]] = (entry["Size"], entry["ETag"].strip('"'))

        def read(place: Place) -> Version | None:
            if place.key not in listed:
                return None
            size, etag = listed[place.key]
            base = self.model.unchanged(place)
            if base and (base.size, base.etag) == (size, etag) and place not in drawn:
                return base
            answer = s3.get_object(Bucket=bucket, Key=place.key)
            digest, length = hashlib.sha256(), 0
            for chunk in answer["Body"].iter_chunks(1 << 20):
                digest.update(chunk)
                length += len(chunk)
            if (length, answer["ETag"].strip('"')) != (size, etag):
                raise Mismatch(f"{place}: listed with {size} bytes and ETag {etag}")
            return Version(digest=digest.hexdigest(), size=length, etag=etag)

        places = self.model.places(bucket)
        drawn = {place for place in places if chance is None or chance.random() < 0.3}
        if strange := listed.keys() - {place.key for place in places}:
            raise Mismatch(f"objects that nobody has sent: {strange}")
        with ThreadPoolExecutor(2) as pool:
            for place, version in zip(places, pool.map(read, places), strict=True):
                self.model.verify(place, version)


def server_with_disk(directory: Path, **options: Any) -> tuple[ServerProcess, Disk]:
    """A server, not started yet, and its disk, whose power can be cut."""
    disk = Disk(
        root=directory / "server",
        work=directory / "disk",
        volatile=("tmp",),
        spared=("server.log",),
    )
    server = ServerProcess(disk.root, environment=disk.environment, **options)
    disk.adopt()
    return server, disk


def worker_pids(parent: int) -> list[int]:
    """The worker processes of a server; helpers of the interpreter are none."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            # After the name in parentheses, which may contain anything: state and parent.
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == parent and b"spawn_main" in command:
            found.append(int(process.name))
    return sorted(found)
