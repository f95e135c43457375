"""The XML documents about multipart uploads, parts, copies and their checksums.

Source: AWS, Amazon S3 API Reference, "Response Elements" of each operation.
"""

from __future__ import annotations

from ..interfaces.storage import Checksum, ObjectInfo, PartInfo, PartPage, UploadPage
from .xml_output import (
    STORAGE_CLASS,
    XmlWriter,
    encoder,
    timestamp,
    write_owner,
    write_prefixes,
)


def render_list_multipart_uploads_result(
    bucket: str,
    page: UploadPage,
    *,
    prefix: str,
    delimiter: str,
    key_marker: str,
    upload_id_marker: str,
    max_uploads: int,
    encoding_type: str | None,
) -> bytes:
    """``ListMultipartUploadsResult``."""
    encode = encoder(encoding_type)
    xml = XmlWriter("ListMultipartUploadsResult")
    xml.leaf("Bucket", bucket)
    xml.leaf("KeyMarker", encode(key_marker))
    xml.leaf("UploadIdMarker", upload_id_marker)
    last = page.next_marker
    if last is None and page.uploads:
        last = (page.uploads[-1].key, page.uploads[-1].upload_id)
    xml.leaf("NextKeyMarker", encode(last[0]) if last else "")
    xml.leaf("NextUploadIdMarker", last[1] if last else "")
    if delimiter:
        xml.leaf("Delimiter", encode(delimiter))
    if delimiter or prefix:
        xml.leaf("Prefix", encode(prefix))
    xml.leaf("EncodingType", encoding_type)
    xml.leaf("MaxUploads", max_uploads)
    xml.leaf("IsTruncated", page.next_marker is not None)
    for upload in page.uploads:
        with xml.element("Upload"):
            xml.leaf("Key", encode(upload.key))
            xml.leaf("UploadId", upload.upload_id)
            write_owner(xml, "Initiator")
            write_owner(xml)
            xml.leaf("StorageClass", STORAGE_CLASS)
            xml.leaf("Initiated", timestamp(upload.initiated))
            _chosen_checksum(xml, upload.checksum)
    write_prefixes(xml, page.prefixes, encoding_type)
    return xml.finish()


def render_list_parts_result(
    bucket: str,
    key: str,
    upload_id: str,
    page: PartPage,
    *,
    part_number_marker: int,
    max_parts: int,
    encoding_type: str | None = None,
) -> bytes:
    """``ListPartsResult``."""
    xml = XmlWriter("ListPartsResult")
    xml.leaf("Bucket", bucket)
    xml.leaf("Key", encoder(encoding_type)(key))
    xml.leaf("EncodingType", encoding_type)
    xml.leaf("UploadId", upload_id)
    write_owner(xml, "Initiator")
    write_owner(xml)
    xml.leaf("StorageClass", STORAGE_CLASS)
    xml.leaf("PartNumberMarker", part_number_marker)
    xml.leaf("NextPartNumberMarker", page.parts[-1].part_number if page.parts else 0)
    xml.leaf("MaxParts", max_parts)
    xml.leaf("IsTruncated", page.next_marker is not None)
    _chosen_checksum(xml, page.checksum)
    for part in page.parts:
        with xml.element("Part"):
            xml.leaf("PartNumber", part.part_number)
            xml.leaf("LastModified", timestamp(part.last_modified))
            xml.leaf("ETag", f'"{part.etag}"')
            xml.leaf("Size", part.size)
            if page.checksum is not None:
                write_checksum(xml, part.checksum, with_type=False)
    return xml.finish()


def render_initiate_multipart_upload_result(bucket: str, key: str, upload_id: str) -> bytes:
    """``InitiateMultipartUploadResult``."""
    xml = XmlWriter("InitiateMultipartUploadResult")
    xml.leaf("Bucket", bucket)
    xml.leaf("Key", key)
    xml.leaf("UploadId", upload_id)
    return xml.finish()


def render_complete_multipart_upload_result(
    location: str, bucket: str, key: str, etag: str, checksum: Checksum | None = None
) -> bytes:
    """``CompleteMultipartUploadResult``."""
    xml = XmlWriter("CompleteMultipartUploadResult")
    xml.leaf("Location", location)
    xml.leaf("Bucket", bucket)
    xml.leaf("Key", key)
    xml.leaf("ETag", f'"{etag}"')
    write_checksum(xml, checksum)
    return xml.finish()


def render_copy_object_result(info: ObjectInfo, checksum: Checksum | None = None) -> bytes:
    """``CopyObjectResult``."""
    return _copy_result("CopyObjectResult", info, checksum, with_type=True)


def render_copy_part_result(part: PartInfo, checksum: Checksum | None = None) -> bytes:
    """``CopyPartResult``."""
    return _copy_result("CopyPartResult", part, checksum, with_type=False)


def write_checksum(xml: XmlWriter, checksum: Checksum | None, *, with_type: bool = True) -> None:
    """Add the elements that tell a checksum; none without one."""
    if checksum is not None:
        xml.leaf(f"Checksum{checksum.algorithm.upper()}", checksum.value)
        xml.leaf("ChecksumType", checksum.type if with_type else None)


def _chosen_checksum(xml: XmlWriter, checksum: Checksum | None) -> None:
    if checksum is not None:
        xml.leaf("ChecksumAlgorithm", checksum.algorithm.upper())
        xml.leaf("ChecksumType", checksum.type)


def _copy_result(
    root: str, info: ObjectInfo | PartInfo, checksum: Checksum | None, *, with_type: bool
) -> bytes:
    xml = XmlWriter(root)
    xml.leaf("LastModified", timestamp(info.last_modified))
    xml.leaf("ETag", f'"{info.etag}"')
    write_checksum(xml, checksum, with_type=with_type)
    return xml.finish()
