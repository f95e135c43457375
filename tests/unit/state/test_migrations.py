"""The revisions of the schema."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select
from support.state import OpenDatabase, fact_names, put_fact

from deltaglider_core.errors import ConfigurationError
from deltaglider_core.state import embedded_file, migrate
from deltaglider_core.state.database import Database
from deltaglider_core.state.keyfile import read_key
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.tables import facts, metadata

ROOT = Path(__file__).resolve().parents[3]

REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "{name}"
down_revision = "{below}"

def upgrade():
    op.create_table("later", sa.Column("id", sa.Integer, primary_key=True))
    op.execute(sa.text("INSERT INTO facts (name, value) VALUES ('migrated', '')"))
    {more}
"""


class LaterVersion:
    """A later version of this program, which has one revision more."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self._location = directory / "migrations"
        self._patch = patch
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(migrate.LOCATION, self._location, ignore=ignored)

    def install(self, more: str = "") -> None:
        text = REVISION.format(name="9999", below=migrate.HEAD, more=more)
        (self._location / "versions" / "9999_later.py").write_text(text)
        self._patch.setattr(migrate, "LOCATION", self._location)
        self._patch.setattr(migrate, "HEAD", "9999")


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LaterVersion:
    return LaterVersion(tmp_path, monkeypatch)


async def made(place: DatabasePlace, open_database: OpenDatabase, *names: str) -> None:
    database = await open_database(place)
    for name in names:
        await database.write(put_fact(name))
    await database.aclose()


def has_later(connection: Connection) -> bool:
    return inspect(connection).has_table("later")


def test_the_known_revision_is_the_last_one() -> None:
    assert ScriptDirectory(str(migrate.LOCATION)).get_heads() == [migrate.HEAD]


def test_every_file_is_shipped() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["deltaglider_core"]
    for path in migrate.LOCATION.rglob("*.py"):
        name = str(path.relative_to(ROOT / "deltaglider_core"))
        # The star of setuptools stops at a slash.
        assert any(
            fnmatch.fnmatch(name, pattern) and name.count("/") == pattern.count("/")
            for pattern in patterns
        ), f"{name} would be missing in the wheel"


async def test_the_schema_is_that_of_the_tables(database: Database) -> None:
    def differences(connection: Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, metadata))

    assert await database.read(differences) == []
    # A comparison that finds nothing at all would find nothing here, either.
    await database.write(lambda c: c.exec_driver_sql("DROP INDEX intents_key") and None)
    assert len(await database.read(differences)) == 1


async def test_an_installation_has_one_id_for_ever(
    place: DatabasePlace, open_database: OpenDatabase
) -> None:
    def deployment(connection: Connection) -> str:
        query = select(facts.c.value).where(facts.c.name == "deployment")
        return str(connection.execute(query).scalar_one())

    first = await open_database(place)
    found = await first.read(deployment)
    assert len(bytes.fromhex(found)) == 16
    await first.aclose()
    assert await (await open_database(place)).read(deployment) == found


async def test_those_that_start_at_once_migrate_once(
    place: DatabasePlace, open_database: OpenDatabase, later: LaterVersion
) -> None:
    opened = await asyncio.gather(*(open_database(place) for _ in range(4)))
    for database in opened:
        await database.aclose()
    later.install()
    # The second of them would fail at the table that the first one made.
    for database in await asyncio.gather(*(open_database(place) for _ in range(4))):
        assert await database.read(fact_names) == {"migrated"}


async def test_a_migration_that_fails_leaves_the_old_state(
    place: DatabasePlace,
    open_database: OpenDatabase,
    later: LaterVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await made(place, open_database, "old")
    later.install(more="op.execute(sa.text('SELECT nonsense FROM facts'))")
    with pytest.raises(ConfigurationError, match="nonsense"):
        await open_database(place)
    monkeypatch.undo()
    database = await open_database(place)
    assert await database.read(fact_names) == {"old"}
    assert not await database.read(has_later)


async def test_a_newer_database_is_refused_and_both_revisions_named(
    place: DatabasePlace,
    open_database: OpenDatabase,
    later: LaterVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await made(place, open_database)
    known = migrate.HEAD
    later.install()
    await made(place, open_database)
    monkeypatch.undo()
    with pytest.raises(ConfigurationError, match=f"newer version: its schema is 9999.* {known};"):
        await open_database(place)


async def test_a_backup_is_made_before(
    embedded_place: DatabasePlace, open_database: OpenDatabase, later: LaterVersion
) -> None:
    assert embedded_place.path is not None
    await made(embedded_place, open_database, "old")
    backup = embedded_place.path.with_name(f"deltaglider_config.db.{migrate.HEAD}.bak")
    assert not backup.exists()
    later.install()
    database = await open_database(embedded_place)
    assert await database.read(fact_names) == {"old", "migrated"}
    assert backup.stat().st_mode & 0o777 == 0o600
    assert b"SQLite format" not in backup.read_bytes()
    key = read_key(embedded_place.key_path)
    assert key is not None
    with contextlib.closing(embedded_file.connect(backup, key)) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM facts")}
        assert names == {"old", "deployment"}
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_the_backup_can_take_the_place_of_the_database(
    embedded_place: DatabasePlace,
    open_database: OpenDatabase,
    later: LaterVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert embedded_place.path is not None
    await made(embedded_place, open_database, "old")
    backup = embedded_place.path.with_name(f"deltaglider_config.db.{migrate.HEAD}.bak")
    later.install()
    await made(embedded_place, open_database, "new")
    monkeypatch.undo()
    backup.rename(embedded_place.path)
    database = await open_database(embedded_place)
    assert await database.read(fact_names) == {"old"}
    mode = await database.read(lambda c: c.exec_driver_sql("PRAGMA journal_mode").scalar())
    assert mode == "wal"


async def test_databases_migrate_side_by_side(tmp_path: Path, open_database: OpenDatabase) -> None:
    """Alembic keeps the connection of a migration in its modules."""
    places = [DatabasePlace(path=tmp_path / f"{number}.db") for number in range(4)]
    opened = await asyncio.gather(*(open_database(place) for place in places))
    for number, database in enumerate(opened):
        await database.write(put_fact(f"{number}"))
    found = [await database.read(fact_names) for database in opened]
    assert found == [{"0"}, {"1"}, {"2"}, {"3"}]
