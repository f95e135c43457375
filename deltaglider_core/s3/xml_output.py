"""The XML documents that S3 answers with.

Every renderer takes plain records and returns UTF-8 bytes that begin with ``DECLARATION``.

Source: AWS, Amazon S3 API Reference, "Response Elements" of each operation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from urllib.parse import quote

from ..errors import S3Error
from ..interfaces.checksums import Checksum
from ..interfaces.storage import BucketInfo, ObjectInfo, ObjectPage
from .response import HOST_ID
from .xml_input import DeleteEntry

DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
OWNER_ID = OWNER_NAME = "deltaglider"
STORAGE_CLASS = "STANDARD"

_OWNER_FIELDS = f"<ID>{OWNER_ID}</ID><DisplayName>{OWNER_NAME}</DisplayName>"
_OWNER = f"<Owner>{_OWNER_FIELDS}</Owner>"

# CR, LF and TAB become references, or XML parsers would turn them into other white space.
# The other control characters have no place in XML 1.0 at all; AWS writes references to
# them, and clients that have such keys ask for encoding-type=url.
_SPECIAL = re.compile('[&<>"\\x00-\\x1f\\x7f-\\x9f\ud800-\udfff\ufffe\uffff]')
_ILLEGAL = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\ud800-\udfff\ufffe\uffff]")
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


def escape(text: str) -> str:
    """Text as element content or attribute value."""
    return _SPECIAL.sub(lambda match: _NAMED.get(match[0]) or f"&#x{ord(match[0]):X};", text)


def encode_key(text: str) -> str:
    """A key, prefix or delimiter under ``encoding-type=url``; ``/`` stays.

    Some clients decode it as an HTML form value and others as a part of a URL: a space is
    ``%20`` and ``+`` is ``%2B``, which both read alike.
    """
    return quote(text, safe="/")


def timestamp(time: datetime) -> str:
    """``2026-01-02T03:04:05.000Z``; S3 counts whole seconds."""
    return time.astimezone(UTC).isoformat(timespec="seconds")[:19] + ".000Z"


def http_date(time: datetime) -> str:
    """``Fri, 02 Jan 2026 03:04:05 GMT`` (RFC 9110 section 5.6.7)."""
    return format_datetime(time.astimezone(UTC), usegmt=True)


class XmlWriter:
    """Builds one document, front to back.

    Args:
        root: Name of the root element.
        namespace: Its default namespace; empty for none.
    """

    def __init__(self, root: str, namespace: str = NAMESPACE) -> None:
        xmlns = f' xmlns="{escape(namespace)}"' if namespace else ""
        self._root = root
        self._parts = [f"<{root}{xmlns}>"]

    def leaf(self, name: str, value: str | int | bool | None) -> None:
        """Add an element with text; None adds nothing."""
        if value is None:
            return
        if isinstance(value, bool):
            value = "true" if value else "false"
        self._parts.append(f"<{name}>{escape(str(value))}</{name}>")

    def raw(self, markup: str) -> None:
        """Add well-formed elements as they are."""
        self._parts.append(markup)

    @contextmanager
    def element(self, name: str, attributes: str = "") -> Iterator[None]:
        """Add an element whose content is written inside the ``with`` block."""
        self._parts.append(f"<{name}{attributes}>")
        yield
        self._parts.append(f"</{name}>")

    def finish(self) -> bytes:
        """The whole document."""
        return DECLARATION + f"{''.join(self._parts)}</{self._root}>".encode()


def render_error(error: S3Error, *, resource: str, request_id: str) -> bytes:
    """``Error``; it has no namespace."""
    xml = XmlWriter("Error", namespace="")
    xml.leaf("Code", error.code)
    xml.leaf("Message", _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", error.text))
    for name, value in error.fields.items():
        # An error that its reader cannot parse would be taken for another one.
        xml.leaf(name, _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", value))
    xml.leaf("Resource", resource)
    xml.leaf("RequestId", request_id)
    xml.leaf("HostId", HOST_ID)
    return xml.finish()


def render_empty(root: str) -> bytes:
    """A document without content, e.g. ``LocationConstraint``, ``VersioningConfiguration``."""
    return XmlWriter(root).finish()


def render_acl() -> bytes:
    """``AccessControlPolicy``: the owner has full control, nobody else has any."""
    xml = XmlWriter("AccessControlPolicy")
    write_owner(xml)
    schema = "http://www.w3.org/2001/XMLSchema-instance"
    with xml.element("AccessControlList"), xml.element("Grant"):
        with xml.element("Grantee", f' xmlns:xsi="{schema}" xsi:type="CanonicalUser"'):
            xml.raw(_OWNER_FIELDS)
        xml.leaf("Permission", "FULL_CONTROL")
    return xml.finish()


def render_list_buckets(
    buckets: Sequence[BucketInfo],
    *,
    region: str = "",
    prefix: str = "",
    next_token: str | None = None,
) -> bytes:
    """``ListAllMyBucketsResult``; ``next_token`` where more follow."""
    xml = XmlWriter("ListAllMyBucketsResult")
    write_owner(xml)
    with xml.element("Buckets"):
        for bucket in buckets:
            with xml.element("Bucket"):
                xml.leaf("Name", bucket.name)
                xml.leaf("CreationDate", timestamp(bucket.created))
                xml.leaf("BucketRegion", region or None)
    xml.leaf("Prefix", prefix or None)
    xml.leaf("ContinuationToken", next_token)
    return xml.finish()


def render_list_objects(
    bucket: str,
    page: ObjectPage,
    *,
    prefix: str,
    delimiter: str,
    marker: str,
    max_keys: int,
    encoding_type: str | None,
) -> bytes:
    """``ListBucketResult`` of version 1; ``NextMarker`` only with a delimiter."""
    encode = encoder(encoding_type)
    xml = XmlWriter("ListBucketResult")
    xml.leaf("Name", bucket)
    xml.leaf("Prefix", encode(prefix))
    xml.leaf("Marker", encode(marker))
    if delimiter and page.next_after is not None:
        xml.leaf("NextMarker", encode(page.next_after))
    _listing(xml, page, delimiter, max_keys, encoding_type, owner=True)
    return xml.finish()


def render_list_objects_v2(
    bucket: str,
    page: ObjectPage,
    *,
    prefix: str,
    delimiter: str,
    start_after: str,
    continuation_token: str | None,
    next_token: str | None,
    max_keys: int,
    encoding_type: str | None,
    fetch_owner: bool,
) -> bytes:
    """``ListBucketResult`` of version 2."""
    encode = encoder(encoding_type)
    xml = XmlWriter("ListBucketResult")
    xml.leaf("Name", bucket)
    xml.leaf("Prefix", encode(prefix))
    xml.leaf("StartAfter", encode(start_after) if start_after else None)
    xml.leaf("ContinuationToken", continuation_token)
    xml.leaf("NextContinuationToken", next_token)
    xml.leaf("KeyCount", len(page.objects) + len(page.prefixes))
    _listing(xml, page, delimiter, max_keys, encoding_type, owner=fetch_owner)
    return xml.finish()


def render_delete_result(
    results: Sequence[tuple[DeleteEntry, S3Error | None]], *, quiet: bool
) -> bytes:
    """``DeleteResult``; ``quiet`` shows errors only."""
    xml = XmlWriter("DeleteResult")
    for entry, error in results:
        if error is None and not quiet:
            with xml.element("Deleted"):
                xml.leaf("Key", entry.key)
                xml.leaf("VersionId", entry.version_id)
        elif error is not None:
            with xml.element("Error"):
                xml.leaf("Key", entry.key)
                xml.leaf("VersionId", entry.version_id)
                xml.leaf("Code", error.code)
                xml.leaf("Message", error.text)
    return xml.finish()


def encoder(encoding_type: str | None) -> Callable[[str], str]:
    """What keys pass through under this ``encoding-type``."""
    return encode_key if encoding_type == "url" else str


def _listing(
    xml: XmlWriter,
    page: ObjectPage,
    delimiter: str,
    max_keys: int,
    encoding_type: str | None,
    *,
    owner: bool,
) -> None:
    encode = encoder(encoding_type)
    xml.leaf("MaxKeys", max_keys)
    xml.leaf("Delimiter", encode(delimiter) if delimiter else None)
    xml.leaf("EncodingType", encoding_type)
    xml.leaf("IsTruncated", page.next_after is not None)
    # One string per entry: a page of 1,000 takes half the time of 6,000 calls of ``leaf``.
    tail = (_OWNER if owner else "") + f"<StorageClass>{STORAGE_CLASS}</StorageClass></Contents>"
    for info in page.objects:
        xml.raw(f"<Contents><Key>{escape(encode(info.key))}</Key>{entry_facts(info)}{tail}")
    write_prefixes(xml, page.prefixes, encoding_type)


def entry_facts(info: ObjectInfo) -> str:
    """What a listing says of an object besides its key: date, ETag, kind of checksum, size."""
    checksum = "" if info.metadata is None else info.metadata.internal.get("checksum", "")
    return (
        f"<LastModified>{timestamp(info.last_modified)}</LastModified>"
        f"<ETag>&quot;{escape(info.etag)}&quot;</ETag>{_checksum_kind(checksum.rpartition(':')[0])}"
        f"<Size>{info.size}</Size>"
    )


@lru_cache(maxsize=64)
def _checksum_kind(text: str) -> str:
    kind = Checksum.parse(text)
    if kind is None:
        return ""
    return (
        f"<ChecksumAlgorithm>{kind.algorithm.upper()}</ChecksumAlgorithm>"
        f"<ChecksumType>{kind.type}</ChecksumType>"
    )


def write_prefixes(xml: XmlWriter, prefixes: Sequence[str], encoding_type: str | None) -> None:
    """Add ``CommonPrefixes``."""
    encode = encoder(encoding_type)
    for prefix in prefixes:
        with xml.element("CommonPrefixes"):
            xml.leaf("Prefix", encode(prefix))


def write_owner(xml: XmlWriter, name: str = "Owner") -> None:
    """Add the owner of everything."""
    xml.raw(f"<{name}>{_OWNER_FIELDS}</{name}>")
