"""The power fails: what was acknowledged was on disk, and what was not does no harm.

The first tests are about the simulated disk itself: a cut that takes nothing proves nothing.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.chaos import Campaign, new_seed, server_with_disk
from support.clients import boto3_client
from support.journal import JOURNAL_IS_KEPT
from support.power import PAGE, Disk

#: Every round loses something else; ``make soak`` plays more of them.
ROUNDS = 2


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """An empty disk with a folder for temporary files and a log."""
    disk = Disk(root=tmp_path / "root", work=tmp_path / "work", volatile=("tmp",), spared=("log",))
    (disk.root / "tmp").mkdir(parents=True)
    disk.adopt()
    return disk


@pytest.fixture
def run(disk: Disk) -> Callable[[str], None]:
    """Run a piece of Python in a process of its own, in the root of the disk."""

    def start(source: str) -> None:
        subprocess.run(
            [sys.executable, "-c", f"import os\n{source}"],
            cwd=disk.root,
            env={**os.environ, **disk.environment},
            check=True,
            timeout=30,
        )

    return start


SYNC_HERE = "os.fsync(os.open('.', os.O_RDONLY))"
WRITE = "fd = os.open('{0}', os.O_RDWR | os.O_CREAT); os.write(fd, b'{1}')"


def names(disk: Disk) -> set[str]:
    return {path.name for path in disk.root.iterdir()} - {"tmp"}


def test_what_was_never_synced_is_lost(disk: Disk, run: Callable[[str], None]) -> None:
    run(WRITE.format("file", "x"))
    assert names(disk) == {"file"}
    assert disk.cut(random.Random(1), keep=0).names == 1
    assert names(disk) == set()


def test_a_file_without_its_folder_is_lost(disk: Disk, run: Callable[[str], None]) -> None:
    run(WRITE.format("file", "x") + "; os.fsync(fd)")
    disk.cut(random.Random(1), keep=0)
    assert names(disk) == set()


def test_a_folder_without_its_file_has_an_empty_one(disk: Disk, run: Callable[[str], None]) -> None:
    run(WRITE.format("file", "x") + f"; {SYNC_HERE}")
    assert disk.cut(random.Random(1), keep=0).files == 1
    assert (disk.root / "file").read_bytes() == b""


def test_both_together_survive(disk: Disk, run: Callable[[str], None]) -> None:
    run(
        f"{WRITE.format('draft', 'x')}; os.setxattr(fd, 'user.dg', b'1'); os.fdatasync(fd)\n"
        f"os.utime(fd, ns=(5, 7)); os.fsync(fd); os.rename('draft', 'file'); {SYNC_HERE}"
    )
    loss = disk.cut(random.Random(1), keep=0)
    assert (loss.names, loss.files) == (0, 0)
    assert (disk.root / "file").read_bytes() == b"x"
    assert (disk.root / "file").stat().st_mtime_ns == 7
    assert os.getxattr(disk.root / "file", "user.dg") == b"1"


def test_a_rename_that_was_not_synced_is_undone(disk: Disk, run: Callable[[str], None]) -> None:
    first = f"{WRITE.format('file', 'old')}; os.fsync(fd); {SYNC_HERE}\n"
    run(first + WRITE.format("draft", "new") + "; os.fsync(fd); os.rename('draft', 'file')")
    assert (disk.root / "file").read_bytes() == b"new"
    disk.cut(random.Random(1), keep=0)
    assert (disk.root / "file").read_bytes() == b"old"
    assert names(disk) == {"file"}


def test_a_deletion_that_was_not_synced_is_undone(disk: Disk, run: Callable[[str], None]) -> None:
    run(f"{WRITE.format('file', 'x')}; os.fsync(fd); {SYNC_HERE}; os.unlink('file')")
    disk.cut(random.Random(1), keep=0)
    assert (disk.root / "file").read_bytes() == b"x"


def test_later_writes_are_torn_by_pages(disk: Disk, run: Callable[[str], None]) -> None:
    run(
        f"fd = os.open('file', os.O_RDWR | os.O_CREAT); os.write(fd, b'a' * {64 * PAGE})\n"
        f"os.fsync(fd); {SYNC_HERE}; os.pwrite(fd, b'b' * {64 * PAGE}, 0)"
    )
    disk.cut(random.Random(1), keep=0.5)
    data = (disk.root / "file").read_bytes()
    pages = {data[at : at + PAGE] for at in range(0, len(data), PAGE)}
    assert pages == {b"a" * PAGE, b"b" * PAGE}


def test_another_cut_counts_from_the_first(disk: Disk, run: Callable[[str], None]) -> None:
    run(f"{WRITE.format('file', 'x')}; os.fsync(fd); {SYNC_HERE}")
    for _ in range(2):
        disk.cut(random.Random(1), keep=0)
    assert (disk.root / "file").read_bytes() == b"x"


def test_memory_is_emptied_and_the_log_is_kept(disk: Disk, run: Callable[[str], None]) -> None:
    run(f"os.mkdir('tmp/a'); {WRITE.format('log', 'x')}")
    disk.cut(random.Random(1), keep=0)
    assert (disk.root / "log").read_bytes() == b"x"
    assert list((disk.root / "tmp").iterdir()) == []


def test_power_cuts_under_load(tmp_path: Path) -> None:
    server, disk = server_with_disk(tmp_path, arguments=["--workers", "2"])
    with server:
        campaign = Campaign(server, new_seed(), disk=disk, journal=JOURNAL_IS_KEPT)
        for _ in range(ROUNDS):
            campaign.run_round("cut")
        assert campaign.model.acknowledged > 10 * ROUNDS


def test_a_new_storage_directory_survives(tmp_path: Path) -> None:
    """The server has made the directory itself, and the power fails after the first object."""
    data = tmp_path / "server" / "mounted" / "new" / "data"
    settings = {"storage": {"filesystem": os.fspath(data)}}
    server, disk = server_with_disk(tmp_path, settings=settings)
    with server:
        s3 = boto3_client(server)
        s3.create_bucket(Bucket="first")
        s3.put_object(Bucket="first", Key="a/b/c", Body=b"x")
        assert (data / "first").is_dir()
        server.kill()
        disk.cut(random.Random(1), keep=0)
        server.start()
        assert s3.get_object(Bucket="first", Key="a/b/c")["Body"].read() == b"x"
        s3.close()
