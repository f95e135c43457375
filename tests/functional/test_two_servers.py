"""Two servers with two workers each, on one PostgreSQL and one directory of objects.

``CHAOS_SEED`` in the environment repeats what a failed run has printed.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.chaos import Campaign, Load, new_seed
from support.clients import boto3_client
from support.expect import refused
from support.journal import read_events, scan_usage
from support.load import BUCKET
from support.load_requests import sign_apart
from support.model import CREATED, Event, Mismatch
from support.raw import Answer, RawClient
from support.samples import MIB, files_below, md5_hex, multipart_etag, noise, wait_until
from support.server import ServerProcess
from support.server_pair import (
    Collector,
    Roamer,
    running,
    server_pair,
    statistics,
    wait_until_settled,
)
from support.signing import sha256_hex
from support.state import fresh_schema, postgres_url
from support.stored import scan_files
from support.uploads import Upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["postgres_url"]

CLIENTS = 6
GRACE_SECONDS = 1.0
LOAD_SECONDS = 40.0
#: The row of a process that was killed counts for 10 s.
SETTLE_SECONDS = 30.0

QUOTA = 100_000
SETTINGS = {
    "storage": {"buckets": {"limited": {"quota_bytes": QUOTA}}},
    "advanced": {"reference_grace_seconds": int(GRACE_SECONDS)},
}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two running servers and clients of both."""

    servers: tuple[ServerProcess, ServerProcess]
    clients: list[S3Client] = field(default_factory=list)

    def raw(self, number: int) -> RawClient:
        return RawClient(self.servers[number % 2])

    def request(self, number: int, method: str, target: str, body: bytes = b"") -> Answer:
        """A request on a connection of its own, at one server or the other."""
        headers = {"x-test-call": f"{time.monotonic_ns()}"}
        return self.raw(number).request(method, target, body=body, headers=headers)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(fresh_schema(postgres_url))
        servers = server_pair(tmp_path_factory.mktemp("pair"), url, settings=SETTINGS)
        stack.enter_context(running(servers))
        clients = [boto3_client(server) for server in servers]
        for client in clients:
            sign_apart(client)
            stack.callback(client.close)
        yield Pair(servers=servers, clients=clients)


# --- load -------------------------------------------------------------------------------


def test_mixed_load_with_collections_and_a_death(tmp_path: Path, postgres_url: str) -> None:
    """References are created, condemned and collected while both servers write; one is killed."""
    seed = new_seed()
    print(f"seed {seed}")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(fresh_schema(postgres_url))
        first, second = server_pair(tmp_path, url, settings=SETTINGS)
        stack.enter_context(running((first, second)))
        campaign = Campaign(first, seed)
        clients = [Roamer(campaign.model, number, (first, second)) for number in range(CLIENTS)]
        load_and_kill(campaign, clients, victim=second, seed=seed)
        for server in (first, second):
            campaign.server = server
            campaign.check()
        wait_until_settled(url, SETTLE_SECONDS)
        if missing := campaign.model.verify_events(read_events(second)):
            raise Mismatch(f"not in the journal: {missing}")
        check_references(first)
        check_usage(first, second)


def load_and_kill(
    campaign: Campaign, clients: list[Roamer], *, victim: ServerProcess, seed: str
) -> None:
    model = campaign.model
    with Collector(campaign.server) as collector, Load(campaign.server, clients, seed) as load:

        def go_on(acknowledged: int, deleted: int = 0) -> None:
            wanted = model.acknowledged + acknowledged

            def is_enough() -> bool:
                done = model.acknowledged >= wanted and collector.counts["deleted"] >= deleted
                return done or load.failed or collector.error is not None

            wait_until(
                is_enough, f"{acknowledged} writes and {deleted} deleted references", LOAD_SECONDS
            )

        go_on(30)
        victim.kill()
        go_on(20)
        victim.start()
        go_on(30, deleted=2)
        load.end()
    if collector.error is not None:
        raise collector.error


def check_references(server: ServerProcess) -> None:
    """More collections leave the references that are named, and no others."""
    collector = Collector(server)

    def only_named() -> bool:
        collector.collect()  # the time of grace counts by the clock of the database
        stored = scan_files(server.data / BUCKET)
        assert stored.named
        assert stored.references.keys() >= stored.named
        return stored.references.keys() == stored.named

    wait_until(only_named, "nothing is left but what is named", SETTLE_SECONDS)


def check_usage(*servers: ServerProcess) -> None:
    """What is counted is what a scan finds, in bytes as they are stored as well."""
    for server in servers:
        found = statistics(server)
        s3 = boto3_client(server)
        there = scan_usage(s3)
        s3.close()
        for name, counted in found["buckets"].items():
            stored = scan_files(server.data / name)
            assert len(stored.objects) == counted["total_objects"], name
            assert stored.bytes == counted["total_stored_size"], name
            assert (counted["total_objects"], counted["total_original_size"]) == there[name]
            assert counted["complete"], name
        assert BUCKET in found["buckets"]
        assert not [name for name in there.keys() - found["buckets"] if there[name] != (0, 0)]


# --- one request here, the next one there -------------------------------------------------


def test_any_worker_takes_any_part(pair: Pair) -> None:
    here, there = pair.clients
    here.create_bucket(Bucket="parts")
    upload = Upload(here, "parts", "object.bin")
    elsewhere = copy.copy(upload)
    elsewhere.s3 = there
    pieces = [noise(5 * MIB, number) for number in range(3)] + [b"end"]
    tags = {}
    with ThreadPoolExecutor(3) as pool:
        ends = [(upload, elsewhere)[number % 2] for number in range(len(pieces))]
        found = pool.map(
            lambda item: item[1].part(item[0], pieces[item[0] - 1]), enumerate(ends, start=1)
        )
        tags = dict(enumerate(found, start=1))
    assert upload.is_open()
    assert elsewhere.is_open()
    listed = [
        [(part["PartNumber"], part["ETag"]) for part in s3.list_parts(**upload.names)["Parts"]]
        for s3 in (here, there)
    ]
    assert listed == [list(tags.items())] * 2
    # Overwritten on the other server: the new bytes count, and the old tag is worth nothing.
    pieces[1] = noise(5 * MIB, 99)
    old, tags[2] = tags[2], upload.part(2, pieces[1])
    with refused("InvalidPart", 400):
        elsewhere.complete(*(tags | {2: old}).items())
    etag = elsewhere.complete(*tags.items())["ETag"]
    assert etag.strip('"') == multipart_etag(pieces)
    assert upload.complete(*tags.items())["ETag"] == etag, "asked again on the other server"
    for s3 in (here, there):
        assert s3.get_object(Bucket="parts", Key="object.bin")["Body"].read() == b"".join(pieces)
    assert not upload.is_open()
    with refused("NoSuchUpload", 404):
        upload.part(1, b"late")
    with refused("NoSuchUpload", 404):
        there.list_parts(**upload.names)
    event = Event(kind=CREATED, bucket="parts", key="object.bin", etag=etag.strip('"'))
    assert read_events(pair.servers[1])[event] == 1


def test_an_upload_is_completed_once(pair: Pair) -> None:
    pair.clients[0].create_bucket(Bucket="once")
    upload = Upload(pair.clients[0], "once")
    tag = upload.part(1, b"x")
    document = (
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
        f"<ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
    ).encode()
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda n: pair.request(n, "POST", upload.target, document), range(8))
        )
    # All are the same request; some may have come while another was at it.
    assert {answer.status for answer in answers} <= {200, 409, 503}
    tags = {answer.element("ETag") for answer in answers if answer.status == 200}
    assert len(tags) == 1
    event = Event(kind=CREATED, bucket="once", key="object", etag=tags.pop().strip('"'))
    assert read_events(pair.servers[0])[event] == 1


def test_an_aborted_upload_is_gone_everywhere(pair: Pair) -> None:
    here, there = pair.clients
    here.create_bucket(Bucket="aborted")
    upload = Upload(here, "aborted")
    upload.part(1, noise(5 * MIB))
    there.abort_multipart_upload(**upload.names)
    with refused("NoSuchUpload", 404):
        upload.part(2, b"x")
    assert [s3.list_multipart_uploads(Bucket="aborted").get("Uploads") for s3 in pair.clients] == [
        None,
        None,
    ]
    assert len(scan_files(pair.servers[0].data / "aborted").objects) == 0


# --- signatures ---------------------------------------------------------------------------


def test_a_repeated_signature_is_refused_everywhere(pair: Pair) -> None:
    pair.clients[0].create_bucket(Bucket="replay")
    body, target = b"as it was signed", "/replay/key"
    signed = pair.raw(0).signer.sign("PUT", target, payload=sha256_hex(body))
    assert pair.raw(0).send("PUT", signed, body).status == 200
    assert pair.request(0, "PUT", target, b"newer").status == 200
    before = files_below(pair.servers[0].data / "replay")
    # Either worker of either server: connections are spread over them by chance.
    for number in range(12):
        answer = pair.raw(number).send("PUT", signed, body)
        assert (answer.status, answer.code) == (400, "InvalidArgument")
    for client in pair.clients:
        assert client.get_object(Bucket="replay", Key="key")["Body"].read() == b"newer"
    assert files_below(pair.servers[0].data / "replay") == before
    event = Event(kind=CREATED, bucket="replay", key="key", etag=md5_hex(body))
    assert read_events(pair.servers[1])[event] == 1


def test_one_of_equal_requests_at_once_counts(pair: Pair) -> None:
    pair.clients[0].create_bucket(Bucket="race")
    for target in (f"/race/key-{number}" for number in range(5)):
        signed = pair.raw(0).signer.sign("PUT", target, payload=sha256_hex(b"x"))
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n, s=signed: pair.raw(n).send("PUT", s, b"x"), range(8)))
        statuses = sorted(answer.status for answer in answers)
        assert statuses == [200] + [400] * 7, target
    assert statistics(pair.servers[0])["buckets"]["race"]["total_objects"] == 5


# --- buckets ------------------------------------------------------------------------------


def test_buckets_come_and_go_for_both(pair: Pair) -> None:
    """The other server has known the bucket each time, and its id is another one each time."""
    for turn in range(6):
        here, there = turn, turn + 1
        assert pair.request(here, "PUT", "/coming").status == 200
        # More often than there are workers, so that each of them has the bucket in its memory.
        for number in range(6):
            assert pair.request(there + number, "HEAD", "/coming").status == 200
            again = pair.request(number, "PUT", "/coming")
            assert (again.status, again.code) == (409, "BucketAlreadyOwnedByYou")
            written = pair.request(there + number, "PUT", f"/coming/{number}.zip", b"x")
            assert written.status == 200
        refusal = pair.request(here, "DELETE", "/coming")
        assert (refusal.status, refusal.code) == (409, "BucketNotEmpty")
        for number in range(6):
            assert pair.request(number, "DELETE", f"/coming/{number}.zip").status == 204
        assert pair.request(there, "DELETE", "/coming").status == 204
        for number in range(4):
            assert pair.request(number, "HEAD", "/coming").status == 404
            answer = pair.request(number, "PUT", "/coming/late", b"x")
            assert (answer.status, answer.code) == (404, "NoSuchBucket")
    assert "coming" not in statistics(pair.servers[0])["buckets"]
    assert not (pair.servers[0].data / "coming").exists()


def test_a_bucket_is_deleted_once_and_not_under_a_writer(pair: Pair) -> None:
    """Writers and deleters race on both servers; what was acknowledged stays."""
    for turn in range(4):
        name = f"contested-{turn}"
        assert pair.request(0, "PUT", f"/{name}").status == 200

        def race(number: int, name: str = name) -> tuple[str, int]:
            if number % 3 == 0:
                return "", pair.request(number, "DELETE", f"/{name}").status
            return f"{number}", pair.request(number, "PUT", f"/{name}/{number}", b"x").status

        with ThreadPoolExecutor(9) as pool:
            outcomes = list(pool.map(race, range(9)))
        deleted = [status for key, status in outcomes if not key]
        written = {key for key, status in outcomes if key and status == 200}
        assert {status for _, status in outcomes} <= {200, 204, 404, 409, 503}, outcomes
        assert deleted.count(204) <= 1
        assert not (written and 204 in deleted), outcomes
        for number in range(2):
            answer = pair.request(number, "GET", f"/{name}?list-type=2")
            if 204 in deleted:
                assert answer.status == 404
            else:
                assert answer.element("KeyCount") == f"{len(written)}"


# --- quota --------------------------------------------------------------------------------


def test_racing_writers_cannot_pass_a_quota(pair: Pair) -> None:
    pair.clients[0].create_bucket(Bucket="limited")
    size = 10_000

    def put(number: int) -> Answer:
        return pair.request(number, "PUT", f"/limited/{number}", noise(size, number))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(put, range(24)))
    accepted = [answer for answer in answers if answer.status == 200]
    codes = {(answer.status, answer.code) for answer in answers if answer.status != 200}
    assert codes == {(403, "QuotaExceeded")}
    # What is under way counts in full, and all that began was carried out.
    assert len(accepted) == QUOTA // size
    assert statistics(pair.servers[1])["buckets"]["limited"]["total_original_size"] == QUOTA
    # Overwriting with as much is no growth; one byte more is.
    kept = next(number for number, answer in enumerate(answers) if answer.status == 200)
    assert pair.request(0, "PUT", f"/limited/{kept}", noise(size, 99)).status == 200
    assert pair.request(1, "PUT", f"/limited/{kept}", noise(size + 1)).code == "QuotaExceeded"
    assert pair.request(1, "DELETE", f"/limited/{kept}").status == 204
    assert pair.request(0, "PUT", "/limited/again", noise(size)).status == 200
