"""PostgreSQL goes away under a running service, or stops answering, and comes back."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from support.expect import Footprint
from support.outage import (
    BUCKET,
    SIZE,
    Readers,
    Scene,
    assert_refused,
    assert_unavailable,
    created,
    opened_scene,
)
from support.postgres import PostgresServer
from support.processes import children_of, is_running, process_of, workers_of
from support.raw import RawClient
from support.samples import noise, release, wait_until
from support.server import ServerProcess

WORKERS = 2
#: The text of a refusal tells what a process still knows.
TOO_OLD = "is not known at present"


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A server that nobody else uses; running between the tests."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def scene(tmp_path: Path, postgres: PostgresServer) -> Iterator[Scene]:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    settings = {
        "advanced": {
            "database_url": postgres.url,
            "event_file": {"path": os.fspath(tmp_path / "events.jsonl"), "fsync": False},
        }
    }
    arguments = ["--workers", f"{WORKERS}"]
    with (
        ServerProcess(tmp_path / "server", settings=settings, arguments=arguments) as server,
        opened_scene(server) as scene,
    ):
        yield scene


def test_it_stops_and_starts(scene: Scene, postgres: PostgresServer, tmp_path: Path) -> None:
    server = scene.server
    supervisor = server.pid
    with Readers(server, may_lose=2) as readers:
        ended_late = scene.half_sent("ended-late", b"half" * 100_000)
        cut_off = scene.half_sent("cut-off.zip", release(3, SIZE))
        wait_until(lambda: scene.pending() == 2, "both have begun")
        postgres.stop()
        readers.wait_for_more()
        assert_refused(scene.mutations())
        assert_nothing_is_left_of_a_half(scene)
        ended_late.send(b"half" * 50_000)
        assert_unavailable(ended_late.answer())
        cut_off.close()
        replace_a_worker(scene)
        wait_until(lambda: TOO_OLD in put(scene), "what the workers know is too old")
        assert_refused(scene.mutations())
        readers.wait_for_more()
        postgres.start()
        scene.recover()
        readers.wait_for_more()
    assert server.pid == supervisor
    # Its client was told that nobody knows; the object says how it ended, and so do the events.
    ended_late.close()
    found = scene.request("GET", f"/{BUCKET}/ended-late")
    if found.status == 200:
        assert found.body == b"half" * 100_000
        scene.journaled[created("ended-late", found.body)] += 1
    assert scene.request("HEAD", f"/{BUCKET}/cut-off.zip").status == 404
    scene.carry_on()
    scene.verify()
    assert_delivered(scene, tmp_path / "events.jsonl")
    assert "Traceback" not in server.log_text()


def put(scene: Scene) -> str:
    """What a refused write says."""
    answer = scene.request("PUT", f"/{BUCKET}/new", b"new")
    assert_unavailable(answer)
    return answer.element("Message")


def assert_nothing_is_left_of_a_half(scene: Scene) -> None:
    """A body is refused before it has ended, and what came of it is gone."""
    footprint = Footprint(scene.server.data, scene.server.temporary)
    with scene.half_sent("half-sent", noise(SIZE)) as connection:
        assert_unavailable(connection.answer())
    footprint.assert_unchanged()


def replace_a_worker(scene: Scene) -> None:
    """Kill a worker; the one that comes in its place reads without the database."""
    server = scene.server
    before = workers_of(server.pid)
    assert len(before) == WORKERS
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not is_running(victim), "the worker has ended")
    wait_until(lambda: len(workers_of(server.pid)) == WORKERS, "there is another one")
    (successor,) = workers_of(server.pid) - before
    wait_until(lambda: reads_from(server) == successor, "it reads", 30)


def reads_from(server: ServerProcess) -> int:
    """Read an object; returns the process that has answered."""
    raw = RawClient(server)
    signed = raw.signer.sign("GET", f"/{BUCKET}/app-2.zip")
    with raw.connect() as connection:
        connection.send_head("GET", signed.target, signed.headers)
        answer = connection.answer()
        assert answer.status == 200
        return process_of(server.port, connection.local_port, workers_of(server.pid))


def assert_delivered(scene: Scene, path: Path) -> None:
    """The sink has all events, in the order of their ids, and none that is not in the journal."""
    expected = sum(scene.journaled.values())

    def delivered() -> list[int]:
        return [json.loads(line)["event"]["id"] for line in path.read_text().splitlines()]

    wait_until(lambda: len(set(delivered())) == expected, "all are delivered")
    assert sorted(set(delivered())) == list(range(1, expected + 1))


@contextlib.contextmanager
def frozen(postgres: PostgresServer) -> Iterator[None]:
    """All processes of the server are stopped inside the block."""
    parent = int((postgres.directory / "data" / "postmaster.pid").read_text().split()[0])
    stopped: set[int] = set()
    try:
        # A process that was born a moment ago is found by the next look.
        while found := {parent, *children_of(parent)} - stopped:
            for pid in found:
                os.kill(pid, signal.SIGSTOP)
            stopped |= found
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def test_it_answers_no_more_and_then_it_does(scene: Scene, postgres: PostgresServer) -> None:
    """Nothing says that it is away: the connections stay, and nothing comes back."""
    with Readers(scene.server) as readers:
        with frozen(postgres):
            readers.wait_for_more()
            with ThreadPoolExecutor(1) as pool:
                statistics = pool.submit(scene.request, "GET", "/_/stats")
                assert_refused(scene.mutations())
                assert statistics.result().status == 503
            readers.wait_for_more()
        scene.recover()
    scene.carry_on()
    scene.verify()
