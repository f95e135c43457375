"""Tags of objects and buckets: the rules, the header, the XML document.

Source: AWS, "Categorizing your objects using tags", "PutObjectTagging", "PutBucketTagging".
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from urllib.parse import unquote_to_bytes

from ..errors import BadRequest, InvalidArgument, InvalidTag, MalformedXML, NotImplementedS3
from ..interfaces.storage import StorageBackend
from .xml_output import XmlWriter
from .xml_tree import children_of, name_of, read_document, text_of

TAGGING_HEADER = "x-amz-tagging"

MAX_OBJECT_TAGS = 10
MAX_BUCKET_TAGS = 50
#: In UTF-16 code units, as AWS counts: a character outside of the basic plane takes two.
MAX_KEY_LENGTH = 128
MAX_VALUE_LENGTH = 256
#: Largest Tagging document: 50 tags whose characters are all written as references, with room.
MAX_TAGGING_BODY = 256 * 1024

#: Beside letters, numbers and spaces of any script (Unicode categories L, N and Z).
_PUNCTUATION = frozenset("+-=._:/@")


def parse_tagging_header(value: str) -> dict[str, str]:
    """Tags of an ``x-amz-tagging`` header: a query string, ``Key1=Value1&Key2=Value2``.

    Raises:
        InvalidArgument: Not properly encoded, or one key twice.
        InvalidTag, BadRequest: See ``checked_object_tags``.
    """
    pairs: list[tuple[str, str]] = []
    for part in value.strip().split("&"):
        if part:
            key, _, text = part.partition("=")
            pairs.append((_decoded(key, value), _decoded(text, value)))
    if len({key for key, _ in pairs}) != len(pairs):
        raise _malformed_header(value)
    return checked_object_tags(pairs)


def parse_object_tagging(document: bytes) -> dict[str, str]:
    """Tags of a ``Tagging`` document for an object.

    Raises:
        MalformedXML
        InvalidTag, BadRequest: See ``checked_object_tags``.
    """
    return checked_object_tags(_parse(document))


def parse_bucket_tagging(document: bytes) -> dict[str, str]:
    """The same for a bucket, which has up to 50 tags."""
    pairs = _parse(document)
    if len(pairs) > MAX_BUCKET_TAGS:
        raise BadRequest(f"Bucket tag count cannot be greater than {MAX_BUCKET_TAGS}")
    return _checked(pairs)


def checked_object_tags(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Tags that an object may have.

    Raises:
        BadRequest: More than ten.
        InvalidTag: Too long, empty, a character that tags cannot hold, ``aws:``, a key twice.
    """
    found = list(pairs)
    if len(found) > MAX_OBJECT_TAGS:
        raise BadRequest(f"Object tags cannot be greater than {MAX_OBJECT_TAGS}")
    return _checked(found)


def require_kept(storage: StorageBackend, tags: Mapping[str, str]) -> None:
    """Refuse tags that the storage of a bucket would lose without a word.

    Raises:
        NotImplementedS3: There are some, and the backend does not declare ``object_tags``.
    """
    if tags and not storage.capabilities.object_tags:
        raise NotImplementedS3(
            "The storage behind this bucket does not keep object tags: send none. A copy leaves "
            "those of its source out with x-amz-tagging-directive: REPLACE."
        )


def render_tagging(tags: Mapping[str, str]) -> bytes:
    """``Tagging``, as GET answers it."""
    xml = XmlWriter("Tagging")
    with xml.element("TagSet"):
        for key, value in tags.items():
            with xml.element("Tag"):
                xml.leaf("Key", key)
                xml.leaf("Value", value)
    return xml.finish()


def _checked(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for key, value in pairs:
        if not key or not _is_text(key, MAX_KEY_LENGTH):
            raise InvalidTag("The TagKey you have provided is invalid", fields={"TagKey": key})
        if not _is_text(value, MAX_VALUE_LENGTH):
            raise InvalidTag(
                "The TagValue you have provided is invalid", fields={"TagValue": value}
            )
        if key.lower().startswith("aws:"):
            raise InvalidTag(
                "System tags cannot be added/updated by requester", fields={"TagKey": key}
            )
        if key in tags:
            raise InvalidTag(
                "Cannot provide multiple Tags with the same key", fields={"TagKey": key}
            )
        tags[key] = value
    return tags


def _is_text(text: str, limit: int) -> bool:
    if len(text) > limit or sum(1 + (char > "\uffff") for char in text) > limit:
        return False
    return all(char in _PUNCTUATION or unicodedata.category(char)[0] in "LNZ" for char in text)


def _decoded(text: str, header: str) -> str:
    """One percent-encoded half of a pair, in which ``+`` is a space."""
    raw = unquote_to_bytes(text.replace("+", " "))
    if _has_stray_percent(text):
        raise _malformed_header(header)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _malformed_header(header) from None


def _has_stray_percent(text: str) -> bool:
    digits = frozenset("0123456789abcdefABCDEF")
    return any(len(rest) < 2 or not digits.issuperset(rest[:2]) for rest in text.split("%")[1:])


def _malformed_header(value: str) -> InvalidArgument:
    return InvalidArgument(
        "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query "
        "parameters without tag name duplicates.",
        fields={"ArgumentName": TAGGING_HEADER, "ArgumentValue": value},
    )


def _parse(document: bytes) -> list[tuple[str, str]]:
    tagging = children_of(read_document(document, "Tagging"))
    if tagging.keys() != {"TagSet"}:
        raise MalformedXML
    pairs = []
    for element in tagging["TagSet"]:
        children = children_of(element)
        if name_of(element) != "Tag" or children.keys() != {"Key", "Value"}:
            raise MalformedXML
        pairs.append((text_of(children, "Key") or "", text_of(children, "Value") or ""))
    return pairs


__all__ = [
    "MAX_BUCKET_TAGS",
    "MAX_OBJECT_TAGS",
    "MAX_TAGGING_BODY",
    "TAGGING_HEADER",
    "checked_object_tags",
    "parse_bucket_tagging",
    "parse_object_tagging",
    "parse_tagging_header",
    "render_tagging",
    "require_kept",
]
