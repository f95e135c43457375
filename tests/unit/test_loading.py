"""From file, environment and flags to settings; every mistake as one clear sentence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.plugins import FakeSite

from deltaglider_core.environment import Override
from deltaglider_core.errors import ConfigurationError
from deltaglider_core.loading import Loaded, lint, load
from deltaglider_core.plugins import load_plugins
from deltaglider_core.settings import Settings

PLUGINS = load_plugins()
LISTEN = ("advanced", "listen_addr")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def loaded(config: Path, text: str, environ: Mapping[str, str] = {}, **options: Any) -> Loaded:
    config.write_text(text, encoding="utf-8")
    config.chmod(0o600)
    return load(config=config, environ=environ, **{"plugins": PLUGINS, **options})


def settings(config: Path, text: str, environ: Mapping[str, str] = {}, **options: Any) -> Settings:
    return loaded(config, text, environ, **options).settings


def refusal(config: Path, text: str, environ: Mapping[str, str] = {}) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        loaded(config, text, environ)
    return caught.value


def test_the_five_lines_are_runnable(config: Path) -> None:
    found = settings(
        config,
        "storage:\n  filesystem: /srv/objects\n"
        "access:\n  access_key_id: admin\n  secret_access_key: changeme\n",
    )
    assert found.storage.backend.model_dump(mode="json") == {
        "type": "filesystem",
        "path": "/srv/objects",
    }
    assert found.access.has_keys


def test_no_file_at_all_is_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = load(environ={}, plugins=PLUGINS)
    assert found.path is None
    assert found.settings.storage.backend.type == "filesystem"
    assert found.warnings == ()


def test_precedence_is_flags_environment_file_defaults(config: Path) -> None:
    text = "advanced: {listen_addr: '127.0.0.1:1'}\n"
    flag = Override(path=LISTEN, value="127.0.0.1:3", origin="--listen")
    default = Override(path=LISTEN, value="127.0.0.1:4", origin="quickstart")
    environ = {"DGP_LISTEN_ADDR": "127.0.0.1:2"}

    def address(text: str, environ: Mapping[str, str], **options: Any) -> str:
        return settings(config, text, environ, **options).advanced.listen_addr

    assert address(text, environ, flags=[flag], defaults=[default]) == "127.0.0.1:3"
    assert address(text, environ, defaults=[default]) == "127.0.0.1:2"
    assert address(text, {}, defaults=[default]) == "127.0.0.1:1"
    assert address("", {}, defaults=[default]) == "127.0.0.1:4"
    assert address("advanced:\n", {}, defaults=[default]) == "127.0.0.1:4"
    assert address("", {}) == "0.0.0.0:9000"


def test_every_variable_reaches_its_setting(config: Path) -> None:
    found = settings(
        config,
        "",
        {
            "DGP_LISTEN_ADDR": "[::1]:1",
            "DGP_ACCESS_KEY_ID": "admin",
            "DGP_SECRET_ACCESS_KEY": "changeme",
            "DGP_AUTHENTICATION": "None",
            "DGP_LOG_LEVEL": "deltaglider_proxy=info,uvicorn=warn",
            "DGP_LOG_FORMAT": "JSON",
            "DGP_CACHE_MB": "7",
            "DGP_CACHE_DIR": "/cache",
            "DGP_SPOOL_DIR": "/spool",
            "DGP_SPOOL_MAX_BYTES": "8",
            "DGP_MAX_DELTA_RATIO": "0.5",
            "DGP_MAX_OBJECT_SIZE": "9",
            "DGP_CLOCK_SKEW_SECONDS": "60",
            "DGP_DATA_DIR": "/objects",
        },
    )
    assert found.access.access_key_id == "admin"
    assert found.access.secret_access_key is not None
    assert found.access.secret_access_key.get_secret_value() == "changeme"
    assert found.access.authentication == "none"
    advanced = found.advanced
    assert advanced.listen_addr == "[::1]:1"
    assert advanced.log_format == "json"
    assert advanced.log_level == "deltaglider_proxy=info,uvicorn=warn"
    assert (advanced.cache_size_mb, advanced.cache_dir) == (7, Path("/cache"))
    assert (advanced.spool_max_bytes, advanced.spool_dir) == (8, Path("/spool"))
    assert (advanced.max_delta_ratio, advanced.max_object_size) == (0.5, 9)
    assert advanced.clock_skew_seconds == 60
    assert found.storage.backend.model_dump(mode="json")["path"] == "/objects"


def test_the_data_directory_replaces_the_whole_backend(config: Path) -> None:
    text = "storage: {backend: {type: s3, endpoint: 'https://x'}, buckets: {b: {}}}\n"
    found = settings(config, text, {"DGP_DATA_DIR": "/objects"})
    assert found.storage.backend.type == "filesystem"
    assert list(found.storage.buckets) == ["b"]


def test_an_empty_variable_is_none(config: Path) -> None:
    found = settings(config, "", {"DGP_LOG_LEVEL": "", "DGP_DATA_DIR": ""})
    assert found.advanced.log_level == "info"


def test_an_unknown_variable_of_ours_is_a_warning(config: Path) -> None:
    found = loaded(config, "", {"DGP_LOGLEVEL": "debug", "DGP_CONFIG": "x", "PATH": "/bin"})
    assert len(found.warnings) == 1
    assert "DGP_LOGLEVEL" in found.warnings[0]


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [
        ("DGP_CACHE_MB", "many", 4),
        ("DGP_LISTEN_ADDR", "nowhere", 4),
        ("DGP_MAX_DELTA_RATIO", "nan", 4),
        ("DGP_AUTHENTICATION", "off", 4),
        ("DGP_LOG_FORMAT", "xml", 4),
        ("DGP_LOG_LEVEL", "loud", 6),
    ],
)
def test_a_bad_value_names_its_variable(config: Path, variable: str, value: str, code: int) -> None:
    error = refusal(config, "advanced: {log_level: info}\n", {variable: value})
    assert str(error).startswith(f"{variable}: ")
    assert error.exit_code == code


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "access_key_id: admin\n",
            "access_key_id: unknown key; did you mean access.access_key_id?",
        ),
        ("filesystem: ./data\n", "filesystem: unknown key; did you mean storage.filesystem?"),
        ("storge: {}\n", "storge: unknown key; did you mean storage?"),
        ("advanced: {log_leve: info}\n", "unknown key; did you mean advanced.log_level?"),
        (
            "storage: {buckets: {releases: {compresion: true}}}\n",
            "storage.buckets.releases.compresion: unknown key; did you mean "
            "storage.buckets.releases.compression?",
        ),
        (
            "storage: {backend: {type: filesystem, path: x, pth: y}}\n",
            "storage.backend.pth: unknown key; did you mean storage.backend.path?",
        ),
        ("access: {zzzzz: 1}\n", "unknown key; known here: access_key_id, authentication"),
        ("1: 2\n", "1: unknown key; known here: access, admission, advanced, storage"),
        ("storage: {backend: {type: filesystem}}\n", "storage.backend.path: is missing"),
        ("storage: {backend: {path: x}}\n", "storage.backend: needs a key `type`"),
        ("storage: {backend: text}\n", "storage.backend: "),
        ("storage: {backend: null}\n", "storage.backend: "),
        ("storage: text\n", "storage: must be a section"),
        ("advanced: 5\n", "advanced: must be a section"),
        ("access: {access_key_id: admin}\n", "access: secret_access_key is missing"),
        ("access: {access_key_id: 123456, secret_access_key: x}\n", "put numbers"),
        ("access: {access_key_id: a b c, secret_access_key: x}\n", "must not contain spaces"),
        ("advanced: {max_delta_ratio: .nan}\n", "advanced.max_delta_ratio: must be a number"),
        ("advanced: {max_delta_ratio: 2}\n", "must be less than or equal to 1"),
        ("storage: {buckets: {b: {max_delta_ratio: 2}}}\n", "storage.buckets.b.max_delta_ratio: "),
        ("advanced: {plugins: {disabled: backend-fs}}\n", "advanced.plugins.disabled: "),
        ("advanced: {codec: lzma}\n", "advanced.codec: no codec named 'lzma' is installed"),
        ("advanced: {pipeline: {layers: []}}\n", "advanced.pipeline.layers: there is no such"),
        (
            "advanced: {pipeline: {storage_layers: [quota]}}\n",
            "missing: intents, delta; unknown: quota",
        ),
        ("storage: {filesystem: a, s3: b}\n", "exclude each other"),
        ("storage: {filesystem: a, backend: {type: filesystem, path: b}}\n", "exclude each other"),
        ("storage: {filesystem: ''}\n", "storage.filesystem must be the path"),
        ("storage: {filesystem: [a]}\n", "storage.filesystem must be the path"),
        ("storage: {s3: ftp://x}\n", "storage.s3 must be a URL"),
        ("storage: {access_key_id: x}\n", "did you mean access.access_key_id?"),
        ("storage: {region: x}\n", "storage.region belongs to storage.s3"),
        ("storage: {s3: 'https://x', region: y}\n", "pip install deltaglider-backend-s3"),
        ("storage: {backend: {type: filesytem}}\n", "did you mean 'filesystem'?"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_path(config: Path, text: str, words: str) -> None:
    error = refusal(config, text)
    assert error.exit_code == 4
    assert words in str(error)
    assert all(line.startswith(f"{config}: ") for line in str(error).splitlines())


def test_a_bucket_may_be_called_like_a_number(config: Path) -> None:
    found = settings(config, "storage: {buckets: {2024: {}, on: {}, null: {}, 1e3: {}}}\n")
    assert list(found.storage.buckets) == ["2024", "on", "null", "1e3"]


def test_all_mistakes_are_listed_at_once(config: Path) -> None:
    error = refusal(config, "storge: 1\naccess: {zz: 1}\nadvanced: {log_format: xml}\n")
    assert len(str(error).splitlines()) == 3


def test_a_bad_log_filter_has_an_exit_code_of_its_own(config: Path) -> None:
    error = refusal(config, "advanced: {log_level: loud}\n")
    assert error.exit_code == 6
    assert f"{config}: advanced.log_level: 'loud' is not a log level" in str(error)


def test_a_secret_never_gets_into_an_error(config: Path) -> None:
    secret = "hunter2-hunter2"
    for text in (
        f"access: {{secret_access_key: {secret}}}\n",
        f"access: {{access_key_id: ab, secret_access_key: [{secret}]}}\n",
        f"access: {{secret_acces_key: {secret}}}\n",
        f"access: {secret}\n",
    ):
        assert secret not in str(refusal(config, text))
    assert secret not in repr(
        settings(config, f"access: {{access_key_id: abc, secret_access_key: {secret}}}\n")
    )


def test_half_a_pair_may_come_from_the_environment(config: Path) -> None:
    found = settings(config, "access: {access_key_id: admin}\n", {"DGP_SECRET_ACCESS_KEY": "x"})
    assert found.access.has_keys
    assert "secret_access_key is missing" in str(refusal(config, "", {"DGP_ACCESS_KEY_ID": "abc"}))


def test_references_to_the_environment_are_converted(config: Path) -> None:
    text = (
        "advanced: {max_delta_ratio: '${env:RATIO}', cache_size_mb: '${env:MB:-5}'}\n"
        "access:\n  access_key_id: ${env:KEY:-}\n"
        "storage: {buckets: {b: {compression: '${env:C}'}}}\n"
    )
    found = settings(config, text, {"RATIO": "0.25", "C": "off"})
    assert found.advanced.max_delta_ratio == 0.25
    assert found.advanced.cache_size_mb == 5
    assert found.access.access_key_id is None
    assert found.storage.buckets["b"].compression is False


@pytest.mark.parametrize(("mode", "who"), [(0o644, "everybody"), (0o640, "its group")])
def test_a_file_with_a_secret_that_others_can_read_is_a_warning(
    config: Path, mode: int, who: str
) -> None:
    config.write_text("access: {access_key_id: abc, secret_access_key: x}\n")
    config.chmod(mode)
    (warning,) = load(config=config, environ={}, plugins=PLUGINS).warnings
    assert f"can be read by {who}" in warning
    assert "chmod 600" in warning


def test_lint_ignores_our_variables_but_expands_references(config: Path) -> None:
    config.write_text("access: {access_key_id: '${env:K}', secret_access_key: x}\n")
    config.chmod(0o600)
    found = lint(config, {"K": "admin", "DGP_LISTEN_ADDR": "nonsense"})
    assert found.settings.access.access_key_id == "admin"
    assert found.warnings == ()


def test_lint_warns_about_missing_credentials(config: Path) -> None:
    config.write_text("storage: {filesystem: ./data}\n")
    (warning,) = lint(config, {}).warnings
    assert "no credentials" in warning
    config.write_text("access: {authentication: none}\n")
    assert lint(config, {}).warnings == ()


def test_a_plugin_that_fails_is_skipped_unless_it_is_mentioned(
    config: Path, site: FakeSite
) -> None:
    site.install("broken", "raise RuntimeError('boom')")
    skip = "advanced: {plugins: {on_load_error: skip}"
    found = loaded(config, skip + "}\n", plugins=None)
    assert [p.error for p in found.plugins.plugins if p.state == "failed"] == ["RuntimeError: boom"]
    for mention in (
        ", pipeline: {storage_layers: [delta, broken]}}\n",
        ", broken: {}}\n",
        "}\naccess: {deltaglider-broken: 1}\n",
    ):
        config.write_text(skip + mention)
        with pytest.raises(ConfigurationError, match=r"'broken' .* failed to load") as caught:
            load(config=config, environ={})
        assert caught.value.exit_code == 1
    config.write_text("advanced: {plugins: {disabled: [broken]}}\n")
    assert load(config=config, environ={}).settings.advanced.plugins.disabled == ("broken",)


def test_the_default_backend_is_missed_by_name(config: Path) -> None:
    text = "advanced: {plugins: {disabled: [backend-fs]}}\n"
    config.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load(config=config, environ={})
    assert "storage.backend (the default): no storage backend named 'filesystem'" in str(
        caught.value
    )
    assert "advanced.plugins.disabled" in str(caught.value)
