"""Where the settings put the database."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from deltaglider_core.errors import ConfigurationError
from deltaglider_core.settings import Settings
from deltaglider_core.state.place import database_place


def test_it_lies_beside_the_configuration() -> None:
    place = database_place(None, Path("/etc/dg/proxy.yaml"))
    assert place.path == Path("/etc/dg/deltaglider_config.db")
    assert place.key_path == Path("/etc/dg/deltaglider_config.key")
    assert place.url is None


def test_without_a_configuration_it_lies_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert database_place(None, None).path == tmp_path / "deltaglider_config.db"
    assert database_place("", Path("proxy.yaml")).path == tmp_path / "deltaglider_config.db"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/lib/state.db", "/var/lib/state.db"),
        ("sqlite:////var/lib/a%20b.db", "/var/lib/a b.db"),
        ("sqlite:///state.db", "{cwd}/state.db"),
        ("sqlite:///sub/state", "{cwd}/sub/state"),
    ],
)
def test_a_file_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    place = database_place(url, Path("/etc/dg/proxy.yaml"))
    assert place.path == Path(path.format(cwd=tmp_path))
    assert place.key_path.suffix == ".key"
    assert place.key_path != place.path


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
def test_a_server(scheme: str) -> None:
    place = database_place(f"{scheme}://me:hidden-word@host:5432/db", None)
    assert place.path is None
    assert place.url == f"{scheme}://me:hidden-word@host:5432/db"
    assert "hidden-word" not in repr(place)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:hidden-word@host/db",
        "hidden-word",
        "/var/lib/hidden-word.db",
        "sqlite://hidden-word/x.db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:?key=hidden-word",
        "sqlite:///hidden-word.key",
        "sqlite:///hidden-word%00.db",
        "postgresql://me:hidden-word@host:port/db",
        "postgresql://[hidden-word/db",
        "postgres://me:hidden-word@host/db",
    ],
)
def test_anything_else_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="the database URL") as error:
        database_place(url, None)
    assert "hidden-word" not in str(error.value)
    # The configuration check finds it, too.
    with pytest.raises(ValidationError, match="the database URL") as invalid:
        Settings.model_validate({"advanced": {"database_url": url}})
    assert "hidden-word" not in str(invalid.value)


def test_a_valid_setting_stays_secret() -> None:
    url = "postgresql://me:hidden-word@host/db"
    settings = Settings.model_validate({"advanced": {"database_url": url}})
    assert settings.advanced.database_url is not None
    assert settings.advanced.database_url.get_secret_value() == url
    assert "hidden-word" not in repr(settings)
