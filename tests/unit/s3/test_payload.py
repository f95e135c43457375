"""The payload: what is refused before reading, what is verified before the last block."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import pytest

from deltaglider_core.checksums import encode, new_hasher
from deltaglider_core.context import S3Request
from deltaglider_core.errors import (
    BadDigest,
    EntityTooLarge,
    IncompleteBody,
    InvalidArgument,
    InvalidRequest,
    RequestTimeout,
    S3Error,
    SignatureDoesNotMatch,
    XAmzContentSHA256Mismatch,
)
from deltaglider_core.interfaces.auth import ANONYMOUS, PayloadSignature, Principal
from deltaglider_core.s3.payload import BLOCK_BYTES, Payload, open_payload, read_limited
from deltaglider_core.s3.sigv4 import signing_key

Make = Callable[..., S3Request]
Wire = Callable[..., Any]

DATA = bytes(range(256)) * 9000  # 2.2 MiB: three blocks
SMALL = b"hello world"
TRAILER_MODE = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
SIGNED_MODE = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"


def md5_of(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def checksum_of(algorithm: str, data: bytes) -> str:
    hasher = new_hasher(algorithm)
    hasher.update(data)
    return encode(hasher.digest())


def frame(data: bytes, trailers: dict[str, str], size: int = 65536) -> bytes:
    wire = b"".join(
        b"%x\r\n%b\r\n" % (len(data[i : i + size]), data[i : i + size])
        for i in range(0, len(data), size)
    )
    lines = "".join(f"{name}:{value}\r\n" for name, value in trailers.items())
    return wire + b"0\r\n" + lines.encode() + b"\r\n"


def pieces(data: bytes, size: int = 65536) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


@pytest.fixture
def put(make_request: Make, wire: Wire) -> Callable[..., Payload]:
    """Open the payload of a PUT with these headers and this body on the wire."""

    def opened(
        data: bytes = SMALL,
        *,
        principal: Principal = ANONYMOUS,
        max_size: int | None = None,
        target: str = "/b/k",
        operation: str = "put_object",
        step: int = 65536,
        error: Exception | None = None,
        **headers: str,
    ) -> Payload:
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        request = make_request(
            "PUT", target, named, wire(pieces(data, step), error=error), operation
        )
        return open_payload(request, principal, max_size=max_size)

    return opened


Put = Callable[..., Payload]


async def read_into(payload: Payload, seen: bytearray) -> None:
    """What a consumer does; ``seen`` keeps what came before an error."""
    async for block in payload:
        seen += block


def chunked_headers(data: bytes, **more: str) -> dict[str, str]:
    return {
        "x_amz_content_sha256": TRAILER_MODE,
        "x_amz_decoded_content_length": str(len(data)),
        "x_amz_trailer": "x-amz-checksum-crc32",
        "content_encoding": "aws-chunked",
        **more,
    }


@pytest.mark.parametrize("data", [b"", b"x", SMALL, DATA])
async def test_plain(put: Put, data: bytes) -> None:
    payload = put(data, content_length=str(len(data)))
    assert payload.size == len(data)
    assert await read_limited(payload, len(data)) == data
    assert payload.checksums == {}
    assert payload.md5 is None


@pytest.mark.parametrize("step", [1, 1000, 65536, len(DATA)])
async def test_all_checks_together(put: Put, step: int) -> None:
    data = DATA[:20_000] if step == 1 else DATA
    payload = put(
        data,
        step=step,
        content_length=str(len(data)),
        content_md5=md5_of(data),
        x_amz_content_sha256=hashlib.sha256(data).hexdigest(),
        x_amz_checksum_crc32c=checksum_of("crc32c", data),
        x_amz_sdk_checksum_algorithm="CRC32C",
    )
    assert await read_limited(payload, len(data)) == data
    assert payload.checksums == {"crc32c": checksum_of("crc32c", data)}
    assert payload.md5 == hashlib.md5(data).hexdigest()


async def test_small_pieces_are_joined(put: Put) -> None:
    payload = put(DATA, step=1000, content_length=str(len(DATA)))
    blocks = [block async for block in payload]
    assert b"".join(blocks) == DATA
    assert len(blocks) == 3
    assert all(len(block) >= BLOCK_BYTES for block in blocks[:-1])


WRONG = [
    pytest.param({"content_md5": md5_of(b"other")}, BadDigest, id="md5"),
    pytest.param({"x_amz_content_sha256": "0" * 64}, XAmzContentSHA256Mismatch, id="sha256"),
    *(
        pytest.param({f"x_amz_checksum_{name}": checksum_of(name, b"other")}, BadDigest, id=name)
        for name in ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")
    ),
]


@pytest.mark.parametrize(("headers", "error"), WRONG)
@pytest.mark.parametrize("data", [b"", SMALL, DATA])
async def test_a_body_that_fails_is_never_seen_complete(
    put: Put, headers: dict[str, str], error: type[S3Error], data: bytes
) -> None:
    payload = put(data, content_length=str(len(data)), **headers)
    seen = bytearray()
    with pytest.raises(error):
        await read_into(payload, seen)
    assert len(seen) < max(len(data), 1)
    assert payload.checksums == {}
    with pytest.raises(StopAsyncIteration):
        await anext(payload)


@pytest.mark.parametrize("change", [-1, 1, -len(SMALL)])
async def test_declared_length_must_hold(put: Put, change: int) -> None:
    payload = put(SMALL, content_length=str(len(SMALL) + change))
    seen = bytearray()
    with pytest.raises(IncompleteBody):
        await read_into(payload, seen)
    assert not seen


@pytest.mark.parametrize("error", [None, ConnectionResetError(), OSError("gone"), ValueError()])
async def test_a_disconnect_is_an_incomplete_body(put: Put, error: Exception | None) -> None:
    payload = put(DATA[:-1], error=error, content_length=str(len(DATA)))
    with pytest.raises(IncompleteBody):
        async for _ in payload:
            pass
    framed = frame(DATA, {})[:-1]
    payload = put(framed, error=error, **chunked_headers(DATA))
    with pytest.raises(IncompleteBody):
        async for _ in payload:
            pass


async def test_a_disconnect_counts_even_after_the_last_byte(put: Put) -> None:
    payload = put(SMALL, error=OSError("gone"), content_length=str(len(SMALL)))
    with pytest.raises(IncompleteBody):
        await read_limited(payload, 100)


async def test_errors_of_the_wire_that_have_a_name_pass(put: Put) -> None:
    payload = put(SMALL, error=RequestTimeout(), content_length="100")
    with pytest.raises(RequestTimeout):
        await read_limited(payload, 100)


async def test_unsigned_trailer(put: Put) -> None:
    value = checksum_of("crc32", DATA)
    payload = put(
        frame(DATA, {"x-amz-checksum-crc32": value}),
        **chunked_headers(DATA, x_amz_sdk_checksum_algorithm="CRC32", content_md5=md5_of(DATA)),
    )
    assert payload.size == len(DATA)
    assert await read_limited(payload, len(DATA)) == DATA
    assert payload.checksums == {"crc32": value}


async def test_unsigned_requests_are_framed_without_naming_the_mode(put: Put) -> None:
    headers = chunked_headers(SMALL, content_encoding="gzip,aws-chunked")
    del headers["x_amz_content_sha256"]
    payload = put(frame(SMALL, {"x-amz-checksum-crc32": "DUoRhQ=="}), **headers)
    assert await read_limited(payload, 100) == SMALL


@pytest.mark.parametrize(
    ("trailers", "error"),
    [
        ({"x-amz-checksum-crc32": checksum_of("crc32", b"other")}, BadDigest),
        ({"x-amz-checksum-crc32": "junk"}, InvalidRequest),
        ({}, InvalidRequest),
        ({"x-amz-checksum-sha1": checksum_of("sha1", DATA)}, InvalidRequest),
        ({"x-amz-checksum-crc32": checksum_of("crc32", DATA), "x-amz-meta-a": "1"}, InvalidRequest),
    ],
)
async def test_trailers_that_fail(put: Put, trailers: dict[str, str], error: type[S3Error]) -> None:
    payload = put(frame(DATA, trailers), **chunked_headers(DATA))
    seen = bytearray()
    with pytest.raises(error):
        await read_into(payload, seen)
    assert len(seen) < len(DATA)


def signed_body(data: bytes, key: bytes, seed: str) -> bytes:
    wire, previous, empty = b"", seed, hashlib.sha256(b"").hexdigest()
    for chunk in (*pieces(data, 500_000), b""):
        digest = hashlib.sha256(chunk).hexdigest()
        text = f"AWS4-HMAC-SHA256-PAYLOAD\nT\nS\n{previous}\n{empty}\n{digest}"
        previous = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        wire += b"%x;chunk-signature=%b\r\n%b\r\n" % (len(chunk), previous.encode(), chunk)
    return wire


async def test_signed_chunks(put: Put) -> None:
    key, seed = signing_key("secret", "20260102", "us-east-1"), "5" * 64
    framed = signed_body(DATA, key, seed)
    headers = {
        "x_amz_content_sha256": SIGNED_MODE,
        "x_amz_decoded_content_length": str(len(DATA)),
    }

    def principal(key: bytes) -> Principal:
        payload = PayloadSignature(signing_key=key, seed=seed, timestamp="T", scope="S")
        return Principal(name="n", authenticator="sigv4", payload=payload)

    good = put(framed, principal=principal(key), **headers)
    assert await read_limited(good, len(DATA)) == DATA
    with pytest.raises(SignatureDoesNotMatch):
        await read_limited(put(framed, principal=principal(b"x" * 32), **headers), len(DATA))
    # Without a verified signature the frames are still taken off, and lengths still checked.
    for unverified in (ANONYMOUS, principal(b"")):
        assert await read_limited(put(framed, principal=unverified, **headers), len(DATA)) == DATA
    with pytest.raises(IncompleteBody):
        await read_limited(put(framed[:-2], **headers), len(DATA))


async def test_max_size_is_inclusive_and_read_limited_refuses_first(put: Put) -> None:
    payload = put(SMALL, content_length="11", max_size=11)
    with pytest.raises(EntityTooLarge) as caught:
        await read_limited(payload, 10)
    assert caught.value.fields == {"ProposedSize": "11", "MaxSizeAllowed": "10"}
    assert await read_limited(payload, 11) == SMALL


PRESIGNED = "/b/k?X-Amz-Signature=0&"


async def test_presigned_urls_carry_headers_in_the_query(put: Put) -> None:
    # An SDK hoists the checksum of an empty body, whatever is sent later: AWS signs and ignores it.
    target = PRESIGNED + "x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32"
    assert await read_limited(put(b"", target=target, content_length="0"), 0) == b""
    assert await read_limited(put(SMALL, target=target, content_length="11"), 11) == SMALL
    digest = hashlib.sha256(SMALL).hexdigest()
    target = PRESIGNED + f"X-Amz-Content-Sha256={digest}"
    assert await read_limited(put(SMALL, target=target, content_length="11"), 11) == SMALL
    with pytest.raises(XAmzContentSHA256Mismatch):
        await read_limited(put(SMALL[::-1], target=target, content_length="11"), 11)


async def test_a_header_cannot_weaken_what_the_url_signed(put: Put) -> None:
    digest = hashlib.sha256(SMALL).hexdigest()
    target = PRESIGNED + f"X-Amz-Content-Sha256={digest}"
    with pytest.raises(InvalidArgument, match="contradicts"):
        put(b"evil", target=target, content_length="4", x_amz_content_sha256="UNSIGNED-PAYLOAD")
    same = put(SMALL, target=target, content_length="11", x_amz_content_sha256=digest)
    assert await read_limited(same, 11) == SMALL


async def test_complete_multipart_names_the_checksum_of_the_object(put: Put) -> None:
    payload = put(
        b"<xml/>",
        content_length="6",
        operation="complete_multipart_upload",
        x_amz_checksum_crc32="DUoRhQ==",
    )
    assert await read_limited(payload, 100) == b"<xml/>"


async def test_close(put: Put) -> None:
    payload = put(DATA, content_length=str(len(DATA)))
    assert await anext(payload)
    await payload.aclose()
    await payload.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(payload)
