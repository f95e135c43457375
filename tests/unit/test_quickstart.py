"""``quickstart``: the file it writes, and what it prints."""

from __future__ import annotations

import os
import re
import shlex
import stat
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaglider_core import quickstart as module
from deltaglider_core.configfile import read_config
from deltaglider_core.errors import ConfigurationError
from deltaglider_core.loading import Loaded, load
from deltaglider_core.quickstart import fresh_keys, instructions, quickstart, write_config
from deltaglider_core.serve import ServeOptions


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[ServeOptions]:
    """What would be served, from an empty directory; the banner is printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DGP_CONFIG", raising=False)
    calls: list[ServeOptions] = []

    def serve(options: ServeOptions, announce: object) -> int:
        calls.append(options)
        announce("http://127.0.0.1:9000", options.load())  # type: ignore[operator]
        return 0

    monkeypatch.setattr(module, "serve", serve)
    return calls


def test_keys_have_the_shapes_of_aws_and_are_fresh() -> None:
    pairs = [fresh_keys() for _ in range(50)]
    for key, secret in pairs:
        assert re.fullmatch(r"DGAK[A-Z0-9]{16}", key)
        assert re.fullmatch(r"[A-Za-z0-9]{40}", secret)
    assert len({key for key, _ in pairs}) == len({secret for _, secret in pairs}) == 50


def test_the_file_has_five_lines_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "f.yaml"
    old = os.umask(0)
    try:
        write_config(path, "./data")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lines = path.read_text().splitlines()
    assert len(lines) == 5
    assert lines[:2] == ["storage:", "  filesystem: ./data"]
    found = load(config=path, environ={})
    assert found.settings.access.has_keys
    assert found.warnings == ()


@settings(deadline=None, max_examples=100)
@given(data=st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"])))
def test_any_directory_survives_the_file(
    data: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("quickstart") / "f.yaml"
    write_config(path, data)
    assert read_config(path, {})["storage"]["filesystem"] == data


def test_an_existing_file_is_never_touched(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("# mine\n")
    with pytest.raises(FileExistsError):
        write_config(path, "./data")
    assert path.read_text() == "# mine\n"
    link = tmp_path / "link.yaml"
    link.symlink_to(tmp_path / "elsewhere.yaml")
    with pytest.raises(FileExistsError):
        write_config(link, "./data")
    assert not (tmp_path / "elsewhere.yaml").exists()


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot write") as caught:
        write_config(tmp_path / "file" / "f.yaml", "./data")
    assert caught.value.exit_code == 3


def test_the_second_run_uses_the_file_of_the_first(
    served: list[ServeOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    assert quickstart() == 0
    written = Path("deltaglider_proxy.yaml").read_bytes()
    first = capsys.readouterr().out
    assert first.startswith("Wrote the configuration deltaglider_proxy.yaml\n")
    assert quickstart() == 0
    second = capsys.readouterr().out
    assert second.startswith("Using the configuration deltaglider_proxy.yaml\n")
    assert Path("deltaglider_proxy.yaml").read_bytes() == written
    assert first.partition("\n")[2] == second.partition("\n")[2]
    assert served[0] == served[1]
    assert served[0].load().settings.advanced.listen_addr == "127.0.0.1:9000"


def test_the_options_reach_the_server(served: list[ServeOptions]) -> None:
    config = Path("dir/my.yaml")
    assert quickstart(config=config, listen="127.0.0.1:1", data="objects", workers=2) == 0
    (options,) = served
    assert (options.listen, options.workers) == ("127.0.0.1:1", 2)
    assert yaml.safe_load(config.read_text())["storage"] == {"filesystem": "objects"}
    found = options.load().settings
    assert found.advanced.listen_addr == "127.0.0.1:1"
    assert found.storage.backend.model_dump(mode="json")["path"] == "objects"


def test_a_configured_address_beats_the_default(
    served: list[ServeOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("f.yaml").write_text(
        "access: {authentication: none}\nadvanced: {listen_addr: '[::1]:5'}\n"
    )
    quickstart(config=Path("f.yaml"))
    assert served[0].load().settings.advanced.listen_addr == "[::1]:5"
    monkeypatch.setenv("DGP_LISTEN_ADDR", "127.0.0.1:6")
    assert served[0].load().settings.advanced.listen_addr == "127.0.0.1:6"


def loaded(tmp_path: Path, text: str) -> Loaded:
    (tmp_path / "f.yaml").write_text(text)
    return load(config=tmp_path / "f.yaml", environ={})


def test_the_commands_can_be_pasted(tmp_path: Path) -> None:
    text = instructions(
        "http://127.0.0.1:1234",
        loaded(tmp_path, 'access: {access_key_id: a$b, secret_access_key: "it\'s `x` $$HOME"}\n'),
    )
    exports = dict(
        shlex.split(line)[1].split("=", 1)
        for line in text.splitlines()
        if line.strip().startswith("export ")
    )
    assert exports == {
        "AWS_ACCESS_KEY_ID": "a$b",
        "AWS_SECRET_ACCESS_KEY": "it's `x` $HOME",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1234",
    }
    assert "aws s3 mb s3://builds" in text
    assert "aws s3 cp " in text


def test_tls_is_a_matter_of_one_word(
    served: list[ServeOptions], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert quickstart(tls=True) == 0
    found = served[0].load()
    assert found.settings.advanced.tls.enabled
    trust = f"export AWS_CA_BUNDLE={tmp_path / 'deltaglider_tls.crt'}\n"
    assert trust in capsys.readouterr().out
    # It is written down: whoever serves this configuration later serves https as well.
    assert quickstart() == 0
    assert served[1].load().settings.advanced.tls.enabled
    assert trust in capsys.readouterr().out
    # Clients know the authority of a certificate that is given.
    given = loaded(tmp_path, "advanced: {tls: {enabled: true, cert_path: a, key_path: b}}\n")
    assert "AWS_CA_BUNDLE" not in instructions("https://127.0.0.1:1", given)


@pytest.mark.parametrize(
    ("url", "reachable"),
    [
        ("http://0.0.0.0:9000", "http://127.0.0.1:9000"),
        ("http://[::]:9000", "http://[::1]:9000"),
        ("http://192.0.2.7:80", "http://192.0.2.7:80"),
    ],
)
def test_the_printed_endpoint_is_one_that_can_be_reached(
    url: str, reachable: str, tmp_path: Path
) -> None:
    text = instructions(url, loaded(tmp_path, "access: {authentication: none}\n"))
    assert f"AWS_ENDPOINT_URL={reachable}\n" in text
    assert "AWS_ACCESS_KEY_ID=anonymous" in text
