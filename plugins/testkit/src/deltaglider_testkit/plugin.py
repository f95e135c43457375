"""Conformance of a plugin as a package."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest
from pydantic import BaseModel

from deltaglider_core.hookspecs import HookSpecs
from deltaglider_core.interfaces.contribution import SettingsSection
from deltaglider_core.interfaces.storage import StorageBackendType
from deltaglider_core.plugins import ENTRY_POINT_GROUP

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")

# Run in a fresh interpreter: what the core imports anyway is not the plugin's time.
_MEASURE = """
import importlib, sys, time
import deltaglider_core, deltaglider_core.plugins, deltaglider_core.settings
before = set(sys.modules)
start = time.perf_counter()
importlib.import_module(sys.argv[1])
print(time.perf_counter() - start)
print(*sorted(set(sys.modules) - before))
"""


class PluginConformance:
    """What every package with an entry point in the group ``deltaglider`` must do.

    Inherit, and name the distribution::

        class TestPackage(PluginConformance):
            distribution = "deltaglider-backend-mine"

    Attributes:
        distribution: As pip knows it.
        heavy: Top-level modules that the plugin module must not import by itself, besides
            the requirements of the distribution, which are always among them.
        import_seconds: What importing the plugin module may cost; the best of three.
    """

    distribution: ClassVar[str]
    heavy: ClassVar[tuple[str, ...]] = ()
    import_seconds: ClassVar[float] = 0.1

    @pytest.fixture
    def entry_points(self) -> list[metadata.EntryPoint]:
        """The entry points that the distribution declares."""
        declared = metadata.distribution(self.distribution).entry_points
        return [entry for entry in declared if entry.group == ENTRY_POINT_GROUP]

    @pytest.fixture
    def records(self, entry_points: list[metadata.EntryPoint]) -> dict[str, list[Any]]:
        """What the hooks yield, by hook."""
        found: dict[str, list[Any]] = {}
        for entry in entry_points:
            module = entry.load()
            for hook in self.hooks_of(module):
                found.setdefault(hook, []).extend(getattr(module, hook)())
        return found

    @staticmethod
    def hooks_of(module: object) -> list[str]:
        """Functions marked as implementations of hooks."""
        return [
            name
            for name, member in inspect.getmembers(module, callable)
            if hasattr(member, "deltaglider_impl")
        ]

    @classmethod
    def package(cls) -> str:
        """The import name, by the rule that maps distributions to imports."""
        return cls.distribution.replace("-", "_")

    def test_entry_point(self, entry_points: list[metadata.EntryPoint]) -> None:
        assert entry_points, f"no entry point in the group {ENTRY_POINT_GROUP!r}"
        for entry in entry_points:
            assert _NAME.fullmatch(entry.name)
            assert self.hooks_of(entry.load()), f"{entry.value} implements no hook"

    def test_known_hooks(self, entry_points: list[metadata.EntryPoint]) -> None:
        known = {name for name in dir(HookSpecs) if name.startswith("dg_")}
        for entry in entry_points:
            module = entry.load()
            defined = {name for name in vars(module) if name.startswith("dg_")}
            marked = set(self.hooks_of(module))
            assert marked - known == set(), "hooks that do not exist"
            assert defined - marked == set(), "functions that look like hooks: @hookimpl missing"

    def test_names(self, records: dict[str, list[Any]]) -> None:
        for hook, found in records.items():
            names = [
                record.mount if isinstance(record, SettingsSection) else record.name
                for record in found
            ]
            assert len(set(names)) == len(names), f"{hook}: a name is used twice"
            for record, name in zip(found, names, strict=True):
                if not isinstance(record, SettingsSection):
                    assert _NAME.fullmatch(name), f"{hook}: {name!r}"
                    assert record.summary.strip(), f"{hook}: {name} has no summary"

    def test_settings(self, records: dict[str, list[Any]]) -> None:
        """Models refuse unknown keys, give a JSON schema, and describe every field."""
        for model in self.models(records):
            assert model.model_json_schema()
            assert model.model_config.get("extra") == "forbid", f"{model.__name__} takes any key"
            self.check_fields(model, set())

    @staticmethod
    def models(records: dict[str, list[Any]]) -> list[type[BaseModel]]:
        """Settings models of sections and of backends."""
        return [record.model for record in records.get("dg_settings", ())] + [
            record.settings for record in records.get("dg_storage_backends", ())
        ]

    @classmethod
    def check_fields(cls, model: type[BaseModel], seen: set[type[BaseModel]]) -> None:
        """Also the models within."""
        if model in seen:
            return
        seen.add(model)
        for name, info in model.model_fields.items():
            assert (info.description or "").strip(), f"{model.__name__}.{name}: no description"
            pending = [info.annotation]
            while pending:
                annotation = pending.pop()
                pending += get_args(annotation)
                if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
                    cls.check_fields(annotation, seen)

    def test_backend_types(self, records: dict[str, list[Any]]) -> None:
        """``type`` is the literal name of the record and has no default."""
        for record in records.get("dg_storage_backends", ()):
            assert isinstance(record, StorageBackendType)
            field = record.settings.model_fields["type"]
            assert get_args(field.annotation) == (record.name,)
            assert field.is_required()

    def test_import_is_light(self, entry_points: list[metadata.EntryPoint]) -> None:
        """A plugin module registers; drivers are imported by ``open``."""
        for entry in entry_points:
            for _ in range(3):  # a busy machine is no reason to fail
                seconds, imported = self.measure(entry.module)
                if seconds < self.import_seconds:
                    break
            assert seconds < self.import_seconds
            assert {name.partition(".")[0] for name in imported} & self.drivers() == set()

    @staticmethod
    def measure(module: str) -> tuple[float, list[str]]:
        """Seconds and modules that importing ``module`` adds to those of the core."""
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE, module], capture_output=True, text=True, check=True
        )
        seconds, _, modules = done.stdout.partition("\n")
        return float(seconds), modules.split()

    def drivers(self) -> set[str]:
        """Import names of what the distribution requires beyond the core."""
        required = {
            re.split(r"[^A-Za-z0-9._-]", text)[0].lower().replace("_", "-")
            for text in metadata.requires(self.distribution) or ()
        }
        core = {
            re.split(r"[^A-Za-z0-9._-]", text)[0].lower().replace("_", "-")
            for text in metadata.requires("deltaglider-core") or ()
        }
        wanted = required - core - {"deltaglider-core"}
        names = {
            package
            for package, distributions in metadata.packages_distributions().items()
            if wanted & {name.lower().replace("_", "-") for name in distributions}
        }
        return names | set(self.heavy)

    def test_typed(self) -> None:
        importlib.import_module(self.package())
        assert resources.files(self.package()).joinpath("py.typed").is_file()

    def test_readme(self, records: dict[str, list[Any]]) -> None:
        """The README has a table with a row for every setting."""
        text = self.readme()
        rows = [line for line in text.splitlines() if line.lstrip().startswith("|")]
        for model in self.models(records):
            for name in model.model_fields:
                assert any(f"`{name}`" in row for row in rows), (
                    f"the settings table has no row for `{name}`"
                )

    def readme(self) -> str:
        """The file beside ``pyproject.toml`` of a checkout, else the installed description."""
        module = importlib.import_module(self.package())
        for folder in Path(str(module.__file__)).parents[:4]:
            if (folder / "pyproject.toml").is_file():
                return (folder / "README.md").read_text(encoding="utf-8")
        installed = metadata.distribution(self.distribution)
        return installed.read_text("METADATA") or installed.read_text("PKG-INFO") or ""
