"""Bodies that are refused by their headers, before anything is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaglider_core.context import S3Request
from deltaglider_core.errors import (
    EntityTooLarge,
    InvalidArgument,
    InvalidDigest,
    InvalidRequest,
    MissingContentLength,
    NotImplementedS3,
    S3Error,
)
from deltaglider_core.interfaces.auth import ANONYMOUS
from deltaglider_core.s3.payload import open_payload, read_limited, read_optional

Make = Callable[..., S3Request]
Wire = Callable[..., Any]

TRAILER_MODE = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
SIGNED_MODE = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, MissingContentLength),
        ({"transfer_encoding": "chunked"}, MissingContentLength),
        ({"content_length": "-1"}, InvalidArgument),
        ({"content_length": "x"}, InvalidArgument),
        ({"content_length": "\u0661"}, InvalidArgument),
        ({"content_length": "9" * 5000}, InvalidArgument),
        ({"content_length": "101"}, EntityTooLarge),
        ({"content_length": "1", "content_md5": "x"}, InvalidDigest),
        ({"content_length": "1", "content_md5": ""}, InvalidDigest),
        ({"content_length": "1", "content_md5": "AAAA"}, InvalidDigest),
        ({"content_length": "1", "content_md5": "d" * 32}, InvalidDigest),
        ({"content_length": "1", "x_amz_content_sha256": ""}, InvalidArgument),
        ({"content_length": "1", "x_amz_content_sha256": "a" * 63}, InvalidArgument),
        ({"content_length": "1", "x_amz_content_sha256": "unsigned-payload"}, InvalidArgument),
        ({"content_length": "1", "x_amz_content_sha256": "STREAMING-X"}, InvalidArgument),
        (
            {"x_amz_content_sha256": "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"},
            NotImplementedS3,
        ),
        (
            {"x_amz_content_sha256": "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER"},
            NotImplementedS3,
        ),
        ({"content_length": "1", "x_amz_content_sha256": SIGNED_MODE}, MissingContentLength),
        (
            {"x_amz_decoded_content_length": "1e3", "x_amz_content_sha256": SIGNED_MODE},
            InvalidArgument,
        ),
        (
            {"x_amz_decoded_content_length": "101", "x_amz_content_sha256": SIGNED_MODE},
            EntityTooLarge,
        ),
        (
            {"x_amz_decoded_content_length": "1", "x_amz_content_sha256": TRAILER_MODE},
            InvalidRequest,
        ),
        ({"content_length": "1", "x_amz_trailer": "x-amz-checksum-crc32"}, InvalidRequest),
        ({"content_length": "1", "x_amz_checksum_crc32": "x"}, InvalidRequest),
        ({"content_length": "1", "x_amz_sdk_checksum_algorithm": "CRC32"}, InvalidRequest),
        (
            {
                "content_length": "1",
                "content_encoding": "aws-chunked",
                "x_amz_content_sha256": "UNSIGNED-PAYLOAD",
            },
            InvalidArgument,
        ),
    ],
)
def test_refused_before_anything_is_read(
    make_request: Make, wire: Wire, headers: dict[str, str], error: type[S3Error]
) -> None:
    body = wire([b"never read"])
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    request = make_request("PUT", "/b/k", named, body)
    with pytest.raises(error):
        open_payload(request, ANONYMOUS, max_size=100)
    assert body.reads == 0


async def test_an_optional_body_needs_no_length_only_if_there_is_none(
    make_request: Make, wire: Wire
) -> None:
    assert await read_optional(make_request("PUT", "/b"), ANONYMOUS, 10) == b""
    sent = make_request("PUT", "/b", [("content-length", "3")], wire([b"abc"]))
    assert await read_optional(sent, ANONYMOUS, 10) == b"abc"
    unknown = make_request("PUT", "/b", [("transfer-encoding", "chunked")], wire([b"abc"]))
    with pytest.raises(MissingContentLength):
        await read_optional(unknown, ANONYMOUS, 10)


header_names = st.sampled_from(
    ["content_length", "content_md5", "content_encoding", "x_amz_content_sha256", "x_amz_trailer",
     "x_amz_decoded_content_length", "x_amz_checksum_crc32", "x_amz_sdk_checksum_algorithm"]
)  # fmt: skip
header_values = st.text(max_size=12) | st.sampled_from(
    ["3", "0", "aws-chunked", TRAILER_MODE, SIGNED_MODE, "x-amz-checksum-crc32", "CRC32", "a" * 64]
)


@given(st.dictionaries(header_names, header_values), st.binary(max_size=20))
@settings(deadline=None, max_examples=300)
def test_only_s3_errors_come_out(
    make_request: Make,
    wire: Wire,
    status_of: Callable[..., int],
    headers: dict[str, str],
    data: bytes,
) -> None:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    request = make_request("PUT", "/b/k", named, wire([data]))

    def read() -> None:
        payload = open_payload(request, ANONYMOUS, max_size=1000)
        assert len(asyncio.run(read_limited(payload, 1000))) == payload.size

    assert status_of(read) in (200, 400, 411, 501)
