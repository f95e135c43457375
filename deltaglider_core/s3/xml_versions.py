"""The XML of ListObjectVersions.

Source: AWS, Amazon S3 API Reference, "ListObjectVersions", "Response Elements".
"""

from __future__ import annotations

from ..interfaces.storage import ObjectPage
from .xml_output import (
    STORAGE_CLASS,
    XmlWriter,
    encoder,
    entry_facts,
    write_owner,
    write_prefixes,
)


def render_list_versions(
    bucket: str,
    page: ObjectPage,
    *,
    prefix: str,
    delimiter: str,
    key_marker: str,
    version_id_marker: str,
    max_keys: int,
    encoding_type: str | None,
) -> bytes:
    """``ListVersionsResult`` of a bucket without versioning: one version of each, ``null``."""
    encode = encoder(encoding_type)
    xml = XmlWriter("ListVersionsResult")
    xml.leaf("Name", bucket)
    xml.leaf("Prefix", encode(prefix))
    xml.leaf("KeyMarker", encode(key_marker))
    xml.leaf("VersionIdMarker", version_id_marker)
    if page.next_after is not None:
        xml.leaf("NextKeyMarker", encode(page.next_after))
        if page.objects and page.objects[-1].key == page.next_after:
            xml.leaf("NextVersionIdMarker", "null")
    xml.leaf("MaxKeys", max_keys)
    xml.leaf("Delimiter", encode(delimiter) if delimiter else None)
    xml.leaf("EncodingType", encoding_type)
    xml.leaf("IsTruncated", page.next_after is not None)
    for info in page.objects:
        with xml.element("Version"):
            xml.leaf("Key", encode(info.key))
            xml.leaf("VersionId", "null")
            xml.leaf("IsLatest", True)
            xml.raw(entry_facts(info))
            write_owner(xml)
            xml.leaf("StorageClass", STORAGE_CLASS)
    write_prefixes(xml, page.prefixes, encoding_type)
    return xml.finish()
