"""Pages of open multipart uploads, from the database alone.

Source: AWS, "ListMultipartUploads".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, literal, select, tuple_

from ..interfaces.storage import UploadInfo, UploadPage
from .tables import uploads
from .uploads import checksum_of

#: Rows read at once: at least, and at most.
_FEW, _MANY = 16, 1024

_VISIBLE = ("open", "completing")


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """What a page is asked for.

    Attributes:
        key_marker, upload_id_marker: Entries of the page are above; without the second one all
            uploads of the marker's key are below. A common prefix is held against the first one.
        max_uploads: Most uploads and common prefixes together, at least 1.
    """

    bucket: int
    prefix: str = ""
    delimiter: str = ""
    key_marker: str = ""
    upload_id_marker: str = ""
    max_uploads: int = 1000


@dataclass(kw_only=True, slots=True)
class _Page:
    query: Query
    uploads: list[UploadInfo] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    last: tuple[str, str] | None = None

    def add(self, row: Any, common: str | None) -> bool:
        """Add an upload or the common prefix that stands for it; False if the page is full."""
        if len(self.uploads) + len(self.prefixes) == self.query.max_uploads:
            return False
        if common is not None:
            self.prefixes.append(common)
            self.last = (common, "")
            return True
        key = row.key.decode()
        initiated = datetime.fromtimestamp(row.initiated, UTC)
        checksum = checksum_of(row.answer)
        self.uploads.append(
            UploadInfo(key=key, upload_id=row.upload_id, initiated=initiated, checksum=checksum)
        )
        self.last = (key, row.upload_id)
        return True

    def freeze(self, *, more: bool) -> UploadPage:
        return UploadPage(
            uploads=tuple(self.uploads),
            prefixes=tuple(self.prefixes),
            next_marker=self.last if more else None,
        )


def list_uploads(connection: Connection, query: Query) -> UploadPage:
    """One page, ordered by the bytes of the key, then by upload id.

    Its cost does not depend on the number of uploads, nor on how many a common prefix stands for.
    """
    page = _Page(query=query)
    prefix, delimiter = query.prefix.encode(), query.delimiter.encode()
    marker = query.key_marker.encode()
    above: Any = None  # where to go on: a position to be passed, or a key to begin with
    if marker:
        position = (marker, query.upload_id_marker)
        above = position if query.upload_id_marker else _after_key(marker)
    limit = _FEW if delimiter else min(query.max_uploads + 1, _MANY)
    while True:
        rows = _rows(connection, query.bucket, prefix, above, limit)
        useful = 0
        for common, row in _grouped(rows, prefix, delimiter):
            if common is not None and common <= marker:
                continue
            useful += 1
            if not page.add(row, None if common is None else common.decode()):
                return page.freeze(more=True)
        if len(rows) < limit:
            return page.freeze(more=False)
        above = _behind(rows[-1], prefix, delimiter)
        limit = min(max(2 * useful, _FEW), _MANY)


def _after_key(key: bytes) -> bytes:
    """The least key above ``key``."""
    return key + b"\0"


def _after_prefix(prefix: bytes) -> bytes:
    """The least key above all that begin with ``prefix``; UTF-8 has no byte 0xff."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def _common(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    """The common prefix that stands for a key, or None."""
    end = key.find(delimiter, len(prefix)) if delimiter else -1
    return None if end < 0 else key[: end + len(delimiter)]


def _behind(row: Any, prefix: bytes, delimiter: bytes) -> Any:
    """Where to go on behind an upload: past all that its common prefix stands for."""
    common = _common(row.key, prefix, delimiter)
    return (row.key, row.upload_id) if common is None else _after_prefix(common)


def _grouped(
    rows: Sequence[Any], prefix: bytes, delimiter: bytes
) -> Iterator[tuple[bytes | None, Any]]:
    """Uploads with the common prefix that stands for them, each prefix once."""
    last = None
    for row in rows:
        common = _common(row.key, prefix, delimiter)
        if common is None or common != last:
            yield common, row
        last = common


def _rows(
    connection: Connection, bucket: int, prefix: bytes, above: Any, limit: int
) -> Sequence[Any]:
    query = (
        select(uploads.c.key, uploads.c.upload_id, uploads.c.initiated, uploads.c.answer)
        .where(uploads.c.bucket == bucket, uploads.c.state.in_(_VISIBLE))
        .order_by(uploads.c.key, uploads.c.upload_id)
        .limit(limit)
    )
    if prefix:
        query = query.where(uploads.c.key >= prefix, uploads.c.key < _after_prefix(prefix))
    if isinstance(above, bytes):
        query = query.where(uploads.c.key >= above)
    elif above is not None:
        key, upload_id = literal(above[0], uploads.c.key.type), literal(above[1])
        query = query.where(tuple_(uploads.c.key, uploads.c.upload_id) > tuple_(key, upload_id))
    return connection.execute(query).all()


__all__ = ["Query", "list_uploads"]
