"""The guides to event sinks and layers, followed to the letter."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.guide import install, run_tests
from support.raw import RawClient
from support.samples import wait_until
from support.server import ServerProcess

BUCKET = "builds"


@pytest.fixture(scope="module")
def sink_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution with the sink."""
    return install("sink_sqlite", tmp_path_factory.mktemp("sink"))


@pytest.fixture(scope="module")
def layer_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution with the layer."""
    return install("layer_write_log", tmp_path_factory.mktemp("layer"))


def rows(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT id, write_id, kind, bucket, key, document FROM events ORDER BY id"
        return connection.execute(query).fetchall()


def test_sink_of_the_guide_passes_the_conformance_tests(sink_site: Path, tmp_path: Path) -> None:
    run_tests("sink_sqlite", sink_site, tmp_path)


def test_a_server_delivers_to_the_sink_of_the_guide(
    sink_site: Path,
    tmp_path: Path,
    start_server: Callable[..., ServerProcess],
    boto3_factory: Callable[..., Any],
) -> None:
    path = tmp_path / "events.db"
    server = start_server(
        settings={"advanced": {"event_table": {"path": os.fspath(path)}}},
        environment={"PYTHONPATH": os.fspath(sink_site)},
    )
    s3 = boto3_factory(server)
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="a.txt", Body=b"one")
    s3.copy_object(Bucket=BUCKET, Key="b.txt", CopySource=f"{BUCKET}/a.txt")
    wait_until(lambda: len(rows(path)) == 2, "two events in the table")

    server.restart()
    boto3_factory(server).delete_object(Bucket=BUCKET, Key="a.txt")
    wait_until(lambda: len(rows(path)) == 3, "three events in the table")

    found = rows(path)
    assert [row[:1] + row[2:5] for row in found] == [
        (1, "ObjectCreated", BUCKET, "a.txt"),
        (2, "ObjectCopied", BUCKET, "b.txt"),
        (3, "ObjectDeleted", BUCKET, "a.txt"),
    ]
    for event_id, write_id, *_, document in found:
        event = json.loads(document)["event"]
        assert (event["id"], event["write_id"]) == (event_id, write_id)


def test_a_sink_that_cannot_open_its_file_stops_the_start(
    sink_site: Path, tmp_path: Path, start_server: Callable[..., ServerProcess]
) -> None:
    path = tmp_path / "missing" / "events.db"
    with pytest.raises(AssertionError, match=r"advanced\.event_table\.path.*unable to open"):
        start_server(
            settings={"advanced": {"event_table": {"path": os.fspath(path)}}},
            environment={"PYTHONPATH": os.fspath(sink_site)},
        )


def test_the_layer_of_the_guide_sees_the_writes_of_the_journal(
    layer_site: Path,
    start_server: Callable[..., ServerProcess],
    boto3_factory: Callable[..., Any],
) -> None:
    server = start_server(
        arguments=["--workers", "2"], environment={"PYTHONPATH": os.fspath(layer_site)}
    )
    s3 = boto3_factory(server)
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="a.txt", Body=b"one")
    os.kill(server.pid, signal.SIGHUP)
    reloaded = "configuration reloaded"
    wait_until(lambda: server.log_text().count(reloaded) == 2, "a reload in both workers")
    s3.put_object(Bucket=BUCKET, Key="b.txt", Body=b"two")

    identity = json.loads((server.data / BUCKET / ".deltaglider" / "id").read_bytes())["id"]
    logged = re.findall(r"stored .*bucket_id=(\w+) key=(\S+) .*write=(\w+)", server.log_text())
    assert [(bucket, key) for bucket, key, _ in logged] == [
        (identity, "a.txt"),
        (identity, "b.txt"),
    ]
    writes = [write for *_, write in logged]
    assert len(set(writes)) == 2
    assert all(re.fullmatch(r"[0-9a-f]{32}", write) for write in writes)
    metrics = RawClient(server).request("GET", "/_/metrics").body.decode()
    assert "\nwrite_log_under_way 0.0\n" in metrics
