"""What becomes of the file: lines, locks, cuts, rotation, a full disk."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog

from deltaglider_core.errors import ConfigurationError
from deltaglider_core.interfaces.events import Retry
from deltaglider_core.services import Services
from deltaglider_sink_jsonl import files
from deltaglider_sink_jsonl import sink as sink_module
from deltaglider_sink_jsonl.plugin import open_sink
from deltaglider_sink_jsonl.settings import EventFileSettings
from deltaglider_sink_jsonl.sink import JsonLinesSink
from deltaglider_testkit.events import make_event, make_events


async def test_a_line_has_all_that_is_known_of_an_event(sink: JsonLinesSink, file: Any) -> None:
    event = make_event(7, key="a/\u00fc\n.zip", payload={"etag": "abc", "content_length": 3})
    await sink.deliver([event])
    text = file.content()
    assert text.isascii()
    assert text.endswith(b"}}\n")
    assert text.count(b"\n") == 1
    assert json.loads(text) == {
        "schema": "deltaglider.event.v1",
        "event": {
            "id": 7,
            "write_id": "00000000000000000000000000000007",
            "kind": "ObjectCreated",
            "bucket": "bucket",
            "key": "a/\u00fc\n.zip",
            "source": "s3_api",
            "occurred_at": 1767225600,
            "occurred": "2026-01-01T00:00:00.007000Z",
            "payload": {"etag": "abc", "content_length": 3},
        },
    }


async def test_the_file_is_not_for_everybody(sink: JsonLinesSink, file: Any) -> None:
    await sink.deliver(make_events(1, 1))
    assert stat.S_IMODE(file.path.stat().st_mode) & 0o137 == 0


async def test_a_batch_is_one_write(
    sink: JsonLinesSink, file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = os.write

    def note(fd: int, data: bytes) -> int:
        written.append(len(data))
        return write(fd, data)

    monkeypatch.setattr(files.os, "write", note)
    await sink.deliver(make_events(1, 500))
    monkeypatch.undo()
    assert written == [file.path.stat().st_size]


async def test_a_cut_line_is_ended_and_reported(sink: JsonLinesSink, file: Any) -> None:
    await sink.deliver(make_events(1, 2))
    whole = file.content()
    cut = make_event(3).as_json()[:-5].encode()
    file.path.write_bytes(whole + cut)
    with structlog.testing.capture_logs() as logs:
        await sink.deliver(make_events(3, 2))
    assert file.content().startswith(whole + cut + b"\n{")
    assert file.ids() == [1, 2, 3, 4]
    assert [entry["log_level"] for entry in logs] == ["warning"]
    with structlog.testing.capture_logs() as logs:
        await sink.deliver(make_events(5, 1))
    assert logs == []


async def test_a_renamed_file_is_left_alone(sink: JsonLinesSink, file: Any) -> None:
    await sink.deliver(make_events(1, 2))
    old = file.path.rename(file.path.with_suffix(".1"))
    before = old.read_bytes()
    await sink.deliver(make_events(3, 2))
    assert old.read_bytes() == before
    assert file.ids() == [3, 4]
    os.truncate(file.path, 0)
    await sink.deliver(make_events(5, 1))
    assert file.ids() == [5]


@pytest.mark.parametrize("removed", [False, True])
async def test_a_file_that_is_renamed_before_it_is_locked(
    sink: JsonLinesSink,
    file: Any,
    monkeypatch: pytest.MonkeyPatch,
    removed: bool,
) -> None:
    await sink.deliver(make_events(1, 1))
    old = file.path.with_suffix(".1")
    flock = fcntl.flock

    def rotate_first(descriptor: int, operation: int) -> None:
        if not old.exists():
            file.path.rename(old)
            if not removed:
                file.path.touch()
        flock(descriptor, operation)

    monkeypatch.setattr(files.fcntl, "flock", rotate_first)
    await sink.deliver(make_events(2, 1))
    assert old.read_bytes().count(b"\n") == 1
    assert file.ids() == [2]


@pytest.fixture
def small_files() -> Any:
    """No file of this process grows beyond 4 MiB: writes fail where those on a full disk do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * 1024**2, hard))
    yield 4 * 1024**2
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_leaves_no_part_of_a_batch(
    sink: JsonLinesSink, file: Any, small_files: int
) -> None:
    before = b"x" * (small_files - 1001) + b"\n"
    file.path.write_bytes(before)
    with pytest.raises(Retry, match="too large"):
        await sink.deliver(make_events(1, 100))
    assert file.content() == before
    file.path.rename(file.path.with_suffix(".1"))
    await sink.deliver(make_events(1, 100))
    assert file.content().count(b"\n") == 100


async def test_a_write_that_cannot_be_taken_back_is_ended_later(
    sink: JsonLinesSink,
    file: Any,
    monkeypatch: pytest.MonkeyPatch,
    small_files: int,
) -> None:
    file.path.write_bytes(b"x" * (small_files - 301) + b"\n")

    def fail(file: int, size: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files.os, "ftruncate", fail)
    with pytest.raises(Retry):
        await sink.deliver(make_events(1, 100))
    assert file.path.stat().st_size == small_files  # one line and a part of the next
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * small_files, resource.RLIM_INFINITY))
    await sink.deliver(make_events(1, 3))
    found = file.ids()
    assert found[-3:] == [1, 2, 3]
    assert found in ([1, 1, 2, 3], [1, 2, 3])


async def test_an_error_of_fsync_is_retry(
    sink: JsonLinesSink, file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sink.deliver(make_events(1, 1))

    def fail(file: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(Retry, match="Input/output error"):
        await sink.deliver(make_events(2, 1))
    assert file.content().count(b"\n") == 1


@pytest.mark.parametrize("fsync", [True, False])
async def test_a_batch_is_on_disk_and_a_new_file_in_its_directory(
    file: Any, dg_services: Services, monkeypatch: pytest.MonkeyPatch, fsync: bool
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        files.os, "fsync", lambda file: synced.append(os.readlink(f"/proc/self/fd/{file}"))
    )
    sink = JsonLinesSink(file.path, fsync=fsync, services=dg_services)
    await sink.check()  # creates the file; its name may be as new as its first batch
    await sink.deliver(make_events(1, 1))
    assert synced == ([str(file.path), str(file.path.parent)] if fsync else [])
    synced.clear()
    await sink.deliver(make_events(2, 1))
    assert synced == ([str(file.path)] if fsync else [])


async def test_a_lock_of_another_program_is_waited_for(
    sink: JsonLinesSink, file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sink.check()
    with file.path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = asyncio.ensure_future(sink.deliver(make_events(1, 1)))
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
        monkeypatch.setattr(sink_module, "_PATIENCE_SECONDS", 0.0)
        with pytest.raises(Retry, match="locked"):
            await sink.deliver(make_events(2, 1))
        assert file.content() == b""
    await waiting
    assert file.ids() == [1]


async def test_no_descriptor_is_left_open(sink: JsonLinesSink, file: Any) -> None:
    await sink.deliver(make_events(1, 1))
    file.path.rename(file.path.with_suffix(".1"))
    file.path.mkdir()
    with pytest.raises(Retry):
        await sink.deliver(make_events(2, 1))
    file.path.rmdir()
    os.mkfifo(file.path)
    with pytest.raises(Retry, match="not a regular file"):
        await sink.deliver(make_events(2, 1))
    links = [Path(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    targets = [os.readlink(link) for link in links if link.is_symlink()]
    assert [target for target in targets if target.startswith(str(file.path.parent))] == []


WRITER = """
import asyncio, sys
from pathlib import Path
from deltaglider_core.testing import services_for_tests
from deltaglider_sink_jsonl.sink import JsonLinesSink
from deltaglider_testkit.events import make_event

async def main(path, number):
    services = services_for_tests(path.parent / f"services-{number}")
    sink = JsonLinesSink(path, fsync=False, services=services)
    for batch in range(40):
        first = number * 1_000_000 + batch * 100
        await sink.deliver([make_event(first + i, key="k" * 900) for i in range(20)])

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


def test_processes_never_mix_their_batches(file: Any) -> None:
    command = [sys.executable, "-c", WRITER, str(file.path)]
    writers = [subprocess.Popen([*command, str(number)]) for number in range(1, 4)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    ids = file.ids()
    assert len(ids) == file.content().count(b"\n") == 3 * 40 * 20
    for start in range(0, len(ids), 20):
        assert ids[start : start + 20] == list(range(ids[start], ids[start] + 20))


async def test_without_a_path_there_is_no_sink(dg_services: Services) -> None:
    async with open_sink(EventFileSettings(), dg_services) as opened:
        assert opened is None


async def test_the_file_is_there_from_the_start(file: Any, dg_services: Services) -> None:
    async with open_sink(EventFileSettings(path=file.path), dg_services) as opened:
        assert opened is not None
        assert file.content() == b""


@pytest.mark.parametrize("kind", ["directory", "pipe", "missing directory", "below a file"])
async def test_a_path_that_cannot_be_appended_to_stops_the_start(
    file: Any, dg_services: Services, kind: str
) -> None:
    if kind == "directory":
        file.path.mkdir()
    elif kind == "pipe":
        os.mkfifo(file.path)
    elif kind == "missing directory":
        file.path.parent.rmdir()
    else:
        file.path.parent.rmdir()
        file.path.parent.touch()
    with pytest.raises(ConfigurationError, match=r"advanced\.event_file\.path") as caught:
        async with open_sink(EventFileSettings(path=file.path), dg_services):
            pass
    assert str(file.path) in str(caught.value)
