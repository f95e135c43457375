"""Bucket names, object keys, and the one place where a URL is percent-decoded.

``raw_path`` and ``raw_query`` hold one character per byte sent (Latin-1, as PEP 3333 does),
so bytes that a client did not escape survive to be decoded, or refused, here.

Source: AWS, "Bucket naming rules" and "Naming Amazon S3 objects"; RFC 3986 section 2.1.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from ..errors import InvalidArgument, InvalidBucketName, InvalidURI, KeyTooLongError

MAX_KEY_BYTES = 1024

#: Suffixes that AWS keeps for access points, directory buckets and table buckets.
RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
# inet_aton reads two to four dotted numbers as an address, hexadecimal ones too.
_ADDRESS = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){1,3}", re.ASCII)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def check_bucket_name(name: str, *, creating: bool = False) -> None:
    """Refuse what cannot be a bucket, before a path is built from it.

    Args:
        name: Decoded.
        creating: Also refuse the suffixes that AWS reserves.

    Raises:
        InvalidBucketName
    """
    if (
        not _BUCKET.fullmatch(name)
        or ".." in name
        or name.startswith("xn--")
        or _ADDRESS.fullmatch(name)
        or (creating and name.endswith(RESERVED_SUFFIXES))
    ):
        raise InvalidBucketName(fields={"BucketName": name})


def check_key(key: str) -> None:
    """Refuse what cannot be an object key; every other string is a legal key.

    Relative segments follow AWS: read from left to right, ``..`` may never outnumber the
    ordinary segments before it. ``.`` and empty segments count as neither.

    Raises:
        KeyTooLongError: More than 1024 bytes of UTF-8.
        InvalidURI: ``..`` leads above the bucket.
        InvalidArgument: Empty, or contains NUL or a lone surrogate.
    """
    if not key:
        raise InvalidArgument("An object key must not be empty.", fields={"ArgumentName": "key"})
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidArgument(
            "An object key must be valid UTF-8.", fields={"ArgumentName": "key"}
        ) from None
    if size > MAX_KEY_BYTES:
        raise KeyTooLongError(fields={"Size": str(size), "MaxSizeAllowed": str(MAX_KEY_BYTES)})
    if "\0" in key:
        raise InvalidArgument(
            "An object key must not contain a NUL character.", fields={"ArgumentName": "key"}
        )
    if ".." not in key:
        return
    depth = 0
    for segment in key.split("/"):
        if segment == "..":
            depth -= 1
            if depth < 0:
                raise InvalidURI(fields={"URI": key})
        elif segment not in ("", "."):
            depth += 1


def split_path(raw_path: str) -> tuple[str, str]:
    """Split a path-style request path into ``(bucket, key)``, decoded exactly once.

    ``/`` is ``("", "")``, ``/b`` and ``/b/`` are ``("b", "")``, ``/b//k`` is ``("b", "/k")``.
    ``+`` stands for itself.

    Raises:
        InvalidURI: Not an absolute path, a malformed escape, not UTF-8, or a key without
            a bucket.
    """
    path = decode_path(raw_path)
    bucket, _, key = path[1:].partition("/")
    if not bucket and key:
        raise InvalidURI(fields={"URI": raw_path})
    return bucket, key


def decode_path(raw_path: str) -> str:
    """Percent-decode a request path once; an empty path is ``/``. Raises ``InvalidURI``."""
    if not raw_path:
        return "/"
    if not raw_path.startswith("/"):
        raise InvalidURI(fields={"URI": raw_path})
    return _decode(raw_path)


def parse_query(raw_query: str) -> list[tuple[str, str]]:
    """Split a query into decoded pairs, in the order sent.

    ``+`` is a space, as S3 reads it, and as SigV4 signs it (``%20``) after decoding. A name
    without ``=`` has the value ``""``. Empty pieces between ``&`` are skipped.

    Raises:
        InvalidURI: A malformed escape, or not UTF-8.
    """
    pairs = []
    for piece in raw_query.split("&"):
        if piece:
            name, _, value = piece.replace("+", " ").partition("=")
            pairs.append((_decode(name), _decode(value)))
    return pairs


def _decode(text: str) -> str:
    try:
        raw = text.encode("latin-1")
        if b"%" in raw:
            if _BAD_ESCAPE.search(raw):
                raise InvalidURI(fields={"URI": text})
            raw = unquote_to_bytes(raw)
        return raw.decode("utf-8")
    except UnicodeError:
        raise InvalidURI(fields={"URI": text}) from None
