"""Short ways to make bodies and records, and to read what comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

from ..context import S3Request
from ..interfaces.storage import ObjectMetadata, ObjectReader


async def body(data: bytes, *, chunk_size: int = 64 * 1024) -> AsyncIterator[bytes]:
    """The bytes in chunks of ``chunk_size``; no chunk at all for empty data."""
    for start in range(0, len(data), chunk_size):
        yield data[start : start + chunk_size]


async def broken_body(data: bytes, error: BaseException) -> AsyncIterator[bytes]:
    """The bytes, then ``error``."""
    if data:
        yield data
    raise error


async def read(reader: ObjectReader) -> bytes:
    """Read a reader to its end and close it."""
    async with reader:
        return b"".join([chunk async for chunk in reader])


def metadata(
    *,
    headers: Mapping[str, str] | None = None,
    user: Mapping[str, str] | None = None,
    internal: Mapping[str, str] | None = None,
) -> ObjectMetadata:
    """Metadata of which only the interesting parts are named."""
    return ObjectMetadata(headers=headers or {}, user=user or {}, internal=internal or {})


def request(
    *,
    method: str = "GET",
    bucket: str = "",
    key: str = "",
    operation: str = "list_buckets",
    raw_path: str | None = None,
    raw_query: str = "",
    query: tuple[tuple[str, str], ...] = (),
    headers: Mapping[str, str] | None = None,
    client_ip: str = "127.0.0.1",
    received: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    data: bytes = b"",
) -> S3Request:
    """A parsed request; unsigned unless ``headers`` say otherwise."""
    found = {"host": "localhost:9000", **(headers or {})}
    return S3Request(
        request_id="0000000000000001",
        method=method,
        raw_path=raw_path if raw_path is not None else f"/{bucket}" + (f"/{key}" if key else ""),
        raw_query=raw_query,
        bucket=bucket,
        key=key,
        operation=operation,
        query=query,
        headers=found,
        header_list=tuple(found.items()),
        scheme="http",
        client_ip=client_ip,
        received=received,
        body=body(data),
    )
