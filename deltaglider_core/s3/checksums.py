"""What requests say about checksums, and how answers say it.

Source: AWS, "Checking object integrity in Amazon S3", "PutObject", "CreateMultipartUpload".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..checksums import default_type, is_possible
from ..errors import InvalidRequest
from ..interfaces.checksums import COMPOSITE, FULL_OBJECT
from ..interfaces.storage import CHECKSUM_SIZES, Checksum, ObjectInfo

PREFIX = "x-amz-checksum-"
TYPE_HEADER = "x-amz-checksum-type"
ALGORITHM_HEADER = "x-amz-checksum-algorithm"
#: Headers with that prefix that carry no checksum.
_NOT_A_CHECKSUM = frozenset({"mode", "type", "algorithm"})

#: A composite checksum as a header has it: digest and number of parts.
_COMPOSITE = re.compile(r"(.*)-[1-9][0-9]{0,4}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ChecksumClaim:
    """What a request says the checksum of its body is.

    Attributes:
        algorithm: One of ``CHECKSUM_SIZES``.
        digest: The promised digest; None where a trailer will bring it.
    """

    algorithm: str
    digest: bytes | None

    @property
    def name(self) -> str:
        """The header or trailer that carries it."""
        return PREFIX + self.algorithm


def decode_digest(name: str, value: str) -> bytes:
    """Decode the value of the header or trailer ``name``.

    Raises:
        InvalidRequest: Not base64, or not as long as the algorithm's digest.
    """
    try:
        digest = base64.b64decode(value.strip(" \t").encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        digest = b""
    if len(digest) != CHECKSUM_SIZES[name.removeprefix(PREFIX)]:
        raise InvalidRequest(f"Value for {name} header is invalid.")
    return digest


def find_claim(headers: Mapping[str, str]) -> ChecksumClaim | None:
    """Read the one checksum that a request may claim for its body.

    Args:
        headers: Lower-case names.

    Raises:
        InvalidRequest: Two checksums, a malformed one, an algorithm that S3 does not have, an
            unknown trailer, or an algorithm header that contradicts them.
    """
    claims = [
        ChecksumClaim(algorithm=name.removeprefix(PREFIX), digest=decode_digest(name, value))
        for name, value in checksum_headers_of(headers)
    ]
    for name in trailer_names(headers):
        claims.append(ChecksumClaim(algorithm=name.removeprefix(PREFIX), digest=None))
    if len(claims) > 1:
        raise _several()
    chosen = headers.get("x-amz-sdk-checksum-algorithm")
    if chosen is not None:
        chosen = chosen.strip(" \t").lower()
        if chosen not in CHECKSUM_SIZES:
            raise InvalidRequest("Value for x-amz-sdk-checksum-algorithm header is invalid.")
        if not claims:
            raise InvalidRequest(
                "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* "
                "or x-amz-trailer headers were found."
            )
        if claims[0].algorithm != chosen:
            raise InvalidRequest("Value for x-amz-sdk-checksum-algorithm header is invalid.")
    return claims[0] if claims else None


def checksum_headers_of(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Names and values of the headers that carry a checksum.

    Raises:
        InvalidRequest: One of an algorithm that S3 does not have.
    """
    found = []
    for name, value in headers.items():
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in _NOT_A_CHECKSUM:
            if name.removeprefix(PREFIX) not in CHECKSUM_SIZES:
                raise InvalidRequest(
                    "The algorithm type you specified in x-amz-checksum- header is invalid."
                )
            found.append((name, value))
    return found


def trailer_names(headers: Mapping[str, str]) -> list[str]:
    """The trailers that ``x-amz-trailer`` announces, lower-case; all are checksums.

    Raises:
        InvalidRequest: Another trailer.
    """
    pieces = (piece.strip(" \t").lower() for piece in headers.get("x-amz-trailer", "").split(","))
    names = [name for name in pieces if name]
    for name in names:
        if not name.startswith(PREFIX) or name.removeprefix(PREFIX) not in CHECKSUM_SIZES:
            raise InvalidRequest("The value specified in the x-amz-trailer header is not supported")
    return names


def chosen_algorithm(headers: Mapping[str, str]) -> str | None:
    """``x-amz-checksum-algorithm``, lower-case. Raises ``InvalidRequest`` for an unknown one."""
    value = headers.get(ALGORITHM_HEADER)
    if value is None:
        return None
    algorithm = value.strip(" \t").lower()
    if algorithm not in CHECKSUM_SIZES:
        known = ", ".join(name.upper() for name in CHECKSUM_SIZES)
        raise InvalidRequest(
            "Checksum algorithm provided is unsupported. Please try again with any of the valid "
            f"types: [{known}]"
        )
    return algorithm


def checksum_of_upload(headers: Mapping[str, str]) -> Checksum | None:
    """What checksum the object of a new multipart upload is to have; None without a choice.

    Raises:
        InvalidRequest: Unknown or impossible.
    """
    algorithm, kind = chosen_algorithm(headers), _type_of(headers)
    if algorithm is None:
        if kind is not None:
            raise InvalidRequest(
                "The x-amz-checksum-type header can only be used with the "
                "x-amz-checksum-algorithm header."
            )
        return None
    kind = kind or default_type(algorithm)
    if not is_possible(algorithm, kind):
        raise _impossible(algorithm, kind)
    return Checksum(algorithm=algorithm, type=kind)


def claim_for_object(headers: Mapping[str, str], upload: Checksum) -> Checksum | None:
    """What a CompleteMultipartUpload says the checksum of the object is.

    Args:
        upload: Algorithm and type of the upload.

    Raises:
        InvalidRequest: Malformed, of another algorithm or type, or several.
    """
    kind = _type_of(headers)
    if kind not in (None, upload.type):
        raise InvalidRequest(
            f"The upload was created using the {upload.type} checksum mode. The complete request "
            "must use the same checksum mode."
        )
    claims = checksum_headers_of(headers)
    if not claims:
        return None
    if len(claims) > 1:
        raise _several()
    name, value = claims[0]
    if name != PREFIX + upload.algorithm:
        raise type_mismatch(upload.algorithm, name.removeprefix(PREFIX))
    value = value.strip(" \t")
    match = _COMPOSITE.fullmatch(value) if upload.type == COMPOSITE else None
    decode_digest(name, value if match is None else match[1])
    return Checksum(algorithm=upload.algorithm, type=upload.type, value=value)


def chosen_by_claim(headers: Mapping[str, str]) -> Checksum | None:
    """Algorithm and type of the one checksum that a CompleteMultipartUpload claims, if it is one.

    For an upload of which nobody remembers them. Without ``x-amz-checksum-type`` the value tells
    by its number of parts; where it has none, it is taken to be of the whole if the algorithm
    allows that.

    Raises:
        InvalidRequest: An unknown type, or one that the algorithm cannot have.
    """
    claims = checksum_headers_of(headers)
    if len(claims) != 1:
        return None
    name, value = claims[0]
    algorithm, kind = name.removeprefix(PREFIX), _type_of(headers)
    if kind is None:
        counted = _COMPOSITE.fullmatch(value.strip(" \t")) is not None
        whole = not counted and is_possible(algorithm, FULL_OBJECT)
        kind = FULL_OBJECT if whole else COMPOSITE
    if not is_possible(algorithm, kind):
        raise _impossible(algorithm, kind)
    return Checksum(algorithm=algorithm, type=kind)


def type_mismatch(expected: str, actual: str) -> InvalidRequest:
    """A checksum of another algorithm than the upload's."""
    return InvalidRequest(
        f"Checksum Type mismatch occurred, expected checksum Type: {expected}, "
        f"actual checksum Type: {actual}"
    )


def _type_of(headers: Mapping[str, str]) -> str | None:
    value = headers.get(TYPE_HEADER)
    if value is None:
        return None
    kind = value.strip(" \t").upper()
    if kind not in (FULL_OBJECT, COMPOSITE):
        raise InvalidRequest(f"Value for {TYPE_HEADER} header is invalid.")
    return kind


def _impossible(algorithm: str, kind: str) -> InvalidRequest:
    return InvalidRequest(
        f"The {kind} checksum type cannot be used with the {algorithm} checksum algorithm."
    )


def _several() -> InvalidRequest:
    return InvalidRequest(
        "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
    )


def stored_checksum(info: ObjectInfo) -> Checksum | None:
    """The checksum that is stored with an object; None for none, and for a damaged one."""
    text = "" if info.metadata is None else info.metadata.internal.get("checksum", "")
    checksum = Checksum.parse(text) if text else None
    return checksum if checksum is not None and checksum.value else None


def checksum_headers(checksum: Checksum | None) -> dict[str, str]:
    """The headers of an answer that tell a checksum."""
    if checksum is None:
        return {}
    return {PREFIX + checksum.algorithm: checksum.value, TYPE_HEADER: checksum.type}


def headers_on_read(headers: Mapping[str, str], info: ObjectInfo) -> dict[str, str]:
    """The same for a GET or HEAD of a whole object, which has to ask for them."""
    if headers.get("x-amz-checksum-mode", "").strip(" \t").upper() != "ENABLED":
        return {}
    return checksum_headers(stored_checksum(info))
