"""The bytes of format 1: zstd skippable frames around what the codec wrote.

``docs/reference/stored-format.md`` specifies every byte; a test parses by that page alone::

    head    skippable frame: magic, version, record, root table, SHA-256
    body    stream header of the codec, then per group: index (skippable frame), windows

Every number is little endian and unsigned. Everything parsed here is untrusted: lengths are
checked against constants and against each other before memory is taken. Whatever does not
hold raises ``IntegrityError``.

Source of the frame layout: RFC 8878, section 3.1.2.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import IntegrityError
from .record import MAX_RECORD_BYTES, Record

#: First bytes of what this format writes: the frame's magic number, a length, our magic.
#: Bit 7 and the line ends show transfers that treat bytes as text, as in PNG.
FRAME_MAGIC = 0x184D2A5D
MAGIC = b"\x89DGob\r\n\x1a"
VERSION = 1

#: Enough bytes to recognise a head.
PEEK = 16

#: Windows per group; with windows of 4 MiB a group is 4 GiB and 5 TiB are 1,280 groups.
GROUP_WINDOWS = 1024

MAX_GROUP_WINDOWS = 4096
MAX_GROUPS = 16_384
MAX_WINDOW_BYTES = 64 * 1024 * 1024
MAX_STREAM_HEADER = 64 * 1024

_FRAME = struct.Struct("<II")
_HEAD = struct.Struct("<8sHHI")
_COUNT = struct.Struct("<I")
_GROUP = struct.Struct("<QQI32s")
_INDEX = struct.Struct("<II")
_WINDOW = struct.Struct("<QIIQQ32s")

MAX_HEAD_BYTES = (
    _FRAME.size
    + _HEAD.size
    + MAX_RECORD_BYTES
    + _COUNT.size
    + MAX_GROUPS * _GROUP.size
    + hashlib.sha256().digest_size
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A window of the target.

    Attributes:
        offset: Of its stored bytes, from the end of the head.
        stored: Length of its stored bytes.
        size: Length of the target window.
        span: ``(offset, length)`` of the reference that it uses.
        sha256: Of the target window, 32 bytes.
    """

    offset: int
    stored: int
    size: int
    span: tuple[int, int]
    sha256: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """A run of windows with an index of their own.

    Attributes:
        offset: Of the index frame, from the end of the head.
        start: Of its first window in the target.
        windows: How many it has.
        sha256: Of the index payload, 32 bytes.
    """

    offset: int
    start: int
    windows: int
    sha256: bytes

    @property
    def frame_size(self) -> int:
        """Length of the index frame."""
        return index_frame_size(self.windows)


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """A parsed head: its length in bytes, its record, its groups (none if wrapped)."""

    length: int
    record: Record
    groups: Sequence[Group]


def has_magic(start: bytes) -> bool:
    """Whether bytes that begin with ``start`` claim to be of this format.

    Args:
        start: At least the first ``PEEK`` bytes, or all bytes if there are fewer.
    """
    return start[8:PEEK] == MAGIC and start[:4] == _COUNT.pack(FRAME_MAGIC)


def head_length(start: bytes) -> int:
    """Length of the head that begins with ``start``, at least ``PEEK`` bytes of it.

    Raises:
        IntegrityError: Not our magic, or an impossible length.
    """
    if not has_magic(start):
        raise IntegrityError("stored bytes do not begin with a head")
    total = int(_FRAME.unpack_from(start)[1]) + _FRAME.size
    if not _FRAME.size + _HEAD.size <= total <= MAX_HEAD_BYTES:
        raise IntegrityError(f"head of {total} bytes")
    return total


def root_of(groups: Sequence[Group]) -> str:
    """SHA-256 over the root table, hex."""
    return hashlib.sha256(_root_table(groups)).hexdigest()


def build_head(record: Record, groups: Sequence[Group] = ()) -> bytes:
    """The head frame of an object."""
    text = record.to_json()
    payload = b"".join(
        (
            _HEAD.pack(MAGIC, VERSION, 0, len(text)),
            text,
            _COUNT.pack(len(groups)),
            _root_table(groups),
        )
    )
    payload += hashlib.sha256(payload).digest()
    return _FRAME.pack(FRAME_MAGIC, len(payload)) + payload


def parse_head(data: bytes) -> Head:
    """Parse and check a whole head frame."""
    if head_length(data) != len(data):
        raise IntegrityError("head is cut off")
    payload, digest = data[_FRAME.size : -32], data[-32:]
    if hashlib.sha256(payload).digest() != digest:
        raise IntegrityError("head does not match its SHA-256")
    _, version, flags, length = _HEAD.unpack_from(payload)
    if version != VERSION or flags != 0:
        raise IntegrityError(f"head has format version {version}, this release reads {VERSION}")
    counted = _HEAD.size + int(length)
    if length > MAX_RECORD_BYTES or counted + _COUNT.size > len(payload):
        raise IntegrityError("record goes beyond the head")
    record = Record.from_json(payload[_HEAD.size : counted])
    (count,) = _COUNT.unpack_from(payload, counted)
    table = payload[counted + _COUNT.size :]
    if count > MAX_GROUPS or len(table) != count * _GROUP.size:
        raise IntegrityError("root table has another length than the head says")
    groups = tuple(
        Group(offset=offset, start=start, windows=windows, sha256=sha256)
        for offset, start, windows, sha256 in _GROUP.iter_unpack(table)
    )
    _check_groups(record, groups)
    return Head(length=len(data), record=record, groups=groups)


def _check_groups(record: Record, groups: Sequence[Group]) -> None:
    if record.delta is None:
        if groups:
            raise IntegrityError("wrapped bytes with a root table")
        return
    if not groups or root_of(groups) != record.delta.root:
        raise IntegrityError("root table does not match the record")
    if groups[0].offset > MAX_STREAM_HEADER or groups[0].start != 0:
        raise IntegrityError("root table does not begin at the beginning")
    ends = [(group.offset, group.start) for group in groups[1:]]
    ends.append((record.delta.stored, record.size or 0))
    for group, (offset, start) in zip(groups, ends, strict=True):
        if not 1 <= group.windows <= MAX_GROUP_WINDOWS:
            raise IntegrityError(f"group of {group.windows} windows")
        if group.offset + group.frame_size > offset or group.start >= start:
            raise IntegrityError("root table is not in ascending order")


def index_frame_size(windows: int) -> int:
    """Length of the index frame of a group."""
    return _FRAME.size + _INDEX.size + windows * _WINDOW.size


def build_index(number: int, windows: Sequence[Window]) -> bytes:
    """The index frame of group ``number``, counted from 0."""
    payload = _INDEX.pack(number, len(windows)) + b"".join(
        _WINDOW.pack(w.offset, w.stored, w.size, w.span[0], w.span[1], w.sha256) for w in windows
    )
    return _FRAME.pack(FRAME_MAGIC, len(payload)) + payload


def index_digest(frame: bytes) -> bytes:
    """SHA-256 over the payload of an index frame."""
    return hashlib.sha256(frame[_FRAME.size :]).digest()


def parse_index(head: Head, number: int, frame: bytes) -> Sequence[Window]:
    """Parse and check the index frame of group ``number`` of a delta."""
    delta, group = head.record.delta, head.groups[number]
    if delta is None or len(frame) != group.frame_size:
        raise IntegrityError("group index has another length than the root table says")
    if _FRAME.unpack_from(frame) != (FRAME_MAGIC, len(frame) - _FRAME.size):
        raise IntegrityError("group index is damaged")
    if index_digest(frame) != group.sha256:
        raise IntegrityError("group index does not match its SHA-256")
    if _INDEX.unpack_from(frame, _FRAME.size) != (number, group.windows):
        raise IntegrityError("group index belongs to another group")
    windows = tuple(
        Window(offset=row[0], stored=row[1], size=row[2], span=(row[3], row[4]), sha256=row[5])
        for row in _WINDOW.iter_unpack(frame[_FRAME.size + _INDEX.size :])
    )
    last = number + 1 == len(head.groups)
    stop = delta.stored if last else head.groups[number + 1].offset
    end = (head.record.size or 0) if last else head.groups[number + 1].start
    position, target = group.offset + group.frame_size, group.start
    for window in windows:
        if window.offset != position or not 1 <= window.size <= MAX_WINDOW_BYTES:
            raise IntegrityError("windows are not one behind the other")
        if not 1 <= window.stored <= stored_limit(window.size):
            raise IntegrityError("stored window is larger than any window can be")
        if sum(window.span) > delta.reference.size:
            raise IntegrityError("window uses bytes beyond its reference")
        position, target = position + window.stored, target + window.size
    if position != stop or target != end:
        raise IntegrityError("windows do not add up to the object")
    return windows


def stored_limit(size: int) -> int:
    """Most stored bytes of a window of ``size`` bytes: twice as many, and some overhead."""
    return 2 * size + MAX_STREAM_HEADER


def _root_table(groups: Sequence[Group]) -> bytes:
    return b"".join(_GROUP.pack(g.offset, g.start, g.windows, g.sha256) for g in groups)
