"""What ``docs/reference/stored-format.md`` says is stored; the parser knows only that page."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from deltaglider_core.delta import encoder
from deltaglider_core.interfaces.storage import ByteRange

if TYPE_CHECKING:
    from .conftest import World

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "stored-format.md"
TEXT = PAGE.read_text(encoding="utf-8")
FRAME_MAGIC, MAGIC = (
    bytes.fromhex(re.search(rf"\| {name} `((?:[0-9a-f]{{2}} ?)+)`", TEXT)[1])  # type: ignore[index]
    for name in ("frame magic", "magic")
)
SIZE = 200_000


def number(data: bytes, offset: int, length: int) -> int:
    return int.from_bytes(data[offset : offset + length], "little")


def parse(blob: bytes) -> tuple[Mapping[str, Any], list[dict[str, Any]], bytes]:
    """Record, windows, and what stands behind the head, by the tables of the page."""
    assert blob[:4] == FRAME_MAGIC
    n = number(blob, 4, 4)
    assert blob[8:16] == MAGIC
    assert number(blob, 16, 2) == 1
    assert number(blob, 18, 2) == 0
    r = number(blob, 20, 4)
    record = json.loads(blob[24 : 24 + r].decode("ascii"))
    g = number(blob, 24 + r, 4)
    table = blob[28 + r : 28 + r + 52 * g]
    end = 28 + r + 52 * g
    assert blob[end : end + 32] == hashlib.sha256(blob[8:end]).digest()
    assert end + 32 == n + 8
    rest = blob[n + 8 :]
    windows: list[dict[str, Any]] = []
    if record["form"] == "delta":
        assert len(rest) == record["stored"]
        assert hashlib.sha256(table).hexdigest() == record["root"]
    for group in range(g):
        row = table[52 * group : 52 * group + 52]
        offset, start, count = number(row, 0, 8), number(row, 8, 8), number(row, 16, 4)
        assert start == sum(window["size"] for window in windows)
        frame = rest[offset : offset + 16 + 64 * count]
        assert frame[:4] == FRAME_MAGIC
        assert number(frame, 4, 4) == len(frame) - 8
        assert hashlib.sha256(frame[8:]).digest() == row[20:]
        assert (number(frame, 8, 4), number(frame, 12, 4)) == (group, count)
        position = offset + len(frame)
        for index in range(count):
            entry = frame[16 + 64 * index : 80 + 64 * index]
            assert number(entry, 0, 8) == position
            stored = number(entry, 8, 4)
            windows.append(
                {
                    "data": rest[position : position + stored],
                    "size": number(entry, 12, 4),
                    "span": (number(entry, 16, 8), number(entry, 24, 8)),
                    "sha256": entry[32:],
                }
            )
            position += stored
        following = number(table, 52 * (group + 1), 8) if group + 1 < g else len(rest)
        assert position == following
    return record, windows, rest


@pytest.fixture(params=[1024, 3], ids=["one group", "groups of three windows"])
def group_windows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setitem(encoder.encode.__kwdefaults__ or {}, "group_windows", request.param)
    return int(request.param)


async def test_a_delta_is_what_the_page_says(world: World, group_windows: int) -> None:
    data = world.data(SIZE)
    await world.put("a/b/app-1.zip", data)
    target = world.version(data)
    info = await world.put("a/b/app-2.zip", target)
    blob = await world.stored("a/b/app-2.zip")
    record, windows, _ = parse(blob)
    groups = number(blob, 24 + number(blob, 20, 4), 4)
    assert (len(windows), groups) == (13, -(-13 // group_windows))
    sha256 = hashlib.sha256(data).hexdigest()
    expected = {
        "form": "delta",
        "size": SIZE,
        "etag": info.etag,
        "sha256": hashlib.sha256(target).hexdigest(),
        "codec": "block",
        "ref": f".deltaglider/refs/a/b/{sha256}",
        "ref_sha256": sha256,
        "ref_size": SIZE,
    }
    assert {name: record[name] for name in expected} == expected
    assert set(record) == {*expected, "stored", "root"}
    reference = await world.stored(record["ref"])
    restored = b""
    for window in windows:
        part = world.codec.decode_window(reference, window["data"], size=window["size"])
        assert hashlib.sha256(part).digest() == window["sha256"]
        assert sum(window["span"]) <= SIZE
        restored += part
    assert restored == target == await world.get("a/b/app-2.zip")


async def test_every_range_crosses_groups(world: World, group_windows: int) -> None:
    data = world.data(SIZE)
    await world.put("app-1.zip", data)
    for first in range(0, SIZE, 15_000):
        for last in range(first, SIZE, 37_000):
            got = await world.get("app-1.zip", ByteRange(first=first, last=last))
            assert got == data[first : last + 1]


async def test_metadata_is_what_the_page_says(world: World) -> None:
    info = await world.put("a.zip", world.data(SIZE))
    blob = await world.stored("a.zip")
    record, _, _ = parse(blob)
    stored = (await world.inner.head_object("bucket", "a.zip")).metadata
    assert stored is not None
    assert dict(stored.internal) == {
        "form": "delta",
        "size": str(SIZE),
        "etag": info.etag,
        "sha256": record["sha256"],
        "head": str(number(blob, 4, 4) + 8),
        "codec": "block",
        "ref": record["ref_sha256"],
    }
    reference = (await world.inner.head_object("bucket", record["ref"])).metadata
    assert reference is not None
    assert dict(reference.internal) == {
        "form": "reference",
        "sha256": record["ref_sha256"],
        "source": "a.zip",
    }
    documented = set(re.findall(r"^\| `(\w+)` \|", TEXT, flags=re.MULTILINE))
    assert {*stored.internal, *reference.internal, *record} <= documented


async def test_wrapped_bytes_are_what_the_page_says(world: World) -> None:
    await world.put("a.zip", world.data(SIZE))
    blob = await world.stored("a.zip")
    info = await world.put("b", blob)
    record, _, rest = parse(await world.stored("b"))
    assert rest == blob
    assert record == {
        "form": "wrapped",
        "size": len(blob),
        "etag": info.etag,
        "sha256": hashlib.sha256(blob).hexdigest(),
    }


def unzstd(blob: bytes, folder: Path) -> bytes:
    """What ``zstd -dc`` makes of the object; the library where the program is not installed."""
    program = shutil.which("zstd")
    if program is None:
        with zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True) as reader:
            return reader.read()
    path = folder / "blob.zst"
    path.write_bytes(blob)
    return subprocess.run([program, "-dc", path], check=True, capture_output=True).stdout


async def test_zstd_skips_what_is_ours(world: World, group_windows: int, tmp_path: Path) -> None:
    await world.put("a.zip", world.data(SIZE))
    blob = await world.stored("a.zip")
    _, windows, _ = parse(blob)
    plain = b"".join(zstandard.decompress(window["data"], 1 << 24) for window in windows)
    assert unzstd(blob, tmp_path) == b"BLOCK" + plain
