"""Where the state database is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import ConfigurationError

#: Name of the embedded database beside the configuration file.
DEFAULT_NAME = "deltaglider_config.db"

_POSTGRESQL = ("postgresql", "postgresql+psycopg")
_FORMS = "postgresql://user:password@host/database, or sqlite:///FILE for the embedded one"


@dataclass(frozen=True, kw_only=True, slots=True)
class DatabasePlace:
    """Either a file or a URL.

    Attributes:
        path: Absolute path of the embedded database; None for PostgreSQL.
        url: URL of the PostgreSQL database; may hold a password.
    """

    path: Path | None = None
    url: str | None = field(default=None, repr=False)

    @property
    def key_path(self) -> Path:
        """Key of the embedded database, beside it: ``NAME.key`` for ``NAME.db``."""
        assert self.path is not None
        return self.path.with_suffix(".key")


def database_place(url: str | None, config: Path | None) -> DatabasePlace:
    """The place that the settings mean.

    Args:
        url: Value of ``advanced.database_url``.
        config: The configuration file. Without a URL the database lies beside it, and without
            a file in the working directory.

    Raises:
        ConfigurationError: The URL means nothing; it is not repeated, since it may hold a password.
    """
    if not url:
        directory = config.parent if config is not None else Path()
        return DatabasePlace(path=_absolute(directory / DEFAULT_NAME))
    try:
        parts = urlsplit(url)
        _ = parts.port  # is parsed when it is asked for
    except ValueError as error:
        # What urllib says may quote a part of the URL.
        raise ConfigurationError(f"the database URL cannot be parsed; write {_FORMS}") from error
    if parts.scheme in _POSTGRESQL:
        return DatabasePlace(url=url)
    if parts.scheme != "sqlite":
        raise ConfigurationError(f"the database URL is of an unknown kind; write {_FORMS}")
    # sqlite:///relative.db and sqlite:////absolute.db, as SQLAlchemy spells them.
    name = unquote(parts.path[1:])
    if parts.netloc or parts.query or parts.fragment or not name or "\0" in name:
        raise ConfigurationError(f"the database URL names no file; write {_FORMS}")
    path = Path(name)
    if path.suffix == ".key":
        raise ConfigurationError("the database URL names a .key file, which is that of the key")
    return DatabasePlace(path=_absolute(path))


def _absolute(path: Path) -> Path:
    # Not resolved: the key and the locks lie beside the name that the operator gave.
    return path.absolute()


__all__ = ["DEFAULT_NAME", "DatabasePlace", "database_place"]
