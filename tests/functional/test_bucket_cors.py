"""CORS rules of buckets: stored, shown, and applied to what browsers send."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
from support.clients import boto3_client
from support.expect import refused
from support.raw import Answer, RawClient
from support.samples import wait_until
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SITE = "https://app.example.com"
VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"
RULES: Any = {
    "CORSRules": [
        {
            "ID": "upload",
            "AllowedOrigins": ["https://*.example.com"],
            "AllowedMethods": ["PUT", "GET", "POST"],
            "AllowedHeaders": ["content-type", "x-amz-*"],
            "ExposeHeaders": ["ETag", "x-amz-request-id"],
            "MaxAgeSeconds": 300,
        },
        {"AllowedOrigins": ["*"], "AllowedMethods": ["GET", "HEAD"]},
    ]
}
ACCESS = "access-control-"


def cors_of(answer: Answer) -> dict[str, str]:
    """The headers of an answer that are for the browser, names without the prefix they share."""
    return {
        name.removeprefix(ACCESS): value
        for name, value in answer.headers.items()
        if name.startswith(ACCESS)
    }


def preflight(raw: RawClient, target: str, method: str, origin: str = SITE, **more: str) -> Answer:
    headers = {
        "host": f"127.0.0.1:{raw.server.port}",
        "origin": origin,
        "access-control-request-method": method,
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return raw.send_unsigned("OPTIONS", target, headers)


def plain(raw: RawClient, method: str, target: str, headers: Mapping[str, str]) -> Answer:
    return raw.send_unsigned(
        method, target, {"host": f"127.0.0.1:{raw.server.port}", **headers}, b""
    )


@pytest.fixture
def open_bucket(s3: S3Client, bucket: str) -> str:
    """A bucket with rules and the object ``k``."""
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration=RULES)
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    return bucket


ALLOWED = {
    "allow-origin": SITE,
    "allow-methods": "PUT, GET, POST",
    "allow-credentials": "true",
    "expose-headers": "ETag, x-amz-request-id",
    "max-age": "300",
}


def test_put_get_delete(s3: S3Client, bucket: str) -> None:
    with refused("NoSuchCORSConfiguration", 404) as refusal:
        s3.get_bucket_cors(Bucket=bucket)
    assert refusal.error["BucketName"] == bucket
    put = s3.put_bucket_cors(Bucket=bucket, CORSConfiguration=RULES)
    assert put["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == RULES["CORSRules"]
    one: Any = {"CORSRules": RULES["CORSRules"][1:]}
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration=one)
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == one["CORSRules"]
    for _ in range(2):  # also if there is nothing
        deleted = s3.delete_bucket_cors(Bucket=bucket)
        assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    with refused("NoSuchCORSConfiguration", 404):
        s3.get_bucket_cors(Bucket=bucket)


def test_rules_go_with_the_bucket(s3: S3Client, bucket: str, raw: RawClient) -> None:
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration=RULES)
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "a", "Value": "1"}]})
    s3.delete_bucket(Bucket=bucket)
    with refused("NoSuchBucket", 404):
        s3.get_bucket_cors(Bucket=bucket)
    s3.create_bucket(Bucket=bucket)
    with refused("NoSuchCORSConfiguration", 404):
        s3.get_bucket_cors(Bucket=bucket)
    with refused("NoSuchTagSet", 404):
        s3.get_bucket_tagging(Bucket=bucket)


def test_preflight(raw: RawClient, open_bucket: str) -> None:
    answer = preflight(raw, f"/{open_bucket}/k", "PUT")
    assert (answer.status, answer.body) == (200, b"")
    assert cors_of(answer) == ALLOWED
    assert answer.headers["vary"] == VARY
    asked = {"access_control_request_headers": "Content-Type, X-Amz-Date,x-amz-acl"}
    answer = preflight(raw, f"/{open_bucket}/new?partNumber=1", "PUT", **asked)
    assert cors_of(answer) == ALLOWED | {"allow-headers": "content-type, x-amz-date, x-amz-acl"}
    # The first rule that fits counts: this one is for everybody, and so without credentials.
    answer = preflight(raw, f"/{open_bucket}", "HEAD")
    assert cors_of(answer) == {"allow-origin": "*", "allow-methods": "GET, HEAD"}
    answer = preflight(raw, f"/{open_bucket}/k", "GET", "https://elsewhere.org")
    assert cors_of(answer) == {"allow-origin": "*", "allow-methods": "GET, HEAD"}


def test_preflight_of_a_presigned_url(s3: S3Client, raw: RawClient, open_bucket: str) -> None:
    """The browser asks with the query of the URL, which signs another method."""
    url = s3.generate_presigned_url("put_object", Params={"Bucket": open_bucket, "Key": "new"})
    target = url.removeprefix(raw.server.url)
    assert cors_of(preflight(raw, target, "PUT")) == ALLOWED
    answer = plain(raw, "PUT", target, {"origin": SITE, "content-length": "0"})
    assert (answer.status, cors_of(answer)) == (200, ALLOWED)


def test_preflight_that_is_refused(raw: RawClient, open_bucket: str, s3: S3Client) -> None:
    for method, origin, more in (
        ("PUT", "https://elsewhere.org", {}),
        ("DELETE", SITE, {}),
        ("PUT", SITE, {"access_control_request_headers": "x-amz-date, x-other"}),
        ("PUT", "https://app.example.com.evil", {}),
    ):
        answer = preflight(raw, f"/{open_bucket}/k", method, origin, **more)
        assert (answer.status, answer.code) == (403, "AccessForbidden"), (method, origin, more)
        message = answer.element("Message")
        assert message.startswith("CORSResponse: This CORS request is not allowed.")
        assert (answer.element("Method"), answer.element("ResourceType")) == (method, "OBJECT")
        assert cors_of(answer) == {}


def test_preflight_that_is_none(raw: RawClient, open_bucket: str) -> None:
    host = {"host": f"127.0.0.1:{raw.server.port}"}
    origin = host | {"origin": SITE}
    asked = "access-control-request-method"
    for headers, text in (
        (host, "Insufficient information. Origin request header needed."),
        (host | {asked: "GET"}, "Insufficient information. Origin request header needed."),
        (origin, "Invalid Access-Control-Request-Method: null"),
        (origin | {asked: "PATCH"}, "Invalid Access-Control-Request-Method: PATCH"),
        (
            origin | {asked: "GET", "access-control-request-headers": "a b"},
            'Access-Control-Request-Headers "a b" contains invalid character.',
        ),
    ):
        answer = raw.send_unsigned("OPTIONS", f"/{open_bucket}/k", headers)
        assert (answer.status, answer.code) == (400, "BadRequest")
        assert answer.element("Message") == text


def test_nobody_learns_which_buckets_there_are(raw: RawClient, bucket: str) -> None:
    bodies = []
    for name in (bucket, "absent-bucket", "Not_A_Name"):
        answer = preflight(raw, f"/{name}", "GET")
        assert (answer.status, answer.code) == (403, "AccessForbidden")
        assert answer.element("Message") == "CORSResponse: CORS is not enabled for this bucket."
        assert answer.element("ResourceType") == "BUCKET"
        bodies.append(answer.body.split(b"<Resource>")[0])
    assert len(set(bodies)) == 1


def test_answers_to_pages(raw: RawClient, open_bucket: str) -> None:
    origin = {"origin": SITE}
    etag = f'"{hashlib.md5(b"data", usedforsecurity=False).hexdigest()}"'
    for method, target, headers, status, expected in (
        ("GET", "/k", {}, 200, ALLOWED),
        ("HEAD", "/k", {}, 200, {"allow-origin": "*", "allow-methods": "GET, HEAD"}),
        ("GET", "/k", {"range": "bytes=1-2"}, 206, ALLOWED),
        ("GET", "/k", {"if-none-match": etag}, 304, ALLOWED),
        ("GET", "/absent", {}, 404, ALLOWED),
        ("GET", "/k", {"range": "bytes=9-"}, 416, ALLOWED),
        ("GET", "?list-type=2", {}, 200, ALLOWED),
        ("DELETE", "/absent", {}, 204, {}),
    ):
        answer = raw.request(method, f"/{open_bucket}{target}", headers=origin | headers)
        assert answer.status == status, (method, target)
        assert cors_of(answer) == expected, (method, target)
        # Also where no rule fits: a cache must not give this answer to another site.
        assert answer.headers["vary"] == VARY
    refused_one = plain(raw, "GET", f"/{open_bucket}/k", origin)
    assert (refused_one.status, cors_of(refused_one)) == (403, ALLOWED)
    without = raw.request("GET", f"/{open_bucket}/k")
    assert (without.body, cors_of(without)) == (b"data", {})
    strange = raw.request(
        "GET", f"/{open_bucket}/k", headers={"origin": "https://\u00fc.example.com"}
    )
    assert strange.status == 200


def test_buckets_without_rules(raw: RawClient, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    answer = raw.request("GET", f"/{bucket}/k", headers={"origin": SITE})
    assert (answer.body, cors_of(answer)) == (b"data", {})
    assert "vary" not in answer.headers


def test_upload_by_a_form(s3: S3Client, raw: RawClient, open_bucket: str) -> None:
    fields = {"key": "form", "policy": base64.b64encode(json.dumps({}).encode()).decode()}
    parts = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    body = (
        f'{parts}--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n'.encode()
    )
    headers = {
        "host": f"127.0.0.1:{raw.server.port}",
        "origin": SITE,
        "content-type": "multipart/form-data; boundary=b",
        "content-length": str(len(body)),
    }
    answer = raw.send_unsigned("POST", f"/{open_bucket}", headers, body)
    assert answer.status == 403
    assert cors_of(answer) == ALLOWED


def test_documents_that_cannot_be(s3: S3Client, raw: RawClient, open_bucket: str) -> None:
    good = (
        b"<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin>"
        b"<AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"
    )
    for body, code in (
        (b"", "MalformedXML"),
        (b"<CORSConfiguration/>", "MalformedXML"),
        (good.replace(b"GET", b"TRACE"), "InvalidRequest"),
        (good + b" " * 65_536, "EntityTooLarge"),
    ):
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        headers = {"content-md5": digest}
        answer = raw.request("PUT", f"/{open_bucket}?cors", body=body, headers=headers)
        assert (answer.status, answer.code) == (400, code), body[:80]
    answer = raw.request("PUT", f"/{open_bucket}?cors", body=good)
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert s3.get_bucket_cors(Bucket=open_bucket)["CORSRules"] == RULES["CORSRules"]
    with refused("NoSuchBucket", 404):
        s3.put_bucket_cors(Bucket="absent-bucket", CORSConfiguration=RULES)
    with refused("NoSuchBucket", 404):
        s3.delete_bucket_cors(Bucket="absent-bucket")


def test_a_request_changes_rules_once(s3: S3Client, raw: RawClient, open_bucket: str) -> None:
    signed = raw.signer.sign("DELETE", f"/{open_bucket}?cors")
    assert raw.send("DELETE", signed).status == 204
    s3.put_bucket_cors(Bucket=open_bucket, CORSConfiguration=RULES)
    again = raw.send("DELETE", signed)
    assert (again.status, again.code) == (400, "InvalidArgument")
    assert s3.get_bucket_cors(Bucket=open_bucket)["CORSRules"] == RULES["CORSRules"]


def test_probes_and_statistics_are_not_for_pages(raw: RawClient) -> None:
    for target in ("/_/health", "/_/stats", "/_/other"):
        assert cors_of(raw.request("GET", target, headers={"origin": SITE})) == {}
        assert cors_of(preflight(raw, target, "GET")) == {}


# --- other servers ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def permissive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"advanced": {"cors_permissive": True}}
    directory = tmp_path_factory.mktemp("permissive")
    with ServerProcess(directory, settings=settings, arguments=["--workers", "2"]) as running:
        yield running


def test_a_permissive_server(permissive: ServerProcess) -> None:
    raw, client = RawClient(permissive), boto3_client(permissive)
    client.create_bucket(Bucket="with-rules")
    client.create_bucket(Bucket="without")
    expected = {"allow-origin": "*", "expose-headers": "*"}
    methods = {"allow-methods": "GET, PUT, POST, DELETE, HEAD"}
    for target in ("/without/k", "/absent-bucket", "/"):
        answer = preflight(raw, target, "DELETE", access_control_request_headers="X-Any")
        assert answer.status == 200
        assert cors_of(answer) == expected | methods | {"allow-headers": "x-any"}
        answer = plain(raw, "GET", target, {"origin": "null"})
        assert cors_of(answer) == expected | methods
    for target in ("/_/health", "/_/stats"):
        assert cors_of(raw.request("GET", target, headers={"origin": SITE})) == {}
    client.put_bucket_cors(Bucket="with-rules", CORSConfiguration=RULES)
    # Whichever process answers: it knows at once what was stored, and applies it soon.
    for _ in range(8):
        assert client.get_bucket_cors(Bucket="with-rules")["CORSRules"] == RULES["CORSRules"]
    wait_until(
        lambda: [preflight(raw, "/with-rules/k", "DELETE").status for _ in range(6)] == [403] * 6,
        "all processes apply the rules",
    )
    client.close()
