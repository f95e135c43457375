"""From a spooled body to the bytes behind a head, window by window, in a spool file."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from ..interfaces.codec import Codec, EncodedWindow, PreparedReference
from ..tasks import cancel_all, run_blocking
from .bodies import read_span
from .cache import ReferenceFile
from .container import (
    GROUP_WINDOWS,
    MAX_GROUPS,
    MAX_STREAM_HEADER,
    MAX_WINDOW_BYTES,
    Group,
    Window,
    build_index,
    index_digest,
    index_frame_size,
    stored_limit,
)
from .spooling import Spooled

#: Windows that are encoded at once. Each holds a window, its delta and its decoded check.
_AT_ONCE = 2


class EncodingFailedError(Exception):
    """No delta, for a reason that must not fail the upload; ``__cause__`` has the details."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedBody:
    """What stands behind the head: a file, its length and its root table."""

    path: Path
    stored: int
    groups: Sequence[Group]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Encoded:
    """A target window, encoded; ``sha256`` is of the target, 32 bytes."""

    window: EncodedWindow
    size: int
    sha256: bytes


async def encode(
    codec: Codec,
    prepared: PreparedReference,
    reference: ReferenceFile,
    target: Spooled,
    path: Path,
    *,
    limit: float,
    group_windows: int = GROUP_WINDOWS,
) -> EncodedBody | None:
    """Encode ``target`` against ``reference`` into the new file ``path``.

    Every window is decoded again before it counts, so what is stored can be read.

    Args:
        limit: Stop as soon as this many bytes are reached; None is returned then.
        group_windows: Windows per group.

    Raises:
        EncodingFailedError: The codec failed, or the disk is full.
    """
    try:
        header = codec.stream_header()
        if len(header) > MAX_STREAM_HEADER or not 1 <= codec.window_size <= MAX_WINDOW_BYTES:
            raise ValueError(f"codec {codec.codec_id} does not fit the format")
        await run_blocking(_write_at, path, 0, header)
        position, groups, start = len(header), list[Group](), 0
        left = -(-target.size // codec.window_size)
        if left > MAX_GROUPS * group_windows:
            raise ValueError(f"{left} windows are more than an object can have")
        async with aclosing(_encoded(codec, prepared, reference, target)) as encoded:
            while left:
                count = min(left, group_windows)
                offset, rows = position, list[Window]()
                position += index_frame_size(count)
                for _ in range(count):
                    each = await anext(encoded)
                    data = each.window.data
                    if position + len(data) >= limit:
                        return None
                    await run_blocking(_write_at, path, position, data)
                    rows.append(_row(each, position))
                    position += len(data)
                frame = build_index(len(groups), rows)
                await run_blocking(_write_at, path, offset, frame)
                digest = index_digest(frame)
                groups.append(Group(offset=offset, start=start, windows=count, sha256=digest))
                start += sum(row.size for row in rows)
                left -= count
    except Exception as error:
        raise EncodingFailedError(str(error)) from error
    return EncodedBody(path=path, stored=position, groups=tuple(groups))


async def _encoded(
    codec: Codec, prepared: PreparedReference, reference: ReferenceFile, target: Spooled
) -> AsyncGenerator[_Encoded, None]:
    """Encode all windows of ``target``, some at once; yield them in order."""
    pending: deque[asyncio.Future[_Encoded]] = deque()
    try:
        for offset in range(0, target.size, codec.window_size):
            size = min(codec.window_size, target.size - offset)
            pending.append(
                asyncio.ensure_future(
                    run_blocking(_encode, codec, prepared, reference, target.path, offset, size)
                )
            )
            if len(pending) == _AT_ONCE:
                yield await pending[0]
                pending.popleft()
        while pending:
            yield await pending[0]
            pending.popleft()
    finally:
        await cancel_all(pending)


def _encode(
    codec: Codec,
    prepared: PreparedReference,
    reference: ReferenceFile,
    path: Path,
    offset: int,
    size: int,
) -> _Encoded:
    target = read_span(path, offset, size)
    if len(target) != size:
        raise OSError(f"spool file ends at {offset + len(target)}")
    window = codec.encode_window(prepared, target)
    if sum(window.span) > reference.size or not 1 <= len(window.data) <= stored_limit(size):
        raise ValueError(f"codec {codec.codec_id} gave a window that does not fit the format")
    # A fault in an encoder, in memory or in a cached file would otherwise be found out when
    # the object is read, which is too late. Decoding takes a small part of encoding's time.
    if codec.decode_window(reference.data, window.data, size=size) != target:
        raise ValueError(f"codec {codec.codec_id} does not decode what it encoded")
    return _Encoded(window=window, size=size, sha256=hashlib.sha256(target).digest())


def _row(encoded: _Encoded, offset: int) -> Window:
    return Window(
        offset=offset,
        stored=len(encoded.window.data),
        size=encoded.size,
        span=encoded.window.span,
        sha256=encoded.sha256,
    )


def _write_at(path: Path, offset: int, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        view = memoryview(data)
        while view:
            written = os.pwrite(handle, view, offset)
            offset, view = offset + written, view[written:]
    finally:
        os.close(handle)
