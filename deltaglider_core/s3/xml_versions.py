"""The XML of ListObjectVersions.

Source: AWS, Amazon S3 API Reference, "ListObjectVersions", "Response Elements".
"""

from __future__ import annotations

from ..interfaces.storage import ObjectPage
from .xml_output import OWNER_ID, OWNER_NAME, STORAGE_CLASS, XmlWriter, encode_key, timestamp


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
    encode = encode_key if encoding_type == "url" else str
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
            xml.leaf("LastModified", timestamp(info.last_modified))
            xml.leaf("ETag", f'"{info.etag}"')
            xml.leaf("Size", info.size)
            with xml.element("Owner"):
                xml.leaf("ID", OWNER_ID)
                xml.leaf("DisplayName", OWNER_NAME)
            xml.leaf("StorageClass", STORAGE_CLASS)
    for common in page.prefixes:
        with xml.element("CommonPrefixes"):
            xml.leaf("Prefix", encode(common))
    return xml.finish()
