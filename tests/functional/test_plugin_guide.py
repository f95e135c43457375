"""The plugin guide, followed to the letter: its files are installed, tested and served from."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.guide import install, run_tests
from support.server import ServerProcess, clean_environment, command_path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the distribution of the guide installed in it."""
    return install("backend_sqlite", tmp_path_factory.mktemp("guide"))


def test_backend_of_the_guide_passes_the_conformance_tests(site: Path, tmp_path: Path) -> None:
    # What one test less saves is a gigabyte of writing; the defaults that it is about are
    # measured on the other backends.
    run_tests("backend_sqlite", site, tmp_path, ["-k", "not test_memory_of_multipart_and_copy"])


def test_backend_of_the_guide_is_listed_with_its_distribution(site: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [command_path("deltaglider_proxy"), "plugins"],
        cwd=tmp_path,
        env=clean_environment(tmp_path, {"PYTHONPATH": os.fspath(site)}),
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split() for line in result.stdout.splitlines() if " sqlite " in line]
    assert len(rows) == 1
    assert {"deltaglider-backend-sqlite", "1.0.0"} <= set(rows[0])


def test_backend_of_the_guide_serves_s3_with_deltas(
    site: Path,
    tmp_path: Path,
    start_server: Callable[..., ServerProcess],
    boto3_factory: Callable[..., Any],
) -> None:
    database = tmp_path / "objects.db"
    server = start_server(
        settings={
            "storage": {
                "filesystem": None,
                "backend": {"type": "sqlite", "path": os.fspath(database)},
            }
        },
        environment={"PYTHONPATH": os.fspath(site)},
    )
    s3 = boto3_factory(server)
    s3.create_bucket(Bucket="builds")
    noise = random.Random(7)  # only has to be incompressible
    first = noise.randbytes(3_000_000)
    second = first[:1_000_000] + noise.randbytes(1000) + first[1_000_000:]
    for name, body in (("app-1.zip", first), ("app-2.zip", second)):
        s3.put_object(Bucket="builds", Key=f"releases/{name}", Body=body)
    upload = tmp_path / "app-3.zip"
    upload.write_bytes(second + noise.randbytes(6_000_000))
    s3.upload_file(os.fspath(upload), "builds", "releases/app-3.zip")  # multipart
    for name, body in (("app-1.zip", first), ("app-2.zip", second), ("app-3.zip", None)):
        expected = upload.read_bytes() if body is None else body
        read = s3.get_object(Bucket="builds", Key=f"releases/{name}")["Body"].read()
        assert hashlib.sha256(read).digest() == hashlib.sha256(expected).digest()
    listed = s3.list_objects_v2(Bucket="builds")["Contents"]
    assert [entry["Size"] for entry in listed] == [3_000_000, 3_001_000, 9_001_000]
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (stored,) = connection.execute("SELECT sum(length(data)) FROM chunks").fetchone()
    # The reference, what is new in the third release, and little more.
    assert 3_000_000 + 6_000_000 < stored < 3_000_000 + 6_000_000 + 100_000
    restarted = boto3_factory(server.restart())
    assert restarted.head_object(Bucket="builds", Key="releases/app-2.zip")["ContentLength"] == (
        3_001_000
    )
