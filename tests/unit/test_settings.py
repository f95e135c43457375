"""The models of the configuration, alone and assembled with those of plugins."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from support.plugins import FakeSite

from deltaglider_core.environment import variables, walk
from deltaglider_core.errors import ConfigurationError
from deltaglider_core.plugins import load_plugins
from deltaglider_core.settings import AccessSettings, AdvancedSettings, Settings
from deltaglider_core.settings_assembly import assemble_settings, config_schema
from deltaglider_core.settings_reference import render_settings


@pytest.mark.parametrize("model", [Settings, assemble_settings(load_plugins())])
def test_every_setting_has_a_description_and_says_when_it_applies(model: type[Settings]) -> None:
    for path, info in walk(model):
        assert info.description, ".".join(path)
        marks = info.json_schema_extra or {}
        assert isinstance(marks, dict)
        assert marks.get("x-apply", "rebuild") in ("hot", "rebuild", "restart"), ".".join(path)


def test_the_variables_are_the_documented_ones() -> None:
    assert set(variables(Settings)) == {
        "DGP_ACCESS_KEY_ID",
        "DGP_AUTHENTICATION",
        "DGP_CACHE_DIR",
        "DGP_CACHE_MB",
        "DGP_CLOCK_SKEW_SECONDS",
        "DGP_COLLECT_INTERVAL_SECONDS",
        "DGP_CORS_PERMISSIVE",
        "DGP_DATABASE_URL",
        "DGP_EVENT_MAX_ROWS",
        "DGP_EVENT_RETENTION_SECONDS",
        "DGP_KEEP_ALIVE_SECS",
        "DGP_LISTEN_ADDR",
        "DGP_LOG_FORMAT",
        "DGP_LOG_LEVEL",
        "DGP_MAX_CONCURRENT_REQUESTS",
        "DGP_MAX_CONNECTIONS",
        "DGP_MAX_DELTA_RATIO",
        "DGP_MAX_OBJECT_SIZE",
        "DGP_MULTIPART_IDLE_TTL_HOURS",
        "DGP_PATH_PREFIX",
        "DGP_REFERENCE_GRACE_SECONDS",
        "DGP_REPLAY_WINDOW_SECS",
        "DGP_REQUEST_QUEUE_SECS",
        "DGP_REQUEST_TIMEOUT_SECS",
        "DGP_SECRET_ACCESS_KEY",
        "DGP_SPOOL_DIR",
        "DGP_SPOOL_MAX_BYTES",
        "DGP_TLS_CERT",
        "DGP_TLS_ENABLED",
        "DGP_TLS_KEY",
        "DGP_TRANSFER_STALL_BYTES",
        "DGP_TRANSFER_STALL_SECS",
        "DGP_TRUSTED_PROXY_CIDRS",
        "DGP_TRUST_PROXY_HEADERS",
        "DGP_VIRTUAL_HOST_DOMAINS",
    }


def test_the_defaults() -> None:
    settings = assemble_settings(load_plugins())()
    assert settings.storage.backend.model_dump(mode="json") == {
        "type": "filesystem",
        "path": "data",
    }
    advanced = settings.advanced
    assert advanced.listen_addr == "0.0.0.0:9000"
    assert advanced.max_delta_ratio == 0.75
    assert advanced.cache_size_mb == 100
    assert advanced.spool_max_bytes == 16 * 1024**3
    assert advanced.max_object_size == 5 * 1024**4
    assert advanced.clock_skew_seconds == 900
    assert {".zip", ".jar", ".safetensors"} <= set(advanced.delta_suffixes)
    assert not settings.access.has_keys
    assert not settings.access.open_to_everybody


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().access.authentication = "none"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "open_to_everybody", "has_keys"),
    [
        ({}, False, False),
        ({"authentication": None}, False, False),
        ({"authentication": " NONE "}, True, False),
        ({"access_key_id": "abc", "secret_access_key": "s"}, False, True),
        (
            {"authentication": "none", "access_key_id": "abc", "secret_access_key": "s"},
            False,
            True,
        ),
    ],
)
def test_open_access_is_only_what_a_setting_says(
    values: dict[str, Any], open_to_everybody: bool, has_keys: bool
) -> None:
    access = AccessSettings.model_validate(values)
    assert access.open_to_everybody is open_to_everybody
    assert access.has_keys is has_keys


@pytest.mark.parametrize(
    "values",
    [
        {"authentication": "off"},
        {"authentication": ""},
        {"authentication": False},
        {"access_key_id": "abc"},
        {"secret_access_key": "s"},
        {"access_key_id": "abc", "secret_access_key": ""},
        {"access_key_id": "ab", "secret_access_key": "s"},
        {"access_key_id": "a/b/c", "secret_access_key": "s"},
        {"access_key_id": "a b", "secret_access_key": "s"},
        {"access_key_id": "abc\n", "secret_access_key": "s"},
        {"access_key_id": 123456, "secret_access_key": "s"},
        {"access_key_id": "abc", "secret_access_key": 123456},
        {"acess_key_id": "abc"},
    ],
)
def test_half_a_pair_or_a_strange_one_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AccessSettings.model_validate(values)


def test_a_secret_is_never_shown() -> None:
    secret = "hunter2-hunter2"
    access = AccessSettings(access_key_id="admin", secret_access_key=SecretStr(secret))
    assert secret not in repr(access)
    assert secret not in str(access.model_dump(mode="json"))
    with pytest.raises(ValidationError) as caught:
        AccessSettings.model_validate({"access_key_id": secret, "secret_access_key": [secret]})
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_delta_ratio", float("nan")),
        ("max_delta_ratio", float("inf")),
        ("max_delta_ratio", "nan"),
        ("max_delta_ratio", 1.01),
        ("max_delta_ratio", -0.1),
        ("listen_addr", "9000"),
        ("listen_addr", "127.0.0.1:70000"),
        ("log_level", "loud"),
        ("log_format", "xml"),
        ("cache_size_mb", -1),
        ("cache_size_mb", "12 MB"),
        ("cache_dir", "a\0b"),
        ("spool_dir", ""),
        ("max_object_size", 5 * 1024**4 + 1),
        ("clock_skew_seconds", 0),
        ("delta_suffixes", ["zip"]),
        ("delta_suffixes", ["."]),
        ("delta_suffixes", [".tar/x"]),
        ("plugins", {"disabled": ["UPPER"]}),
        ("plugins", {"on_load_error": "ignore"}),
        ("pipeline", {"storage_layers": "delta"}),
    ],
)
def test_nonsense_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        AdvancedSettings.model_validate({name: value})
    assert {error["loc"][0] for error in caught.value.errors()} == {name}


def test_suffixes_are_lower_case_and_occur_once() -> None:
    settings = AdvancedSettings(delta_suffixes=(".ZIP", ".tar", ".zip"))
    assert settings.delta_suffixes == (".zip", ".tar")


# --- assembly -----------------------------------------------------------------------------

SECTION = """
    from deltaglider_core import Section, SettingsSection, hookimpl, setting

    class Mine(Section):
        \"\"\"Settings of mine.\"\"\"
        word: str = setting({default}, description="{description}", env="DGP_WORD")

    @hookimpl
    def dg_settings():
        yield SettingsSection(mount="{mount}", model={model}, apply="hot")
"""


def section(
    mount: str = "advanced.mine",
    *,
    default: str = "'hello'",
    description: str = "A word.",
    model: str = "Mine",
) -> str:
    return SECTION.format(mount=mount, default=default, description=description, model=model)


def assembled(site: FakeSite) -> type[Settings]:
    return assemble_settings(load_plugins(entry_points=site.entry_points()))


@pytest.mark.parametrize(
    "mount", ["advanced.mine", "access.mine", "admission.mine", "storage.deep.mine"]
)
def test_a_plugin_mounts_its_settings(mount: str, site: FakeSite) -> None:
    site.install("mine", section(mount))
    model = assembled(site)
    document: Any = {"word": "set"}
    for part in reversed(mount.split(".")):
        document = {part: document}
    found: Any = model.model_validate(
        {**document, "storage": {**document.get("storage", {}), "backend": {"type": "none"}}}
    )
    for part in mount.split("."):
        found = getattr(found, part)
    assert found.word == "set"
    assert variables(model)["DGP_WORD"] == (*mount.split("."), "word")


def test_two_plugins_share_a_parent(site: FakeSite) -> None:
    site.install("one", section("advanced.deep.one"))
    site.install("two", section("advanced.deep.two"))
    model: Any = assembled(site)
    settings = model.model_validate({"storage": {"backend": {"type": "none"}}})
    assert settings.advanced.deep.one.word == settings.advanced.deep.two.word == "hello"


def test_a_section_with_something_required_is_absent_unless_written(site: FakeSite) -> None:
    site.install("mine", section(default="..."))
    model: Any = assembled(site)
    storage = {"backend": {"type": "none"}}
    assert model.model_validate({"storage": storage}).advanced.mine is None
    with pytest.raises(ValidationError):
        model.model_validate({"storage": storage, "advanced": {"mine": {}}})


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (section("mine"), "must lie below admission, access, storage, advanced"),
        (section("other.mine"), "must lie below"),
        (section("advanced..mine"), "must lie below"),
        (section("advanced.log_level"), "'advanced.log_level', which is taken"),
        (section("advanced.log_level.mine"), "'log_level' in it is taken"),
        (section("storage.buckets.mine"), "'buckets' in it is taken"),
        (section("advanced.plugins.disabled"), "which is taken"),
        (section(description=""), "advanced.mine.word has no description"),
        (section(model="dict"), "is no subclass of Section"),
    ],
)
def test_an_impossible_mount_is_named(source: str, words: str, site: FakeSite) -> None:
    site.install("mine", source)
    with pytest.raises(ConfigurationError, match=words) as caught:
        assembled(site)
    assert "'mine' (deltaglider-mine 1.2.3)" in str(caught.value)


def test_one_mount_cannot_lie_in_another(site: FakeSite) -> None:
    site.install("one", section("advanced.mine"))
    site.install("two", section("advanced.mine.deeper"))
    with pytest.raises(ConfigurationError, match="'mine' in it is taken"):
        assembled(site)


BACKEND = """
    from contextlib import asynccontextmanager
    from typing import Literal
    from deltaglider_core import BackendSettings, StorageBackendType, hookimpl, setting

    class Mine(BackendSettings):
        {field}
        device: str = setting("x", description="A device.")

    @hookimpl
    def dg_storage_backends():
        yield StorageBackendType(name="{name}", summary="x", open=None, settings=Mine)
"""
TYPE = 'type: Literal["{}"] = setting(description="This kind.")'


def test_one_or_more_backends_are_told_apart_by_type(site: FakeSite) -> None:
    site.install("tape", BACKEND.format(field=TYPE.format("tape"), name="tape"))
    for count in (1, 2):
        model: Any = assembled(site)
        found = model.model_validate({"storage": {"backend": {"type": "tape", "device": "d"}}})
        assert found.storage.backend.device == "d"
        for wrong in ({"type": "disk"}, {"device": "d"}, {"type": "tape", "other": 1}):
            with pytest.raises(ValidationError):
                model.model_validate({"storage": {"backend": wrong}})
        # No filesystem, no default.
        with pytest.raises(ValidationError):
            model.model_validate({})
        if count == 1:
            site.install("disc", BACKEND.format(field=TYPE.format("disc"), name="disc"))


@pytest.mark.parametrize(
    "field",
    [
        TYPE.format("other"),
        'type: Literal["tape"] = setting("tape", description="A default.")',
        'type: str = setting(description="Any.")',
    ],
)
def test_a_discriminator_must_be_the_name_without_a_default(field: str, site: FakeSite) -> None:
    site.install("tape", BACKEND.format(field=field, name="tape"))
    with pytest.raises(ConfigurationError, match="no default for it"):
        assembled(site)


def test_the_schema_describes_the_installed_plugins() -> None:
    schema = config_schema(load_plugins())
    assert json.loads(json.dumps(schema)) == schema
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False
    assert sorted(schema["properties"]) == ["access", "admission", "advanced", "storage"]
    definitions = schema["$defs"]
    assert definitions["FsSettings"]["properties"]["type"]["const"] == "filesystem"
    assert "filesystem" in definitions["StorageSettings"]["properties"]
    level = definitions["AdvancedSettings"]["properties"]["log_level"]
    assert level["x-apply"] == "hot"
    assert level["x-env"] == "DGP_LOG_LEVEL"
    secret = definitions["AccessSettings"]["properties"]["secret_access_key"]
    assert any(kind.get("writeOnly") for kind in secret["anyOf"])
    assert all(d["additionalProperties"] is False for d in definitions.values())


def test_the_reference_has_a_row_for_every_setting() -> None:
    page = render_settings()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert all(line.count(" | ") == 5 for line in rows)
    by_path = {line.split("`")[1]: line for line in rows}
    assert by_path["advanced.max_delta_ratio"] == (
        "| `advanced.max_delta_ratio` | number, 0 to 1 | `0.75` | `DGP_MAX_DELTA_RATIO` | rebuild "
        "| Largest delta worth storing, as a share of the object's size. |"
    )
    assert "| secret |" in by_path["access.secret_access_key"]
    assert "`type: filesystem`" in by_path["storage.backend"]
    assert "DGP_DATA_DIR" in by_path["storage.backend"]
    assert "storage.backend.path" in by_path
    assert "true or false" in by_path["storage.buckets.<name>.compression"]
    assert "0 to 1" in by_path["storage.buckets.<name>.max_delta_ratio"]
    sections = {"access", "admission", "advanced", "storage", "storage.buckets"}
    sections |= {"advanced.plugins", "advanced.tls", "advanced.xdelta3", "advanced.event_file"}
    paths = {".".join(path) for path, _ in walk(assemble_settings(load_plugins()))}
    assert paths - sections == set(by_path)
