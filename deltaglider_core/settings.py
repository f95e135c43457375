"""The models of the configuration, as far as the core knows it.

``settings_assembly.py`` extends them by what the installed plugins mount and gives the one
frozen ``Settings`` class of this process; code is typed against the classes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    model_validator,
)

from .delta.candidates import DEFAULT_SUFFIXES
from .errors import ConfigurationError
from .listen import parse_listen
from .log import parse_filter
from .settings_base import Section, UsablePath, setting
from .settings_network import NetworkSettings
from .settings_tls import TlsSettings
from .state.place import database_place

GIB = 1024**3
TIB = 1024**4


class BackendSettings(Section):
    """Base of the settings of a storage backend.

    A subclass narrows ``type`` to ``Literal["<its name>"]`` without a default: a
    discriminator with a default would vanish from an export that omits defaults.
    """

    type: str = Field(description="Which kind of backend this is.")


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _listen(value: str) -> str:
    parse_listen(value)
    return value


def _log_filter(value: str) -> str:
    parse_filter(value)
    return value


def _database_url(value: SecretStr | None) -> SecretStr | None:
    if value is not None:
        try:
            database_place(value.get_secret_value(), None)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
    return value


def _suffixes(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not value.startswith(".") or len(value) < 2 or "/" in value:
            raise ValueError(f"{value!r} is not a suffix; write it with its dot, such as .zip")
    return tuple(dict.fromkeys(value.lower() for value in values))


#: No comma and no slash: both separate the parts of an ``Authorization`` header.
AccessKeyId = Annotated[
    str,
    StringConstraints(min_length=3, max_length=128, pattern=r"^[\x21-\x2b\x2d\x2e\x30-\x7e]+$"),
]
Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Names = tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")], ...]


class AdmissionSettings(Section):
    """What is decided about a request before anybody asks who sends it."""


class AccessSettings(Section):
    """Who may use the service."""

    authentication: Annotated[Literal["none"] | None, BeforeValidator(_lower)] = setting(
        None,
        description="`none` opens the service to everybody; ignored while a key pair is set. "
        "Without this word and without keys the service does not start.",
        env="DGP_AUTHENTICATION",
    )
    access_key_id: AccessKeyId | None = setting(
        None,
        description="Access key that has every right. Needs `secret_access_key`.",
        env="DGP_ACCESS_KEY_ID",
    )
    secret_access_key: SecretStr | None = setting(
        None,
        description="Secret of `access_key_id`.",
        env="DGP_SECRET_ACCESS_KEY",
    )

    @model_validator(mode="after")
    def _both_or_neither(self) -> AccessSettings:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            missing = "access_key_id" if self.access_key_id is None else "secret_access_key"
            raise ValueError(f"{missing} is missing: a key pair needs both halves")
        if self.secret_access_key is not None and not self.secret_access_key.get_secret_value():
            raise ValueError("secret_access_key is empty")
        return self

    @property
    def has_keys(self) -> bool:
        """A key pair is configured."""
        return self.access_key_id is not None

    @property
    def open_to_everybody(self) -> bool:
        """Open access is written down, and no key pair overrides it."""
        return self.authentication == "none" and not self.has_keys


class BucketSettings(Section):
    """What differs in one bucket."""

    compression: bool = setting(
        True, description="Whether objects of this bucket may be stored as deltas."
    )
    max_delta_ratio: Ratio | None = setting(
        None, description="Replaces `advanced.max_delta_ratio` in this bucket."
    )
    quota_bytes: int | None = setting(
        None,
        description="Most bytes of all objects together, as clients see them; 0 freezes the "
        "bucket: nothing can be written, only read and deleted.",
        ge=0,
        le=2**62,
    )


class StorageSettings(Section):
    """Where objects are stored.

    In the assembled settings ``backend`` is the union of the installed backend types, by
    ``type``. The type ``none`` of this base class opens nothing.
    """

    backend: BackendSettings = setting(
        default_factory=lambda: BackendSettings(type="none"),
        description="The backend that stores all buckets.",
    )
    buckets: Mapping[str, BucketSettings] = setting(
        default_factory=dict, description="Settings of single buckets, by bucket name."
    )


class PluginsSettings(Section):
    """Which plugins are loaded."""

    disabled: Names = setting(
        (), description="Plugins that are not loaded, by name.", apply="restart"
    )
    on_load_error: Literal["fail", "skip"] = setting(
        "fail",
        description="What happens if a plugin cannot be loaded. A plugin that the configuration "
        "mentions is never skipped.",
        apply="restart",
    )


class AdvancedSettings(NetworkSettings):
    """How the service runs."""

    listen_addr: Annotated[str, AfterValidator(_listen)] = setting(
        "0.0.0.0:9000",
        description="Address and port, such as `127.0.0.1:9000` or `[::]:9000`; port 0 takes "
        "any free one.",
        apply="restart",
        env="DGP_LISTEN_ADDR",
    )
    tls: TlsSettings = setting(
        default_factory=TlsSettings, description="Whether clients connect by https.", apply="hot"
    )
    log_level: Annotated[str, AfterValidator(_log_filter)] = setting(
        "info",
        description="`error`, `warn`, `info`, `debug` or `trace`, or a list such as "
        "`deltaglider_proxy=info,uvicorn=warn`.",
        apply="hot",
        env="DGP_LOG_LEVEL",
    )
    log_format: Annotated[Literal["text", "json"], BeforeValidator(_lower)] = setting(
        "text",
        description="One line of text, or one JSON object, per event.",
        apply="hot",
        env="DGP_LOG_FORMAT",
    )
    max_delta_ratio: Ratio = setting(
        0.75,
        description="Largest delta worth storing, as a share of the object's size.",
        env="DGP_MAX_DELTA_RATIO",
    )
    delta_suffixes: Annotated[tuple[str, ...], AfterValidator(_suffixes)] = setting(
        DEFAULT_SUFFIXES, description="Suffixes of the keys that may be stored as deltas."
    )
    codec: str | None = setting(
        None, description="Codec of new deltas; without it, the first that is installed."
    )
    cache_size_mb: int = setting(
        100,
        description="Size of the cache of reference files, MiB per process. A reference that does "
        "not fit is fetched anew for every read, so make it larger than the largest of them.",
        env="DGP_CACHE_MB",
        ge=0,
        le=16 * 1024 * 1024,
    )
    cache_dir: UsablePath | None = setting(
        None,
        description="Directory of the cache; without it, a private one beside the spool.",
        apply="restart",
        env="DGP_CACHE_DIR",
    )
    spool_dir: UsablePath | None = setting(
        None,
        description="Directory for temporary files; without it, the system's. Every process "
        "has a private directory in it.",
        apply="restart",
        env="DGP_SPOOL_DIR",
    )
    spool_max_bytes: int = setting(
        16 * GIB,
        description="Most bytes of temporary files, per process.",
        apply="restart",
        env="DGP_SPOOL_MAX_BYTES",
        ge=0,
        le=1024 * TIB,
    )
    max_object_size: int = setting(
        5 * TIB,
        description="Largest object that is accepted, in bytes.",
        env="DGP_MAX_OBJECT_SIZE",
        ge=0,
        le=5 * TIB,
    )
    clock_skew_seconds: int = setting(
        900,
        description="Largest difference between the time in a signature and ours, in seconds.",
        env="DGP_CLOCK_SKEW_SECONDS",
        ge=1,
        le=604_800,
    )
    database_url: Annotated[SecretStr | None, AfterValidator(_database_url)] = setting(
        None,
        description="Where the state is kept: `postgresql://user:password@host/database`, or "
        "`sqlite:///FILE` for the embedded database in another place. Without it, "
        "`deltaglider_config.db` beside the configuration file, or in the working directory.",
        apply="restart",
        env="DGP_DATABASE_URL",
    )
    replay_window_seconds: int = setting(
        900,
        description="How long a signature that changed something is remembered at the least, so "
        "that it cannot do so again; 0 switches this off.",
        env="DGP_REPLAY_WINDOW_SECS",
        ge=0,
        le=604_800,
    )
    event_retention_seconds: int = setting(
        604_800,
        description="How long events are kept, in seconds; longer for a cursor that has not "
        "passed them.",
        apply="restart",
        env="DGP_EVENT_RETENTION_SECONDS",
        ge=0,
    )
    event_max_rows: int = setting(
        1_000_000,
        description="Most events that are kept; more for a cursor that has not passed them.",
        apply="restart",
        env="DGP_EVENT_MAX_ROWS",
        ge=0,
    )
    multipart_idle_hours: float = setting(
        24.0,
        description="Hours after its last part at which a multipart upload is aborted.",
        apply="restart",
        env="DGP_MULTIPART_IDLE_TTL_HOURS",
        gt=0,
        le=87_600,
        allow_inf_nan=False,
    )
    reference_grace_seconds: int = setting(
        86_400,
        description="How long a reference that nothing names is condemned before it is deleted, "
        "in seconds. It has to be longer than any request to the backend can be under way.",
        apply="restart",
        env="DGP_REFERENCE_GRACE_SECONDS",
        ge=0,
    )
    collect_interval_seconds: int = setting(
        86_400,
        description="Seconds between two collections of unused references; 0 leaves it to "
        "`deltaglider_proxy collect`.",
        apply="restart",
        env="DGP_COLLECT_INTERVAL_SECONDS",
        ge=0,
    )
    plugins: PluginsSettings = setting(
        default_factory=PluginsSettings, description="Which plugins are loaded.", apply="restart"
    )
    pipeline: Mapping[str, Names] = setting(
        default_factory=dict,
        description="The order of whole stages, by stage; a list must name exactly the active "
        "entries.",
    )


class Settings(Section):
    """The whole configuration. Frozen; a reload makes a new one."""

    admission: AdmissionSettings = Field(
        default_factory=AdmissionSettings, description="Rules that need no identity."
    )
    access: AccessSettings = Field(
        default_factory=AccessSettings, description="Who may use the service."
    )
    storage: StorageSettings = Field(
        default_factory=StorageSettings, description="Where objects are stored."
    )
    advanced: AdvancedSettings = Field(
        default_factory=AdvancedSettings, description="How the service runs."
    )


__all__ = [
    "AccessSettings",
    "AdmissionSettings",
    "AdvancedSettings",
    "BackendSettings",
    "BucketSettings",
    "PluginsSettings",
    "Section",
    "Settings",
    "StorageSettings",
    "setting",
]
