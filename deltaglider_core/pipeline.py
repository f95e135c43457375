"""The pipeline: every stage in its order, opened once and then plain Python objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from .combinators import first_hit, nest
from .errors import ConfigurationError, DeltaGliderError
from .interfaces.admission import AdmissionRule, Gate
from .interfaces.auth import Authenticator, Authorizer, Credentials, CredentialStore
from .interfaces.codec import Codec
from .interfaces.configurations import BucketConfigurations
from .interfaces.contribution import Order
from .interfaces.events import EventSink
from .interfaces.routing import Router
from .interfaces.storage import StorageBackend
from .ordering import override_order, resolve_order
from .plugins import PluginSet, Registered
from .services import Services, Spool
from .settings import Settings

#: Name of the one backend that ``storage.backend`` configures.
DEFAULT_BACKEND_NAME = "default"

#: Stages with an order, as a request meets them, and where their records come from.
ORDERED_STAGES: Mapping[str, str] = MappingProxyType(
    {
        "admission_rules": "admission_rules",
        "gates_before_auth": "gates",
        "credential_stores": "credential_stores",
        "authenticators": "authenticators",
        "authorizers": "authorizers",
        "gates_after_auth": "gates",
        "routers": "routers",
        "storage_layers": "storage_layers",
        "codecs": "codecs",
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pipeline:
    """What serves requests: frozen, and used by each request from its start to its end.

    Attributes:
        settings: The configuration it was built from.
        backends: By name in the configuration, wrapped into all layers.
        codecs: By id, in order.
        event_sinks: Those that the configuration asks for, by name.
        configurations: What clients set on buckets; None without a state database.
        spool: For what a request must take in before it can be stored.
    """

    settings: Settings
    admission_rules: tuple[AdmissionRule, ...] = ()
    gates_before_auth: tuple[Gate, ...] = ()
    authenticators: tuple[Authenticator, ...] = ()
    authorizers: tuple[Authorizer, ...] = ()
    gates_after_auth: tuple[Gate, ...] = ()
    routers: tuple[Router, ...] = ()
    backends: Mapping[str, StorageBackend] = field(default_factory=dict)
    codecs: Mapping[str, Codec] = field(default_factory=dict)
    event_sinks: Mapping[str, EventSink] = field(default_factory=dict)
    configurations: BucketConfigurations | None = None
    spool: Spool | None = None


class CombinedCredentials:
    """All credential stores as one: the first that knows the key answers."""

    def __init__(self, stores: Sequence[CredentialStore]) -> None:
        self._stores = tuple(stores)

    async def get_credentials(self, access_key_id: str) -> Credentials | None:
        """None if no store knows the key; an error of a store propagates."""
        return await first_hit(self._stores, lambda store: store.get_credentials(access_key_id))


def order_stage(stage: str, settings: Settings, plugins: PluginSet) -> tuple[Registered, ...]:
    """The active entries of a stage of ``ORDERED_STAGES``, in their final order.

    Raises:
        ConfigurationError: The order cannot be resolved, or the override is not total.
    """
    entries: Mapping[str, Registered] = plugins.stage(ORDERED_STAGES[stage])
    if stage.startswith("gates_"):
        when = stage.removeprefix("gates_")
        entries = {name: e for name, e in entries.items() if e.record.stage == when}
    orders: dict[str, Order] = {name: entry.record.order for name, entry in entries.items()}
    names = resolve_order(stage, orders)
    listed = settings.advanced.pipeline.get(stage)
    if listed is not None:
        names = override_order(stage, listed, names)
    chosen = settings.advanced.codec
    if stage == "codecs" and chosen is not None and chosen in entries:
        names = (chosen, *(name for name in names if name != chosen))
    return tuple(entries[name] for name in names)


def check_pipeline(settings: Settings, plugins: PluginSet) -> None:
    """Find everything wrong with the pipeline that can be found without opening it.

    Raises:
        ConfigurationError: An order cannot be resolved, or a name is not provided.
    """
    for stage in settings.advanced.pipeline:
        if stage not in ORDERED_STAGES:
            raise ConfigurationError(
                f"advanced.pipeline.{stage}: there is no such stage; the stages are "
                + ", ".join(ORDERED_STAGES),
                exit_code=4,
            )
    for stage in ORDERED_STAGES:
        order_stage(stage, settings, plugins)
    codec = settings.advanced.codec
    if codec is not None and codec not in plugins.stage("codecs"):
        raise ConfigurationError(
            f"advanced.codec: {plugins.missing('codec', codec, 'codecs')}", exit_code=4
        )
    kind = settings.storage.backend.type
    if kind not in plugins.stage("storage_backends"):
        reason = plugins.missing("storage backend", kind, "storage_backends")
        raise ConfigurationError(f"storage.backend.type: {reason}", exit_code=4)


async def open_pipeline(
    settings: Settings, plugins: PluginSet, services: Services, stack: AsyncExitStack
) -> Pipeline:
    """Open everything that the configuration selects.

    Order: codecs and credential stores, which others use; layers; the configured backends;
    then the stages of a request and the event sinks. ``stack`` closes them in the opposite order.

    Args:
        services: Each contribution receives them with ``log`` bound to its name.
        stack: Closed by the caller, also when this raises.

    Raises:
        ConfigurationError: Something could not be opened; the text names it.
    """
    check_pipeline(settings, plugins)

    async def open_stage(stage: str) -> dict[str, Any]:
        return {
            entry.name: await _open(stage, entry, _mounted(settings, entry), services, stack)
            for entry in order_stage(stage, settings, plugins)
        }

    codecs: Mapping[str, Codec] = MappingProxyType(await open_stage("codecs"))
    for name, codec in codecs.items():
        if codec.codec_id != name:
            entry = plugins.stage("codecs")[name]
            raise ConfigurationError(
                f"codec {name!r} of plugin {entry.plugin} calls itself {codec.codec_id!r}; both "
                "must be equal, since stored deltas carry the name"
            )
    stores = await open_stage("credential_stores")
    services = dataclasses.replace(
        services, codecs=codecs, credentials=CombinedCredentials(tuple(stores.values()))
    )
    layers = tuple((await open_stage("storage_layers")).values())
    backends = await _open_backends(settings, plugins, services, layers, stack)
    opened = {
        stage: tuple((await open_stage(stage)).values())
        for stage in (
            "authenticators",
            "authorizers",
            "admission_rules",
            "gates_before_auth",
            "gates_after_auth",
            "routers",
        )
    }
    sinks = await _open_event_sinks(settings, plugins, services, stack)
    return Pipeline(
        settings=settings,
        backends=backends,
        codecs=codecs,
        event_sinks=sinks,
        configurations=None if services.state is None else services.state.configurations,
        spool=services.spool,
        **opened,
    )


async def _open_backends(
    settings: Settings,
    plugins: PluginSet,
    services: Services,
    layers: Sequence[Callable[[StorageBackend], StorageBackend]],
    stack: AsyncExitStack,
) -> Mapping[str, StorageBackend]:
    chosen = settings.storage.backend
    entry = plugins.stage("storage_backends")[chosen.type]
    backend = await _open("storage_backends", entry, chosen, services, stack)
    return MappingProxyType({DEFAULT_BACKEND_NAME: nest(layers, backend)})


async def _open_event_sinks(
    settings: Settings, plugins: PluginSet, services: Services, stack: AsyncExitStack
) -> Mapping[str, EventSink]:
    """Those that are configured; no sink waits for another, so they have no order."""
    sinks: dict[str, EventSink] = {}
    for name, entry in plugins.stage("event_sinks").items():
        sink = await _open("event_sinks", entry, _mounted(settings, entry), services, stack)
        if sink is not None:
            sinks[name] = sink
    return MappingProxyType(sinks)


async def _open(
    stage: str, entry: Registered, settings: Any, services: Services, stack: AsyncExitStack
) -> Any:
    bound = dataclasses.replace(services, log=services.log.bind(plugin=entry.name))
    try:
        return await stack.enter_async_context(entry.record.open(settings, bound))
    except Exception as error:
        # Our own errors are sentences already; others need their class to mean anything.
        known = isinstance(error, DeltaGliderError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        raise ConfigurationError(
            f"{stage}: {entry.name!r} of plugin {entry.plugin} could not be opened: {reason}",
            exit_code=error.exit_code if isinstance(error, ConfigurationError) else 1,
        ) from error


def _mounted(settings: Settings, entry: Registered) -> Any:
    """What lies at the dotted path that the record names; the whole settings if empty."""
    found: Any = settings
    for part in filter(None, entry.record.mount.split(".")):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ConfigurationError(
                f"plugin {entry.plugin}: {entry.name!r} asks for the settings at "
                f"{entry.record.mount!r}, which nothing mounts"
            ) from None
    return found


__all__ = [
    "DEFAULT_BACKEND_NAME",
    "ORDERED_STAGES",
    "CombinedCredentials",
    "Pipeline",
    "check_pipeline",
    "open_pipeline",
    "order_stage",
]
