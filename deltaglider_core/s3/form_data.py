"""A ``multipart/form-data`` body: small fields in memory, then one file as a stream.

The library ``multipart`` finds the parts, incrementally and without I/O; what surrounds the file
is limited here. Fields behind the file are read and dropped, as S3 does.

Source: RFC 7578, RFC 2046 section 5.1; AWS, "POST Object" and "Creating an HTML form (using AWS
Signature Version 4)".
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final, Literal

from multipart import (
    MultipartError,
    ParserError,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from ..errors import (
    ClientError,
    IncorrectNumberOfFilesInPostRequest,
    InvalidArgument,
    MalformedPOSTRequest,
    MaxPostPreDataLengthExceeded,
    PreconditionFailed,
)

#: Most bytes of a form without its file: fields, headers of parts, boundaries.
MAX_FORM_BYTES = 20 * 1024
#: Most parts of a form. No client comes near it; the bytes alone would allow some 400.
MAX_FORM_PARTS = 256
#: Name of the part with the file; whether a part has a file name does not matter.
FILE_FIELD = "file"

_MAX_BOUNDARY = 70
_BOUNDARY = re.compile(r"[ -~]*[!-~]")
#: Encodings that leave the bytes of a part as they are.
_IDENTITY = frozenset({"", "7bit", "8bit", "binary"})


def boundary_of(content_type: str) -> str:
    """The boundary that a ``Content-Type`` names.

    Raises:
        PreconditionFailed: It is not ``multipart/form-data``.
        MalformedPOSTRequest: It has no boundary, or one that cannot be.
    """
    kind, options = parse_options_header(content_type)
    if kind != "multipart/form-data":
        raise PreconditionFailed(
            fields={"Condition": "Bucket POST must be of the enclosure-type multipart/form-data"}
        )
    boundary: str = options.get("boundary", "")
    if len(boundary) > _MAX_BOUNDARY or not _BOUNDARY.fullmatch(boundary):
        raise MalformedPOSTRequest(
            f"The Content-Type must name a boundary of 1 to {_MAX_BOUNDARY} characters."
        )
    return boundary


class _Parser(PushMultipartParser):  # type: ignore[misc]  # the library has no types
    """Refuses a line feed inside of a header line however the form is cut into pieces.

    The library itself does so only where the line has not come to its end.
    """

    def _on_segment_headerline(self, line: bytes) -> None:
        if b"\n" in line:
            raise ParserError("Invalid line break in segment header")
        super()._on_segment_headerline(line)


class FormReader:
    """Reads a form once, front to back: ``read_fields``, then ``file``.

    Args:
        body: The bytes of the form.
        boundary: As ``boundary_of`` returns it.

    Attributes:
        fields: Values of the fields before the file by lower-case name. Fields of one name are
            joined by commas, as S3 reads them.
        filename: As the client sent it; None if the file has none.
    """

    def __init__(self, body: AsyncIterator[bytes], boundary: str) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self._body = body
        self._parser = _Parser(boundary, max_segment_count=MAX_FORM_PARTS)
        self._events = self._parse()
        #: Bytes around each part: its delimiter, and the empty line behind its headers.
        self._frame: Final = len(boundary) + 8
        self._stage: Literal["fields", "file", "rest"] = "fields"
        #: Bytes of the parts before the file.
        self._counted = 0
        #: Bytes of what came from the wire in one stage and held nothing of the file.
        self._outside = 0

    async def read_fields(self) -> None:
        """Read up to the first byte of the file.

        Raises:
            MalformedPOSTRequest, MaxPostPreDataLengthExceeded
            InvalidArgument: There is no file.
            IncompleteBody: The client went away.
        """
        async for part in self._events:
            name = self._open_part(part)
            if name == FILE_FIELD:
                self.filename = part.filename
                self._stage = "file"
                return
            value = bytearray()
            async for data in self._events:
                if data is None:
                    break
                self._count(len(data))
                value += data
            try:
                text = value.decode("utf-8")
            except UnicodeDecodeError:
                raise MalformedPOSTRequest(f"The field {name!r} is not UTF-8.") from None
            self.fields[name] = f"{self.fields[name]},{text}" if name in self.fields else text
        raise InvalidArgument(
            "POST requires exactly one file upload per request.",
            fields={"ArgumentName": FILE_FIELD, "ArgumentValue": "0"},
        )

    async def file(self) -> AsyncGenerator[bytes, None]:
        """The bytes of the file. Ends without an error only after the form is complete.

        Raises:
            MalformedPOSTRequest, IncorrectNumberOfFilesInPostRequest
            IncompleteBody: The client went away.
        """
        async for data in self._events:
            if data is None:
                break
            yield data
        self._stage = "rest"
        self._outside = 0
        async for event in self._events:
            if event is None or isinstance(event, bytes | bytearray):
                continue
            if event.name.lower() == FILE_FIELD:
                raise IncorrectNumberOfFilesInPostRequest

    def _open_part(self, part: Any) -> str:
        headers = sum(len(name) + len(value.encode()) + 4 for name, value in part.headerlist)
        self._count(headers + self._frame)
        name: str = part.name.lower()
        if not name:
            raise MalformedPOSTRequest("A part of the form has no name.")
        encoding = part.header("Content-Transfer-Encoding", "")
        if encoding.strip().lower() not in _IDENTITY:
            raise MalformedPOSTRequest(
                f"The part {name!r} has the Content-Transfer-Encoding {encoding}. Send it as it "
                "is, without one."
            )
        return name

    def _count(self, size: int) -> None:
        self._counted += size
        if self._counted > MAX_FORM_BYTES:
            raise self._too_much()

    async def _parse(self) -> AsyncGenerator[Any, None]:
        """Events of the parser: a part, its bytes in pieces, None at its end."""
        try:
            async for chunk in self._body:
                stage = self._stage
                for event in self._parser.parse(chunk):
                    yield event
                if stage == self._stage != "file":
                    self._check_outside(len(chunk))
            self._parser.close()
        except ParserLimitReached as error:
            raise self._too_much() from error
        except MultipartError as error:
            raise MalformedPOSTRequest(
                f"The body of your POST request is not well-formed multipart/form-data: {error}."
            ) from error

    def _check_outside(self, size: int) -> None:
        """Bytes outside of all parts become no event, and must not be endless either."""
        self._outside += size
        if self._outside > MAX_FORM_BYTES:
            raise self._too_much()

    def _too_much(self) -> ClientError:
        if self._stage == "fields":
            return MaxPostPreDataLengthExceeded(
                fields={"MaxPostPreDataLengthBytes": str(MAX_FORM_BYTES)}
            )
        return MalformedPOSTRequest("More follows the file than a form can have.")


__all__ = ["FILE_FIELD", "MAX_FORM_BYTES", "MAX_FORM_PARTS", "FormReader", "boundary_of"]
