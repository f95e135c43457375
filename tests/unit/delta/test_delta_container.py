"""Heads and indexes: what is built can be parsed, what is damaged is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaglider_core.delta import container
from deltaglider_core.delta.container import Group, Head, Window
from deltaglider_core.delta.record import Delta, Record, Reference, format_time, parse_time
from deltaglider_core.errors import IntegrityError

SHA = hashlib.sha256(b"x").hexdigest()
REFERENCE = Reference(key=f".deltaglider/refs/a/{SHA}", sha256=SHA, size=1000)
HEADER = 10


def build(sizes: list[list[int]], stored: int = 7) -> tuple[bytes, list[bytes], Record]:
    """A head and its index frames; ``sizes`` are the target windows of each group."""
    position, start, groups, frames = HEADER, 0, [], []
    for number, group in enumerate(sizes):
        offset = position
        position += container.index_frame_size(len(group))
        rows, first = [], start
        for size in group:
            digest = hashlib.sha256(bytes(size)).digest()
            rows.append(
                Window(offset=position, stored=stored, size=size, span=(3, 5), sha256=digest)
            )
            position, start = position + stored, start + size
        frame = container.build_index(number, rows)
        frames.append(frame)
        groups.append(
            Group(
                offset=offset,
                start=first,
                windows=len(group),
                sha256=container.index_digest(frame),
            )
        )
    delta = Delta(
        codec="block", reference=REFERENCE, stored=position, root=container.root_of(groups)
    )
    record = Record(form="delta", size=start, etag="e", sha256=SHA, delta=delta)
    return container.build_head(record, groups), frames, record


def test_head_and_indexes_round_trip() -> None:
    data, frames, record = build([[100, 100], [50]])
    head = container.parse_head(data)
    assert head.record == record
    assert head.length == len(data) == container.head_length(data)
    assert [group.start for group in head.groups] == [0, 200]
    windows = [container.parse_index(head, n, frame) for n, frame in enumerate(frames)]
    assert [[w.size for w in group] for group in windows] == [[100, 100], [50]]
    assert windows[0][1].span == (3, 5)


def test_a_wrapped_head_has_no_groups() -> None:
    record = Record(form="wrapped", size=20, etag="e")
    head = container.parse_head(container.build_head(record))
    assert (head.record, head.groups) == (record, ())


def test_every_flipped_bit_of_a_head_is_noticed() -> None:
    data, _, _ = build([[100, 100], [50]])
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << (position % 8)
        with pytest.raises(IntegrityError):
            container.parse_head(bytes(damaged))


def test_every_flipped_bit_of_an_index_is_noticed() -> None:
    data, frames, _ = build([[100, 100], [50]])
    head = container.parse_head(data)
    for position in range(len(frames[0])):
        damaged = bytearray(frames[0])
        damaged[position] ^= 1 << (position % 8)
        with pytest.raises(IntegrityError):
            container.parse_index(head, 0, bytes(damaged))


def test_an_index_of_another_group_is_refused() -> None:
    data, frames, _ = build([[100], [100]])
    head = container.parse_head(data)
    with pytest.raises(IntegrityError):
        container.parse_index(head, 1, frames[0])


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_parsed_or_refused(data: bytes, with_magic: bool) -> None:
    if with_magic:
        data = (
            container.FRAME_MAGIC.to_bytes(4, "little")
            + len(data).to_bytes(4, "little")
            + container.MAGIC
            + data
        )
    assert container.has_magic(data) is with_magic
    with pytest.raises(IntegrityError):
        container.parse_head(data)


def reseal(record: Record, groups: list[Group], **fields: object) -> bytes:
    """A head whose checksum is right though its record was changed."""
    original = json.loads(record.to_json())
    changed = {**original, **fields}
    text = json.dumps({k: v for k, v in changed.items() if v is not None}).encode()
    rows = container.build_head(record, groups)[8:-32]
    payload = rows[:12] + len(text).to_bytes(4, "little") + text
    payload += rows[16 + len(record.to_json()) :]
    payload += hashlib.sha256(payload).digest()
    return rows and b"".join(
        (
            container.FRAME_MAGIC.to_bytes(4, "little"),
            len(payload).to_bytes(4, "little"),
            payload,
        )
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"form": "other"},
        {"form": "verbatim"},
        {"form": "wrapped"},
        {"size": None},
        {"size": 0},
        {"size": -1},
        {"size": 1.5},
        {"size": True},
        {"size": "10"},
        {"size": 1 << 63},
        {"etag": None},
        {"etag": 'a"b'},
        {"etag": "a\r\nb: c"},
        {"etag": ""},
        {"etag": "x" * 200},
        {"sha256": "abc"},
        {"codec": "../x"},
        {"codec": None},
        {"ref": None},
        {"ref": f"other/{SHA}"},
        {"ref": f".deltaglider/meta/{SHA}"},
        {"ref": ".deltaglider/refs/a/other"},
        {"ref_sha256": None},
        {"ref_size": 0},
        {"ref_size": None},
        {"stored": 0},
        {"stored": 12},
        {"root": "0" * 64},
        {"root": None},
        {"modified": "yesterday"},
        {"modified": "2026-01-01T00:00:00"},
        {"modified": 7},
    ],
    ids=str,
)
def test_a_record_that_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    data, _, record = build([[100, 100], [50]])
    groups = list(container.parse_head(data).groups)
    assert container.parse_head(reseal(record, groups)).record == record
    with pytest.raises(IntegrityError):
        container.parse_head(reseal(record, groups, **fields))


@pytest.mark.parametrize("text", [b"[]", b"{", b"\xff", b"[" * 60_000, b"{" + b" " * 70_000])
def test_a_record_that_is_no_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(IntegrityError):
        Record.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"offset": 0},
        {"offset": 1 << 40},
        {"stored": 0},
        {"stored": 1 << 31},
        {"size": 0},
        {"size": container.MAX_WINDOW_BYTES + 1},
        {"span": (990, 11)},
        {"span": (1 << 63, 1 << 63)},
    ],
    ids=str,
)
def test_a_window_that_does_not_fit_is_refused(change: dict[str, object]) -> None:
    data, frames, _ = build([[100, 100]])
    head = container.parse_head(data)
    rows = list(container.parse_index(head, 0, frames[0]))
    frame = container.build_index(0, [replace(rows[0], **change), rows[1]])  # type: ignore[arg-type]
    sealed = replace(head.groups[0], sha256=container.index_digest(frame))
    with pytest.raises(IntegrityError):
        container.parse_index(replace(head, groups=(sealed,)), 0, frame)


@pytest.mark.parametrize(
    "change",
    [{"offset": 1 << 20}, {"start": 1}, {"windows": 0}, {"windows": 5000}, {"windows": 4}],
    ids=str,
)
def test_a_root_table_that_does_not_fit_is_refused(change: dict[str, int]) -> None:
    data, _, record = build([[100, 100], [50]])
    groups = list(container.parse_head(data).groups)
    groups[0] = replace(groups[0], **change)  # type: ignore[arg-type]
    assert record.delta is not None
    delta = replace(record.delta, root=container.root_of(groups))
    with pytest.raises(IntegrityError):
        container.parse_head(container.build_head(replace(record, delta=delta), groups))


def test_a_newer_format_is_refused() -> None:
    data, _, _ = build([[100]])
    payload = bytearray(data[8:-32])
    payload[8] = 2
    sealed = bytes(payload) + hashlib.sha256(payload).digest()
    with pytest.raises(IntegrityError, match="version 2"):
        container.parse_head(data[:8] + sealed)


def test_the_length_of_a_head_is_bounded() -> None:
    start = container.FRAME_MAGIC.to_bytes(4, "little") + b"\xff" * 4 + container.MAGIC
    with pytest.raises(IntegrityError):
        container.head_length(start)
    largest = container.MAX_HEAD_BYTES - 8
    allowed = container.FRAME_MAGIC.to_bytes(4, "little") + largest.to_bytes(4, "little")
    assert container.head_length(allowed + container.MAGIC) == container.MAX_HEAD_BYTES


def test_five_tebibytes_fit() -> None:
    window = 4 * 1024 * 1024
    groups = -(-5 * 1024**4 // (window * container.GROUP_WINDOWS))
    assert groups <= container.MAX_GROUPS


def test_times_keep_their_instant() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    assert parse_time(format_time(moment)) == moment


def test_head_is_frozen() -> None:
    data, _, _ = build([[1]])
    head = container.parse_head(data)
    assert isinstance(head, Head)
    with pytest.raises(AttributeError):
        head.length = 3  # type: ignore[misc]
