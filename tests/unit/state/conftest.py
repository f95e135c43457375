"""Fixtures of the tests of the state."""

from support.state import (
    database,
    embedded_place,
    open_database,
    place,
    postgres_place,
    postgres_url,
)

__all__ = [
    "database",
    "embedded_place",
    "open_database",
    "place",
    "postgres_place",
    "postgres_url",
]
