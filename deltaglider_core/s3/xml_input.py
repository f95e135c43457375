"""Parsers of the XML documents that clients send.

All of them accept any namespace or none, refuse DTDs, entities and deep nesting, and raise
``MalformedXML`` for whatever is not the document they expect. The caller limits the size, and
parses on a worker thread what is larger than some 64 KiB.

Source: AWS, "CreateBucket", "DeleteObjects" and "CompleteMultipartUpload".
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml.ElementTree import XMLParser

from ..errors import InvalidArgument, InvalidPartOrder, MalformedXML, NotImplementedS3
from ..interfaces.storage import CompletedPart

MAX_DELETE_KEYS = 1000
MAX_PARTS = 10_000
#: The deepest document that S3 defines has five levels.
MAX_DEPTH = 16
#: 10,000 parts with their number, ETag and five checksums, and what surrounds them.
MAX_ELEMENTS = 10_000 * 8 + 100

_NUMBER = re.compile(r"[0-9]{1,9}")
_CHECKSUM_ELEMENT = re.compile(r"Checksum(CRC32|CRC32C|CRC64NVME|SHA1|SHA256)")


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteEntry:
    """One object of a batch delete; ``etag`` without quotes, ``*`` for any."""

    key: str
    version_id: str | None = None
    etag: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteRequest:
    """A batch delete: 1 to 1000 objects; ``quiet`` leaves successes out of the answer."""

    objects: Sequence[DeleteEntry]
    quiet: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedPart(CompletedPart):
    """A part as CompleteMultipartUpload lists it.

    Attributes:
        checksums: Lower-case algorithm to base64, as far as the client repeats them.
    """

    checksums: Mapping[str, str] = field(default_factory=dict)


def parse_create_bucket(data: bytes) -> str:
    """Return the location constraint; empty without a body or without a constraint.

    Raises:
        MalformedXML
        NotImplementedS3: Directory buckets, tags.
    """
    if not data:
        return ""
    children = _children(_parse(data, "CreateBucketConfiguration"))
    for unsupported in ("Location", "Bucket", "Tags"):
        if unsupported in children:
            raise NotImplementedS3(f"{unsupported} of CreateBucket is not supported.")
    if children.keys() - {"LocationConstraint"}:
        raise MalformedXML
    return (_text(children, "LocationConstraint") or "").strip()


def parse_delete_objects(data: bytes) -> DeleteRequest:
    """Read a batch delete.

    Raises:
        MalformedXML: Also for no object, or more than 1000.
        NotImplementedS3: Conditions on time or size, which S3 has in directory buckets only.
    """
    objects = []
    quiet = False
    for element in _parse(data, "Delete"):
        match _name(element):
            case "Object":
                objects.append(_delete_entry(element))
            case "Quiet":
                quiet = _boolean(element)
            case _:
                raise MalformedXML
    if not 1 <= len(objects) <= MAX_DELETE_KEYS:
        raise MalformedXML
    return DeleteRequest(objects=objects, quiet=quiet)


def parse_complete_multipart(data: bytes) -> list[ListedPart]:
    """Read the list of parts, in the order sent; see ``check_part_order``.

    Raises:
        MalformedXML: Also for no part, or more than 10,000.
        InvalidArgument: A part number outside 1 to 10,000.
    """
    parts = []
    for element in _parse(data, "CompleteMultipartUpload"):
        if _name(element) != "Part":
            raise MalformedXML
        children = _children(element)
        number = (_text(children, "PartNumber") or "").strip()
        etag = (_text(children, "ETag") or "").strip().strip('"')
        if not _NUMBER.fullmatch(number) or not etag:
            raise MalformedXML
        if not 1 <= int(number) <= MAX_PARTS:
            raise InvalidArgument(
                f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive",
                fields={"ArgumentName": "partNumber", "ArgumentValue": number},
            )
        checksums = {
            match[1].lower(): (_text(children, name) or "").strip()
            for name in children
            if (match := _CHECKSUM_ELEMENT.fullmatch(name))
        }
        parts.append(ListedPart(part_number=int(number), etag=etag, checksums=checksums))
        if len(parts) > MAX_PARTS:
            raise MalformedXML
    if not parts:
        raise MalformedXML
    return parts


def check_part_order(part_numbers: Sequence[int]) -> None:
    """Raise ``InvalidPartOrder`` unless the numbers ascend strictly."""
    if any(a >= b for a, b in itertools.pairwise(part_numbers)):
        raise InvalidPartOrder


class _Builder(TreeBuilder):
    """Builds a tree, but no deep one: freeing and walking it would recurse.

    Nor one of very many elements: each takes some 40 times the four bytes of ``<a/>``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._elements = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self._depth += 1
        self._elements += 1
        if self._depth > MAX_DEPTH or self._elements > MAX_ELEMENTS:
            raise MalformedXML
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


def _parse(data: bytes, root: str) -> Element:
    parser = XMLParser(
        target=_Builder(), forbid_dtd=True, forbid_entities=True, forbid_external=True
    )
    try:
        parser.feed(data)
        tree: Element = parser.close()
    except (ParseError, ValueError, LookupError):
        # ValueError: what defusedxml forbids; it and LookupError: encodings expat lacks.
        raise MalformedXML from None
    if _name(tree) != root:
        raise MalformedXML
    return tree


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _children(element: Element) -> dict[str, Element]:
    children = {_name(child): child for child in element}
    if len(children) != len(element):
        raise MalformedXML
    return children


def _text(children: Mapping[str, Element], name: str) -> str | None:
    element = children.get(name)
    if element is None:
        return None
    if len(element):
        raise MalformedXML
    return element.text or ""


def _delete_entry(element: Element) -> DeleteEntry:
    children = _children(element)
    key = _text(children, "Key")
    if not key:
        raise MalformedXML
    for unsupported in ("LastModifiedTime", "Size"):
        if unsupported in children:
            raise NotImplementedS3(f"{unsupported} of DeleteObjects is not supported.")
    if children.keys() - {"Key", "VersionId", "ETag"}:
        raise MalformedXML
    etag = _text(children, "ETag")
    if etag is not None:
        etag = etag.strip()
        if etag != '"*"':  # in quotes it is an ETag that no object has, not the wildcard
            etag = etag.strip('"')
        if not etag:
            # Read as no condition, it would delete what the client wanted to protect.
            raise MalformedXML
    return DeleteEntry(key=key, version_id=_text(children, "VersionId"), etag=etag)


def _boolean(element: Element) -> bool:
    text = (element.text or "").strip().lower()
    if text not in ("true", "false") or len(element):
        raise MalformedXML
    return text == "true"
