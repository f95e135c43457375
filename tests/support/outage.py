"""What goes on, and what does not, while the state database is away."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from support.clients import boto3_client
from support.journal import read_events, run_command, scan_usage
from support.load_requests import sign_apart
from support.model import COPIED, CREATED, DELETED, Event
from support.raw import Answer, Connection, RawClient
from support.samples import MIB, md5_hex, multipart_etag, noise, release, wait_until
from support.server import ServerProcess
from support.stored import scan_files
from support.uploads import Upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "outage"
PART = 5 * MIB
SIZE = MIB // 4
#: A write is refused sooner; a reader may be slower than that on a busy machine.
PATIENCE_SECONDS = 18.0
RECOVERY_SECONDS = 30.0
#: Connections are spread over the workers by chance: so many in a row have met each of them.
IN_A_ROW = 12
#: Between two requests of a reader, which leaves the machine to others.
PAUSE_SECONDS = 0.1

#: What may take long is answered with 200 after a while, and says in its body how it ended.
LATE = ("copy", "complete")

OLD = b"from before"
RELEASES = {f"app-{number}.zip": release(number, SIZE) for number in range(3)}


#: Another program with the key, which ends with its standard input.
LOCKING = """
import sys
from pathlib import Path
from deltaglider_core.state import embedded_file
from deltaglider_core.state.keyfile import read_key
path = Path(sys.argv[1])
connection = embedded_file.connect(path, read_key(path.with_suffix(".key")))
for statement in sys.argv[2:]:
    connection.execute(statement)
print("locked", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def locked(database: Path, *before: str) -> Iterator[None]:
    """Another program holds an embedded database locked inside the block.

    Args:
        before: Statements that come first.
    """
    with subprocess.Popen(
        [sys.executable, "-c", LOCKING, os.fspath(database), *before, "BEGIN EXCLUSIVE"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        try:
            assert program.stdout.readline() == b"locked\n", "it cannot be locked"
            yield
        finally:
            program.stdin.close()


@dataclass(kw_only=True)
class Scene:
    """A server with objects of every kind, and the events that it must have journaled.

    Attributes:
        journaled: Of everything that is known to have happened.
        upload: Open, with one part.
    """

    server: ServerProcess
    s3: S3Client
    journaled: Counter[Event] = field(default_factory=Counter)
    tags: dict[int, str] = field(default_factory=dict)
    upload: Upload = field(init=False)
    _tries: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        sign_apart(self.s3)
        self.s3.create_bucket(Bucket=BUCKET)
        self.s3.create_bucket(Bucket=f"{BUCKET}-empty")
        self.put("plain", OLD)
        for key, data in RELEASES.items():
            self.put(key, data)
        self.upload = Upload(self.s3, BUCKET, "upload")
        self.tags[1] = self.upload.part(1, noise(PART))

    @property
    def raw(self) -> RawClient:
        return RawClient(self.server)

    def put(self, key: str, data: bytes) -> None:
        """PutObject, which must be acknowledged."""
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=data)
        self.journaled[created(key, data)] += 1

    def request(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """A request on a connection of its own, with a signature of its own."""
        apart = {"x-test-call": f"{time.monotonic_ns()}", **(headers or {})}
        return self.raw.request(method, target, body=body, headers=apart)

    def mutations(self) -> dict[str, Callable[[], Answer]]:
        """One request for each kind of mutation."""
        source = {"x-amz-copy-source": f"/{BUCKET}/app-1.zip"}
        part = f"<Part><PartNumber>1</PartNumber><ETag>{self.tags[1]}</ETag></Part>"
        complete = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()
        target, upload = f"/{BUCKET}", self.upload.target
        return {
            "put": lambda: self.request("PUT", f"{target}/new", b"new"),
            "overwrite": lambda: self.request("PUT", f"{target}/plain", b"new"),
            "put delta": lambda: self.request("PUT", f"{target}/app-9.zip", release(4, SIZE)),
            "copy": lambda: self.request("PUT", f"{target}/copy.zip", headers=source),
            "delete": lambda: self.request("DELETE", f"{target}/app-1.zip"),
            "create bucket": lambda: self.request("PUT", f"/{BUCKET}-new"),
            "delete bucket": lambda: self.request("DELETE", f"/{BUCKET}-empty"),
            "create upload": lambda: self.request("POST", f"{target}/another?uploads"),
            "part": lambda: self.request("PUT", f"{upload}&partNumber=2", b"end"),
            "complete": lambda: self.request("POST", upload, complete),
            "abort": lambda: self.request("DELETE", upload),
        }

    def half_sent(self, key: str, data: bytes) -> Connection:
        """A PutObject of which the first half of the body was sent."""
        signed = self.raw.signer.sign("PUT", f"/{BUCKET}/{key}", payload="UNSIGNED-PAYLOAD")
        connection = self.raw.connect()
        connection.send_head(
            "PUT", signed.target, {**signed.headers, "content-length": str(len(data))}
        )
        connection.send(data[: len(data) // 2])
        return connection

    def pending(self) -> int:
        """Intents that wait for their settlement."""
        answer = self.request("GET", "/_/stats")
        return int(json.loads(answer.body)["pending_writes"]) if answer.status == 200 else -1

    # --- after it -------------------------------------------------------------------------

    def recover(self) -> None:
        """Wait until writes are taken again by every worker, without anybody's hand."""
        in_a_row, unknown = 0, []

        def is_back() -> bool:
            nonlocal in_a_row
            key, data = f"back-{next(self._tries)}", b"back"
            answer = self.request("PUT", f"/{BUCKET}/{key}", data)
            if answer.status == 200:
                self.journaled[created(key, data)] += 1
                in_a_row += 1
            else:
                assert_unavailable(answer)
                in_a_row = 0
                unknown.append(key)
            return in_a_row == IN_A_ROW

        wait_until(is_back, "writes are taken again", RECOVERY_SECONDS)
        wait_until(lambda: self.pending() == 0, "all is settled", RECOVERY_SECONDS)
        for key in unknown:
            # The database may have gone on, and failed once more, while it was written.
            if self.request("HEAD", f"/{BUCKET}/{key}").status == 200:
                self.journaled[created(key, b"back")] += 1

    def carry_on(self) -> None:
        """Everything that was refused succeeds now, and so does what was begun before."""
        mutations = self.mutations()
        for name in ("put", "put delta", "copy", "delete", "create bucket", "delete bucket"):
            answer = mutations[name]()
            assert answer.status in (200, 204), f"{name}: {answer} {answer.body!r}"
        copied = Event(
            kind=COPIED, bucket=BUCKET, key="copy.zip", etag=md5_hex(RELEASES["app-1.zip"])
        )
        deleted = Event(kind=DELETED, bucket=BUCKET, key="app-1.zip")
        for event in (
            created("new", b"new"),
            created("app-9.zip", release(4, SIZE)),
            copied,
            deleted,
        ):
            self.journaled[event] += 1
        self.tags[2] = self.upload.part(2, b"end")
        self.upload.complete(*self.tags.items())
        etag = multipart_etag([noise(PART), b"end"])
        self.journaled[Event(kind=CREATED, bucket=BUCKET, key="upload", etag=etag)] += 1

    def verify(self) -> None:
        """Journal and counters are exact, and no upload is left open."""
        found = read_events(self.server)
        assert found - self.journaled == Counter(), "never happened"
        assert self.journaled - found == Counter(), "not journaled"
        listed = self.request("GET", f"/{BUCKET}?uploads")
        assert b"<UploadId>" not in listed.body, listed.body
        usage = json.loads(run_command(self.server, "usage", "--json"))["buckets"]
        there = scan_usage(self.s3)
        assert usage.keys() == there.keys()
        for name, counted in usage.items():
            stored = scan_files(self.server.data / name)
            assert (counted["total_objects"], counted["total_original_size"]) == there[name]
            assert counted["total_stored_size"] == stored.bytes, name
            assert stored.named <= stored.references.keys()


def created(key: str, data: bytes) -> Event:
    """The event of an object that was sent in one piece."""
    return Event(kind=CREATED, bucket=BUCKET, key=key, etag=md5_hex(data))


@contextlib.contextmanager
def opened_scene(server: ServerProcess) -> Iterator[Scene]:
    """Fill a running server."""
    s3 = boto3_client(server)
    try:
        yield Scene(server=server, s3=s3)
    finally:
        s3.close()


def assert_unavailable(answer: Answer) -> None:
    """The answer of a service that will be back."""
    assert (answer.status, answer.code) == (503, "ServiceUnavailable"), answer.body
    assert int(answer.headers["retry-after"]) > 0
    assert "database" in answer.element("Message")


def assert_refused(mutations: Mapping[str, Callable[[], Answer]]) -> None:
    """Each of them is refused, all at once, and none takes long."""

    def timed(send: Callable[[], Answer]) -> tuple[Answer, float]:
        began = time.monotonic()
        return send(), time.monotonic() - began

    with ThreadPoolExecutor(len(mutations)) as pool:
        found = list(pool.map(timed, mutations.values()))
    for name, (answer, seconds) in zip(mutations, found, strict=True):
        if name in LATE and answer.status == 200:
            assert answer.code == "ServiceUnavailable", f"{name}: {answer.body!r}"
        else:
            assert answer.status == 503, f"{name}: {answer} {answer.body!r}"
            assert_unavailable(answer)
        assert seconds < PATIENCE_SECONDS, f"{name} took {seconds:.1f} s"


class Readers:
    """Clients that read all the time, each request on a connection of its own.

    Args:
        may_lose: Connections that may be cut, since a worker is killed.

    Attributes:
        answers: Those that were right.
        failures: What was wrong with the others.
        lost: Connections that were cut.
    """

    def __init__(self, server: ServerProcess, threads: int = 2, may_lose: int = 0) -> None:
        self._server = server
        self._may_lose = may_lose
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        self.failures: list[str] = []
        self.answers = self.lost = 0

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if kind is None:
            assert not self.failures, self.failures
            assert self.lost <= self._may_lose, self.lost
            assert self.answers > 0

    def wait_for_more(self, answers: int = 12) -> None:
        """Wait until so many more requests were answered."""
        wanted = self.answers + answers
        wait_until(lambda: self.answers >= wanted or bool(self.failures), "reads go on")

    def _run(self) -> None:
        raw = RawClient(self._server)
        for check in self._endless():
            if self._stop.wait(PAUSE_SECONDS):
                return
            try:
                check(raw)
                self.answers += 1
            except ConnectionError:
                self.lost += 1
            except Exception as error:
                self.failures.append(f"{check.__name__}: {error!r}")

    @staticmethod
    def _endless() -> Iterator[Callable[[RawClient], None]]:
        while True:
            yield from (read_plain, read_delta, read_range, read_head, read_listing, read_buckets)


def read(raw: RawClient, method: str, target: str, **headers: str) -> Answer:
    """A whole answer."""
    answer = raw.request(method, target, headers=headers)
    if not answer.complete:
        raise ConnectionError
    assert answer.status in (200, 206), answer
    return answer


def read_plain(raw: RawClient) -> None:
    assert read(raw, "GET", f"/{BUCKET}/plain").body == OLD, "other bytes"


def read_delta(raw: RawClient) -> None:
    for key in ("app-1.zip", "app-2.zip"):
        assert read(raw, "GET", f"/{BUCKET}/{key}").body == RELEASES[key], "other bytes"


def read_range(raw: RawClient) -> None:
    answer = read(raw, "GET", f"/{BUCKET}/app-2.zip", range="bytes=1000-1999")
    assert answer.body == RELEASES["app-2.zip"][1000:2000], "other bytes"


def read_head(raw: RawClient) -> None:
    answer = read(raw, "HEAD", f"/{BUCKET}/app-2.zip")
    assert answer.headers["content-length"] == str(len(RELEASES["app-2.zip"])), answer


def read_listing(raw: RawClient) -> None:
    body = read(raw, "GET", f"/{BUCKET}?list-type=2").body
    assert b"<Key>app-1.zip</Key>" in body, body
    assert b"<Key>plain</Key>" in body, body


def read_buckets(raw: RawClient) -> None:
    body = read(raw, "GET", "/").body
    assert f"<Name>{BUCKET}</Name>".encode() in body, body
