"""The stock xdelta3 command line, the oracle of the tests."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from deltaglider_codec_xdelta3.codec import Xdelta3Codec

WINDOW = 64 * 1024


class StockXdelta3:
    """Runs the command line in a folder of its own."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program = program
        self.folder = folder

    def _run(self, options: Sequence[str], reference: bytes, content: bytes) -> bytes:
        source, given, result = (self.folder / name for name in ("source", "given", "result"))
        source.write_bytes(reference)
        given.write_bytes(content)
        command = [self.program, *options, "-f", "-s", source, given, result]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return result.read_bytes()

    def encode(self, reference: bytes, target: bytes, *options: str) -> bytes:
        """VCDIFF of ``target`` without secondary compression."""
        return self._run(["-e", "-S", "none", "-A", *options], reference, target)

    def decode(self, reference: bytes, vcdiff: bytes) -> bytes:
        """What ``vcdiff`` gives."""
        return self._run(["-d"], reference, vcdiff)


@pytest.fixture(scope="session")
def stock_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``xdelta3`` of this machine, else compiled from the source the extension is built from."""
    installed = shutil.which("xdelta3")
    if installed:
        return Path(installed)
    spec = find_spec("xdelta3")
    if spec is None or not spec.submodule_search_locations:
        pytest.fail("The tests need the xdelta3 program, or its source: pip install xdelta3==0.0.5")
    source = Path(spec.submodule_search_locations[0]) / "lib" / "xdelta3.c"
    program = tmp_path_factory.mktemp("stock") / "xdelta3"
    macros = {
        "XD3_MAIN": "1",
        "EXTERNAL_COMPRESSION": "0",
        "SECONDARY_DJW": "1",
        "SECONDARY_FGK": "1",
        "SIZEOF_SIZE_T": "__SIZEOF_SIZE_T__",
        "SIZEOF_UNSIGNED_INT": "__SIZEOF_INT__",
        "SIZEOF_UNSIGNED_LONG": "__SIZEOF_LONG__",
        "SIZEOF_UNSIGNED_LONG_LONG": "__SIZEOF_LONG_LONG__",
    }
    defines = [f"-D{name}={value}" for name, value in macros.items()]
    compiler = ["cc", "-w", "-O1", "-fno-strict-aliasing", *defines]
    subprocess.run([*compiler, source, "-o", program, "-lm"], check=True)
    return program


@pytest.fixture
def stock(stock_program: Path, tmp_path: Path) -> StockXdelta3:
    """The stock command line."""
    folder = tmp_path / "stock"
    folder.mkdir()
    return StockXdelta3(stock_program, folder)


@pytest.fixture
def codec() -> Xdelta3Codec:
    """A codec with the smallest window."""
    return Xdelta3Codec(level=3, window_size=WINDOW, zstd_level=3)
