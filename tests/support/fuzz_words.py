"""What parsers stumble over: names, values and pieces for the fuzz tests."""

from __future__ import annotations

from collections.abc import Sequence

from .forms import BOUNDARY

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE")

HEADER_NAMES: Sequence[bytes] = (
    *(b"authorization", b"host", b"date", b"expect", b"origin", b"transfer-encoding"),
    *(b"cache-control", b"content-disposition", b"content-encoding", b"content-language"),
    *(b"content-length", b"content-md5", b"content-type", b"expires", b"range", b"if-range"),
    *(b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"),
    *(b"access-control-request-method", b"access-control-request-headers"),
    *(b"x-forwarded-for", b"x-forwarded-host", b"x-amz-date", b"x-amz-security-token"),
    *(b"x-amz-acl", b"x-amz-grant-read", b"x-amz-expected-bucket-owner"),
    *(b"x-amz-source-expected-bucket-owner", b"x-amz-object-ownership"),
    *(b"x-amz-content-sha256", b"x-amz-decoded-content-length", b"x-amz-trailer"),
    *(b"x-amz-checksum-algorithm", b"x-amz-sdk-checksum-algorithm", b"x-amz-checksum-type"),
    *(b"x-amz-checksum-crc32", b"x-amz-checksum-crc32c", b"x-amz-checksum-crc64nvme"),
    *(b"x-amz-checksum-sha1", b"x-amz-checksum-sha256", b"x-amz-checksum-mode"),
    *(b"x-amz-checksum-", b"x-amz-checksum-sha512", b"x-amz-meta-a", b"x-amz-meta-"),
    *(b"x-amz-meta-\xc3\xa9", b"x-amz-copy-source", b"x-amz-copy-source-range"),
    *(b"x-amz-copy-source-if-match", b"x-amz-copy-source-if-none-match"),
    *(b"x-amz-copy-source-if-modified-since", b"x-amz-copy-source-if-unmodified-since"),
    *(b"x-amz-metadata-directive", b"x-amz-tagging-directive", b"x-amz-tagging"),
    *(b"x-amz-if-match-size", b"x-amz-if-match-last-modified-time", b"x-amz-mp-object-size"),
    *(b"x-amz-max-parts", b"x-amz-part-number-marker", b"x-amz-object-attributes"),
    *(b"x-amz-storage-class", b"x-amz-object-lock-mode", b"x-amz-server-side-encryption"),
    *(b"x-amz-website-redirect-location", b"x-amz-write-offset-bytes", b"x-amz-request-payer"),
    *(b"x-amz-bucket-object-lock-enabled", b"x-amz-optional-object-attributes", b"x-amz-mfa"),
)

QUERY_NAMES: Sequence[bytes] = (
    *(b"prefix", b"delimiter", b"marker", b"max-keys", b"encoding-type", b"list-type"),
    *(b"start-after", b"continuation-token", b"fetch-owner", b"max-buckets", b"bucket-region"),
    *(b"key-marker", b"version-id-marker", b"upload-id-marker", b"max-uploads", b"versionId"),
    *(b"partNumber", b"uploadId", b"max-parts", b"part-number-marker", b"versions"),
    *(b"response-content-type", b"response-expires", b"response-content-disposition"),
    *(b"acl", b"attributes", b"cors", b"delete", b"location", b"tagging", b"uploads", b"policy"),
    *(b"lifecycle", b"versioning", b"legal-hold", b"select", b"restore", b"torrent", b"session"),
    *(
        b"X-Amz-Signature",
        b"X-Amz-Credential",
        b"X-Amz-Algorithm",
        b"X-Amz-Date",
        b"AWSAccessKeyId",
    ),
    *(b"X-Amz-Expires", b"X-Amz-SignedHeaders", b"X-Amz-Security-Token", b"Signature"),
    *(b"x-amz-acl", b"X-Amz-Content-Sha256", b"x-amz-meta-a", b"x-amz-tagging", b"x-id", b""),
)

#: What parsers stumble over, wherever it stands.
NUMBERS: Sequence[bytes] = (
    *(b"0", b"-0", b"-1", b"+1", b"1", b" 1", b"01", b"1.0", b"1e3", b"0x10", b"1_0", b"10001"),
    *(b"2147483648", b"9223372036854775808", b"9" * 30, b"9" * 5000, b"\xd9\xa3", b"\xc2\xb2"),
    *(b"NaN", b"inf", b"1,1", b"1000", b"2"),
)
TIMES: Sequence[bytes] = (
    *(b"Thu, 01 Jan 1970 00:00:00 GMT", b"Thu, 01 Jan 9999999 00:00:00 GMT"),
    *(b"Fri, 31 Dec 9999 23:59:59 -2359", b"Mon, 01 Jan 0001 00:00:00 +2359"),
    *(b"Thu, 32 Foo 1970", b"Mon, 01 Jan 2029 00:00:00 +9999", b"Sat, 01 Jan 2022 25:61:61 GMT"),
    *(b"20130524T000000Z", b"2026-01-02T03:04:05Z", b"0001-01-01T00:00:00+23:59"),
    *(
        b"9999-12-31T23:59:59.999999999-23:59",
        b"00000000T000000Z",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
    ),
)
WORDS: Sequence[bytes] = (
    *(b"", b" ", b"\t", b",", b";", b"=", b"&", b"/", b"//", b"?", b"%", b"%zz", b"%00", b"%2F"),
    *(
        b"*",
        b'"*"',
        b'"',
        b'""',
        b'W/"x"',
        b'"a","b"',
        b"null",
        b"true",
        b"false",
        b"TRUE",
        b"None",
    ),
    *(b"url", b"private", b"public-read", b"STANDARD", b"GLACIER", b"REPLACE", b"COPY", b"enabled"),
    *(b"bytes=0-1", b"bytes=-", b"bytes=5-1", b"bytes=-0", b"bytes=-5", b"bytes=0-0,2-3"),
    *(b"bytes=99999999999999999999-", b"bytes=\xd9\xa3-", b"bytes 0-1", b"Bytes=0-1"),
    *(b"CRC32", b"CRC32C", b"crc64nvme", b"SHA1", b"SHA256", b"MD5", b"COMPOSITE", b"FULL_OBJECT"),
    *(b"AAAAAA==", b"AAAAAAAAAAA=", b"1B2M2Y8AsgTpgAmY7PhCfg==", b"AAAA", b"====", b"\xff\xff"),
    *(b"UNSIGNED-PAYLOAD", b"STREAMING-UNSIGNED-PAYLOAD-TRAILER", b"STREAMING-X", b"a" * 64),
    *(b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
    *(b"aws-chunked", b"aws-chunked,gzip", b"gzip, AWS-Chunked", b"identity", b"100-continue"),
    *(b"x-amz-checksum-crc32", b"x-amz-checksum-crc32,x-amz-checksum-sha1", b"x-amz-checksum-"),
    *(b"fuzzed/k", b"/fuzzed/k?versionId=null", b"/fuzzed/k?versionId=1", b"fuzzed", b"fuzzed/"),
    *(b"nowhere/k", b"fuzzed/%zz", b"fuzzed/..", b"/fuzzed/k?x", b"arn:aws:s3:::x", b"//k"),
    *(
        b"fuzzed/.deltaglider/id",
        b"a=b",
        b"a=b&a=b",
        b"a",
        b"=b",
        b"aws:a=b",
        b"a=%ff",
        b"a=%u0041",
    ),
    *(b"ETag", b"ETag,ETag", b"Nothing", b"{upload}", b"{etag}", b"0" * 32, b"deltaglider"),
    *(
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b'multipart/form-data; boundary="',
    ),
    *(b"multipart/form-data; boundary=" + b"x" * 80, b"text/html; charset=\xff", b"a" * 300),
    *(b"AWS4-HMAC-SHA256 Credential=a/b/c/s3/aws4_request", b"AWS a:b", b"Basic YTpi", b"Bearer x"),
    *(
        b"\xff\xfe",
        b"\xc3\xa9",
        b"\xed\xa0\x80",
        b"\xe2\x80\xa8",
        b"\xef\xbf\xbf",
        b"\xf0\x9f\x98\x80",
    ),
    *(b"x" * 1100, b"x" * 3000, b"\x7f", b"[::1]:80", b"s3.test:99999", b"a..b", b".."),
    *(b"https://www.example.com", b"AQ==", b"AWE=", b"Ag==", b"AQ", b"Af8="),
)
#: Pieces that documents, chunks and forms may hold in the wrong place.
PIECES: Sequence[bytes] = (
    *(
        b"<",
        b">",
        b"</",
        b"/>",
        b"&",
        b"&x;",
        b"&amp;",
        b"&#0;",
        b"&#x1;",
        b"&#xD800;",
        b"&#55296;",
    ),
    *(b"<![CDATA[x]]>", b"<!--x-->", b"<!DOCTYPE a [<!ENTITY x 'y'>]>", b"<?xml version='1.1'?>"),
    *(
        b"<?xml version='1.0' encoding='utf-7'?>",
        b"<?xml version='1.0' encoding='x'?>",
        b"\xff\xfe",
    ),
    *(b"<a/>", b"<a>" * 20, b"<Key>x</Key>", b"<Object/>", b"<Part/>", b"<Tag/>", b"xmlns=''"),
    *(
        b"<x:a/>",
        b"\x00",
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"0\r\n",
        b"0\r\n\r\n",
        b"ffffffff\r\n",
    ),
    *(b";chunk-signature=", b";x=y", b"-1\r\n", b"fffffffffffffffff\r\n", b"x-amz-checksum-crc32:"),
    *(b"x-amz-checksum-crc32:AAAAAA==\r\n", b"x-amz-trailer-signature:" + b"0" * 64 + b"\r\n"),
    *(
        b"--" + BOUNDARY.encode(),
        b"--" + BOUNDARY.encode() + b"--",
        b"Content-Disposition: form-data",
    ),
    *(
        b'; name="file"',
        b'; name="key"',
        b"; name*=utf-8''x",
        b"${filename}",
        b"${x}",
        b'filename="',
    ),
    *(
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Type: \xff\r\n",
        b"null",
        b"-",
        b"1" * 5000,
    ),
)

#: Pieces of paths.
PATHS: Sequence[bytes] = (
    *(
        b"/",
        b"//",
        b"/..",
        b"/../..",
        b"/.",
        b"%00",
        b"%",
        b"%2",
        b"%zz",
        b"%ff",
        b"%C3%A9",
        b"%2F",
    ),
    *(b"%2e%2e/", b"+", b"\xff", b"\xc3\xa9", b";", b"?", b"%ED%A0%80", b"%01", b"%0D%0A", b"/_/x"),
    *(b"/.deltaglider/id", b"/k", b"%dg-self", b"x" * 1100, b"/x" * 500, b"%20", b"\\", b"A", b"-"),
)

__all__ = ["HEADER_NAMES", "METHODS", "NUMBERS", "PATHS", "PIECES", "QUERY_NAMES", "TIMES", "WORDS"]
