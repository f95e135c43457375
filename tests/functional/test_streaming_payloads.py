"""Every ``STREAMING-*`` mode of ``x-amz-content-sha256``, right and forged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pytest
from support.expect import Footprint
from support.raw import Answer, RawClient
from support.samples import md5_hex, noise
from support.signing import (
    SIGNED_CHUNKS,
    SIGNED_CHUNKS_AND_TRAILER,
    UNSIGNED_CHUNKS_AND_TRAILER,
    Signed,
    chunk_signatures,
    crc32_base64,
    signed_chunks,
    unsigned_chunks,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DATA = noise(150_000)
PIECES = [DATA[:65_536], DATA[65_536:65_537], DATA[65_537:]]
TRAILER = {"x-amz-checksum-crc32": crc32_base64(DATA)}


class Sender:
    """Sends ``DATA`` in one mode, with whatever a test spoils."""

    def __init__(self, raw: RawClient, target: str) -> None:
        self.raw = raw
        self.target = target

    def send(
        self,
        mode: str,
        frame: Callable[[Signed], bytes],
        *,
        headers: Mapping[str, str] | None = None,
        without: str = "",
    ) -> Answer:
        sent = {
            "content-encoding": "aws-chunked",
            "x-amz-decoded-content-length": str(len(DATA)),
        }
        if mode.endswith("TRAILER"):
            sent["x-amz-trailer"] = "x-amz-checksum-crc32"
        sent |= headers or {}
        sent.pop(without, None)
        signed = self.raw.signer.sign("PUT", self.target, headers=sent, payload=mode)
        return self.raw.send("PUT", signed, frame(signed))

    def stored(self) -> bytes | None:
        answer = self.raw.request("GET", self.target)
        return answer.body if answer.status == 200 else None


@pytest.fixture
def sender(raw: RawClient, bucket: str) -> Sender:
    return Sender(raw, f"/{bucket}/object")


def frame_for(mode: str) -> Callable[[Signed], bytes]:
    return {
        SIGNED_CHUNKS: lambda seed: signed_chunks(seed, PIECES),
        SIGNED_CHUNKS_AND_TRAILER: lambda seed: signed_chunks(seed, PIECES, TRAILER),
        UNSIGNED_CHUNKS_AND_TRAILER: lambda _: unsigned_chunks(PIECES, TRAILER),
    }[mode]


MODES = [SIGNED_CHUNKS, SIGNED_CHUNKS_AND_TRAILER, UNSIGNED_CHUNKS_AND_TRAILER]


@pytest.mark.parametrize("mode", MODES)
def test_stores_the_decoded_body(s3: S3Client, sender: Sender, bucket: str, mode: str) -> None:
    answer = sender.send(mode, frame_for(mode))
    assert (answer.status, answer.headers.get("etag")) == (200, f'"{md5_hex(DATA)}"')
    if mode.endswith("TRAILER"):
        assert answer.headers["x-amz-checksum-crc32"] == crc32_base64(DATA)
    assert sender.stored() == DATA
    head = s3.head_object(Bucket=bucket, Key="object")
    assert head["ContentLength"] == len(DATA)
    assert "ContentEncoding" not in head


@pytest.mark.parametrize("mode", MODES)
def test_over_http_chunks_without_length(sender: Sender, mode: str) -> None:
    def frame(seed: Signed) -> bytes:
        body = frame_for(mode)(seed)
        # Cut where no chunk of the inner framing ends.
        pieces = [body[at : at + 10_007] for at in range(0, len(body), 10_007)]
        framed = b"".join(b"%x\r\n" % len(piece) + piece + b"\r\n" for piece in pieces)
        return framed + b"0\r\n\r\n"

    answer = sender.send(mode, frame, headers={"transfer-encoding": "chunked"})
    assert answer.status == 200
    assert sender.stored() == DATA


@pytest.mark.parametrize("mode", MODES)
def test_as_a_part(s3: S3Client, raw: RawClient, bucket: str, mode: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="object")["UploadId"]
    part = Sender(raw, f"/{bucket}/object?partNumber=1&uploadId={upload}")
    answer = part.send(mode, frame_for(mode))
    assert (answer.status, answer.headers.get("etag")) == (200, f'"{md5_hex(DATA)}"')
    parts = s3.list_parts(Bucket=bucket, Key="object", UploadId=upload)["Parts"]
    assert [entry["Size"] for entry in parts] == [len(DATA)]


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_body(sender: Sender, mode: str) -> None:
    empty = {"x-amz-checksum-crc32": crc32_base64(b"")}
    frames: dict[str, Callable[[Signed], bytes]] = {
        SIGNED_CHUNKS: lambda seed: signed_chunks(seed, []),
        SIGNED_CHUNKS_AND_TRAILER: lambda seed: signed_chunks(seed, [], empty),
        UNSIGNED_CHUNKS_AND_TRAILER: lambda _: unsigned_chunks([], empty),
    }
    answer = sender.send(mode, frames[mode], headers={"x-amz-decoded-content-length": "0"})
    assert answer.status == 200
    assert sender.stored() == b""


def test_tiny_chunks(sender: Sender) -> None:
    data = DATA[:500]
    pieces = [data[at : at + 1] for at in range(len(data))]
    answer = sender.send(
        SIGNED_CHUNKS,
        lambda seed: signed_chunks(seed, pieces),
        headers={"x-amz-decoded-content-length": "500"},
    )
    assert answer.status == 200
    assert sender.stored() == data


def test_small_pieces_on_the_wire(raw: RawClient, sender: Sender) -> None:
    """Framing must not depend on where TCP cuts."""
    data = DATA[:3000]
    trailer = {"x-amz-checksum-crc32": crc32_base64(data)}
    headers = {
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": "3000",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }
    seed = raw.signer.sign("PUT", sender.target, headers=headers, payload=SIGNED_CHUNKS_AND_TRAILER)
    body = signed_chunks(seed, [data[:1000], data[1000:]], trailer)
    with raw.connect() as connection:
        connection.send_head("PUT", seed.target, {**seed.headers, "content-length": str(len(body))})
        for at in range(len(body)):
            connection.send(body[at : at + 1])
        assert connection.answer().status == 200
    assert sender.stored() == data


# --- what must be refused ------------------------------------------------------------------


def forged_data(seed: Signed) -> bytes:
    body = bytearray(signed_chunks(seed, PIECES))
    body[90_000] ^= 1
    return bytes(body)


def swapped_chunks(seed: Signed) -> bytes:
    signatures = chunk_signatures(seed, [*PIECES, b""])
    order = [1, 0, 2]
    body = b"".join(
        b"%x;chunk-signature=%s\r\n" % (len(PIECES[i]), signatures[i].encode())
        + PIECES[i]
        + b"\r\n"
        for i in order
    )
    return body + b"0;chunk-signature=" + signatures[3].encode() + b"\r\n\r\n"


def without_last_chunk(seed: Signed) -> bytes:
    body = signed_chunks(seed, PIECES)
    return body[: body.rindex(b"0;chunk-signature=")]


def cut_at_a_chunk_boundary(seed: Signed) -> bytes:
    return signed_chunks(seed, PIECES[:2])


def cut_inside_a_chunk(seed: Signed) -> bytes:
    return signed_chunks(seed, PIECES)[:100_000]


def more_than_announced(seed: Signed) -> bytes:
    return signed_chunks(seed, [*PIECES, b"more"])


def unsigned_chunk(seed: Signed) -> bytes:
    return unsigned_chunks(PIECES, {})


def bytes_after_the_end(seed: Signed) -> bytes:
    return signed_chunks(seed, PIECES) + b"GARBAGE"


def huge_chunk_size(seed: Signed) -> bytes:
    return b"f" * 40 + b";chunk-signature=" + b"0" * 64 + b"\r\n" + DATA


def endless_chunk_header(seed: Signed) -> bytes:
    return b"0" * 200_000


def negative_chunk_size(seed: Signed) -> bytes:
    return b"-1;chunk-signature=" + b"0" * 64 + b"\r\n" + DATA


def no_framing(seed: Signed) -> bytes:
    return DATA


@pytest.mark.parametrize(
    "frame",
    [
        forged_data,
        swapped_chunks,
        without_last_chunk,
        cut_at_a_chunk_boundary,
        cut_inside_a_chunk,
        more_than_announced,
        unsigned_chunk,
        bytes_after_the_end,
        huge_chunk_size,
        endless_chunk_header,
        negative_chunk_size,
        no_framing,
    ],
)
def test_forged_and_cut_chunks(
    sender: Sender, footprint: Footprint, frame: Callable[[Signed], bytes]
) -> None:
    answer = sender.send(SIGNED_CHUNKS, frame)
    assert answer.status in (400, 403)
    assert answer.code in (
        "SignatureDoesNotMatch",
        "IncompleteBody",
        "InvalidArgument",
        "InvalidRequest",
        "InvalidChunkSizeError",
        "EntityTooLarge",
    )
    assert sender.stored() is None
    footprint.assert_unchanged()


@pytest.mark.parametrize("mode", [SIGNED_CHUNKS_AND_TRAILER, UNSIGNED_CHUNKS_AND_TRAILER])
def test_a_trailer_with_a_wrong_checksum(sender: Sender, footprint: Footprint, mode: str) -> None:
    wrong = {"x-amz-checksum-crc32": crc32_base64(b"other")}
    answer = sender.send(
        mode,
        lambda seed: (
            signed_chunks(seed, PIECES, wrong)
            if mode == SIGNED_CHUNKS_AND_TRAILER
            else unsigned_chunks(PIECES, wrong)
        ),
    )
    assert (answer.status, answer.code) == (400, "BadDigest")
    assert sender.stored() is None
    footprint.assert_unchanged()


def test_a_forged_trailer(sender: Sender, footprint: Footprint) -> None:
    def frame(seed: Signed) -> bytes:
        body = signed_chunks(seed, PIECES, TRAILER)
        at = body.rindex(b"x-amz-trailer-signature:") + len(b"x-amz-trailer-signature:")
        return body[:at] + b"0" * 64 + body[at + 64 :]

    answer = sender.send(SIGNED_CHUNKS_AND_TRAILER, frame)
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")
    assert sender.stored() is None
    footprint.assert_unchanged()


@pytest.mark.parametrize("mode", [SIGNED_CHUNKS_AND_TRAILER, UNSIGNED_CHUNKS_AND_TRAILER])
def test_an_announced_trailer_that_does_not_come(sender: Sender, mode: str) -> None:
    answer = sender.send(
        mode,
        lambda seed: (
            signed_chunks(seed, PIECES)
            if mode == SIGNED_CHUNKS_AND_TRAILER
            else unsigned_chunks(PIECES, {})
        ),
    )
    assert answer.status in (400, 403)
    assert sender.stored() is None


@pytest.mark.parametrize("mode", MODES)
def test_missing_decoded_length(sender: Sender, mode: str) -> None:
    answer = sender.send(mode, frame_for(mode), without="x-amz-decoded-content-length")
    assert (answer.status, answer.code) == (411, "MissingContentLength")
    assert sender.stored() is None


@pytest.mark.parametrize("length", ["149999", "150001", "0", "-1", "x", "1e5", "9" * 30])
def test_wrong_decoded_length(sender: Sender, footprint: Footprint, length: str) -> None:
    for mode in MODES:
        answer = sender.send(
            mode, frame_for(mode), headers={"x-amz-decoded-content-length": length}
        )
        assert answer.status == 400 or (answer.status, length) == (411, "x"), (mode, answer)
        assert sender.stored() is None
    footprint.assert_unchanged()


@pytest.mark.parametrize(
    ("mode", "status"),
    [
        ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", 501),
        ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER", 501),
        ("STREAMING-SOMETHING-ELSE", 400),
        ("streaming-aws4-hmac-sha256-payload", 400),
    ],
)
def test_other_modes(sender: Sender, mode: str, status: int) -> None:
    answer = sender.send(mode, lambda seed: signed_chunks(seed, PIECES))
    assert answer.status == status
    assert sender.stored() is None


def test_a_trailer_that_is_no_checksum(sender: Sender) -> None:
    answer = sender.send(
        UNSIGNED_CHUNKS_AND_TRAILER,
        lambda _: unsigned_chunks(PIECES, {"x-amz-meta-late": "1"}),
        headers={"x-amz-trailer": "x-amz-meta-late"},
    )
    assert answer.status == 400
    assert sender.stored() is None
