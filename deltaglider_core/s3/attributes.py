"""GetObjectAttributes: what is known of an object, without the object.

Source: AWS, "GetObjectAttributes".
"""

from __future__ import annotations

from collections.abc import Set

from ..context import RequestContext, S3Request
from ..errors import InvalidArgument, InvalidRequest
from ..interfaces.storage import ObjectInfo
from ..part_table import PartTable
from . import conditions
from .checksums import stored_checksum
from .objects import not_modified
from .parts import table_of
from .response import S3Response, xml_response
from .xml_output import STORAGE_CLASS, XmlWriter, http_date
from .xml_uploads import write_checksum

HEADER = "x-amz-object-attributes"
ATTRIBUTES = frozenset({"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"})
#: Most parts of one answer.
MAX_PARTS = 1000


async def get_object_attributes(context: RequestContext) -> S3Response:
    """GET /bucket/key?attributes."""
    request = context.request
    attributes = _attributes_of(request)
    max_parts = min(_number(request, "x-amz-max-parts", MAX_PARTS), MAX_PARTS)
    marker = _number(request, "x-amz-part-number-marker", 0)
    storage, bucket = context.storage()
    info = await storage.head_object(bucket, request.key)
    headers = {"Last-Modified": http_date(info.last_modified)}
    if conditions.check_read(request.headers, info.etag, info.last_modified):
        return not_modified({**headers, "ETag": f'"{info.etag}"'})
    return xml_response(_render(info, attributes, max_parts, marker), headers=headers)


def _attributes_of(request: S3Request) -> Set[str]:
    value = request.headers.get(HEADER, "")
    names = {name.strip(" \t") for name in value.split(",")} - {""}
    if not names:
        raise InvalidRequest(
            f"The {HEADER} header specifying the attributes to be retrieved is either missing or "
            "empty"
        )
    if not names <= ATTRIBUTES:
        raise InvalidArgument(
            "Invalid attribute name specified.",
            fields={"ArgumentName": HEADER, "ArgumentValue": value},
        )
    return names


def _number(request: S3Request, header: str, default: int) -> int:
    value = request.headers.get(header)
    if value is None:
        return default
    text = value.strip(" \t")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidArgument(
            f"Provided {header} not an integer or within integer range",
            fields={"ArgumentName": header, "ArgumentValue": value},
        )
    return int(text)


def _render(info: ObjectInfo, attributes: Set[str], max_parts: int, marker: int) -> bytes:
    xml = XmlWriter("GetObjectAttributesResponse")
    xml.leaf("ETag", info.etag if "ETag" in attributes else None)
    checksum = stored_checksum(info)
    if "Checksum" in attributes and checksum is not None:
        with xml.element("Checksum"):
            write_checksum(xml, checksum)
    table = table_of(info) if "ObjectParts" in attributes else None
    if table is not None:
        _parts(xml, table, max_parts, marker)
    xml.leaf("StorageClass", STORAGE_CLASS if "StorageClass" in attributes else None)
    xml.leaf("ObjectSize", info.size if "ObjectSize" in attributes else None)
    return xml.finish()


def _parts(xml: XmlWriter, table: PartTable, max_parts: int, marker: int) -> None:
    """Add ``ObjectParts``; single parts are told only of an object with a chosen algorithm."""
    count = len(table.sizes)
    with xml.element("ObjectParts"):
        if table.algorithm:
            last = min(marker + max_parts, count)
            xml.leaf("PartNumberMarker", marker)
            xml.leaf("NextPartNumberMarker", last if last > marker else 0)
            xml.leaf("MaxParts", max_parts)
            xml.leaf("IsTruncated", last < count)
            for number in range(marker + 1, last + 1):
                with xml.element("Part"):
                    xml.leaf("PartNumber", number)
                    xml.leaf("Size", table.sizes[number - 1])
                    write_checksum(xml, table.checksum(number), with_type=False)
        xml.leaf("PartsCount", count)
