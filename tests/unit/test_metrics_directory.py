"""Metrics of several processes: nothing is lost, counted twice or shown for the dead."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from deltaglider_core import worker_metrics
from deltaglider_core.errors import ConfigurationError
from deltaglider_core.worker_metrics import (
    DIRECTORY_VARIABLE,
    MetricsDirectory,
    join_metrics,
    metrics_directory,
)

COUNTED = ("counter", "histogram", "summary")

#: A worker: counts as often as it is told, says what all have counted, and ends.
WORKER = """
import os, signal, sys
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from deltaglider_core.worker_metrics import join_metrics

shown, own = join_metrics(), CollectorRegistry()
count = Counter("jobs", "Jobs.", ["kind"], registry=own)
took = Histogram("took", "Seconds.", registry=own, buckets=[1, 10])
size = Gauge("size", "Bytes.", registry=own, multiprocess_mode="livesum")
for _ in range(int(sys.argv[1])):
    count.labels("small").inc()
    took.observe(5)
size.set(100)
print(os.getpid(), flush=True)
sys.stdin.readline()
print(generate_latest(shown).decode(), flush=True)
"""


class Worker:
    """A process with metrics; entered while it lives."""

    def __init__(self, count: int) -> None:
        command = [sys.executable, "-c", WORKER, str(count)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[MetricsDirectory]:
    with metrics_directory(tmp_path) as found:
        yield found


def shown(directory: MetricsDirectory) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(worker_metrics._AllWorkers(directory.path))
    text = generate_latest(registry).decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def files(directory: MetricsDirectory) -> set[str]:
    return {path.name for path in directory.path.glob("*.db")}


def jobs(count: int) -> dict[str, float]:
    return {
        'jobs_total{kind="small"}': count,
        'took_bucket{le="1.0"}': 0,
        'took_bucket{le="10.0"}': count,
        'took_bucket{le="+Inf"}': count,
        "took_count": count,
        "took_sum": 5 * count,
    }


def test_sums_over_the_living_and_the_dead(directory: MetricsDirectory) -> None:
    with Worker(3) as first, Worker(4) as second:
        assert shown(directory) == jobs(7) | {"size": 200}
    directory.retire(first)
    assert shown(directory) == jobs(7) | {"size": 100}
    directory.retire(second)
    assert shown(directory) == jobs(7)
    assert files(directory) == {f"{kind}_ended.db" for kind in COUNTED}
    directory.retire(second)
    assert shown(directory) == jobs(7), "the dead are buried once"


def test_crashes_leave_no_more_files_than_one_of_a_kind(directory: MetricsDirectory) -> None:
    for round_ in range(1, 5):
        with Worker(10) as worker:
            pass
        directory.retire(worker)
        assert shown(directory) == jobs(10 * round_)
        assert files(directory) == {f"{kind}_ended.db" for kind in COUNTED}


def test_files_wait_while_somebody_reads(
    directory: MetricsDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_metrics, "_PATIENCE_SECONDS", 0.02)
    with Worker(3) as worker:
        pass
    with worker_metrics._reading(directory.path):
        directory.retire(worker)
        assert shown(directory) == jobs(3), "the gauges are gone, the counts are not"
        assert f"counter_{worker}.db" in files(directory)
    directory.retire(worker)
    assert f"counter_{worker}.db" not in files(directory)
    assert shown(directory) == jobs(3)


def test_a_file_that_cannot_be_read_is_not_half_added(directory: MetricsDirectory) -> None:
    with Worker(3) as worker:
        pass
    path = directory.path / f"histogram_{worker}.db"
    whole = path.read_bytes()
    # It says that more of it is used than there is.
    path.write_bytes((2**30).to_bytes(4, sys.byteorder) + whole[4:])
    with pytest.raises(Exception, match=r"."):
        directory.retire(worker)
    path.write_bytes(whole)
    directory.retire(worker)
    assert shown(directory) == jobs(3)


def test_an_empty_file_is_no_error(directory: MetricsDirectory) -> None:
    """The library makes it before it enlarges it."""
    (directory.path / "counter_1.db").touch()
    (directory.path / "gauge_livesum_1.db").touch()
    with Worker(3) as worker:
        assert shown(directory) == jobs(3) | {"size": 100}
    directory.retire(worker)
    directory.retire(1)
    assert shown(directory) == jobs(3)


def test_the_files_have_no_holes(directory: MetricsDirectory) -> None:
    """A full disk must not kill a process that counts."""
    with Worker(1) as worker:
        for path in directory.path.glob(f"*_{worker}.db"):
            facts = path.stat()
            assert facts.st_blocks * 512 >= facts.st_size > 0, path.name
            assert facts.st_mode & 0o077 == 0


def test_a_disk_without_room_stops_the_start(
    directory: MetricsDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(ConfigurationError, match="No space left"):
        join_metrics()


def test_the_directory_is_private_and_goes_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, "that of somebody else")
    with metrics_directory(tmp_path) as directory:
        assert os.environ[DIRECTORY_VARIABLE] == str(directory.path)
        assert directory.path.stat().st_mode & 0o777 == 0o700
    assert os.environ[DIRECTORY_VARIABLE] == "that of somebody else"
    assert not directory.path.exists()
    monkeypatch.delenv(DIRECTORY_VARIABLE)
    with metrics_directory(tmp_path):
        pass
    assert DIRECTORY_VARIABLE not in os.environ
