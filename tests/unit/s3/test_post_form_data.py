"""Forms as bytes: any way they are cut, what is refused, and where they end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaglider_core.errors import (
    IncompleteBody,
    IncorrectNumberOfFilesInPostRequest,
    InvalidArgument,
    MalformedPOSTRequest,
    MaxPostPreDataLengthExceeded,
    PreconditionFailed,
    S3Error,
)
from deltaglider_core.s3.form_data import (
    MAX_FORM_BYTES,
    MAX_FORM_PARTS,
    FormReader,
    boundary_of,
)

BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
END = f"--{BOUNDARY}--\r\n".encode()


def part(disposition: str, data: bytes, *headers: str) -> bytes:
    lines = [f"--{BOUNDARY}", f"Content-Disposition: {disposition}", *headers, "", ""]
    return "\r\n".join(lines).encode() + data + b"\r\n"


def field(name: str, value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return part(f'form-data; name="{name}"', data)


def file(data: bytes, name: str = "a.txt") -> bytes:
    disposition = f'form-data; name="file"; filename="{name}"'
    return part(disposition, data, "Content-Type: text/plain")


async def cut(data: bytes, step: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), step):
        yield data[start : start + step]


async def read(data: bytes, step: int = 65536) -> tuple[FormReader, bytes]:
    reader = FormReader(cut(data, step), BOUNDARY)
    await reader.read_fields()
    return reader, b"".join([piece async for piece in reader.file()])


async def error_of(data: bytes, step: int = 65536) -> S3Error:
    with pytest.raises(S3Error) as caught:
        await read(data, step)
    return caught.value


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 10**6])
async def test_however_it_is_cut(step: int) -> None:
    data = bytes(range(256)) * 3 + f"\r\n--{BOUNDARY[:-1]}\r\n--\r".encode()
    form = [field("Key", "ü/${filename}"), field("x-amz-meta-A", ""), file(data, "b c.bin")]
    reader, found = await read(b"".join([*form, field("submit", "Upload"), END]), step)
    assert reader.fields == {"key": "ü/${filename}", "x-amz-meta-a": ""}
    assert reader.filename == "b c.bin"
    assert found == data


@given(st.binary(max_size=300), st.integers(1, 80), st.binary(max_size=20))
async def test_any_bytes_are_a_file(data: bytes, step: int, prefix: bytes) -> None:
    data = prefix + b"\r\n--" + data + b"\r\n--" + BOUNDARY.encode()[:20] + b"\r"
    _, found = await read(field("key", "k") + file(data) + END, step)
    assert found == data


async def test_what_clients_write() -> None:
    reader, _ = await read(
        part('form-data; name=key; filename="key"', b"one")
        + part('Form-Data; NAME="tag"', b"Ninja")
        + part('form-data; name="TAG"', b"Stallman", "content-type: text/plain; charset=utf-8")
        + part('form-data; name="bin"', b"x", "Content-Transfer-Encoding: binary")
        + part('form-data; name="file"; filename="C:\\dir\\%22n%22.txt"', b"data")
        + END
    )
    assert reader.fields == {"key": "one", "tag": "Ninja,Stallman", "bin": "x"}
    assert reader.filename is not None
    assert reader.filename.endswith('"n".txt')
    bare, found = await read(field("key", "k") + field("file", "typed into a text area") + END)
    assert (bare.filename, found) == (None, b"typed into a text area")
    empty, found = await read(field("key", "k") + file(b"", "") + END)
    assert (empty.filename, found) == ("", b"")


@pytest.mark.parametrize("step", [1, 5, 10**6])
async def test_preamble_and_epilogue_are_no_part(step: int) -> None:
    form = field("key", "k") + file(b"data") + f"--{BOUNDARY}--".encode()
    for whole in (form, form + b"\r\n", form + b"\r\nepilogue", b"\r\n" + form, b"hi\r\n" + form):
        _, found = await read(whole, step)
        assert found == b"data"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", MalformedPOSTRequest),
        (b"key=value&file=x", MalformedPOSTRequest),
        (END, InvalidArgument),
        (field("key", "k") + END, InvalidArgument),
        (field("key", "k"), MalformedPOSTRequest),
        (field("key", "k") + file(b"data"), MalformedPOSTRequest),
        (file(b"data")[:-2] + b"\n" + END, MalformedPOSTRequest),
        (field("key", "k") + file(b"1") + file(b"2") + END, IncorrectNumberOfFilesInPostRequest),
        (field("key", "k") + file(b"1") + field("FILE", "2") + END, S3Error),
        (field("key", b"\xff") + file(b"data") + END, MalformedPOSTRequest),
        (part("form-data", b"k") + file(b"data") + END, MalformedPOSTRequest),
        (part('form-data; name=""', b"k") + file(b"data") + END, MalformedPOSTRequest),
        (part('file; name="file"', b"data") + END, MalformedPOSTRequest),
        (part('attachment; name="key"', b"k") + file(b"data") + END, MalformedPOSTRequest),
        (f"--{BOUNDARY}\r\n\r\nk\r\n".encode() + file(b"data") + END, MalformedPOSTRequest),
        (f"--{BOUNDARY}\r\nno header\r\n\r\nk\r\n".encode() + END, MalformedPOSTRequest),
        (f"--{BOUNDARY}x\r\n".encode() + file(b"data") + END, MalformedPOSTRequest),
        (file(b"data").replace(b"\r\n", b"\n") + END, MalformedPOSTRequest),
        (
            part('form-data; name="file"', b"ZGF0YQ==", "Content-Transfer-Encoding: base64") + END,
            MalformedPOSTRequest,
        ),
        (part('form-data; name="file"', b"data", "Content-Length: 5") + END, MalformedPOSTRequest),
        (part('form-data; name="file"', b"data", "Content-Length: -1") + END, MalformedPOSTRequest),
    ],
)
@pytest.mark.parametrize("step", [3, 10**6])
async def test_what_is_no_form(body: bytes, error: type[S3Error], step: int) -> None:
    assert isinstance(await error_of(body, step), error)


@pytest.mark.parametrize("step", [1000, 4096, 10**6])
async def test_the_limit_of_the_fields_is_exact(step: int) -> None:
    frame = len(field("k", "")) + len(file(b""))
    fits = field("k", "v" * (MAX_FORM_BYTES - frame)) + file(b"data" * 20_000) + END
    _, found = await read(fits, step)
    assert len(found) == 80_000
    above = field("k", "v" * (MAX_FORM_BYTES - frame + 1)) + file(b"data") + END
    error = await error_of(above, step)
    assert isinstance(error, MaxPostPreDataLengthExceeded)
    assert error.fields == {"MaxPostPreDataLengthBytes": "20480"}


@pytest.mark.parametrize(
    "flood",
    [
        [b"x" * 1000],  # a preamble that never ends
        [field("k", "v")],
        [field("x-ignore-" + "n" * 4000, "v")],
        [f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=".encode(), b"n" * 1000],
        [f"--{BOUNDARY}\r\n".encode(), b"X-Header: v\r\n" * 10],
    ],
)
async def test_nothing_before_the_file_is_endless(flood: list[bytes]) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        first, *rest = flood
        yield first
        while True:
            for piece in rest or [first]:
                taken += len(piece)
                yield piece

    with pytest.raises(MaxPostPreDataLengthExceeded):
        await FormReader(endless(), BOUNDARY).read_fields()
    assert taken < 2 * MAX_FORM_BYTES


async def test_number_of_parts() -> None:
    many = field("a", "") * (MAX_FORM_PARTS + 1)
    assert isinstance(await error_of(many + file(b"") + END), MaxPostPreDataLengthExceeded)


@pytest.mark.parametrize(
    "tail",
    [
        [field("k", "v" * 1000)] * 1000,
        [field("k", "")] * 1000,
        [END, *[b"epilogue" * 100] * 1000],
    ],
)
async def test_nothing_behind_the_file_is_endless(tail: Iterable[bytes]) -> None:
    taken = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal taken
        yield field("key", "k") + file(b"data")
        for piece in tail:
            taken += len(piece)
            yield piece

    reader = FormReader(pieces(), BOUNDARY)
    await reader.read_fields()
    with pytest.raises(MalformedPOSTRequest):
        assert [piece async for piece in reader.file()] == []
    assert taken < 2 * MAX_FORM_BYTES


async def test_a_client_that_goes_away() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield field("key", "k") + file(b"data")[:-3]
        raise IncompleteBody

    reader = FormReader(broken(), BOUNDARY)
    await reader.read_fields()
    with pytest.raises(IncompleteBody):
        assert b"".join([piece async for piece in reader.file()])


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", "abc"),
        ("Multipart/Form-Data;boundary=abc", "abc"),
        ('multipart/form-data; charset=utf-8; BOUNDARY="a b:c"', "a b:c"),
        (f"multipart/form-data; boundary={'b' * 70}", "b" * 70),
    ],
)
def test_boundaries(content_type: str, boundary: str) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    ("content_type", "error"),
    [
        ("", PreconditionFailed),
        ("text/html", PreconditionFailed),
        ("multipart/mixed; boundary=abc", PreconditionFailed),
        ("multipart/form-data", MalformedPOSTRequest),
        ("multipart/form-data; boundary=", MalformedPOSTRequest),
        ('multipart/form-data; boundary=""', MalformedPOSTRequest),
        ('multipart/form-data; boundary="a "', MalformedPOSTRequest),
        ('multipart/form-data; boundary="ü"', MalformedPOSTRequest),
        (f"multipart/form-data; boundary={'b' * 71}", MalformedPOSTRequest),
    ],
)
def test_no_boundaries(content_type: str, error: type[S3Error]) -> None:
    with pytest.raises(error):
        boundary_of(content_type)
