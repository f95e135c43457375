"""The revisions of the schema, by Alembic."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, inspect, text

from ..errors import ConfigurationError

#: The revision that this program works with; the last one in ``versions``. Written here, so that
#: a process that finds it need not load Alembic.
HEAD = "0002"

#: The folder of Alembic's environment.
LOCATION = Path(__file__).parent / "migrations"

VERSION_TABLE = "alembic_version"

# Revisions reach their connection through modules of Alembic, of which a process has one each.
_alembic = threading.Lock()


class _Driver(Protocol):
    def execute(self, statement: str, /) -> Any: ...


def read_revision_of(connection: _Driver, path: Path) -> str:
    """The revision of the embedded database at ``path``, by a bare connection of the driver.

    Raises:
        ConfigurationError: It has none.
    """
    found = connection.execute(
        f"SELECT name FROM sqlite_master WHERE type = 'table' AND name = '{VERSION_TABLE}'"  # noqa: S608
    ).fetchone()
    rows = (
        connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchall()  # noqa: S608
        if found
        else []
    )
    if len(rows) != 1:
        raise ConfigurationError(
            f"the state database {path} is a database, but not one of this program; set "
            "advanced.database_url to another file"
        )
    return str(rows[0][0])


def read_revision(connection: Connection) -> str | None:
    """The revision of a database, or None of one that has not been set up."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    rows = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).fetchall()  # noqa: S608
    return str(rows[0][0]) if rows else None


def check_revision(revision: str | None) -> None:
    """Raise ``ConfigurationError`` unless this program can work with a revision as it is."""
    if revision != HEAD:
        raise ConfigurationError(
            f"the state database has the schema {revision}, this program needs {HEAD}; restart it"
        )


def check_known(revision: str | None, name: str) -> None:
    """Raise ``ConfigurationError`` if the database ``name`` cannot be migrated from a revision."""
    from alembic.script import ScriptDirectory

    if revision is None:
        return
    known = {script.revision for script in ScriptDirectory(str(LOCATION)).walk_revisions()}
    if revision not in known:
        raise ConfigurationError(
            f"the state database {name} was written by a newer version: its schema is {revision}, "
            f"this version knows them up to {HEAD}; install that version, or restore a backup"
        )


def upgrade(connection: Connection) -> None:
    """Migrate to ``HEAD`` inside the transaction of a connection, which the caller commits."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(LOCATION).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _alembic:
        command.upgrade(config, HEAD)


__all__ = [
    "HEAD",
    "LOCATION",
    "VERSION_TABLE",
    "check_known",
    "check_revision",
    "read_revision",
    "read_revision_of",
    "upgrade",
]
