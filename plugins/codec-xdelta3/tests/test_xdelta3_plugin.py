"""Registration, settings, and the build."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

import deltaglider_codec_xdelta3
from deltaglider_codec_xdelta3 import plugin
from deltaglider_codec_xdelta3.codec import Xdelta3Codec
from deltaglider_codec_xdelta3.limits import MAX_WINDOW_SIZE, MIN_WINDOW_SIZE
from deltaglider_codec_xdelta3.settings import Xdelta3Settings

PACKAGE = Path(deltaglider_codec_xdelta3.__file__).parent


async def test_registers_a_codec_with_its_settings() -> None:
    (section,) = plugin.dg_settings()
    (kind,) = plugin.dg_codecs()
    assert section.mount == kind.mount == "advanced.xdelta3"
    assert section.model is Xdelta3Settings
    settings = section.model(level=1, window_size=MIN_WINDOW_SIZE)
    async with kind.open(settings, None) as codec:
        assert isinstance(codec, Xdelta3Codec)
        assert kind.name == codec.codec_id == "xdelta3"
        assert codec.window_size == MIN_WINDOW_SIZE


def test_defaults() -> None:
    settings = Xdelta3Settings()
    assert (settings.level, settings.window_size, settings.zstd_level) == (3, 4 * 1024**2, 3)
    assert all(field.description for field in Xdelta3Settings.model_fields.values())


@pytest.mark.parametrize(
    "values",
    [
        {"level": 0},
        {"level": 10},
        {"window_size": MIN_WINDOW_SIZE - 1},
        {"window_size": MAX_WINDOW_SIZE + 1},
        {"zstd_level": 0},
        {"zstd_level": 20},
        {"threads": 2},
    ],
)
def test_bad_settings(values: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=next(iter(values))):
        Xdelta3Settings(**values)


def test_registering_imports_neither_the_extension_nor_zstandard() -> None:
    code = (
        "import sys, deltaglider_codec_xdelta3.plugin as plugin;"
        "list(plugin.dg_codecs()), list(plugin.dg_settings());"
        "print({'cffi', 'zstandard', 'deltaglider_codec_xdelta3._xdelta3'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_build_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"xdelta3==0\.0\.5"):
        runpy.run_path(str(PACKAGE / "_build.py"))
