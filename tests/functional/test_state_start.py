"""A state database that cannot be used stops the start, in one sentence, and is left as it is."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from support.clients import boto3_client
from support.outage import locked
from support.samples import files_below
from support.server import ServerProcess, clean_environment, command_path
from support.server_pair import statistics

from deltaglider_core.state import embedded_file
from deltaglider_core.state.keyfile import read_key

DATABASE, KEY = "deltaglider_config.db", "deltaglider_config.key"
SERVE = ("serve", "--listen", "127.0.0.1:0", "--workers", "2")

#: Lets root respect the mode of files, as everybody else has to (capabilities(7)).
PLAIN_USER = """
import ctypes, os, sys
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24
for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a server that has ended in order."""
    directory = tmp_path_factory.mktemp("original") / "server"
    with ServerProcess(directory) as server:
        s3 = boto3_client(server)
        s3.create_bucket(Bucket="kept")
        s3.put_object(Bucket="kept", Key="key", Body=b"kept")
        s3.close()
    server.log.unlink()
    return directory


@pytest.fixture
def place(original: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(original, tmp_path / "server", symlinks=True)


def content(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and bytes of every file."""
    return {
        name: ((directory / name).stat().st_mode, (directory / name).read_bytes())
        for name in files_below(directory)
    }


def run(place: Path, *words: str) -> tuple[int, str]:
    """Run the command beside the configuration; returns its code and what it says of an error."""
    config = place / "deltaglider_proxy.yaml"
    program = [sys.executable, "-c", PLAIN_USER, command_path("deltaglider_proxy")]
    result = subprocess.run(
        [*program, "--config", os.fspath(config), *words],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=place,
        env=clean_environment(place, {"TMPDIR": os.fspath(place / "tmp")}),
        check=False,
    )
    assert result.stdout == ""
    return result.returncode, result.stderr


def assert_refused(place: Path, *phrases: str, words: Sequence[str] = SERVE) -> None:
    """The start fails for this reason, and touches nothing."""
    before = content(place)
    code, text = run(place, *words)
    assert code not in (0, 2), text
    assert len(text.splitlines()) == 1, text
    for phrase in phrases:
        assert phrase in text
    assert content(place) == before


def change_key(place: Path, text: str) -> None:
    (place / KEY).write_text(text)


def cut(place: Path, size: int) -> None:
    os.truncate(place / DATABASE, size)


def cut_in_the_middle(place: Path) -> None:
    cut(place, (place / DATABASE).stat().st_size // 8192 * 4096)


def damage_all_but_the_first_page(place: Path) -> None:
    size = (place / DATABASE).stat().st_size
    with (place / DATABASE).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xaa" * (size - 4096))


def replace_by_a_folder(place: Path, name: str) -> None:
    (place / name).unlink()
    (place / name).mkdir()


CASES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "key missing": (lambda p: (p / KEY).unlink(), (KEY, "is missing", "restore")),
    "wrong key": (lambda p: change_key(p, "5a" * 32), (KEY, "does not open it")),
    "key open to others": (lambda p: (p / KEY).chmod(0o640), (KEY, "chmod 600")),
    "key is a folder": (lambda p: replace_by_a_folder(p, KEY), (KEY, "not a file")),
    "half": (cut_in_the_middle, (DATABASE, "truncated", "backup")),
    "damaged": (damage_all_but_the_first_page, (DATABASE, "damaged", "backup")),
    "a folder": (lambda p: replace_by_a_folder(p, DATABASE), (DATABASE,)),
    "read-only": (lambda p: (p / DATABASE).chmod(0o400), (DATABASE, "cannot be written", "mode")),
}


@pytest.mark.parametrize("case", CASES)
def test_refused(place: Path, case: str) -> None:
    damage, phrases = CASES[case]
    damage(place)
    assert_refused(place, *phrases)


def test_a_command_refuses_as_the_start_does(place: Path) -> None:
    change_key(place, "5a" * 32)
    assert_refused(place, KEY, "does not open it", words=["usage"])


def test_a_directory_that_cannot_be_written(place: Path) -> None:
    place.chmod(0o500)
    try:
        assert_refused(place, DATABASE, "cannot be written", "mode")
    finally:
        place.chmod(0o700)


def test_a_directory_that_is_missing(place: Path) -> None:
    ServerProcess(place, settings={"advanced": {"database_url": "sqlite:///missing/state.db"}})
    assert_refused(place, os.fspath(place / "missing"), "create it", "advanced.database_url")


def test_only_its_log(place: Path) -> None:
    """SQLite would replay it into the new database."""
    (place / DATABASE).rename(place / f"{DATABASE}-wal")
    assert_refused(place, DATABASE, "-wal", "restore the database")


def test_a_newer_one(place: Path) -> None:
    with opened(place / DATABASE) as connection:
        known = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert_refused(place, DATABASE, "9999", known)


def test_one_of_another_program(place: Path) -> None:
    with opened(place / DATABASE) as connection:
        connection.execute("DROP TABLE alembic_version")
    assert_refused(place, DATABASE)


def test_locked(place: Path) -> None:
    """By a program that lets nobody read either."""
    alone = "PRAGMA locking_mode = EXCLUSIVE"
    with locked(place / DATABASE, alone):
        assert_refused(place, DATABASE, "is locked by another program; stop it")
    # That program has ended, and nothing stands in the way any more.
    with ServerProcess(place) as server:
        assert statistics(server)["buckets"]["kept"]["total_objects"] == 1


def test_what_was_refused_is_still_there(place: Path) -> None:
    """With the right key in its place everything goes on."""
    aside = (place / KEY).rename(place / "aside")
    assert_refused(place, KEY)
    aside.rename(place / KEY)
    with ServerProcess(place) as server:
        s3 = boto3_client(server)
        assert s3.get_object(Bucket="kept", Key="key")["Body"].read() == b"kept"
        s3.put_object(Bucket="kept", Key="key", Body=b"newer")
        s3.close()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[embedded_file.driver.Connection]:
    """Another program with the key."""
    key = read_key(path.with_suffix(".key"))
    assert key is not None
    with contextlib.closing(embedded_file.connect(path, key)) as connection:
        yield connection
