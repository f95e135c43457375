"""Loading of plugins, and one clear sentence for everything that can be wrong with them."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest
from support.plugins import FakeSite

from deltaglider_core.errors import ConfigurationError
from deltaglider_core.hookspecs import HookSpecs
from deltaglider_core.plugins import STAGES, PluginSet, load_plugins

ROUTER = """
    from contextlib import asynccontextmanager
    from deltaglider_core import RouterType, hookimpl

    @asynccontextmanager
    async def open_router(settings, services):
        yield None

    @hookimpl
    def dg_routers():
        yield RouterType(name="{name}", summary="A router.", open=open_router)
"""


def load(site: FakeSite, **options: object) -> PluginSet:
    return load_plugins(entry_points=site.entry_points(), **options)  # type: ignore[arg-type]


def refusal(site: FakeSite, **options: object) -> str:
    """The sentence that stops the start; always one line."""
    with pytest.raises(ConfigurationError) as caught:
        load(site, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_installed_plugins_load_with_their_provenance() -> None:
    plugins = load_plugins()
    backend = plugins.stage("storage_backends")["filesystem"]
    assert backend.plugin.name == "backend-fs"
    assert backend.plugin.distribution == "deltaglider-backend-fs"
    assert backend.plugin.version
    assert not backend.plugin.builtin
    assert "xdelta3" in plugins.stage("codecs")
    names = [plugin.name for plugin in plugins.plugins]
    assert names[0] == "builtin"
    assert {"backend-fs", "codec-xdelta3"} <= set(names)
    assert all(plugin.state == "loaded" for plugin in plugins.plugins)


def test_the_built_in_features_come_through_the_same_hooks(site: FakeSite) -> None:
    plugins = load(site)
    found = {stage: list(records) for stage, records in plugins.stages.items() if records}
    assert found == {
        "admission_rules": ["reserved-prefix"],
        "gates": ["max-object-size"],
        "credential_stores": ["static"],
        "authenticators": ["open-access", "sigv4"],
        "authorizers": ["static"],
        "routers": ["table"],
        "storage_layers": ["delta", "intents"],
    }
    for records in plugins.stages.values():
        for entry in records.values():
            assert entry.plugin.builtin
            assert entry.plugin.distribution == "deltaglider-core"


def test_every_hook_has_a_stage_and_a_complete_docstring() -> None:
    hooks = {name for name in dir(HookSpecs) if name.startswith("dg_")}
    assert hooks == {f"dg_{stage}" for stage in STAGES}
    for name in hooks:
        text = inspect.getdoc(getattr(HookSpecs, name)) or ""
        for part in ("Called once", "Yields:", "Order and conflicts:", "Example::"):
            assert part in text, f"{name} does not say: {part}"


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_the_example_of_every_hook_is_a_working_plugin(stage: str, site: FakeSite) -> None:
    text = inspect.getdoc(getattr(HookSpecs, f"dg_{stage}")) or ""
    site.install("example", text.split("Example::")[1])
    entries = [e for e in load(site).stage(stage).values() if not e.plugin.builtin]
    assert len(entries) == 1
    assert entries[0].plugin.distribution == "deltaglider-example"


def test_the_result_is_frozen(site: FakeSite) -> None:
    plugins = load(site)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plugins.plugins = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        plugins.stages["codecs"] = {}  # type: ignore[index]
    with pytest.raises(TypeError):
        plugins.stage("routers")["x"] = None  # type: ignore[index]


def test_a_plugin_that_cannot_be_imported_is_named(site: FakeSite) -> None:
    site.install("broken", "import no_such_module_at_all")
    text = refusal(site)
    assert "'broken' (deltaglider-broken 1.2.3) failed to load: ModuleNotFoundError" in text
    assert "no_such_module_at_all" in text
    assert "advanced.plugins.disabled" in text


def test_it_is_skipped_on_request_unless_the_configuration_mentions_it(site: FakeSite) -> None:
    site.install("broken", "raise RuntimeError('boom')")
    plugins = load(site, on_load_error="skip")
    (broken,) = (plugin for plugin in plugins.plugins if plugin.name == "broken")
    assert broken.state == "failed"
    assert broken.error == "RuntimeError: boom"
    text = refusal(site, on_load_error="skip", mentioned=lambda plugin: plugin.name == "broken")
    assert "boom" in text


def test_a_disabled_plugin_is_not_even_imported(site: FakeSite) -> None:
    site.install("broken", "raise RuntimeError('boom')")
    plugins = load(site, disabled=("broken",))
    assert [p.state for p in plugins.plugins if p.name == "broken"] == ["disabled"]


@pytest.mark.parametrize(
    ("name", "words"), [("brokn", "is not installed"), ("builtin", "is built in and cannot be")]
)
def test_disabling_what_cannot_be_disabled_is_an_error(
    name: str, words: str, site: FakeSite
) -> None:
    site.install("other", ROUTER.format(name="other"))
    text = refusal(site, disabled=(name,))
    assert f"'{name}', which {words}" in text
    assert "(installed: other)" in text


def test_two_plugins_of_one_name_are_both_named(site: FakeSite) -> None:
    site.install("same", "", distribution="one-dist", version="1.0")
    site.install("same", "", distribution="two-dist", version="2.0")
    text = refusal(site)
    assert "two plugins are named 'same'" in text
    assert "one-dist 1.0" in text
    assert "two-dist 2.0" in text


def test_the_name_of_the_built_in_plugin_is_taken(site: FakeSite) -> None:
    site.install("builtin", "")
    text = refusal(site)
    assert "deltaglider-core" in text
    assert "deltaglider-builtin" in text


def test_two_records_of_one_name_name_both_distributions(site: FakeSite) -> None:
    site.install("one", ROUTER.format(name="alias"))
    site.install("two", ROUTER.format(name="alias"))
    text = refusal(site)
    assert "two plugins register 'alias' in dg_routers" in text
    assert "deltaglider-one" in text
    assert "deltaglider-two" in text


def test_a_built_in_record_cannot_be_replaced(site: FakeSite) -> None:
    site.install("one", ROUTER.format(name="table"))
    assert "'builtin' (deltaglider-core" in refusal(site)


@pytest.mark.parametrize("name", ["Alias", "al ias", "", "-alias", "älias", "alias\n"])
def test_a_record_needs_a_lower_case_name(name: str, site: FakeSite) -> None:
    site.install("one", ROUTER.format(name=name.encode("unicode_escape").decode()))
    text = refusal(site)
    assert "lower-case" in text
    assert "'one' (deltaglider-one 1.2.3)" in text


def test_a_plugin_needs_a_lower_case_name(site: FakeSite) -> None:
    site.install("Loud", "")
    assert "'Loud' (deltaglider-Loud 1.2.3) has a name that is not lower case" in refusal(site)


def test_a_mistyped_hook_is_named_with_the_right_one(site: FakeSite) -> None:
    site.install("typo", ROUTER.format(name="alias").replace("dg_routers", "dg_router"))
    text = refusal(site)
    assert "'typo' (deltaglider-typo 1.2.3) implements dg_router" in text
    assert "did you mean dg_routers?" in text


def test_a_hook_that_resembles_none_lists_all(site: FakeSite) -> None:
    site.install("typo", ROUTER.format(name="alias").replace("dg_routers", "dg_zzz"))
    assert "there are: dg_settings" in refusal(site)


def test_a_hook_without_the_decorator_is_found(site: FakeSite) -> None:
    site.install("bare", ROUTER.format(name="alias").replace("@hookimpl", ""))
    assert "defines dg_routers without @hookimpl" in refusal(site)


def test_a_hook_with_arguments_is_refused(site: FakeSite) -> None:
    site.install("eager", ROUTER.format(name="alias").replace("dg_routers()", "dg_routers(x)"))
    assert re.search(r"'eager' .* cannot be registered: .*dg_routers", refusal(site))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("yield 'text'", "yields str in dg_routers, which takes RouterType"),
        ("return None", "failed in dg_routers: TypeError"),
        ("yield 1 / 0", "failed in dg_routers: ZeroDivisionError: division by zero"),
    ],
)
def test_a_hook_that_gives_nonsense_is_named(body: str, words: str, site: FakeSite) -> None:
    source = "from deltaglider_core import hookimpl\n@hookimpl\ndef dg_routers():\n    " + body
    site.install("odd", source)
    text = refusal(site)
    assert "plugin 'odd' (deltaglider-odd 1.2.3)" in text
    assert words in text


def test_a_record_of_another_stage_is_refused(site: FakeSite) -> None:
    site.install("mixed", ROUTER.format(name="a").replace("dg_routers", "dg_codecs"))
    assert "yields RouterType in dg_codecs, which takes CodecType" in refusal(site)


def test_what_is_missing_is_said_with_the_package_that_has_it(site: FakeSite) -> None:
    site.install("backend-fs", "raise RuntimeError('boom')", distribution="deltaglider-backend-fs")

    def sentence(name: str, **options: object) -> str:
        return load(site, **options).missing("storage backend", name, "storage_backends")

    text = sentence("s3", on_load_error="skip")
    assert text.startswith("no storage backend named 's3' is installed (installed: none)")
    assert text.endswith("pip install deltaglider-backend-s3")
    assert "failed to load: RuntimeError: boom" in sentence("filesystem", on_load_error="skip")
    assert "advanced.plugins.disabled" in sentence("filesystem", disabled=("backend-fs",))
    assert sentence("tape", on_load_error="skip").endswith("(installed: none)")


def test_a_near_miss_is_suggested() -> None:
    text = load_plugins().missing("storage backend", "filesytem", "storage_backends")
    assert text.endswith("did you mean 'filesystem'?")
