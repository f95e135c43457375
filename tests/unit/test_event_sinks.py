"""Event sinks on their way from a plugin into the pipeline."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.events import RecordingSink

from deltaglider_core.errors import ConfigurationError
from deltaglider_core.interfaces.events import EventSinkType
from deltaglider_core.interfaces.storage import StorageBackendType
from deltaglider_core.loading import load
from deltaglider_core.pipeline import check_pipeline, open_pipeline
from deltaglider_core.plugins import PluginInfo, PluginSet, Registered
from deltaglider_core.services import Services
from deltaglider_core.settings import BackendSettings, Settings, StorageSettings
from deltaglider_core.stages import resolve
from deltaglider_core.testing import MemoryBackend, services_for_tests

PLUGIN = PluginInfo(name="mine", distribution="deltaglider-mine", version="1")
SETTINGS = Settings(storage=StorageSettings(backend=BackendSettings(type="memory")))


class Opener:
    """Opens one thing, and knows whether it is open and what it was given."""

    def __init__(self, thing: object) -> None:
        self.thing = thing
        self.settings: Any = None
        self.services: Services | None = None
        self.is_open = False

    @asynccontextmanager
    async def __call__(self, settings: Any, services: Services) -> AsyncIterator[Any]:
        self.settings, self.services, self.is_open = settings, services, True
        yield self.thing
        self.is_open = False


def plugins(**openers: Any) -> PluginSet:
    def registered(record: Any) -> Registered:
        return Registered(record=record, plugin=PLUGIN)

    sinks = {
        name: registered(
            EventSinkType(name=name, summary="A test.", open=opener, mount="advanced.pipeline")
        )
        for name, opener in openers.items()
    }
    backend = StorageBackendType(
        name="memory", summary="A test.", open=Opener(MemoryBackend()), settings=BackendSettings
    )
    return PluginSet(
        plugins=(PLUGIN,),
        stages={"storage_backends": {"memory": registered(backend)}, "event_sinks": sinks},
    )


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return services_for_tests(tmp_path)


async def test_the_sinks_that_are_configured_are_open_with_the_pipeline(services: Services) -> None:
    on, off = Opener(RecordingSink()), Opener(None)
    async with AsyncExitStack() as stack:
        pipeline = await open_pipeline(SETTINGS, plugins(on=on, off=off), services, stack)
        assert dict(pipeline.event_sinks) == {"on": on.thing}
        assert on.settings is SETTINGS.advanced.pipeline
        assert on.is_open
        with pytest.raises(TypeError):
            pipeline.event_sinks["more"] = RecordingSink()  # type: ignore[index]
    assert not on.is_open
    assert not off.is_open


async def test_a_sink_that_cannot_be_opened_stops_the_start(services: Services) -> None:
    @asynccontextmanager
    async def fail(settings: Any, services: Services) -> AsyncIterator[Any]:
        raise PermissionError(13, "Permission denied")
        yield

    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigurationError, match=r"event_sinks: 'bad' of plugin 'mine'"):
            await open_pipeline(SETTINGS, plugins(bad=fail), services, stack)


def test_the_table_of_the_stages_shows_them() -> None:
    rows = resolve(SETTINGS, plugins(a=Opener(None), b=Opener(None)))
    found = [(row.name, row.distribution) for row in rows if row.stage == "event_sinks"]
    assert found == [("a", "deltaglider-mine"), ("b", "deltaglider-mine")]


def test_they_have_no_order() -> None:
    settings = SETTINGS.model_copy(
        update={"advanced": SETTINGS.advanced.model_copy(update={"pipeline": {"event_sinks": ()}})}
    )
    with pytest.raises(ConfigurationError, match=r"advanced\.pipeline\.event_sinks"):
        check_pipeline(settings, plugins())


def test_the_package_of_a_missing_sink_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("advanced: {event_file: {path: x}, plugins: {disabled: [sink-jsonl]}}\n")
    with pytest.raises(ConfigurationError, match=r"advanced\.event_file: .*deltaglider-sink-jsonl"):
        load(config=path, environ={})
