"""The pipeline and its exchange: what is opened, in which order, and what closes when."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from deltaglider_core.builtin.table_router import TableRouter
from deltaglider_core.errors import AccessDenied, ConfigurationError
from deltaglider_core.gateway import Gateway
from deltaglider_core.interfaces.admission import GateType
from deltaglider_core.interfaces.auth import AuthenticatorType, Credentials, CredentialStoreType
from deltaglider_core.interfaces.codec import CodecType
from deltaglider_core.interfaces.contribution import Order
from deltaglider_core.interfaces.routing import RouterType
from deltaglider_core.interfaces.storage import (
    StorageBackend,
    StorageBackendType,
    StorageLayer,
    StorageLayerType,
)
from deltaglider_core.pipeline import Pipeline, check_pipeline, open_pipeline, order_stage
from deltaglider_core.plugins import PluginInfo, PluginSet, Registered
from deltaglider_core.services import Services
from deltaglider_core.settings import (
    AdvancedSettings,
    BackendSettings,
    Settings,
    StorageSettings,
    setting,
)
from deltaglider_core.stages import render_table, resolve
from deltaglider_core.testing import MemoryBackend, services_for_tests

PLUGIN = PluginInfo(name="mine", distribution="deltaglider-mine", version="1.2.3")


class FakeSettings(BackendSettings):
    """A backend in memory."""

    type: Literal["memory"] = setting(description="This kind.")


class FakeCodec:
    def __init__(self, codec_id: str) -> None:
        self.codec_id = codec_id


class OuterLayer(StorageLayer):
    pass


class InnerLayer(StorageLayer):
    pass


class Store:
    def __init__(self, known: str) -> None:
        self.known = known

    async def get_credentials(self, access_key_id: str) -> Credentials | None:
        if access_key_id == "broken":
            raise AccessDenied
        if access_key_id != self.known:
            return None
        return Credentials(access_key_id=access_key_id, secret_access_key=f"of-{self.known}")


class World:
    """Contributions that record what happens to them."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.received: dict[str, tuple[Any, Services]] = {}
        self.fail = ""

    def opener(self, name: str, make: Callable[[], Any]) -> Callable[..., Any]:
        @asynccontextmanager
        async def open_it(settings: Any, services: Services) -> AsyncIterator[Any]:
            if self.fail == name:
                raise PermissionError(13, "Permission denied", "/srv/data")
            self.events.append(f"+{name}")
            self.received[name] = (settings, services)
            try:
                yield make()
            finally:
                self.events.append(f"-{name}")

        return open_it

    def plugins(self, **replaced: Sequence[Any]) -> PluginSet:
        record = self.record
        stages: dict[str, Sequence[Any]] = {
            "codecs": [
                record(CodecType, "zz", lambda: FakeCodec("zz")),
                record(CodecType, "aa", lambda: FakeCodec("aa")),
            ],
            "credential_stores": [
                record(CredentialStoreType, "one", lambda: Store("one")),
                record(CredentialStoreType, "two", lambda: Store("two")),
            ],
            "storage_layers": [
                record(
                    StorageLayerType, "inner", lambda: InnerLayer, order=Order(after=("outer",))
                ),
                record(StorageLayerType, "outer", lambda: OuterLayer),
            ],
            "storage_backends": [
                record(StorageBackendType, "memory", MemoryBackend, settings=FakeSettings),
                record(StorageBackendType, "other", MemoryBackend, settings=FakeSettings),
            ],
            "authenticators": [record(AuthenticatorType, "auth", object)],
            "gates": [
                record(GateType, "early", object, stage="before_auth"),
                record(GateType, "late", object, stage="after_auth"),
            ],
            "routers": [record(RouterType, "table", TableRouter, mount="storage.buckets")],
            **replaced,
        }
        return PluginSet(
            plugins=(PLUGIN,),
            stages={
                stage: {r.name: Registered(record=r, plugin=PLUGIN) for r in records}
                for stage, records in stages.items()
            },
        )

    def record(self, kind: type[Any], name: str, make: Callable[[], Any], **more: Any) -> Any:
        return kind(name=name, summary="A test.", open=self.opener(name, make), **more)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return services_for_tests(tmp_path)


def configuration(**advanced: Any) -> Settings:
    return Settings(
        storage=StorageSettings(backend=FakeSettings(type="memory")),
        advanced=AdvancedSettings(**advanced),
    )


async def test_it_opens_in_order_and_closes_in_the_opposite_one(
    world: World, services: Services
) -> None:
    async with AsyncExitStack() as stack:
        pipeline = await open_pipeline(configuration(), world.plugins(), services, stack)
        opened = list(world.events)
        assert opened == [
            *("+aa", "+zz", "+one", "+two", "+outer", "+inner", "+memory"),
            *("+auth", "+early", "+late", "+table"),
        ]
        assert list(pipeline.codecs) == ["aa", "zz"]
        assert len(pipeline.gates_before_auth) == len(pipeline.gates_after_auth) == 1
        backend: StorageBackend = pipeline.backends["default"]
        assert isinstance(backend, OuterLayer)
        assert isinstance(backend.inner, InnerLayer)
        assert isinstance(backend.inner.inner, MemoryBackend)
    closed = world.events[len(opened) :]
    assert closed == [event.replace("+", "-") for event in reversed(opened)]


async def test_each_contribution_gets_its_own_settings_and_services(
    world: World, services: Services
) -> None:
    settings = configuration()
    async with AsyncExitStack() as stack:
        await open_pipeline(settings, world.plugins(), services, stack)
    assert world.received["memory"][0] is settings.storage.backend
    assert world.received["table"][0] is settings.storage.buckets
    assert world.received["auth"][0] is settings
    assert world.received["aa"][1].credentials is None
    assert list(world.received["outer"][1].codecs) == ["aa", "zz"]
    credentials = world.received["auth"][1].credentials
    assert credentials is not None
    found = await credentials.get_credentials("two")
    assert found is not None
    assert found.secret_access_key == "of-two"
    assert await credentials.get_credentials("three") is None
    with pytest.raises(AccessDenied):
        await credentials.get_credentials("broken")


async def test_the_configured_codec_comes_first(world: World, services: Services) -> None:
    async with AsyncExitStack() as stack:
        pipeline = await open_pipeline(configuration(codec="zz"), world.plugins(), services, stack)
    assert list(pipeline.codecs) == ["zz", "aa"]


async def test_the_pipeline_is_frozen(world: World, services: Services) -> None:
    async with AsyncExitStack() as stack:
        pipeline = await open_pipeline(configuration(), world.plugins(), services, stack)
    with pytest.raises(dataclasses.FrozenInstanceError):
        pipeline.routers = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        pipeline.backends["x"] = MemoryBackend()  # type: ignore[index]


async def test_what_cannot_be_opened_is_named_and_the_rest_is_closed(
    world: World, services: Services
) -> None:
    world.fail = "memory"
    with pytest.raises(ConfigurationError) as caught:
        async with AsyncExitStack() as stack:
            await open_pipeline(configuration(), world.plugins(), services, stack)
    text = str(caught.value)
    assert "storage_backends: 'memory' of plugin 'mine' (deltaglider-mine 1.2.3)" in text
    assert "Permission denied: '/srv/data'" in text
    assert sorted(e[1:] for e in world.events if e[0] == "+") == sorted(
        e[1:] for e in world.events if e[0] == "-"
    )


async def test_a_codec_of_another_id_is_refused(world: World, services: Services) -> None:
    plugins = world.plugins(codecs=[world.record(CodecType, "aa", lambda: FakeCodec("bb"))])
    with pytest.raises(ConfigurationError, match=r"'aa' of plugin .* calls itself 'bb'"):
        async with AsyncExitStack() as stack:
            await open_pipeline(configuration(), plugins, services, stack)


async def test_a_mount_that_nothing_mounts_is_refused(world: World, services: Services) -> None:
    router = world.record(RouterType, "lost", TableRouter, mount="advanced.nothing")
    with pytest.raises(ConfigurationError, match=r"'lost' asks .* 'advanced\.nothing'"):
        async with AsyncExitStack() as stack:
            await open_pipeline(configuration(), world.plugins(routers=[router]), services, stack)


def test_an_order_in_the_configuration_is_total(world: World) -> None:
    plugins = world.plugins()
    settings = configuration(pipeline={"storage_layers": ("inner", "outer")})
    assert [e.name for e in order_stage("storage_layers", settings, plugins)] == ["inner", "outer"]
    with pytest.raises(ConfigurationError, match=r"missing: outer; unknown: quota"):
        check_pipeline(configuration(pipeline={"storage_layers": ("inner", "quota")}), plugins)


@pytest.mark.parametrize(
    ("advanced", "words"),
    [
        ({"pipeline": {"storage_layer": ("a",)}}, "advanced.pipeline.storage_layer: there is no"),
        ({"codec": "xdelta3"}, "advanced.codec: .*pip install deltaglider-codec-xdelta3"),
    ],
)
def test_a_name_that_nothing_provides_stops_the_start(
    advanced: dict[str, Any], words: str, world: World
) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        check_pipeline(configuration(**advanced), world.plugins())
    assert caught.value.exit_code == 4


def test_a_backend_type_that_nothing_provides_stops_the_start(world: World) -> None:
    settings = Settings(storage=StorageSettings(backend=BackendSettings(type="s3")))
    with pytest.raises(ConfigurationError, match="pip install deltaglider-backend-s3"):
        check_pipeline(settings, world.plugins())


def test_the_table_says_what_is_where_and_why(world: World) -> None:
    plugins = dataclasses.replace(
        world.plugins(),
        plugins=(
            PLUGIN,
            PluginInfo(name="off", distribution="d-off", version="1", state="disabled"),
            PluginInfo(name="bad", distribution="d-bad", version="1", state="failed", error="E: x"),
        ),
    )
    settings = configuration(codec="zz", pipeline={"storage_layers": ("inner", "outer")})
    entries = resolve(settings, plugins)
    found = {(e.stage, e.position, e.name): e.reason for e in entries}
    assert found["storage_layers", 1, "inner"].endswith("advanced.pipeline.storage_layers")
    assert found["codecs", 1, "zz"] == "configured as advanced.codec"
    assert found["codecs", 2, "aa"] == "installed"
    assert found["storage_backends", 1, "memory"] == "configured as storage.backend"
    assert found["storage_backends", 0, "other"] == "installed, not configured"
    assert found["gates_before_auth", 1, "early"] == "installed"
    assert found["authorizers", 0, "-"] == "empty"
    assert found["-", 0, "off"] == "disabled by advanced.plugins.disabled"
    assert found["-", 0, "bad"] == "skipped, failed to load: E: x"
    assert world.events == []
    lines = render_table(entries).splitlines()
    assert lines[0].split() == ["STAGE", "ORDER", "NAME", "DISTRIBUTION", "VERSION", "REASON"]
    column = lines[0].index("REASON")
    assert all(line[column - 2 : column] == "  " and line[column] != " " for line in lines)


# --- the gateway --------------------------------------------------------------------------


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until it holds; the time limit of the test ends a wait in vain."""
    while not condition():  # noqa: ASYNC110  # there is no event to wait for
        await asyncio.sleep(0)


async def test_a_request_keeps_its_pipeline_through_a_reload(
    world: World, services: Services
) -> None:
    gateway = Gateway(world.plugins(), services)
    await gateway.open(configuration())
    with gateway.acquire() as before:
        await gateway.reload(configuration(max_delta_ratio=0.5))
        assert gateway.pipeline is not before
        assert before.settings.advanced.max_delta_ratio == 0.75
        with gateway.acquire() as after:
            assert after.settings.advanced.max_delta_ratio == 0.5
        await asyncio.sleep(0.01)
        assert "-memory" not in world.events
    await eventually(lambda: world.events.count("-aa") == 1)
    await gateway.aclose()
    assert world.events.count("-aa") == world.events.count("+aa") == 2


async def test_an_idle_pipeline_closes_at_once(world: World, services: Services) -> None:
    gateway = Gateway(world.plugins(), services)
    await gateway.open(configuration())
    await gateway.reload(configuration())
    await eventually(lambda: world.events.count("-aa") == 1)
    await gateway.aclose()


async def test_the_grace_period_ends(world: World, services: Services) -> None:
    gateway = Gateway(world.plugins(), services, grace_seconds=0.01)
    await gateway.open(configuration())
    with gateway.acquire():
        await gateway.reload(configuration())
        await eventually(lambda: world.events.count("-aa") == 1)
    await gateway.aclose()


async def test_a_reload_that_fails_leaves_the_old_pipeline(
    world: World, services: Services
) -> None:
    gateway = Gateway(world.plugins(), services)
    await gateway.open(configuration())
    serving = gateway.pipeline
    world.fail = "table"
    with pytest.raises(ConfigurationError, match="'table'"):
        await gateway.reload(configuration())
    assert gateway.pipeline is serving
    # What the failed one had opened is closed; the one in use is not.
    assert world.events.count("-memory") == 1
    assert world.events.count("+memory") == 2
    world.fail = ""
    await gateway.reload(configuration())
    assert gateway.pipeline is not serving
    await gateway.aclose()


async def test_closing_also_closes_what_still_waits(world: World, services: Services) -> None:
    gateway = Gateway(world.plugins(), services)
    await gateway.open(configuration())
    with gateway.acquire():
        await gateway.reload(configuration())
        await gateway.aclose()
    assert world.events.count("-aa") == world.events.count("+aa") == 2
    await gateway.aclose()
    with pytest.raises(RuntimeError, match="not open"), gateway.acquire():
        pass
    with pytest.raises(RuntimeError, match="not open"):
        _ = gateway.pipeline


async def test_concurrent_reloads_take_turns(world: World, services: Services) -> None:
    gateway = Gateway(world.plugins(), services)
    await gateway.open(configuration())
    ratios = [0.1, 0.2, 0.3, 0.4]
    await asyncio.gather(*(gateway.reload(configuration(max_delta_ratio=r)) for r in ratios))
    current: Pipeline = gateway.pipeline
    assert current.settings.advanced.max_delta_ratio == 0.4
    await gateway.aclose()
    assert world.events.count("-aa") == world.events.count("+aa") == 5
