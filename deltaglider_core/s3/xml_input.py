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
from xml.etree.ElementTree import Element

from ..errors import InvalidArgument, InvalidPartOrder, MalformedXML, NotImplementedS3
from ..interfaces.storage import CHECKSUM_SIZES, CompletedPart, Condition
from .conditions import parse_time
from .xml_tree import boolean_of, children_of, name_of, read_document, text_of

MAX_DELETE_KEYS = 1000
MAX_PARTS = 10_000

_NUMBER = re.compile(r"[0-9]{1,9}")
_SIZE = re.compile(r"[0-9]{1,19}")
_CHECKSUM_ELEMENTS = {f"Checksum{name.upper()}": name for name in CHECKSUM_SIZES}


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteEntry:
    """One object of a batch delete, and what must hold of it."""

    key: str
    version_id: str | None = None
    condition: Condition | None = None


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
    children = children_of(read_document(data, "CreateBucketConfiguration"))
    for unsupported in ("Location", "Bucket", "Tags"):
        if unsupported in children:
            raise NotImplementedS3(f"{unsupported} of CreateBucket is not supported.")
    if children.keys() - {"LocationConstraint"}:
        raise MalformedXML
    return (text_of(children, "LocationConstraint") or "").strip()


def parse_delete_objects(data: bytes) -> DeleteRequest:
    """Read a batch delete.

    Raises:
        MalformedXML: Also for no object, more than 1000, or a condition that cannot be read.
    """
    objects = []
    quiet = False
    for element in read_document(data, "Delete"):
        match name_of(element):
            case "Object":
                objects.append(_delete_entry(element))
            case "Quiet":
                quiet = boolean_of(element)
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
    for element in read_document(data, "CompleteMultipartUpload"):
        if name_of(element) != "Part":
            raise MalformedXML
        children = children_of(element)
        number = (text_of(children, "PartNumber") or "").strip()
        etag = (text_of(children, "ETag") or "").strip().strip('"')
        if not _NUMBER.fullmatch(number) or not etag:
            raise MalformedXML
        if not 1 <= int(number) <= MAX_PARTS:
            raise InvalidArgument(
                f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive",
                fields={"ArgumentName": "partNumber", "ArgumentValue": number},
            )
        checksums = {
            _CHECKSUM_ELEMENTS[name]: (text_of(children, name) or "").strip()
            for name in children
            if name in _CHECKSUM_ELEMENTS
        }
        parts.append(ListedPart(part_number=int(number), etag=etag, checksums=checksums))
        if len(parts) > MAX_PARTS:
            raise MalformedXML
    if not parts:
        raise MalformedXML
    return parts


def check_part_order(part_numbers: Sequence[int], upload_id: str) -> None:
    """Raise ``InvalidPartOrder`` unless the numbers ascend strictly."""
    if any(a >= b for a, b in itertools.pairwise(part_numbers)):
        raise InvalidPartOrder(fields={"UploadId": upload_id})


def _delete_entry(element: Element) -> DeleteEntry:
    children = children_of(element)
    key = text_of(children, "Key")
    if not key or children.keys() - {"Key", "VersionId", "ETag", "LastModifiedTime", "Size"}:
        raise MalformedXML
    return DeleteEntry(
        key=key, version_id=text_of(children, "VersionId"), condition=_delete_condition(children)
    )


def _delete_condition(children: Mapping[str, Element]) -> Condition | None:
    # What cannot be read must not count as no condition: it would delete what the client wanted
    # to protect.
    etag = text_of(children, "ETag")
    if etag is not None:
        etag = etag.strip()
        if etag != '"*"':  # in quotes it is an ETag that no object has, not the wildcard
            etag = etag.strip('"')
        if not etag:
            raise MalformedXML
    time = text_of(children, "LastModifiedTime")
    last_modified = None if time is None else parse_time(time)
    text = text_of(children, "Size")
    size = None if text is None else text.strip()
    if (time is not None and last_modified is None) or (
        size is not None and not _SIZE.fullmatch(size)
    ):
        raise MalformedXML
    if etag is None and time is None and size is None:
        return None
    return Condition(
        if_match=etag, last_modified=last_modified, size=None if size is None else int(size)
    )
