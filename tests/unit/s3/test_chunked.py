"""The aws-chunked decoder: AWS's examples, every split, every cut, forgeries, limits."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaglider_core.errors import IncompleteBody, InvalidArgument, SignatureDoesNotMatch
from deltaglider_core.interfaces.auth import PayloadSignature
from deltaglider_core.s3.chunked import (
    MAX_HEADER_LINE,
    MAX_SIGNED_CHUNK,
    MAX_TRAILER_BYTES,
    ChunkDecoder,
    decode_aws_chunked,
)
from deltaglider_core.s3.sigv4 import signing_key

KEY = signing_key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1")
TIMESTAMP, SCOPE = "20130524T000000Z", "20130524/us-east-1/s3/aws4_request"
EMPTY = hashlib.sha256(b"").hexdigest()

Wire = Callable[..., Any]


def payload_signature(seed: str = "0" * 64) -> PayloadSignature:
    return PayloadSignature(signing_key=KEY, seed=seed, timestamp=TIMESTAMP, scope=SCOPE)


def _sign(kind: str, *lines: str) -> str:
    text = "\n".join((f"AWS4-HMAC-SHA256-{kind}", TIMESTAMP, SCOPE, *lines))
    return hmac.new(KEY, text.encode(), hashlib.sha256).hexdigest()


def frame_signed(
    chunks: Sequence[bytes], *, seed: str = "0" * 64, trailers: dict[str, str] | None = None
) -> bytes:
    """Frame and sign like a client; written apart from the decoder, as its oracle."""
    wire, previous = [], seed
    for chunk in (*chunks, b""):
        previous = _sign("PAYLOAD", previous, EMPTY, hashlib.sha256(chunk).hexdigest())
        wire.append(f"{len(chunk):x};chunk-signature={previous}\r\n".encode())
        wire.append(chunk + b"\r\n" if chunk else b"")
    if trailers is not None:
        lines = "".join(f"{name}:{value}\n" for name, value in trailers.items())
        signature = _sign("TRAILER", previous, hashlib.sha256(lines.encode()).hexdigest())
        wire.append(lines.replace("\n", "\r\n").encode())
        wire.append(f"x-amz-trailer-signature:{signature}\r\n".encode())
    return b"".join(wire) + b"\r\n"


def frame_unsigned(chunks: Sequence[bytes], trailers: dict[str, str] | None = None) -> bytes:
    wire = b"".join(f"{len(chunk):X}\r\n".encode() + chunk + b"\r\n" for chunk in chunks)
    lines = "".join(f"{name}:{value}\r\n" for name, value in (trailers or {}).items())
    return wire + b"0\r\n" + lines.encode() + b"\r\n"


def decode(
    wire: bytes, size: int, *, step: int = 0, **options: Any
) -> tuple[bytes, dict[str, str]]:
    """Feed ``wire`` in pieces of ``step`` bytes, or at once."""
    options = {"signature": None, "trailer_signed": False, **options}
    decoder = ChunkDecoder(decoded_length=size, **options)
    step = step or len(wire) or 1
    out = b"".join(decoder.feed(wire[i : i + step]) for i in range(0, len(wire), step))
    decoder.finish()
    return out, decoder.trailers


# AWS, "... multiple chunks (chunked upload)": 66560 times "a" in chunks of 64 KiB.
EXAMPLE_SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
EXAMPLE = (
    b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n"
    + b"a" * 65536
    + b"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"
    + b"\r\n"
    + b"a" * 1024
    + b"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"
    + b"\r\n\r\n"
)
TRAILER_SEED = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
TRAILER_EXAMPLE = (
    b"10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n"
    + b"a" * 65536
    + b"\r\n400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7"
    + b"\r\n"
    + b"a" * 1024
    + b"\r\n0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"
    + b"\r\nx-amz-checksum-crc32c:sOO8/Q==%s"
    + b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"
    + b"\r\n\r\n"
)


def test_aws_example() -> None:
    assert len(EXAMPLE) == 66824
    decoded, trailers = decode(EXAMPLE, 66560, signature=payload_signature(EXAMPLE_SEED))
    assert decoded == b"a" * 66560
    assert trailers == {}


@pytest.mark.parametrize("ending", [b"\r\n", b"\n\r\n"])
def test_aws_example_with_trailer(ending: bytes) -> None:
    decoded, trailers = decode(
        TRAILER_EXAMPLE % ending,
        66560,
        signature=payload_signature(TRAILER_SEED),
        trailer_signed=True,
    )
    assert decoded == b"a" * 66560
    assert trailers == {"x-amz-checksum-crc32c": "sOO8/Q=="}


CHUNKS = [b"hello", b"\r\n0\r\n\r\n", b"x"]
DATA = b"".join(CHUNKS)
TRAILERS = {"x-amz-checksum-crc32": "AAAAAA=="}

VARIANTS = [
    pytest.param(frame_unsigned(CHUNKS), {}, {}, id="unsigned"),
    pytest.param(frame_unsigned(CHUNKS, TRAILERS), {}, TRAILERS, id="unsigned-trailer"),
    pytest.param(frame_signed(CHUNKS), {"signature": payload_signature()}, {}, id="signed"),
    pytest.param(
        frame_signed(CHUNKS, trailers=TRAILERS),
        {"signature": payload_signature(), "trailer_signed": True},
        TRAILERS,
        id="signed-trailer",
    ),
    pytest.param(frame_signed(CHUNKS), {}, {}, id="signed-but-open"),
    pytest.param(
        frame_signed(CHUNKS, trailers=TRAILERS),
        {"trailer_signed": True},
        TRAILERS,
        id="signed-trailer-but-open",
    ),
]


@pytest.mark.parametrize(("wire", "options", "trailers"), VARIANTS)
def test_every_split(wire: bytes, options: dict[str, Any], trailers: dict[str, str]) -> None:
    for step in range(1, len(wire) + 1):
        assert decode(wire, len(DATA), step=step, **options) == (DATA, trailers)
    for cut in range(len(wire) + 1):
        decoder = ChunkDecoder(
            decoded_length=len(DATA), **{"signature": None, "trailer_signed": False, **options}
        )
        assert decoder.feed(wire[:cut]) + decoder.feed(wire[cut:]) == DATA
        decoder.finish()
        assert decoder.trailers == trailers


@pytest.mark.parametrize(("wire", "options", "trailers"), VARIANTS)
def test_every_cut(wire: bytes, options: dict[str, Any], trailers: dict[str, str]) -> None:
    for cut in range(len(wire)):
        with pytest.raises(IncompleteBody):
            decode(wire[:cut], len(DATA), **options)


@pytest.mark.parametrize(("wire", "options", "trailers"), VARIANTS)
def test_wrong_decoded_length(
    wire: bytes, options: dict[str, Any], trailers: dict[str, str]
) -> None:
    for size in (0, 1, len(DATA) - 1, len(DATA) + 1, 2**62):
        with pytest.raises(IncompleteBody):
            decode(wire, size, **options)


def test_every_changed_byte_of_a_signed_body_is_noticed() -> None:
    wire = frame_signed(CHUNKS, trailers=TRAILERS)
    for position in range(len(wire)):
        forged = bytearray(wire)
        forged[position] ^= 1
        with pytest.raises((SignatureDoesNotMatch, InvalidArgument, IncompleteBody)):
            decode(bytes(forged), len(DATA), signature=payload_signature(), trailer_signed=True)


def test_nothing_of_a_forged_chunk_comes_out() -> None:
    wire = bytearray(frame_signed([b"a" * 1000, b"b" * 1000]))
    wire[wire.index(b"bbb") + 500] ^= 1
    decoder = ChunkDecoder(decoded_length=2000, signature=payload_signature(), trailer_signed=False)
    seen = bytearray()

    def feed() -> None:
        for byte in wire:
            seen.extend(decoder.feed(bytes([byte])))

    with pytest.raises(SignatureDoesNotMatch):
        feed()
    assert seen == b"a" * 1000


def test_chunks_cannot_be_reordered_dropped_or_taken_from_another_request() -> None:
    header = len(b"4;chunk-signature=") + 64 + 2
    wire = frame_signed([b"aaaa", b"bbbb"])
    size = header + 6
    first, second, rest = wire[:size], wire[size : 2 * size], wire[2 * size :]
    options = {"signature": payload_signature(), "trailer_signed": False}
    for forged, length in ((second + first + rest, 8), (second + rest, 4), (first + rest, 4)):
        with pytest.raises(SignatureDoesNotMatch):
            decode(forged, length, **options)
    with pytest.raises(SignatureDoesNotMatch):
        decode(wire, 8, signature=payload_signature("1" * 64))


def test_signed_mode_needs_signatures() -> None:
    signature = payload_signature()
    with pytest.raises(InvalidArgument, match="no signature"):
        decode(frame_unsigned(CHUNKS), len(DATA), signature=signature)
    with pytest.raises(InvalidArgument, match="trailer signature is missing"):
        decode(frame_signed(CHUNKS), len(DATA), signature=signature, trailer_signed=True)
    unsigned_trailer = frame_signed(CHUNKS)[:-2] + b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    with pytest.raises(InvalidArgument, match="no signature covers"):
        decode(unsigned_trailer, len(DATA), signature=signature)
    with pytest.raises(InvalidArgument, match="unexpected trailer signature"):
        decode(frame_signed(CHUNKS, trailers=TRAILERS), len(DATA), signature=signature)


def test_empty_payload_and_zero_trailers() -> None:
    assert decode(b"0\r\n\r\n", 0) == (b"", {})
    assert decode(frame_signed([]), 0, signature=payload_signature()) == (b"", {})
    wire = frame_signed([], trailers={})
    assert decode(wire, 0, signature=payload_signature(), trailer_signed=True) == (b"", {})


@pytest.mark.parametrize(
    ("section", "trailers"),
    [
        (b"A-b: c \r\n\r\n", {"a-b": "c"}),
        (b"a:1\nb:2\r\n\r\n", {"a": "1", "b": "2"}),
        (b"a:1\n\r\n", {"a": "1"}),
        (b"a:1\n\r\n\r\n", {"a": "1"}),
        (b"a:\r\n\r\n", {"a": ""}),
        (b"a:b:c\r\n\r\n", {"a": "b:c"}),
    ],
)
def test_trailer_forms(section: bytes, trailers: dict[str, str]) -> None:
    assert decode(b"0\r\n" + section, 0) == (b"", trailers)


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\na\r\n",
        b" 1\r\na\r\n",
        b"1 \r\na\r\n",
        b"1;\r\na\r\n",
        b"1;ext=1\r\na\r\n",
        b"1;chunk-signature=ab\r\na\r\n",
        b"1\na\r\n",
        b"1" * 17 + b"\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n\n0\r\n\r\n",
        b"1" * (MAX_HEADER_LINE + 2),
        b"1\r\na\r\n0\r\nno colon\r\n\r\n",
        b"1\r\na\r\n0\r\n:v\r\n\r\n",
        b"1\r\na\r\n0\r\na b:v\r\n\r\n",
        b"1\r\na\r\n0\r\na:1\r\nA:2\r\n\r\n",
        b"1\r\na\r\n0\r\na:\xff\r\n\r\n",
        b"1\r\na\r\n0\r\na:\x00\r\n\r\n",
        b"1\r\na\r\n0\r\na:1\r\n\r\nb:2\r\n\r\n",
        b"1\r\na\r\n0\r\n\r\n\r\n",
        b"1\r\na\r\n0\r\n" + b"a:" + b"b" * MAX_TRAILER_BYTES + b"\r\n\r\n",
    ],
)
def test_bad_framing(wire: bytes) -> None:
    for step in (1, 7, len(wire)):
        with pytest.raises(InvalidArgument):
            decode(wire, 1, step=step)


def test_a_huge_signed_chunk_is_refused_before_it_is_buffered() -> None:
    header = f"{MAX_SIGNED_CHUNK + 1:x};chunk-signature={'0' * 64}\r\n".encode()
    with pytest.raises(InvalidArgument, match="must not exceed"):
        decode(header, 2**40, signature=payload_signature())
    decoder = ChunkDecoder(decoded_length=2**40, signature=None, trailer_signed=False)
    assert decoder.feed(b"FFFFFFFFF\r\nabc") == b"abc"


def test_tiny_chunks_cost_linear_time() -> None:
    chunks = [b"12345678"] * 20_000
    start = time.perf_counter()
    assert decode(frame_unsigned(chunks), 160_000) == (b"12345678" * 20_000, {})
    wire = frame_signed(chunks)
    assert decode(wire, 160_000, signature=payload_signature()) == (b"12345678" * 20_000, {})
    # Linear: about half a second. Quadratic, 20,000 moves of a megabyte each: minutes.
    assert time.perf_counter() - start < 20


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=6),
    step=st.integers(1, 200),
    signed=st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_round_trip(chunks: list[bytes], step: int, signed: bool) -> None:
    data = b"".join(chunks)
    if signed:
        wire = frame_signed(chunks, trailers=TRAILERS)
        options: dict[str, Any] = {"signature": payload_signature(), "trailer_signed": True}
    else:
        wire, options = frame_unsigned(chunks, TRAILERS), {}
    assert decode(wire, len(data), step=step, **options) == (data, TRAILERS)


def lengths_agree(wire: bytes, size: int, options: dict[str, Any]) -> None:
    assert len(decode(wire, size, step=5, **options)[0]) == size


@given(st.binary(max_size=80) | st.from_regex(rb"([0-9a-f]{1,2}\r\n[ab]{0,4}\r\n){0,4}.*"))
@settings(deadline=None, max_examples=300)
def test_only_s3_errors_come_out(status_of: Callable[..., int], wire: bytes) -> None:
    for size in (0, 3):
        for options in ({}, {"signature": payload_signature(), "trailer_signed": True}):
            assert status_of(lengths_agree, wire, size, options) in (200, 400, 403)


async def test_the_iterator_cuts_large_chunks_and_ends_with_trailers(wire: Wire) -> None:
    data = bytes(range(256)) * 16384
    framed = frame_unsigned([data[:3_000_000], data[3_000_000:]], TRAILERS)
    pieces = [framed[i : i + 65536] for i in range(0, len(framed), 65536)]
    chunked = decode_aws_chunked(
        wire(pieces), decoded_length=len(data), signature=None, trailer_signed=False
    )
    out = []
    async for piece in chunked:
        assert 0 < len(piece) <= 1024 * 1024
        out.append(piece)
    assert b"".join(out) == data
    assert chunked.trailers == TRAILERS


async def test_the_iterator_verifies_signed_chunks_in_threads(wire: Wire) -> None:
    chunks = [bytes([n]) * 1_000_000 for n in range(3)]
    framed = frame_signed(chunks, trailers=TRAILERS)
    pieces = [framed[i : i + 65536] for i in range(0, len(framed), 65536)]
    for broken in (False, True):
        if broken:
            pieces[-2] = pieces[-2][:-1] + bytes([pieces[-2][-1] ^ 1])
        chunked = decode_aws_chunked(
            wire(pieces),
            decoded_length=3_000_000,
            signature=payload_signature(),
            trailer_signed=True,
        )
        seen = b""
        try:
            async for piece in chunked:
                seen += piece
        except SignatureDoesNotMatch:
            assert broken
            assert len(seen) <= 2_000_000
        else:
            assert not broken
            assert seen == b"".join(chunks)


async def test_the_iterator_can_be_closed_early(wire: Wire) -> None:
    framed = frame_unsigned([b"x" * 3_000_000])
    body = wire([framed[i : i + 65536] for i in range(0, len(framed), 65536)])
    chunked = decode_aws_chunked(
        body, decoded_length=3_000_000, signature=None, trailer_signed=False
    )
    assert await anext(chunked)
    await chunked.aclose()
    await chunked.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(chunked)
