"""The parts of the kit that are no conformance tests."""

from __future__ import annotations

import inspect
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import deltaglider_testkit
from deltaglider_core.services import Services
from deltaglider_testkit.purity import ImpureError, no_io
from deltaglider_testkit.storage.memory import MIB, memory_below

TESTS = """
import pytest

class TestBounded:
    @pytest.mark.dg_memory
    def test_size(self, dg_large_size):
        print("size", dg_large_size)

class TestInMemory(TestBounded):
    stores_in_memory = True
"""


def test_public_names() -> None:
    names = deltaglider_testkit.__all__
    assert names == sorted(names)
    classes = [getattr(deltaglider_testkit, name) for name in names]
    assert all(inspect.isclass(cls) and inspect.getdoc(cls) for cls in classes)


def test_no_io_blocks_files_sockets_and_processes(tmp_path: Path) -> None:
    def connect() -> None:
        with socket.socket() as opened:
            opened.connect(("127.0.0.1", 1))

    for attempt in (
        lambda: (tmp_path / "x").write_text("x"),
        lambda: (tmp_path / "x").read_text(),
        lambda: os.listdir(tmp_path),
        lambda: os.remove(tmp_path / "x"),
        connect,
        lambda: subprocess.run(["true"], check=False),
    ):
        with pytest.raises(ImpureError), no_io():
            attempt()
    assert not (tmp_path / "x").exists()


def test_no_io_ends_and_leaves_other_threads_alone(tmp_path: Path) -> None:
    def work() -> None:
        (tmp_path / "other").write_text("x")

    worker = threading.Thread(target=work)
    with no_io():
        worker.start()
        worker.join()
    assert (tmp_path / "other").read_text() == "x"


def test_memory_below_sees_a_peak_that_is_gone_again() -> None:
    with memory_below(32 * MIB):
        bytearray(4 * MIB)
    reached = threading.Event()

    def grow() -> None:
        data = bytearray(os.urandom(1)) * (64 * MIB)
        reached.wait(0.2)
        del data

    with pytest.raises(AssertionError, match="MiB more than before"), memory_below(32 * MIB):
        grow()


def test_services(dg_services: Services, tmp_path: Path) -> None:
    assert dg_services.spool.directory == tmp_path / "spool"
    assert dg_services.clock.now() == dg_services.clock.now()


@pytest.mark.parametrize(
    ("options", "environment", "size"),
    [([], {}, 128), (["--dg-large"], {}, 1024), ([], {"DG_LARGE": "1"}, 1024)],
)
def test_options(
    tmp_path: Path, options: list[str], environment: dict[str, str], size: int
) -> None:
    """The marker is known, in-memory classes are left out, and the size follows the option."""
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-s", "--strict-markers", "-p", "no:cacheprovider"]
    inherited = {name: value for name, value in os.environ.items() if name != "DG_LARGE"}
    done = subprocess.run(
        [*command, *options],
        cwd=tmp_path,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed, 1 deselected" in done.stdout, done.stdout + done.stderr
    assert f"size {size * MIB}" in done.stdout


def test_different_bytes_are_told_by_their_first_difference() -> None:
    from deltaglider_testkit._bytes import check_same

    data = bytes(range(256)) * 8192
    check_same(data, bytes(data))
    for place in (0, 1, 1_000_000, len(data) - 1):
        other = bytearray(data)
        other[place] ^= 1
        with pytest.raises(AssertionError, match=f"difference is at {place}:"):
            check_same(bytes(other), data)
    with pytest.raises(AssertionError, match=r"^5 bytes instead of 6, .* at 5: the end instead"):
        check_same(b"abcde", b"abcdef")
