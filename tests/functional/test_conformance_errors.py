"""Error documents, compared byte for byte.

Source: AWS, "Error responses" (elements, their order, codes and statuses), and the extra
elements that S3 sends with each code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import pytest
from support.raw import Answer, RawClient
from support.signing import Signer, md5_base64

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "conformance-errors"
B = f"/{BUCKET}"
K = f"{B}/k"
NOWHERE = "/no-such-bucket"
ETAG = '"9dd4e461268c8034f5c8564e155c67a6"'  # MD5 of "x"
WRONG = '"00000000000000000000000000000000"'
LONG_AGO = "Fri, 02 Jan 2015 03:04:05 GMT"
#: As long as those that AWS gives, and never given to anybody here.
VERSION = "HPniJFCxqTsMuIH9KX8K8wEjNUgmABCD"
COPY = "x-amz-copy-source"
MANY = "".join(f"<Object><Key>k{number}</Key></Object>" for number in range(1001))
VERSIONING = "<VersioningConfiguration>{}</VersioningConfiguration>"


@dataclass(frozen=True)
class Case:
    """A request that is refused, and the whole of its answer.

    Attributes:
        request: Method and target.
        more: Elements of the document between ``Message`` and ``Resource``, in order.
        sent: Headers of the request.
        answered: Headers of the answer.
    """

    request: str
    more: Mapping[str, str] = field(default_factory=dict)
    sent: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    answered: Mapping[str, str] = field(default_factory=dict)

    def digested(self) -> Mapping[str, str]:
        """Headers of the request, with a digest of the body where S3 asks for one."""
        digest = {"content-md5": md5_base64(self.body.encode())} if self.body else {}
        return digest | dict(self.sent)


def argument(name: str, value: str) -> Mapping[str, str]:
    return {"ArgumentName": name, "ArgumentValue": value}


def method(name: str, kind: str) -> Mapping[str, str]:
    return {"Method": name, "ResourceType": kind}


def condition(name: str) -> Mapping[str, str]:
    return {"Condition": name}


NO_BUCKET = {"BucketName": "no-such-bucket"}
ALL = "DELETE, GET, HEAD, POST, PUT"

#: By code, status and message.
CASES: Mapping[tuple[str, int, str], list[Case]] = {
    ("NoSuchKey", 404, "The specified key does not exist."): [
        Case(f"GET {B}/absent", {"Key": "absent"}),
        Case(f"GET {B}/a%20b%26%3Cc%3E", {"Key": "a b&<c>"}),
        Case(f"GET {B}/absent?acl", {"Key": "absent"}),
        Case(f"PUT {B}/c", {"Key": "no source"}, {COPY: f"{BUCKET}/no%20source"}),
        Case(f"PUT {B}/absent", {"Key": "absent"}, {"if-match": ETAG}, "y"),
        Case(f"DELETE {B}/absent", {"Key": "absent"}, {"if-match": "*"}),
    ],
    ("NoSuchBucket", 404, "The specified bucket does not exist"): [
        *(Case(f"GET {NOWHERE}{more}", NO_BUCKET) for more in ("/k", "", "?versions", "?acl")),
        Case(f"DELETE {NOWHERE}", NO_BUCKET),
        Case(f"PUT {NOWHERE}/k", NO_BUCKET, body="x"),
        Case(f"PUT {B}/c", NO_BUCKET, {COPY: "no-such-bucket/k"}),
    ],
    (
        "NoSuchUpload",
        404,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may "
        "have been aborted or completed.",
    ): [
        Case(f"GET {K}?uploadId=none", {"UploadId": "none"}),
        Case(f"DELETE {K}?uploadId=none", {"UploadId": "none"}),
        Case(f"PUT {K}?uploadId=none&partNumber=1", {"UploadId": "none"}, body="x"),
    ],
    ("InvalidBucketName", 400, "The specified bucket is not valid."): [
        Case("PUT /Bad_Name", {"BucketName": "Bad_Name"})
    ],
    ("KeyTooLongError", 400, "Your key is too long"): [
        Case(f"GET {B}/{'k' * 1025}", {"Size": "1025", "MaxSizeAllowed": "1024"})
    ],
    (
        "BucketAlreadyOwnedByYou",
        409,
        "Your previous request to create the named bucket succeeded and you already own it.",
    ): [Case(f"PUT {B}", {"BucketName": BUCKET}, {"x-amz-acl": "private"})],
    ("BucketNotEmpty", 409, "The bucket you tried to delete is not empty"): [
        Case(f"DELETE {B}", {"BucketName": BUCKET})
    ],
    ("MethodNotAllowed", 405, "The specified method is not allowed against this resource."): [
        Case(f"PATCH {K}", method("PATCH", "OBJECT"), answered={"allow": ALL}),
        Case(f"POST {K}", method("POST", "OBJECT"), answered={"allow": "DELETE, GET, HEAD, PUT"}),
        Case(f"PATCH {B}", method("PATCH", "BUCKET"), answered={"allow": ALL}),
        Case("DELETE /", method("DELETE", "SERVICE"), answered={"allow": "GET, HEAD"}),
    ],
    ("InvalidRange", 416, "The requested range is not satisfiable"): [
        Case(
            f"GET {K}",
            {"RangeRequested": "bytes=1-5", "ActualObjectSize": "1"},
            {"range": "bytes=1-5"},
            answered={"content-range": "bytes */1"},
        )
    ],
    ("PreconditionFailed", 412, "At least one of the pre-conditions you specified did not hold"): [
        Case(f"GET {K}", condition("If-Match"), {"if-match": WRONG}),
        Case(f"GET {K}", condition("If-Unmodified-Since"), {"if-unmodified-since": LONG_AGO}),
        Case(f"PUT {K}", condition("If-None-Match"), {"if-none-match": "*"}, "y"),
        Case(f"PUT {K}", condition("If-Match"), {"if-match": WRONG}, "y"),
        *(
            Case(f"DELETE {K}", condition(name), {name.lower(): value})
            for name, value in (
                ("If-Match", WRONG),
                ("x-amz-if-match-size", "9"),
                ("x-amz-if-match-last-modified-time", LONG_AGO),
            )
        ),
        *(
            Case(
                f"PUT {B}/c",
                condition(f"{COPY}-{name}"),
                {COPY: f"{BUCKET}/k", f"{COPY}-{name.lower()}": value},
            )
            for name, value in (
                ("If-Match", WRONG),
                ("If-None-Match", ETAG),
                ("If-None-Match", ETAG.strip('"')),
                ("If-Unmodified-Since", LONG_AGO),
            )
        ),
    ],
    (
        "InvalidRequest",
        400,
        "This copy request is illegal because it is trying to copy an object to itself without "
        "changing the object's metadata, storage class, website redirect location or encryption "
        "attributes.",
    ): [Case(f"PUT {K}", sent={COPY: f"{BUCKET}/k"})],
    ("InvalidArgument", 400, "Invalid version id specified"): [
        Case(f"GET {K}?versionId={VERSION}", argument("versionId", VERSION)),
        Case(f"DELETE {K}?versionId={VERSION}", argument("versionId", VERSION)),
        Case(f"PUT {B}/c", argument("versionId", "abc"), {COPY: f"{BUCKET}/k?versionId=abc"}),
        Case(
            f"GET {B}?versions&key-marker=a&version-id-marker=x",
            argument("version-id-marker", "x"),
        ),
    ],
    ("InvalidArgument", 400, "Version id cannot be the empty string"): [
        Case(f"GET {K}?versionId=", argument("versionId", ""))
    ],
    ("InvalidArgument", 400, "This operation does not accept a version-id."): [
        Case(f"PUT {K}?versionId=null", argument("versionId", "null"), body="x")
    ],
    (
        "InvalidArgument",
        400,
        "A version-id marker cannot be specified without a key marker.",
    ): [Case(f"GET {B}?versions&version-id-marker=null", argument("version-id-marker", "null"))],
    ("InvalidArgument", 400, "Argument max-keys must be an integer between 0 and 2147483647"): [
        Case(f"GET {B}?{query}max-keys=-1", argument("max-keys", "-1"))
        for query in ("", "list-type=2&", "versions&")
    ],
    ("InvalidArgument", 400, "Provided max-keys not an integer or within integer range"): [
        Case(f"GET {B}?max-keys=many", argument("max-keys", "many")),
        Case(f"GET {B}?list-type=2&max-keys=2147483648", argument("max-keys", "2147483648")),
    ],
    ("InvalidArgument", 400, "Argument max-uploads must be an integer between 0 and 2147483647"): [
        Case(f"GET {B}?uploads&max-uploads=-5", argument("max-uploads", "-5"))
    ],
    ("InvalidArgument", 400, "Invalid Encoding Method specified in Request"): [
        Case(f"GET {B}?encoding-type=utf8", argument("encoding-type", "utf8"))
    ],
    ("InvalidArgument", 400, "The continuation token provided is incorrect"): [
        Case(f"GET {B}?list-type=2&continuation-token=x", argument("continuation-token", "x"))
    ],
    ("InvalidArgument", 400, "Part number must be an integer between 1 and 10000, inclusive"): [
        Case(f"PUT {K}?uploadId=u&partNumber={n}", argument("partNumber", n), body="x")
        for n in ("0", "10001", "one")
    ],
    (
        "InvalidRequest",
        400,
        "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
    ): [Case(f"POST {B}?delete")],
    (
        "MalformedXML",
        400,
        "The XML you provided was not well-formed or did not validate against our published schema",
    ): [
        Case(f"POST {B}?delete", body=f"<Delete>{MANY}</Delete>"),
        Case(f"POST {B}?delete", body="<Delete>"),
        Case(f"POST {K}?uploadId=u", body="<CompleteMultipartUpload/>"),
        Case(f"PUT {B}?versioning", body=VERSIONING.format("<Status>enabled</Status>")),
    ],
    ("InvalidDigest", 400, "The Content-MD5 you specified was invalid."): [
        Case(f"PUT {K}", {"Content-MD5": "abc"}, {"content-md5": "abc"}, "x")
    ],
    ("BadDigest", 400, "The Content-MD5 you specified did not match what we received."): [
        Case(
            f"PUT {K}",
            {"ExpectedDigest": md5_base64(b"y"), "CalculatedDigest": md5_base64(b"x")},
            {"content-md5": md5_base64(b"y")},
            "x",
        )
    ],
    ("MetadataTooLarge", 400, "Your metadata headers exceed the maximum allowed metadata size"): [
        Case(
            f"PUT {K}",
            {"Size": "2049", "MaxSizeAllowed": "2048"},
            {"x-amz-meta-n": "v" * 2048},
            "x",
        )
    ],
    ("InvalidStorageClass", 400, "The storage class you specified is not valid"): [
        Case(f"PUT {K}", {"StorageClassRequested": "COLD"}, {"x-amz-storage-class": "COLD"}, "x")
    ],
    ("AccessControlListNotSupported", 400, "The bucket does not allow ACLs"): [
        Case(f"PUT {K}", sent={"x-amz-acl": "public-read"}, body="x"),
        Case(f"PUT {K}?acl", sent={"x-amz-grant-read": 'id="somebody"'}),
    ],
    ("MissingSecurityHeader", 400, "Your request was missing a required header"): [
        Case(f"PUT {B}?acl", {"MissingHeaderName": "x-amz-acl"})
    ],
    ("AccessDenied", 403, "Access Denied"): [
        Case(f"GET {K}", sent={"x-amz-expected-bucket-owner": "123456789012"}),
        Case(
            f"PUT {B}/c",
            sent={COPY: f"{BUCKET}/k", "x-amz-source-expected-bucket-owner": "123456789012"},
        ),
    ],
    ("NoSuchBucketPolicy", 404, "The bucket policy does not exist"): [
        Case(f"GET {B}?policy"),
        Case(f"GET {B}?policyStatus"),
    ],
    ("NoSuchLifecycleConfiguration", 404, "The lifecycle configuration does not exist"): [
        Case(f"GET {B}?lifecycle")
    ],
    (
        "NoSuchWebsiteConfiguration",
        404,
        "The specified bucket does not have a website configuration",
    ): [Case(f"GET {B}?website")],
    ("NoSuchConfiguration", 404, "The specified configuration does not exist."): [
        Case(f"GET {B}?metrics&id=x")
    ],
    ("IllegalVersioningConfigurationException", 400, "The Versioning element must be specified"): [
        Case(f"PUT {B}?versioning", body=VERSIONING.format(""))
    ],
    (
        "NotImplemented",
        501,
        "Versioning cannot be enabled: buckets of this service have no versions.",
    ): [Case(f"PUT {B}?versioning", body=VERSIONING.format("<Status>Enabled</Status>"))],
}


def parameters() -> Iterator[object]:
    for (code, status, message), cases in CASES.items():
        for number, case in enumerate(cases):
            yield pytest.param(code, status, message, case, id=f"{code}-{status}-{number}")


def document(case: Case, code: str, message: str, answer: Answer) -> bytes:
    """The document that an answer must have; its ids are those of the answer's headers."""
    elements = {
        "Code": code,
        "Message": message,
        **case.more,
        "Resource": case.request.partition(" ")[2].partition("?")[0],
        "RequestId": answer.headers["x-amz-request-id"],
        "HostId": answer.headers["x-amz-id-2"],
    }
    inner = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in elements.items())
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}</Error>'.encode()


@pytest.fixture(scope="module")
def prepared(s3: S3Client) -> None:
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")


@pytest.mark.parametrize(("code", "status", "message", "case"), list(parameters()))
@pytest.mark.usefixtures("prepared")
def test_document(raw: RawClient, code: str, status: int, message: str, case: Case) -> None:
    verb, _, target = case.request.partition(" ")
    answer = raw.request(verb, target, headers=case.digested(), body=case.body.encode())
    assert answer.body == document(case, code, message, answer)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/xml"
    assert {name: answer.headers.get(name) for name in case.answered} == dict(case.answered)


@pytest.mark.usefixtures("prepared")
def test_nothing_was_changed_by_what_was_refused(s3: S3Client) -> None:
    listed = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
    assert [(entry["Key"], entry["ETag"]) for entry in listed] == [("k", ETAG)]


@pytest.mark.usefixtures("prepared")
def test_answers_to_head_have_the_status_and_no_body(raw: RawClient) -> None:
    for target, headers, status in (
        (f"{B}/absent", {}, 404),
        ("/no-such-bucket", {}, 404),
        ("/no-such-bucket/k", {}, 404),
        (K, {"if-match": WRONG}, 412),
        (K, {"range": "bytes=7-"}, 416),
        (f"{K}?versionId=abc", {}, 400),
        (K, {"x-amz-expected-bucket-owner": "123456789012"}, 403),
    ):
        answer = raw.request("HEAD", target, headers=headers)
        assert (answer.status, answer.body) == (status, b""), target
        assert answer.headers["content-type"] == "application/xml"
        assert answer.headers["x-amz-request-id"]


def test_unknown_access_key(raw: RawClient) -> None:
    host = raw.signer.host
    signer = Signer(host=host, access_key="AKIDNOBODY", secret_key="s")
    answer = raw.request("GET", "/", signer=signer)
    assert (answer.status, answer.code) == (403, "InvalidAccessKeyId")
    assert answer.element("AWSAccessKeyId") == "AKIDNOBODY"
