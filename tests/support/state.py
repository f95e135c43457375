"""State databases for tests, on both kinds of database.

``conftest.py`` of a folder whose tests need them imports the fixtures of this module. ``database``
runs a test on each kind; ``place`` and ``open_database`` are for tests that open several, or one
again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import structlog
from sqlalchemy import Connection, insert, select

from deltaglider_core.state import database as state_database
from deltaglider_core.state.database import Database
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.tables import facts

from .postgres import shared_server

OpenDatabase = Callable[..., Awaitable[Database]]

KINDS = ("embedded", "postgresql")

_schemas = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a PostgreSQL server that all processes of this test run share."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # that of the whole run
    with shared_server(base) as url:
        yield url


@contextlib.contextmanager
def fresh_schema(postgres_url: str) -> Iterator[str]:
    """URL of an empty schema on a server."""
    name = f"test_{os.getpid()}_{next(_schemas)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
        yield f"{postgres_url}&options={quote(f'-csearch_path={name}')}"
        connection.execute(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture
def postgres_place(postgres_url: str) -> Iterator[DatabasePlace]:
    """An empty schema on the shared server."""
    with fresh_schema(postgres_url) as url:
        yield DatabasePlace(url=url)


@pytest.fixture
def embedded_place(tmp_path: Path) -> DatabasePlace:
    """A directory without a database."""
    directory = tmp_path / "state"
    directory.mkdir()
    return DatabasePlace(path=directory / "deltaglider_config.db")


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> DatabasePlace:
    """A place without a database, of each kind."""
    found: DatabasePlace = request.getfixturevalue(
        "embedded_place" if request.param == "embedded" else "postgres_place"
    )
    return found


@pytest.fixture
async def open_database() -> AsyncIterator[OpenDatabase]:
    """Open databases that are closed after the test: ``await open_database(place)``."""
    async with AsyncExitStack() as stack:

        async def open_one(place: DatabasePlace, *, patient: bool = False) -> Database:
            log = structlog.get_logger()
            opened = await state_database.open_database(place, log=log, patient=patient)
            stack.push_async_callback(opened.aclose)
            return opened

        yield open_one


@pytest.fixture
async def database(place: DatabasePlace, open_database: OpenDatabase) -> Database:
    """A fresh database, of each kind."""
    return await open_database(place)


def put_fact(name: str, value: str = "") -> Callable[[Connection], str]:
    """A function for ``Database.write`` that inserts a row and returns its name."""

    def write(connection: Connection) -> str:
        connection.execute(insert(facts).values(name=name, value=value))
        return name

    return write


def fact_names(connection: Connection) -> set[str]:
    """The names that ``put_fact`` has stored."""
    return set(connection.scalars(select(facts.c.name).where(facts.c.name != "deployment")))
