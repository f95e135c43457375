"""Two servers on one database and one directory of objects, and clients that use both."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
from support.journal import run_command
from support.load import SHARED, Client, small_release
from support.model import Mismatch, Model, Place
from support.raw import Answer, RawClient
from support.samples import wait_until
from support.server import ServerProcess, merged

#: What a collection says of a bucket that is being created or deleted at that moment.
_COMES_OR_GOES = re.compile(r"^[a-z0-9-]+: ServiceUnavailable: The bucket is being ")

#: Objects in each of the folders that are emptied and filled again.
TURNS = 3


def server_pair(
    directory: Path,
    database_url: str,
    *,
    settings: Mapping[str, Any] | None = None,
    workers: int = 2,
) -> tuple[ServerProcess, ServerProcess]:
    """Two servers with the same credentials, not started yet."""
    arguments = ["--workers", f"{workers}"]
    common = merged({"advanced": {"database_url": database_url}}, settings or {})
    first = ServerProcess(directory / "first", settings=common, arguments=arguments)
    second = ServerProcess(directory / "second", arguments=arguments)
    second.access_key, second.secret_key = first.access_key, first.secret_key
    second.data = first.data
    second.write_config(common)
    return first, second


@contextlib.contextmanager
def running(servers: Sequence[ServerProcess]) -> Iterator[None]:
    """All of them serve inside the block; they are started at the same time."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(servers)) as pool:
        started = [pool.submit(server.__enter__) for server in servers]
        for server, start in zip(servers, started, strict=True):
            start.result()
            stack.push(server.__exit__)
        yield


def wait_until_settled(database_url: str, seconds: float) -> None:
    """Wait until there is no intent any more, of buckets that come and go neither."""
    with psycopg.connect(database_url, autocommit=True) as connection:

        def left() -> int:
            row = connection.execute("SELECT count(*) FROM intents").fetchone()
            assert row is not None
            return int(row[0])

        wait_until(lambda: left() == 0, "everything is settled", seconds)


def statistics(server: ServerProcess) -> Any:
    """What ``/_/stats`` says."""
    answer = RawClient(server).request("GET", "/_/stats")
    assert answer.status == 200, answer
    return json.loads(answer.body)


class Roamer(Client):
    """A client whose requests go to any of several servers, each to another one.

    It also fills folders and empties them, so that references are in use, then not, then again.
    """

    def __init__(self, model: Model, number: int, servers: Sequence[ServerProcess]) -> None:
        super().__init__(model, number)
        self._servers = servers
        self._ends: list[tuple[Any, Any]] = []
        self.actions |= {self.turn_over: 6, self.turn_over_shared: 6}

    def connect(self, server: ServerProcess) -> None:
        """Open what the requests need, at every server."""
        self._ends = []
        for each in self._servers:
            super().connect(each)
            self._ends.append((self.raw, self.s3))

    def call(self, method: str, **arguments: Any) -> Any:
        self._choose()
        return super().call(method, **arguments)

    def send(self, method: str, place: Place, body: bytes = b"", **headers: str) -> Answer:
        self._choose()
        return super().send(method, place, body, **headers)

    def run(self, server: ServerProcess, seed: str, stop: threading.Event) -> None:
        try:
            super().run(server, seed, stop)
        finally:
            for _, s3 in self._ends:
                s3.close()

    def _choose(self) -> None:
        self.raw, self.s3 = self.chance.choice(self._ends)

    def turn_over(self) -> None:
        """Fill a folder of one's own, or empty it as a whole."""
        folder = self.chance.randrange(2)
        places = [self.place(f"turn-{folder}/{number}.zip") for number in range(TURNS)]
        empty = [place for place in places if self.model.possible(place) == {None}]
        if not empty:
            self._delete_many(places)
            return
        self.put(empty[0], content(empty[0]))

    def turn_over_shared(self) -> None:
        """The same in a folder that everybody fills and empties."""
        number = self.chance.randrange(SHARED)
        place = Place(bucket=self.bucket, key=f"turn/{number}.zip", shared=True)
        if self.chance.random() < 0.6:
            self._delete(place)
        else:
            self.put(place, content(place))


def content(place: Place) -> bytes:
    """What a key of a folder that is filled again and again holds.

    It is the same each time, so that a new reference has the name of the one that was collected,
    and another one in each folder: the same reference in two folders counts as named in both.
    """
    folder, _, name = place.key.rpartition("/")
    return folder.encode() + small_release(int(name.partition(".")[0]))


class Collector:
    """``deltaglider_proxy collect``, again and again, beside the servers.

    Attributes:
        counts: References that were condemned, reprieved and deleted, all runs together.
    """

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.error: BaseException | None = None
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def collect(self) -> None:
        """One run over all buckets, with nobody creating or deleting any.

        Raises:
            Mismatch: It failed.
        """
        text = run_command(self._server, "collect", "--quiet").decode()
        for verdict in ("condemned", "reprieved", "deleted"):
            found = re.findall(rf"(\d+) {verdict}(?! before)", text)
            self.counts[verdict] += sum(map(int, found))

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self.collect()
                except Mismatch as error:
                    _, *lines = str(error).splitlines()
                    if not lines or not all(map(_COMES_OR_GOES.search, lines)):
                        raise
        except BaseException as error:
            self.error = error


__all__ = [
    "Collector",
    "Roamer",
    "content",
    "running",
    "server_pair",
    "statistics",
    "wait_until_settled",
]
