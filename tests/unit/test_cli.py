"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.plugins import FakeSite

from deltaglider_core.cli import build_parser, main
from deltaglider_core.serve import ServeOptions

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory and an environment without a configuration."""
    monkeypatch.chdir(tmp_path)
    for name in ("DGP_CONFIG", "DGP_ACCESS_KEY_ID", "DGP_SECRET_ACCESS_KEY", "DGP_AUTHENTICATION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[ServeOptions]:
    """What would be served."""
    calls: list[ServeOptions] = []

    def serve(options: ServeOptions) -> int:
        calls.append(options)
        return 0

    monkeypatch.setattr("deltaglider_core.serve.serve", serve)
    return calls


def write(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize(
    "words",
    [
        ["-c", "f.yaml", "-l", "127.0.0.1:1", "--workers", "3", "-v"],
        ["serve", "--config", "f.yaml", "--listen", "127.0.0.1:1", "--workers=3", "--verbose"],
        ["-c", "f.yaml", "--workers", "3", "serve", "-l", "127.0.0.1:1", "-v"],
        ["-c", "x", "-l", "x", "-v", "serve", "-c", "f.yaml", "-l127.0.0.1:1", "--workers", "3"],
    ],
)
def test_serve_is_the_default_and_takes_options_on_both_sides(
    words: list[str], served: list[ServeOptions]
) -> None:
    assert main(words) == 0
    assert served == [ServeOptions(config="f.yaml", listen="127.0.0.1:1", workers=3, verbose=True)]


def test_quickstart_takes_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, object]] = []
    monkeypatch.setattr(
        "deltaglider_core.quickstart.quickstart", lambda **options: calls.append(options) or 0
    )
    assert main(["quickstart"]) == 0
    assert main(["quickstart", "--tls", "--data", "d", "--workers", "2"]) == 0
    assert [(call["tls"], call["data"], call["workers"]) for call in calls] == [
        (False, None, 1),
        (True, "d", 2),
    ]


def test_no_word_at_all_serves(served: list[ServeOptions]) -> None:
    assert main([]) == 0
    assert served == [ServeOptions()]


@pytest.mark.parametrize(
    "words",
    [
        ["--workers", "0"],
        ["--workers", "257"],
        ["--workers", "two"],
        ["--no-such-flag"],
        ["config"],
        ["config", "lint"],
        ["config", "burn"],
        ["no-such-command"],
        ["serve", "extra"],
        ["-c"],
    ],
)
def test_wrong_usage_is_exit_code_2(words: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage: " in capsys.readouterr().err


def test_the_version_and_the_help(capsys: Capture) -> None:
    for words in (["--version"], ["--help"], ["config", "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("deltaglider_proxy ")
    for command in ("serve", "quickstart", "config", "plugins", "lint", "schema"):
        assert command in text


def test_without_credentials_it_says_how_to_get_them(capsys: Capture) -> None:
    assert main(["serve"]) == 1
    text = capsys.readouterr().err
    for way in ("quickstart", "DGP_ACCESS_KEY_ID", "access_key_id", "authentication: none"):
        assert way in text


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("access: {access_key_id: admin}\n", 4, "secret_access_key is missing"),
        ("a: [\n", 4, "f.yaml:2:1: "),
        ("advanced: {log_level: loud}\n", 6, "log level"),
        (None, 3, "No such file"),
    ],
)
def test_a_wrong_configuration_has_its_exit_code(
    text: str | None, code: int, words: str, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "f.yaml"
    if text is not None:
        write(path, text)
    for command in (["config", "lint", str(path)], ["serve", "-c", str(path)]):
        assert main(command) == code
        printed = capsys.readouterr()
        assert words in printed.err
        assert printed.err.startswith("deltaglider_proxy: ")
        assert printed.out == ""


def test_a_configuration_named_by_the_environment_must_exist(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("DGP_CONFIG", "missing.yaml")
    assert main(["plugins"]) == 3
    assert "missing.yaml" in capsys.readouterr().err


def test_lint_prints_ok_and_opens_nothing(tmp_path: Path, capsys: Capture) -> None:
    data = tmp_path / "data"
    path = write(
        tmp_path / "f.yaml",
        f"storage: {{filesystem: {data}}}\naccess: {{access_key_id: abc, secret_access_key: x}}\n",
    )
    assert main(["config", "lint", path]) == 0
    assert capsys.readouterr() == (f"{path}: ok\n", "")
    assert not data.exists()


def test_lint_counts_warnings(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "f.yaml", "")
    assert main(["config", "lint", path]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{path}: ok with 1 warning\n"
    assert printed.err.startswith(f"{path}: warning: access: no credentials")


def test_lint_imports_no_driver_and_no_server(tmp_path: Path) -> None:
    path = write(tmp_path / "f.yaml", "access: {authentication: none}\n")
    program = (
        "import sys; from deltaglider_core.cli import main; code = main(sys.argv[1:]);"
        "names = ('falcon', 'uvicorn', 'deltaglider_backend_fs.backend', 'awscrt',"
        " 'deltaglider_codec_xdelta3._xdelta3');"
        "print([n for n in names if n in sys.modules]); sys.exit(code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, "config", "lint", path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == f"{path}: ok\n[]\n"


def test_the_schema_goes_to_standard_output_or_a_file(tmp_path: Path, capsys: Capture) -> None:
    assert main(["config", "schema"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["title"] == "Configuration of DeltaGlider"
    out = tmp_path / "schema.json"
    assert main(["config", "schema", "--out", str(out)]) == 0
    assert out.read_text() == printed
    assert capsys.readouterr().out == ""
    assert main(["config", "schema", "--out", str(tmp_path / "no" / "schema.json")]) == 3


def test_plugins_prints_the_table(capsys: Capture) -> None:
    assert main(["plugins"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    layers = [row[:4] for row in rows if row[0] == "storage_layers"]
    assert layers == [
        ["storage_layers", "1", "intents", "deltaglider-core"],
        ["storage_layers", "2", "delta", "deltaglider-core"],
    ]
    assert any(row[2:4] == ["filesystem", "deltaglider-backend-fs"] for row in rows)
    assert any(row[-3:] == ["configured", "as", "storage.backend"] for row in rows)


HELLO = """
    from deltaglider_core import Command, hookimpl

    @hookimpl
    def dg_commands():
        yield Command(
            name="{name}", summary="Say hello.",
            configure=lambda parser: parser.add_argument("who"),
            run=lambda arguments: print("Hello,", arguments.who) or 7,
        )
"""


def test_a_plugin_adds_a_command(site: FakeSite, capsys: Capture) -> None:
    site.install("greeter", HELLO.format(name="hello"))
    assert main(["hello", "you"]) == 7
    assert capsys.readouterr().out == "Hello, you\n"
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "Say hello." in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main(["hello"])
    assert caught.value.code == 2


def test_a_plugin_cannot_replace_a_command(site: FakeSite, capsys: Capture) -> None:
    site.install("greeter", HELLO.format(name="serve"))
    assert main(["serve"]) == 1
    assert "'greeter' (deltaglider-greeter 1.2.3) adds a command 'serve'" in capsys.readouterr().err


def test_help_works_with_a_broken_plugin_and_nothing_else_does(
    site: FakeSite, capsys: Capture
) -> None:
    site.install("broken", "raise RuntimeError('boom')")
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "boom" in capsys.readouterr().err
    for words in (["plugins"], ["hello"], ["serve"]):
        assert main(words) == 1
        assert "'broken' (deltaglider-broken 1.2.3) failed to load" in capsys.readouterr().err


def test_the_help_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    narrow = build_parser().format_help()
    monkeypatch.setenv("COLUMNS", "200")
    assert build_parser().format_help() == narrow


def test_a_reader_that_leaves_is_no_traceback() -> None:
    result = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m deltaglider_core config schema | head -c 1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Traceback" not in result.stderr
