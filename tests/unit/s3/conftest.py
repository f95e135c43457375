"""Builders of requests for the tests of the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from deltaglider_core.context import S3Request
from deltaglider_core.errors import S3Error
from deltaglider_core.s3.names import parse_query, split_path
from deltaglider_core.s3.sigv4_evidence import with_hoisted_headers


class Wire:
    """A request body; counts what was read, and can fail like a broken connection."""

    def __init__(self, pieces: Iterable[bytes] = (), *, error: Exception | None = None) -> None:
        self._pieces = iter(pieces)
        self._error = error
        self.reads = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self.reads += 1
        for piece in self._pieces:
            return piece
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration


def build_request(
    method: str = "GET",
    target: str = "/",
    headers: Sequence[tuple[str, str]] = (),
    body: AsyncIterator[bytes] | None = None,
    operation: str = "",
) -> S3Request:
    """A request as the endpoint would parse it from ``target`` and headers as sent."""
    raw_path, _, raw_query = target.partition("?")
    header_list = [(name.lower(), value) for name, value in headers]
    joined: dict[str, str] = {}
    for name, value in header_list:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    bucket, key = split_path(raw_path)
    query = parse_query(raw_query)
    return S3Request(
        request_id="TEST",
        method=method,
        raw_path=raw_path,
        raw_query=raw_query,
        bucket=bucket,
        key=key,
        operation=operation,
        query=query,
        headers=with_hoisted_headers(joined, query),
        header_list=header_list,
        scheme="http",
        client_ip="192.0.2.1",
        received=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        body=body or Wire(),
    )


@pytest.fixture(scope="session")
def make_request() -> Callable[..., S3Request]:
    return build_request


def status_of_call(function: Callable[..., object], *args: Any, **kwargs: Any) -> int:
    """The status of the ``S3Error`` that a call raises, or 200; other errors propagate."""
    try:
        function(*args, **kwargs)
    except S3Error as error:
        return error.status
    return 200


@pytest.fixture(scope="session")
def status_of() -> Callable[..., int]:
    return status_of_call


@pytest.fixture(scope="session")
def wire() -> Callable[..., Any]:
    return Wire
