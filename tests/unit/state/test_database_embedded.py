"""The embedded database: what it leaves on disk, and everything that can be wrong with it there."""

# ruff: noqa: ASYNC220, ASYNC221, ASYNC240  # nothing else runs on the loops of these tests

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from sqlalchemy import Connection, select
from structlog.testing import capture_logs
from support.state import OpenDatabase, fact_names, put_fact

from deltaglider_core.errors import ConfigurationError
from deltaglider_core.state import embedded_file
from deltaglider_core.state.errors import StateUnavailable
from deltaglider_core.state.keyfile import read_key
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.tables import facts

Files = dict[str, tuple[bytes, int, int]]


@pytest.fixture
def path(embedded_place: DatabasePlace) -> Path:
    assert embedded_place.path is not None
    return embedded_place.path


def files(directory: Path) -> Files:
    """Content, mode and time of everything but the lock files."""
    return {
        found.name: (found.read_bytes(), found.stat().st_mode, found.stat().st_mtime_ns)
        for found in directory.iterdir()
        if found.suffix not in (".gate", ".lock")
    }


@contextlib.contextmanager
def opened(path: Path) -> Iterator[embedded_file.driver.Connection]:
    """The database as another program opens it."""
    key = read_key(path.with_suffix(".key"))
    assert key is not None
    with contextlib.closing(embedded_file.connect(path, key)) as connection:
        yield connection


async def make(place: DatabasePlace, open_database: OpenDatabase, *names: str) -> None:
    database = await open_database(place)
    for name in names:
        await database.write(put_fact(name))
    await database.aclose()


async def crash(place: DatabasePlace, open_database: OpenDatabase, *names: str) -> Path:
    """Files as a crash leaves them, the log among them; returns the database's path."""
    assert place.path is not None
    database = await open_database(place)
    for name in names:
        await database.write(put_fact(name))
    copy = place.path.parent.parent / "crashed"
    shutil.copytree(place.path.parent, copy)
    await database.aclose()
    (copy / (place.path.name + "-shm")).unlink()
    assert (copy / (place.path.name + "-wal")).stat().st_size > 0
    return copy / place.path.name


# --- what is on disk --------------------------------------------------------------------


async def test_the_files_are_private_and_encrypted(
    path: Path, embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    database = await open_database(embedded_place)
    await database.write(put_fact("a-name-that-would-show", "x" * 5000))
    found = files(path.parent)
    stem = path.name
    assert set(found) == {"deltaglider_config.key", stem, f"{stem}-wal", f"{stem}-shm"}
    for content, mode, _ in found.values():
        assert mode & 0o777 == 0o600
        assert b"a-name-that-would-show" not in content
        assert b"SQLite format" not in content
    await database.aclose()
    assert set(files(path.parent)) == {"deltaglider_config.key", stem}
    for lock in (".gate", ".lock"):
        assert path.with_name(stem + lock).stat().st_mode & 0o777 == 0o600


async def test_commits_are_synchronous_and_logged_ahead(
    embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    database = await open_database(embedded_place)

    def pragmas(connection: Connection) -> tuple[object, ...]:
        names = ("journal_mode", "synchronous", "cipher_version")
        return tuple(connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names)

    mode, synchronous, cipher = await database.write(pragmas)
    assert (mode, synchronous) == ("wal", 2)
    assert cipher


async def test_what_was_answered_survives_a_kill(
    path: Path, embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    program = """
import asyncio, sys
from pathlib import Path
import structlog
from deltaglider_core.state.database import open_database
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.tables import facts
from sqlalchemy import insert

async def main():
    place = DatabasePlace(path=Path(sys.argv[1]))
    database = await open_database(place, log=structlog.get_logger())
    async def client(number):
        for count in range(10**6):
            row = insert(facts).values(name=f"{number}-{count}", value="")
            await database.write(lambda connection: connection.execute(row) and None)
            print(f"{number}-{count}", flush=True)
    await asyncio.gather(*(client(number) for number in range(4)))

asyncio.run(main())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process, process.stdout as output:
        answered = [output.readline().strip() for _ in range(200)]
        process.send_signal(signal.SIGKILL)
        # The last line may be cut.
        answered += [line.strip() for line in output.readlines()][:-1]
    database = await open_database(embedded_place)
    assert set(answered) <= await database.read(fact_names)


async def test_processes_that_start_at_once_make_one_database(
    path: Path, embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    program = """
import asyncio, sys
from pathlib import Path
import structlog
from deltaglider_core.state.database import open_database
from deltaglider_core.state.place import DatabasePlace
from sqlalchemy import text

async def main():
    sys.stdin.read()
    place = DatabasePlace(path=Path(sys.argv[1]))
    database = await open_database(place, log=structlog.get_logger())
    query = text("SELECT value FROM facts WHERE name = 'deployment'")
    print(await database.read(lambda c: c.execute(query).scalar()))
    await database.aclose()

asyncio.run(main())
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    found = set()
    for process in processes:
        assert process.stdout is not None
        with process, process.stdout as output:
            found.add(output.read())
        assert process.returncode == 0
    assert len(found) == 1
    assert len(found.pop().strip()) == 32


async def test_closing_one_of_two_leaves_the_locks_of_the_other(
    path: Path, embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    """POSIX drops all locks of a process when it closes any descriptor of a file."""
    first = await open_database(embedded_place)
    await first.write(put_fact("a"))
    second = await open_database(embedded_place)
    await second.read(fact_names)
    await second.aclose()
    # Another process, which would take the file for unused without these locks, and remove the
    # log when it closes.
    program = """
import sys
from deltaglider_core.state import embedded_file
from deltaglider_core.state.keyfile import read_key
from pathlib import Path
path = Path(sys.argv[1])
connection = embedded_file.connect(path, read_key(path.with_suffix(".key")))
print(connection.execute("SELECT count(*) FROM facts").fetchone()[0])
connection.close()
"""
    result = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    assert result.stdout == "2\n"
    assert path.with_name(path.name + "-wal").exists()
    await first.write(put_fact("b"))
    assert await first.read(fact_names) == {"a", "b"}


# --- keys -------------------------------------------------------------------------------


async def refused(place: DatabasePlace, open_database: OpenDatabase, match: str) -> None:
    """Opening fails with a sentence, and changes nothing."""
    assert place.path is not None
    before = files(place.path.parent)
    with pytest.raises(ConfigurationError, match=match) as error:
        await open_database(place)
    assert "\n" not in str(error.value)
    assert files(place.path.parent) == before


async def test_a_wrong_key_changes_nothing(
    embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    path = await crash(embedded_place, open_database, "logged")
    place = DatabasePlace(path=path)
    right = place.key_path.read_text()
    place.key_path.write_text("ab" * 32)
    await refused(place, open_database, "is locked: the key in .*key does not open it")
    place.key_path.write_text(right)
    database = await open_database(place)
    assert await database.read(fact_names) == {"logged"}


async def test_a_wrong_key_is_not_printed(
    embedded_place: DatabasePlace,
    open_database: OpenDatabase,
    capfd: pytest.CaptureFixture[str],
) -> None:
    await make(embedded_place, open_database)
    embedded_place.key_path.write_text("ab" * 32)
    capfd.readouterr()
    with pytest.raises(ConfigurationError) as error:
        await open_database(embedded_place)
    assert "abab" not in str(error.value)
    assert capfd.readouterr() == ("", "")


async def test_a_database_without_its_key_is_refused(
    embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    await make(embedded_place, open_database)
    embedded_place.key_path.unlink()
    await refused(embedded_place, open_database, "its key .*key is missing")


async def test_a_key_without_its_database_gets_a_new_one(
    path: Path, embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    await make(embedded_place, open_database, "old")
    key = embedded_place.key_path.read_text()
    path.unlink()
    with capture_logs() as logs:
        database = await open_database(embedded_place)
    (warning,) = (entry for entry in logs if entry["log_level"] == "warning")
    assert "missing and is created anew" in warning["event"]
    assert await database.read(fact_names) == set()
    assert embedded_place.key_path.read_text() == key


async def test_a_log_without_its_database_is_never_replayed(
    embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    path = await crash(embedded_place, open_database, "logged")
    path.unlink()
    await refused(DatabasePlace(path=path), open_database, "is missing but its log .*-wal is there")


# --- damaged files ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4095])
async def test_a_file_that_is_too_short_is_no_new_database(
    path: Path, embedded_place: DatabasePlace, open_database: OpenDatabase, size: int
) -> None:
    await make(embedded_place, open_database)
    os.truncate(path, size)
    await refused(embedded_place, open_database, rf"is truncated \({size} bytes\)")


async def test_a_truncated_file_is_refused(
    path: Path, embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    await make(embedded_place, open_database)
    os.truncate(path, 4 * 4096)
    await refused(embedded_place, open_database, "is damaged or truncated; restore it from")


async def test_a_file_of_something_else_is_refused(
    path: Path, embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    await make(embedded_place, open_database)
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as plain:
        plain.execute("CREATE TABLE facts (name)")
    await refused(embedded_place, open_database, "is locked: the key in .* does not open it")
    path.write_bytes(b"")
    with opened(path) as foreign:
        foreign.execute("CREATE TABLE other (name)")
    await refused(embedded_place, open_database, "a database, but not one of this program")


async def test_damage_that_shows_later_is_an_error_and_no_absence(
    path: Path, embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    await make(embedded_place, open_database, *(f"{n:03}-{'x' * 60}" for n in range(200)))
    with opened(path) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'facts'"
        ).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096 + 100)
        file.write(b"\0" * 100)
    database = await open_database(embedded_place)

    def values(connection: Connection) -> list[str]:
        return list(connection.scalars(select(facts.c.value)))

    with pytest.raises(StateUnavailable, match="damaged"):
        await database.read(values)
    assert not database.available
    with pytest.raises(StateUnavailable, match="damaged"):
        await database.write(values)


# --- places -----------------------------------------------------------------------------


async def test_a_missing_directory_is_named(tmp_path: Path, open_database: OpenDatabase) -> None:
    place = DatabasePlace(path=tmp_path / "missing" / "deltaglider_config.db")
    with pytest.raises(ConfigurationError, match=r"directory .*missing of .* is missing; create"):
        await open_database(place)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def unprivileged_directory() -> Iterator[Path]:
    """A directory of a user who is not root; until its end the test has that user's rights."""
    directory = Path(tempfile.mkdtemp(prefix="dg-state-"))
    for module in ("alembic.command", "alembic.script"):
        import_module(module)  # loaded late, when the interpreter may be out of reach
    root = os.geteuid() == 0
    if root:
        os.chown(directory, 65534, 65534)
        os.setegid(65534)
        os.seteuid(65534)
    try:
        yield directory
    finally:
        if root:
            os.seteuid(0)
            os.setegid(0)
        directory.chmod(0o700)
        shutil.rmtree(directory)


async def test_what_cannot_be_written_is_refused(
    unprivileged_directory: Path, open_database: OpenDatabase
) -> None:
    path = unprivileged_directory / "deltaglider_config.db"
    place = DatabasePlace(path=path)
    await make(place, open_database, "kept")
    path.chmod(0o400)
    await refused(place, open_database, "cannot be written, since .*db cannot; check its owner")
    path.chmod(0o600)
    unprivileged_directory.chmod(0o500)
    await refused(place, open_database, "cannot be written, since .* cannot; check its owner")
    unprivileged_directory.chmod(0o700)
    database = await open_database(place)
    assert await database.read(fact_names) == {"kept"}


async def test_a_directory_in_its_place_is_refused(
    path: Path, embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    path.mkdir()
    embedded_place.key_path.write_text("ab" * 32)
    embedded_place.key_path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="state database"):
        await open_database(embedded_place)
    assert list(path.iterdir()) == []


async def test_a_draft_that_a_crash_left_is_replaced(
    path: Path, embedded_place: DatabasePlace, open_database: OpenDatabase
) -> None:
    for suffix in (".new", ".new-wal", ".new-journal"):
        path.with_name(path.name + suffix).write_bytes(b"half")
    await make(embedded_place, open_database, "a")
    assert set(files(path.parent)) == {path.name, embedded_place.key_path.name}


async def test_special_characters_in_a_path_are_only_that(
    tmp_path: Path, open_database: OpenDatabase
) -> None:
    directory = tmp_path / "a?mode=memory&b#c%20d é"
    directory.mkdir()
    place = DatabasePlace(path=directory / "x%41.db")
    await make(place, open_database, "a")
    database = await open_database(place)
    assert await database.read(fact_names) == {"a"}
    assert {"x%41.db", "x%41.key"} <= set(os.listdir(directory))
    assert os.listdir(tmp_path) == [directory.name]
