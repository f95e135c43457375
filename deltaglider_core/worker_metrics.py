"""The metrics of several worker processes as one, in prometheus-client's multiprocess mode.

Each process keeps its values in files of one directory, and whichever is asked adds up the files
of all. What a process has counted still counts when it is dead; its gauges go away with it.

Source: prometheus/client_python, "Multiprocess Mode".
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from .errors import ConfigurationError
from .workdir import work_directory

#: Tells prometheus-client, when it is imported, to keep values in files of this directory.
DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

#: Readers share it; who adds up has it alone. Not ``lock``, which the directory itself has.
_LOCK_NAME = "reading"

#: Seconds that the supervisor waits for readers; a reader takes milliseconds, unless it is paused.
_PATIENCE_SECONDS = 0.3

#: Kinds that only grow, so that the sum over dead processes is all that is left of them.
_COUNTED = ("counter", "histogram", "summary")
_GAUGES = ("gauge_livesum", "gauge_livemax", "gauge_livemin", "gauge_livemostrecent")

#: Bytes taken on the disk in advance; about 5,000 series of one kind, 300 gauges.
_RESERVED = dict.fromkeys(_COUNTED, 1024**2) | dict.fromkeys(_GAUGES, 64 * 1024)


class MetricsDirectory:
    """The files of all workers of one service; the supervisor has it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def retire(self, pid: int) -> None:
        """Remove the gauges of a process that has ended, and keep what it has counted.

        Raises:
            OSError: The files cannot be changed.
        """
        mark_process_dead(pid, os.fspath(self.path))
        # The files of the dead are added up in one per kind, so that crashes by the thousand
        # leave no more files than one. Not while somebody reads, who would count them twice or
        # not at all; if that does not end, they stay as they are, where they count as well.
        with _alone(self.path) as alone:
            if alone:
                for kind in _COUNTED:
                    self._add_up(kind, pid)

    def _add_up(self, kind: str, pid: int) -> None:
        source = self.path / f"{kind}_{pid}.db"
        if not _size(source):
            return
        # All of it first: one that cannot be read must not be half added.
        values = list(MmapedDict.read_all_values_from_file(os.fspath(source)))
        total = MmapedDict(os.fspath(_reserve(self.path, kind, "ended")))
        try:
            for key, value, _, _ in values:
                total.write_value(key, total.read_value(key)[0] + value, 0.0)
        finally:
            total.close()
        source.unlink()


@contextlib.contextmanager
def metrics_directory(base: Path | None) -> Iterator[MetricsDirectory]:
    """Let the worker processes that start inside the block share their metrics.

    Args:
        base: Where private directories are made; see ``workdir``.

    Raises:
        ConfigurationError: It cannot be made there.
    """
    with work_directory(base) as path:
        before = os.environ.get(DIRECTORY_VARIABLE)
        os.environ[DIRECTORY_VARIABLE] = os.fspath(path)
        try:
            yield MetricsDirectory(path)
        finally:
            if before is None:
                del os.environ[DIRECTORY_VARIABLE]
            else:
                os.environ[DIRECTORY_VARIABLE] = before


def join_metrics() -> CollectorRegistry:
    """Take part as a worker process; before any metric is made.

    Returns:
        A registry that shows the metrics of all workers.

    Raises:
        ConfigurationError: The files cannot be made.
    """
    directory = Path(os.environ[DIRECTORY_VARIABLE])
    try:
        for kind in _RESERVED:
            _reserve(directory, kind, str(os.getpid()))
    except OSError as error:
        raise ConfigurationError(f"Metrics cannot be kept in {directory} ({error}).") from error
    registry = CollectorRegistry()
    registry.register(_AllWorkers(directory))
    return registry


class _AllWorkers:
    """Adds up the files of all processes, one moment of each."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        with _reading(self._directory):
            # The library makes a file empty and then enlarges it; it cannot read an empty one.
            files = [os.fspath(path) for path in self._directory.glob("*.db") if _size(path)]
            found: Iterable[Metric] = MultiProcessCollector.merge(files)
            return found


def _size(path: Path) -> int:
    """Size of a file; 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _reserve(directory: Path, kind: str, owner: str) -> Path:
    """Make a file whose bytes are all on the disk.

    The library maps files with holes, and writing into a hole of a full disk kills the process.
    """
    path = directory / f"{kind}_{owner}.db"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, _RESERVED[kind])
    finally:
        os.close(descriptor)
    return path


@contextlib.contextmanager
def _reading(directory: Path) -> Iterator[None]:
    """Keep the files of the dead from being added up inside the block."""
    with _lock_file(directory) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[bool]:
    """Keep everybody from reading inside the block; yields False if somebody does not end."""
    with _lock_file(directory) as descriptor:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    yield False
                    return
                time.sleep(0.005)
            else:
                yield True
                return


@contextlib.contextmanager
def _lock_file(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory / _LOCK_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


__all__ = ["DIRECTORY_VARIABLE", "MetricsDirectory", "join_metrics", "metrics_directory"]
