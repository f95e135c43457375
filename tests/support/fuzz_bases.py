"""Honest requests of every operation, in the raw; what the fuzz tests spoil.

``{upload}`` and ``{etag}`` stand for what a server gives out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .asgi import RawRequest
from .forms import BOUNDARY
from .signing import crc32_base64, md5_base64, sha256_hex

DATA = b"some bytes of an object"

Pair = tuple[bytes, bytes]
Base = tuple[str, bytes, Sequence[Pair], Mapping[bytes, bytes], bytes]

XML_DELETE = b"<Delete><Object><Key>a/b</Key></Object><Quiet>false</Quiet></Delete>"
XML_DELETE_IF = (
    b"<Delete><Object><Key>k</Key><VersionId>null</VersionId><ETag>x</ETag><Size>1</Size>"
    b"<LastModifiedTime>2026-01-02T03:04:05Z</LastModifiedTime></Object></Delete>"
)
XML_COMPLETE = (
    b'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Part>'
    b"<PartNumber>1</PartNumber><ETag>&quot;{etag}&quot;</ETag></Part></CompleteMultipartUpload>"
)
XML_TAGS = b"<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>"
XML_CORS = (
    b"<CORSConfiguration><CORSRule><AllowedOrigin>https://*.example.com</AllowedOrigin>"
    b"<AllowedMethod>GET</AllowedMethod><AllowedHeader>*</AllowedHeader>"
    b"<ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds></CORSRule>"
    b"</CORSConfiguration>"
)
XML_CREATE = (
    b"<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint>"
    b"</CreateBucketConfiguration>"
)
XML_OWNERSHIP = (
    b"<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>"
    b"</OwnershipControls>"
)
XML_VERSIONING = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
XML_ACL = (
    b"<AccessControlPolicy><Owner><ID>deltaglider</ID></Owner><AccessControlList><Grant><Grantee "
    b'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">'
    b"<ID>deltaglider</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant>"
    b"</AccessControlList></AccessControlPolicy>"
)
#: A body in aws-chunked framing, two chunks and a trailer.
CHUNKED = (
    b"b\r\nsome bytes \r\nc\r\nof an object\r\n0\r\nx-amz-checksum-crc32:%s\r\n\r\n"
    % crc32_base64(DATA).encode()
)
CHUNKED_HEADERS = {
    b"content-encoding": b"aws-chunked",
    b"x-amz-content-sha256": b"STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    b"x-amz-decoded-content-length": b"%d" % len(DATA),
    b"x-amz-trailer": b"x-amz-checksum-crc32",
}
DIGESTS = {
    b"content-md5": md5_base64(DATA).encode(),
    b"x-amz-checksum-crc32": crc32_base64(DATA).encode(),
    b"x-amz-content-sha256": sha256_hex(DATA).encode(),
}


def _form(*fields: Pair) -> bytes:
    mark = BOUNDARY.encode()
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (mark, *field)
        for field in fields
    ]
    head = b'--%s\r\nContent-Disposition: form-data; name="file"; filename="f.txt"\r\n' % mark
    return b"".join(parts) + head + b"Content-Type: text/plain\r\n\r\nfile\r\n--%s--\r\n" % mark


FORM = _form(
    (b"key", b"form/${filename}"),
    (b"acl", b"private"),
    (b"success_action_status", b"201"),
    (b"success_action_redirect", b"http://example.com/?a=b"),
    (b"x-amz-meta-a", b"b"),
    (b"tagging", XML_TAGS),
)
FORM_HEADERS = {b"content-type": b"multipart/form-data; boundary=" + BOUNDARY.encode()}
COPY = {b"x-amz-copy-source": b"/fuzzed/k"}
UPLOAD = (b"uploadId", b"{upload}")
PART = (b"partNumber", b"1")


def _digest(body: bytes) -> dict[bytes, bytes]:
    return {b"content-md5": md5_base64(body).encode()}


#: Honest requests: method, path below the bucket, query, headers, body. Some write, and some of
#: these are refused only because of what the bucket holds.
BASES: Mapping[str, Sequence[Base]] = {
    "list_buckets": [("GET", b"", [(b"max-buckets", b"2"), (b"prefix", b"f")], {}, b"")],
    "head_service": [("HEAD", b"", [], {}, b"")],
    "create_bucket": [("PUT", b"/fuzzed-2", [], {}, XML_CREATE)],
    "delete_bucket": [("DELETE", b"/fuzzed", [], {}, b""), ("DELETE", b"/fuzzed-2", [], {}, b"")],
    "head_bucket": [("HEAD", b"/fuzzed", [], {}, b"")],
    "get_bucket_location": [("GET", b"/fuzzed", [(b"location", b"")], {}, b"")],
    "get_bucket_configuration": [
        ("GET", b"/fuzzed", [(name, b"")], {}, b"")
        for name in (b"versioning", b"policy", b"analytics", b"ownershipControls", b"encryption")
    ],
    "put_bucket_configuration": [
        ("PUT", b"/fuzzed", [(b"versioning", b"")], _digest(XML_VERSIONING), XML_VERSIONING),
        ("PUT", b"/fuzzed", [(b"ownershipControls", b"")], {}, XML_OWNERSHIP),
    ],
    "delete_bucket_configuration": [("DELETE", b"/fuzzed", [(b"policy", b"")], {}, b"")],
    "bucket_cors": [
        ("PUT", b"/fuzzed", [(b"cors", b"")], _digest(XML_CORS), XML_CORS),
        ("GET", b"/fuzzed", [(b"cors", b"")], {}, b""),
        ("DELETE", b"/fuzzed", [(b"cors", b"")], {}, b""),
    ],
    "bucket_tagging": [
        ("PUT", b"/fuzzed", [(b"tagging", b"")], _digest(XML_TAGS), XML_TAGS),
        ("GET", b"/fuzzed", [(b"tagging", b"")], {}, b""),
        ("DELETE", b"/fuzzed", [(b"tagging", b"")], {}, b""),
    ],
    "cors_preflight": [
        (
            "OPTIONS",
            b"/fuzzed/k",
            [],
            {
                b"origin": b"https://www.example.com",
                b"access-control-request-method": b"GET",
                b"access-control-request-headers": b"range, x-amz-date",
            },
            b"",
        )
    ],
    "list_objects": [
        (
            "GET",
            b"/fuzzed",
            [(b"prefix", b""), (b"delimiter", b"/"), (b"marker", b"a"), (b"max-keys", b"1")],
            {},
            b"",
        )
    ],
    "list_objects_v2": [
        (
            "GET",
            b"/fuzzed",
            [
                (b"list-type", b"2"),
                (b"delimiter", b"/"),
                (b"start-after", b"a"),
                (b"continuation-token", b"AWE="),
                (b"encoding-type", b"url"),
                (b"fetch-owner", b"true"),
                (b"max-keys", b"1"),
            ],
            {},
            b"",
        )
    ],
    "list_object_versions": [
        (
            "GET",
            b"/fuzzed",
            [(b"versions", b""), (b"key-marker", b"a"), (b"version-id-marker", b"null")],
            {},
            b"",
        )
    ],
    "list_multipart_uploads": [
        (
            "GET",
            b"/fuzzed",
            [
                (b"uploads", b""),
                (b"key-marker", b"a"),
                (b"upload-id-marker", b"{upload}"),
                (b"max-uploads", b"1"),
                (b"delimiter", b"/"),
            ],
            {},
            b"",
        )
    ],
    "get_object": [
        ("GET", b"/fuzzed/k", [], {b"range": b"bytes=1-3", b"if-match": b"*"}, b""),
        ("GET", b"/fuzzed/k", [(b"partNumber", b"1")], {b"x-amz-checksum-mode": b"ENABLED"}, b""),
        ("GET", b"/fuzzed/app.zip", [(b"response-content-type", b"a/b")], {}, b""),
    ],
    "head_object": [("HEAD", b"/fuzzed/k", [], {b"if-none-match": b'"x"'}, b"")],
    "get_object_attributes": [
        (
            "GET",
            b"/fuzzed/k",
            [(b"attributes", b"")],
            {b"x-amz-object-attributes": b"ETag,Checksum,ObjectParts,StorageClass,ObjectSize"},
            b"",
        )
    ],
    "acl": [
        ("GET", b"/fuzzed", [(b"acl", b"")], {}, b""),
        ("GET", b"/fuzzed/k", [(b"acl", b"")], {}, b""),
        ("PUT", b"/fuzzed/k", [(b"acl", b"")], {b"x-amz-acl": b"private"}, b""),
        ("PUT", b"/fuzzed", [(b"acl", b"")], _digest(XML_ACL), XML_ACL),
    ],
    "object_tagging": [
        ("PUT", b"/fuzzed/k", [(b"tagging", b"")], _digest(XML_TAGS), XML_TAGS),
        ("GET", b"/fuzzed/k", [(b"tagging", b"")], {}, b""),
        ("DELETE", b"/fuzzed/k", [(b"tagging", b"")], {}, b""),
    ],
    "put_object": [
        ("PUT", b"/fuzzed/new", [], {**DIGESTS, b"x-amz-meta-a": b"b"}, DATA),
        ("PUT", b"/fuzzed/k", [], {b"if-match": b"*", b"content-type": b"text/plain"}, DATA),
        ("PUT", b"/fuzzed/app.zip", [(b"x-id", b"PutObject")], CHUNKED_HEADERS, CHUNKED),
        ("PUT", b"/fuzzed/%F0%9F%98%80", [], CHUNKED_HEADERS, CHUNKED),
        ("PUT", b"/fuzzed/t", [], {b"x-amz-tagging": b"a=b&c=d", b"if-none-match": b"*"}, b""),
    ],
    "copy_object": [
        ("PUT", b"/fuzzed/copy", [], {**COPY, b"x-amz-metadata-directive": b"REPLACE"}, b""),
        (
            "PUT",
            b"/fuzzed/copy",
            [],
            {**COPY, b"x-amz-copy-source-if-match": b"*", b"x-amz-checksum-algorithm": b"SHA256"},
            b"",
        ),
    ],
    "post_object": [("POST", b"/fuzzed", [], FORM_HEADERS, FORM)],
    "create_multipart_upload": [
        (
            "POST",
            b"/fuzzed/up",
            [(b"uploads", b"")],
            {b"x-amz-checksum-algorithm": b"CRC32", b"x-amz-checksum-type": b"FULL_OBJECT"},
            b"",
        )
    ],
    "upload_part": [
        ("PUT", b"/fuzzed/up", [PART, UPLOAD], DIGESTS, DATA),
        ("PUT", b"/fuzzed/up", [PART, UPLOAD], CHUNKED_HEADERS, CHUNKED),
    ],
    "upload_part_copy": [
        (
            "PUT",
            b"/fuzzed/up",
            [PART, UPLOAD],
            {**COPY, b"x-amz-copy-source-range": b"bytes=0-3"},
            b"",
        )
    ],
    "complete_multipart_upload": [
        ("POST", b"/fuzzed/up", [UPLOAD], {b"x-amz-mp-object-size": b"23"}, XML_COMPLETE),
    ],
    "abort_multipart_upload": [("DELETE", b"/fuzzed/up", [UPLOAD], {}, b"")],
    "list_parts": [
        (
            "GET",
            b"/fuzzed/up",
            [UPLOAD, (b"max-parts", b"1"), (b"part-number-marker", b"0")],
            {},
            b"",
        )
    ],
    "delete_object": [
        ("DELETE", b"/fuzzed/a/b", [(b"versionId", b"null")], {}, b""),
        ("DELETE", b"/fuzzed/k", [], {b"if-match": b"*", b"x-amz-if-match-size": b"1"}, b""),
    ],
    "delete_objects": [
        ("POST", b"/fuzzed", [(b"delete", b"")], _digest(XML_DELETE), XML_DELETE),
        ("POST", b"/fuzzed", [(b"delete", b"")], _digest(XML_DELETE_IF), XML_DELETE_IF),
    ],
    "not_implemented": [
        ("PUT", b"/fuzzed", [(b"lifecycle", b"")], {}, b"<LifecycleConfiguration/>"),
        ("POST", b"/fuzzed/k", [(b"restore", b"")], {}, b"<RestoreRequest/>"),
    ],
    "method_not_allowed": [("PATCH", b"/fuzzed/k", [], {}, b"")],
    "probes": [("GET", b"/_/health", [], {}, b""), ("GET", b"/_/stats", [], {}, b"")],
}


def honest(base: Base) -> RawRequest:
    """The request of an entry of ``BASES``."""
    method, path, query, headers, body = base
    return RawRequest(
        method=method,
        path=path or b"/",
        query=b"&".join(name + (b"=" + value if value else b"") for name, value in query),
        headers=list(headers.items()),
        pieces=[body] if body else [],
    ).with_length()


__all__ = ["BASES", "DATA", "honest"]
