"""POST /bucket: forms of browsers, boto3, minio and curl, and what is refused of them."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from support.clients import boto3_client
from support.expect import Footprint
from support.forms import BOUNDARY, Form, begin, post, sign_policy, signed_fields
from support.raw import Answer, RawClient
from support.samples import MIB, md5_hex, noise, release, wait_until
from support.server import ServerProcess, clean_environment

from deltaglider_core.s3.object_headers import DEFAULT_CONTENT_TYPE

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "forms"
QUOTA = "forms-quota"
OTHER = "forms-other"
MAX_OBJECT = 6 * MIB
DOMAIN = "s3.example.test"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with small limits."""
    settings = {
        "advanced": {"max_object_size": MAX_OBJECT, "virtual_host_domains": [DOMAIN]},
        "storage": {"buckets": {QUOTA: {"quota_bytes": 2 * MIB}}},
    }
    directory = tmp_path_factory.mktemp("forms")
    with ServerProcess(directory, settings=settings) as server:
        s3 = boto3_client(server)
        for bucket in (BUCKET, QUOTA, OTHER):
            s3.create_bucket(Bucket=bucket)
        s3.close()
        yield server


@pytest.fixture(scope="module")
def browser(own: ServerProcess) -> RawClient:
    return RawClient(own)


@pytest.fixture(scope="module")
def store(own: ServerProcess) -> Iterator[S3Client]:
    client = boto3_client(own)
    yield client
    client.close()


@pytest.fixture
def unchanged(own: ServerProcess) -> Iterator[None]:
    """Nothing is stored by the test, nor left in the spool."""
    before = Footprint(own.data, own.temporary)
    yield
    before.assert_unchanged()


def upload(browser: RawClient, fields: Mapping[str, str], **options: Any) -> Answer:
    """Post a form that a fresh policy allows, field by field."""
    form = {name: options.pop(name) for name in ("file", "filename", "after") if name in options}
    target = options.pop("target", f"/{BUCKET}")
    headers = options.pop("headers", None)
    fields = signed_fields(browser, BUCKET, fields, **options)
    return post(browser, target, Form(fields=fields, **form), headers)


def send(own: ServerProcess, url: str, fields: Mapping[str, str], file: bytes) -> Any:
    """What urllib3 sends, which botocore brings along."""
    import urllib3

    with urllib3.PoolManager() as pool:
        return pool.request(
            "POST", url, fields=[*fields.items(), ("file", ("app.zip", file))], redirect=False
        )


# --- clients --------------------------------------------------------------------------------


def test_boto3(own: ServerProcess, store: S3Client) -> None:
    signed = store.generate_presigned_post(
        BUCKET,
        "user/${filename}",
        Fields={"acl": "private", "x-amz-meta-a": "ü", "success_action_status": "201"},
        Conditions=[
            {"acl": "private"},
            ["starts-with", "$x-amz-meta-a", ""],
            {"success_action_status": "201"},
            ["content-length-range", 1, 4 * MIB],
        ],
    )
    for data in (b"first", noise(3 * MIB), b"again"):
        answer = send(own, signed["url"], signed["fields"], data)
        assert answer.status == 201, answer.data
        found = store.get_object(Bucket=BUCKET, Key="user/app.zip")
        assert found["Body"].read() == data
        assert found["ETag"] == answer.headers["ETag"] == f'"{md5_hex(data)}"'
    expired = store.generate_presigned_post(BUCKET, "late", ExpiresIn=-1)
    assert b"Policy expired" in send(own, expired["url"], expired["fields"], b"x").data


def test_minio(own: ServerProcess, store: S3Client) -> None:
    from minio import Minio
    from minio.datatypes import PostPolicy

    client = Minio(
        f"127.0.0.1:{own.port}", access_key=own.access_key, secret_key=own.secret_key, secure=False
    )
    policy = PostPolicy(BUCKET, datetime.now(UTC) + timedelta(minutes=5))
    policy.add_equals_condition("key", "minio")
    policy.add_content_length_range_condition(1, 100)
    fields = {**client.presigned_post_policy(policy), "key": "minio"}
    answer = send(own, f"{own.url}/{BUCKET}", fields, b"from minio")
    assert answer.status == 204, answer.data
    assert store.get_object(Bucket=BUCKET, Key="minio")["Body"].read() == b"from minio"


def test_curl(own: ServerProcess, browser: RawClient, store: S3Client, tmp_path: Any) -> None:
    data = noise(2 * MIB)
    path = tmp_path / "my file ü.bin"
    path.write_bytes(data)
    fields = {"key": "curl/${filename}", "Content-Type": "image/png"}
    signed = signed_fields(
        browser, BUCKET, fields, [["starts-with", "$key", "curl/"], {"Content-Type": "image/png"}]
    )
    words = [
        word for name, value in signed.items() for word in ("--form-string", f"{name}={value}")
    ]
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", *words]
    result = subprocess.run(
        [*command, "-F", f"file=@{os.fspath(path)}", "-w", "%{http_code}", f"{own.url}/{BUCKET}/"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (result.stdout, result.stderr) == (b"204", b"")
    found = store.get_object(Bucket=BUCKET, Key="curl/my file ü.bin")
    assert found["ContentType"] == "image/png"
    assert found["Body"].read() == data


def test_signature_version_2_is_named(own: ServerProcess) -> None:
    old = boto3_client(own, signature_version="s3")
    signed = old.generate_presigned_post(BUCKET, "k")
    old.close()
    answer = send(own, signed["url"], signed["fields"], b"x")
    assert answer.status == 400
    assert b"signature_version='s3v4'" in answer.data


# --- what is stored -------------------------------------------------------------------------


def test_fields_are_kept(browser: RawClient, store: S3Client) -> None:
    data = b"hello world"
    fields = {
        "Key": "a b/ü+%41",
        "aCl": "bucket-owner-full-control",
        "Content-Type": "text/html",
        "Cache-Control": "max-age=5",
        "Content-Disposition": "attachment",
        "Content-Encoding": "br",
        "Expires": "Thu, 01 Dec 1994 16:00:00 GMT",
        "Content-MD5": base64.b64encode(hashlib.md5(data).digest()).decode(),
        "x-amz-meta-UPPER": "value of ${filename}",
        "x-amz-storage-class": "STANDARD",
        "x-amz-checksum-algorithm": "CRC32",
        "x-amz-checksum-crc32": "DUoRhQ==",
        "tagging": "<Tagging><TagSet><Tag><Key>a</Key><Value>1 &amp; 2</Value></Tag>"
        "</TagSet></Tagging>".replace(" &amp; ", "+"),
    }
    conditions = [["starts-with", f"${name}", ""] for name in fields]
    answer = upload(browser, fields, conditions=conditions, file=data, filename="/x\\n.txt")
    assert answer.status == 204, answer.body
    assert answer.body == b""
    assert answer.headers["etag"] == f'"{md5_hex(data)}"'
    assert answer.headers["x-amz-checksum-crc32"] == "DUoRhQ=="
    assert answer.headers["location"] == (
        f"http://127.0.0.1:{browser.server.port}/{BUCKET}/a%20b%2F%C3%BC%2B%2541"
    )
    found = store.get_object(Bucket=BUCKET, Key="a b/ü+%41", ChecksumMode="ENABLED")
    assert found["Body"].read() == data
    assert found["ContentType"] == "text/html"
    assert found["CacheControl"] == "max-age=5"
    assert found["ContentDisposition"] == "attachment"
    assert found["ContentEncoding"] == "br"
    assert found["ExpiresString"] == "Thu, 01 Dec 1994 16:00:00 GMT"
    assert found["Metadata"] == {"upper": "value of n.txt"}
    tags = store.get_object_tagging(Bucket=BUCKET, Key="a b/ü+%41")["TagSet"]
    assert tags == [{"Key": "a", "Value": "1+2"}]


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1, 3 * MIB + 17, MAX_OBJECT])
def test_sizes(browser: RawClient, store: S3Client, size: int) -> None:
    data = noise(size)
    after = {"submit": "Upload", "key": "ignored", "x-amz-meta-late": "ignored"}
    answer = upload(browser, {"key": "sized"}, file=data, after=after)
    assert answer.status == 204, answer.body
    found = store.get_object(Bucket=BUCKET, Key="sized")
    assert (found["ContentLength"], found["Metadata"]) == (size, {})
    assert found["ContentType"] == DEFAULT_CONTENT_TYPE, "that of the part is not signed"
    assert found["Body"].read() == data


def test_versions_become_deltas(own: ServerProcess, browser: RawClient, store: S3Client) -> None:
    def stored() -> int:
        return sum(path.stat().st_size for path in (own.data / OTHER).rglob("*") if path.is_file())

    sizes = []
    for number in range(3):
        data = release(number, 2 * MIB)
        fields = signed_fields(browser, OTHER, {"key": f"app-{number}.zip"})
        assert post(browser, f"/{OTHER}", Form(fields=fields, file=data)).status == 204
        assert store.get_object(Bucket=OTHER, Key=f"app-{number}.zip")["Body"].read() == data
        sizes.append(stored())
    assert sizes[2] - sizes[0] < MIB


@pytest.mark.parametrize(
    ("key", "filename", "stored"),
    [
        ("up/${filename}", "C:\\Users\\me\\photo.jpg", "up/photo.jpg"),
        ("up/${filename}/${filename}", "a/b.txt", "up/b.txt/b.txt"),
        ("up/x-${filename}", "", "up/x-"),
        ("up/y-${filename}", None, "up/y-${filename}"),
        ("up/${other}", "n", "up/${other}"),
        ("up/%22", "%22", "up/%22"),
        ("up/${filename}", "q%22q", 'up/q"q'),
        ("/up/lead", "n", "/up/lead"),
    ],
)
def test_keys(
    browser: RawClient, store: S3Client, key: str, filename: str | None, stored: str
) -> None:
    fields = {"key": key, "success_action_status": "201"}
    conditions = [["starts-with", "$key", ""], {"success_action_status": "201"}]
    answer = upload(browser, fields, conditions=conditions, filename=filename)
    assert (answer.status, answer.element("Key")) == (201, stored)
    assert store.head_object(Bucket=BUCKET, Key=stored)["ContentLength"] == 4


# --- answers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "status"), [("200", 200), ("201", 201), ("204", 204), ("404", 204), ("", 204)]
)
def test_status(browser: RawClient, asked: str, status: int) -> None:
    answer = upload(browser, {"key": "a/ü", "success_action_status": asked})
    assert answer.status == status
    if status != 201:
        assert answer.body == b""
        return
    assert answer.headers["content-type"] == "application/xml"
    assert b"<PostResponse>" in answer.body
    location = f"http://127.0.0.1:{browser.server.port}/{BUCKET}/a%2F%C3%BC"
    assert answer.element("Location") == answer.headers["location"] == location
    assert answer.element("Bucket") == BUCKET
    assert answer.element("Key") == "a/ü"
    assert answer.element("ETag") == answer.headers["etag"] == f'"{md5_hex(b"file")}"'


@pytest.mark.parametrize("name", ["success_action_redirect", "redirect"])
@pytest.mark.parametrize(
    ("url", "begins", "own_query"),
    [
        ("https://example.com/done", "https://example.com/done?", {}),
        ("HTTP://example.com", "http://example.com?", {}),
        ("http://[::1]:8080/x?a=1&b=%20#f", "http://[::1]:8080/x?a=1&b=%20&", {"a": ["1"]}),
        ("https://example.com/ü x", "https://example.com/%C3%BC%20x?", {}),
    ],
)
def test_redirect(
    browser: RawClient, name: str, url: str, begins: str, own_query: dict[str, Any]
) -> None:
    answer = upload(browser, {"key": "a b/ü", name: url, "success_action_status": "201"})
    assert (answer.status, answer.body) == (303, b"")
    location = answer.headers["location"]
    assert location.startswith(begins)
    query = parse_qs(urlsplit(location).query)
    assert query.items() >= own_query.items()
    assert query["bucket"] == [BUCKET]
    assert query["key"] == ["a b/ü"]
    assert query["etag"] == [f'"{md5_hex(b"file")}"']
    assert "&key=a+b%2F%C3%BC&etag=%22" in location


@pytest.mark.parametrize(
    "url",
    [
        "/wrong/redirect/relative",
        "javascript:alert(1)",
        "http://",
        "http://[::1",
        "http://host:port/",
        "http://example.com/\r\nSet-Cookie: a=b",
        "",
    ],
)
def test_a_redirect_to_nowhere_is_none(browser: RawClient, url: str) -> None:
    fields = {"key": "k", "success_action_redirect": url, "success_action_status": "200"}
    answer = upload(browser, fields)
    assert (answer.status, answer.body) == (200, b"")
    assert "set-cookie" not in answer.headers


def test_a_failure_does_not_redirect(browser: RawClient, unchanged: None) -> None:
    fields = {"key": "k", "success_action_redirect": "http://example.com/"}
    answer = upload(browser, fields, conditions=[{"key": "k"}])
    assert (answer.status, answer.code) == (403, "AccessDenied")


def test_log(own: ServerProcess, browser: RawClient) -> None:
    upload(
        browser,
        {"key": "logged/${filename}"},
        filename="a.txt",
        conditions=[["starts-with", "$key", ""]],
    )
    upload(browser, {"key": "refused"}, conditions=[{"key": "other"}])

    def logged(key: str) -> list[str]:
        lines = own.log_text().splitlines()
        return [line for line in lines if "post_object" in line and f"key={key} " in line]

    # The line is written after the answer.
    wait_until(lambda: len(logged("logged/a.txt")) == len(logged("refused")) == 1, "both lines")
    (stored,), (refused,) = logged("logged/a.txt"), logged("refused")
    assert BUCKET in stored
    assert own.access_key in stored
    assert "AccessDenied" in refused
    assert "x-amz-signature" not in own.log_text()


# --- refusals -------------------------------------------------------------------------------

POLICY = "Invalid according to Policy: "


@pytest.mark.parametrize(
    ("fields", "options", "expected", "text"),
    [
        ({}, {}, (400, "InvalidArgument"), "field named 'key'"),
        ({"key": ""}, {}, (400, "InvalidArgument"), "must not be empty"),
        ({"key": "/.."}, {}, (400, "InvalidURI"), ""),
        ({"key": "k" * 1025}, {}, (400, "KeyTooLongError"), ""),
        ({"key": ".deltaglider/refs/x"}, {}, (403, "AccessDenied"), "reserved"),
        ({"key": "k"}, {"file": None}, (400, "InvalidArgument"), "exactly one file"),
        (
            {"key": "k"},
            {"after": {"file": "2"}},
            (400, "IncorrectNumberOfFilesInPostRequest"),
            "exactly one file",
        ),
        ({"key": "k", "acl": "public-read"}, {}, (400, "AccessControlListNotSupported"), "ACL"),
        ({"key": "k", "x-amz-storage-class": "ICE"}, {}, (400, "InvalidStorageClass"), ""),
        ({"key": "k", "x-amz-storage-class": "GLACIER"}, {}, (501, "NotImplemented"), "GLACIER"),
        ({"key": "k", "x-amz-copy-source": "b/k"}, {}, (501, "NotImplemented"), "copy-source"),
        ({"key": "k", "x-amz-tagging": "a=b"}, {}, (501, "NotImplemented"), "x-amz-tagging"),
        (
            {"key": "k", "x-amz-server-side-encryption": "aws:kms"},
            {},
            (501, "NotImplemented"),
            "encryption",
        ),
        ({"key": "k", "x-amz-meta-a": "a\r\nb: c"}, {}, (400, "InvalidArgument"), "control"),
        (
            {"key": "k", "x-amz-meta-a%0D%0Ab": "v"},
            {"conditions": [{"key": "k"}, {"x-amz-meta-a\r\nb": "v"}]},
            (400, "InvalidArgument"),
            "header",
        ),
        ({"key": "k", "x-amz-meta-a b": "v"}, {}, (400, "InvalidArgument"), "x-amz-meta-a b"),
        ({"key": "k", "x-amz-meta-\u00fc": "v"}, {}, (400, "InvalidArgument"), "header"),
        ({"key": "k", "x-amz-meta-a": "v" * 2048}, {}, (400, "MetadataTooLarge"), ""),
        (
            {"key": "k", "x-ignore-a": "v" * 20_000},
            {},
            (400, "MaxPostPreDataLengthExceeded"),
            "too large",
        ),
        ({"key": "k", "tagging": "not-xml"}, {}, (400, "MalformedXML"), ""),
        ({"key": "k", "Content-MD5": "x"}, {}, (400, "InvalidDigest"), ""),
        ({"key": "k", "Content-MD5": "A" * 22 + "=="}, {}, (400, "BadDigest"), ""),
        ({"key": "k", "x-amz-checksum-crc32": "AAAAAA=="}, {}, (400, "BadDigest"), "CRC32"),
        ({"key": "k", "x-amz-checksum-crc32": "sailor"}, {}, (400, "InvalidRequest"), "crc32"),
        (
            {"key": "k", "x-amz-checksum-algorithm": "SHA1"},
            {},
            (400, "InvalidRequest"),
            "x-amz-checksum-sha1",
        ),
        ({"key": "k"}, {"conditions": []}, (403, "AccessDenied"), f"{POLICY}Extra input fields"),
        (
            {"key": "k"},
            {"conditions": [["starts-with", "$key", "user/"]]},
            (403, "AccessDenied"),
            f'{POLICY}Policy Condition failed: ["starts-with", "$key", "user/"]',
        ),
        (
            {"key": "${filename}"},
            {"conditions": [{"key": "${filename}"}]},
            (403, "AccessDenied"),
            "Condition failed",
        ),
        (
            {"key": "k"},
            {"expires": timedelta(seconds=-1)},
            (403, "AccessDenied"),
            f"{POLICY}Policy expired.",
        ),
        (
            {"key": "k"},
            {"at": datetime.now(UTC) + timedelta(hours=9)},
            (403, "RequestTimeTooSkewed"),
            "",
        ),
        ({"key": "k"}, {"document": "{}"}, (400, "InvalidPolicyDocument"), "missing expiration"),
        ({"key": "k"}, {"target": f"/{OTHER}"}, (403, "AccessDenied"), "$bucket"),
        (
            {"key": "k"},
            {"conditions": [{"key": "k"}, ["content-length-range", 5, 10]]},
            (400, "EntityTooSmall"),
            "smaller",
        ),
        (
            {"key": "k"},
            {"conditions": [{"key": "k"}, ["content-length-range", 0, 3]]},
            (400, "EntityTooLarge"),
            "exceeds",
        ),
        ({"key": "k"}, {"headers": {"authorization": "Basic eA=="}}, (400, "InvalidArgument"), ""),
        (
            {"key": "k"},
            {"headers": {"if-none-match": "*"}},
            (501, "NotImplemented"),
            "if-none-match",
        ),
    ],
)
def test_refused(
    browser: RawClient,
    unchanged: None,
    fields: dict[str, str],
    options: dict[str, Any],
    expected: tuple[int, str],
    text: str,
) -> None:
    answer = upload(browser, fields, **options)
    assert (answer.status, answer.code) == expected, answer.body
    assert text in answer.element("Message")


def test_sizes_are_told(browser: RawClient, unchanged: None) -> None:
    bounds = [{"key": "k"}, ["content-length-range", 5, 10]]
    large = upload(browser, {"key": "k"}, conditions=bounds, file=b"x" * 12)
    assert (large.element("ProposedSize"), large.element("MaxSizeAllowed")) == ("12", "10")
    small = upload(browser, {"key": "k"}, conditions=bounds, file=b"x")
    assert (small.element("ProposedSize"), small.element("MinSizeAllowed")) == ("1", "5")
    spooled = upload(browser, {"key": "k"}, file=noise(MAX_OBJECT + 1))
    assert (spooled.status, spooled.code) == (400, "EntityTooLarge")


def test_unsigned_and_wrongly_signed(browser: RawClient, unchanged: None) -> None:
    def code(fields: Mapping[str, str]) -> tuple[int, str]:
        answer = post(browser, f"/{BUCKET}", Form(fields=fields))
        return answer.status, answer.code

    signed = signed_fields(browser, BUCKET, {"key": "k"})
    assert code({"key": "k"}) == (403, "AccessDenied")
    assert code({"key": "k", "policy": signed["policy"]}) == (403, "AccessDenied")
    for name in signed.keys() - {"key"}:
        lacking = {field: value for field, value in signed.items() if field != name}
        assert code(lacking) == (400, "InvalidArgument"), name
    wrong = {**signed, "x-amz-signature": signed["x-amz-signature"][::-1]}
    assert code(wrong) == (403, "SignatureDoesNotMatch")
    forged = {**signed, "policy": base64.b64encode(b"{}").decode()}
    assert code(forged) == (403, "SignatureDoesNotMatch")
    stranger = {**signed, "x-amz-credential": "X" + signed["x-amz-credential"]}
    assert code(stranger) == (403, "InvalidAccessKeyId")
    assert code({**signed, "x-amz-security-token": "t"}) == (400, "InvalidRequest")
    late = signed_fields(browser, BUCKET, {"key": "k"}, at=datetime.now(UTC) - timedelta(days=8))
    assert code(late) == (403, "AccessDenied")


def test_no_bucket(browser: RawClient, unchanged: None) -> None:
    fields = signed_fields(browser, "no-such-bucket", {"key": "k"})
    answer = post(browser, "/no-such-bucket", Form(fields=fields))
    assert (answer.status, answer.code) == (404, "NoSuchBucket")
    assert post(browser, "/X", Form(fields=fields)).code == "InvalidBucketName"
    for target in ("/", f"/{BUCKET}/k"):
        assert post(browser, target, Form(fields=fields)).status == 403, "no place for a form"


def test_bodies_that_are_no_form(browser: RawClient, unchanged: None) -> None:
    host = f"127.0.0.1:{browser.server.port}"

    def answer(content_type: str, body: bytes, **headers: str) -> tuple[int, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {"host": host, "content-type": content_type, "content-length": str(len(body))}
        found = browser.send_unsigned("POST", f"/{BUCKET}", {**given, **named}, body)
        return found.status, found.code

    form = Form(fields=signed_fields(browser, BUCKET, {"key": "k"}))
    whole = form.encode()
    assert answer("text/html", whole) == (412, "PreconditionFailed")
    assert answer("multipart/form-data", whole) == (400, "MalformedPOSTRequest")
    assert answer("multipart/form-data; boundary=x", whole) == (400, "MalformedPOSTRequest")
    assert answer(form.content_type, whole[:-8]) == (400, "MalformedPOSTRequest")
    assert answer(form.content_type, whole[: whole.index(b"file")]) == (400, "MalformedPOSTRequest")
    assert answer(form.content_type, b"") == (400, "MalformedPOSTRequest")
    assert answer(form.content_type, b"x" * 30_000)[1] == "MaxPostPreDataLengthExceeded"


def test_a_form_without_a_length(browser: RawClient, unchanged: None) -> None:
    form = Form(fields=signed_fields(browser, BUCKET, {"key": "k"}))
    with begin(browser, f"/{BUCKET}", form.content_type, transfer_encoding="chunked") as connection:
        answer = connection.answer()
        assert (answer.status, answer.code) == (411, "MissingContentLength")


def test_too_large_is_said_before_the_body(browser: RawClient, unchanged: None) -> None:
    form = Form(fields=signed_fields(browser, BUCKET, {"key": "k"}))
    length = str(MAX_OBJECT + 20 * 1024 + 1)
    with begin(
        browser, f"/{BUCKET}", form.content_type, content_length=length, expect="100-continue"
    ) as connection:
        answer = connection.answer()
        assert (answer.status, answer.code) == (400, "EntityTooLarge")
    bounds = [{"key": "k"}, ["content-length-range", 0, 10]]
    fields = signed_fields(browser, BUCKET, {"key": "k"}, bounds)
    head = Form(fields=fields).encode().split(b"file\r\n")[0]
    with begin(browser, f"/{BUCKET}", form.content_type, content_length="1000000") as connection:
        connection.send(head)
        assert connection.answer().code == "EntityTooLarge", "before the file is sent"


@pytest.mark.parametrize("size", [100, 2 * MIB])
def test_a_browser_that_goes_away(browser: RawClient, unchanged: None, size: int) -> None:
    fields = signed_fields(browser, BUCKET, {"key": "gone"})
    body = Form(fields=fields, file=noise(size)).encode()
    for sent in (10, len(body) - size, len(body) - 40, len(body) - 1):
        with begin(
            browser,
            f"/{BUCKET}",
            f"multipart/form-data; boundary={BOUNDARY}",
            content_length=str(len(body)),
        ) as connection:
            connection.send(body[:sent])


def test_a_quota_counts_forms(browser: RawClient, store: S3Client) -> None:
    def put(size: int) -> Answer:
        fields = signed_fields(browser, QUOTA, {"key": f"k{size}"})
        return post(browser, f"/{QUOTA}", Form(fields=fields, file=noise(size)))

    assert put(MIB + 1).status == 204
    refused = put(MIB)
    assert (refused.status, refused.code) == (403, "QuotaExceeded")
    assert put(MIB - 1).status == 204
    assert store.list_objects_v2(Bucket=QUOTA)["KeyCount"] == 2


def test_open_access(tmp_path: Any, browser: RawClient) -> None:
    """Nobody can verify a signature, but what a policy says holds."""
    access = {"access_key_id": None, "secret_access_key": None, "authentication": "none"}
    settings = {"access": access, "advanced": {"spool_max_bytes": 0}}
    with ServerProcess(tmp_path / "open", settings=settings) as server:
        raw = RawClient(server)
        raw.request("PUT", f"/{BUCKET}")
        target = f"/{BUCKET}"
        legacy = boto3_client(server, signature_version="s3")
        signed = legacy.generate_presigned_post(BUCKET, "old")
        legacy.close()
        assert send(server, signed["url"], signed["fields"], b"x").status == 204
        assert post(raw, target, Form(fields={"key": "k"})).status == 204
        assert post(raw, target, Form(fields={"key": "k", "unknown": "v"})).status == 204
        fields = signed_fields(raw, BUCKET, {"key": "k"})
        assert post(raw, target, Form(fields={**fields, "x-amz-signature": "0"})).status == 204
        denied = post(raw, target, Form(fields={**fields, "key": "other"}))
        assert (denied.status, denied.code) == (403, "AccessDenied")
        no_room = post(raw, target, Form(fields={"key": "k"}, file=noise(MIB + 1)))
        assert (no_room.status, no_room.code) == (503, "SlowDown")
        assert raw.request("GET", f"{target}/k").body == b"file"


def test_checksums_are_kept_and_told(browser: RawClient, store: S3Client) -> None:
    data = noise(2 * MIB)
    crc = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    answer = upload(browser, {"key": "crc", "x-amz-checksum-crc32": crc}, file=data)
    assert (answer.status, answer.headers["x-amz-checksum-crc32"]) == (204, crc)
    assert answer.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    head = store.head_object(Bucket=BUCKET, Key="crc", ChecksumMode="ENABLED")
    assert head["ChecksumCRC32"] == crc


def test_virtual_host(browser: RawClient, store: S3Client) -> None:
    host = f"{BUCKET}.{DOMAIN}"
    fields = {"key": "virtual/host", "success_action_status": "201"}
    answer = upload(browser, fields, target="/", headers={"host": host})
    assert answer.status == 201, answer.body
    assert answer.element("Location") == f"http://{host}/virtual%2Fhost"
    assert store.head_object(Bucket=BUCKET, Key="virtual/host")["ContentLength"] == 4


def test_one_policy_many_files(browser: RawClient, store: S3Client) -> None:
    document = '{"expiration": "2999-01-01T00:00:00Z", "conditions": [{"bucket": "forms"}, '
    policy = base64.b64encode((document + '["starts-with", "$key", "many/"]]}').encode()).decode()
    signature = sign_policy(browser, policy, datetime.now(UTC))
    for number in range(5):
        form = Form(fields={"key": "many/${filename}", **signature}, filename=f"{number}.txt")
        assert post(browser, f"/{BUCKET}", form).status == 204
        assert post(browser, f"/{BUCKET}?x-id=PostObject", form).status == 204
    assert store.list_objects_v2(Bucket=BUCKET, Prefix="many/")["KeyCount"] == 5


class Page(HTMLParser):
    """The form of a page, as a browser would send it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.form: dict[str, str | None] = {}
        self.fields: list[tuple[str, str]] = []
        self.after: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "form":
            self.form = found
        elif tag == "input":
            fields = self.after if ("file", "") in self.fields else self.fields
            fields.append((found["name"] or "", found.get("value") or ""))


def test_the_page_of_the_guide(own: ServerProcess, browser: RawClient, store: S3Client) -> None:
    guide = Path(__file__).parents[2] / "docs" / "how-to" / "browser-uploads.md"
    (script,) = re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    keys = {
        "AWS_ACCESS_KEY_ID": own.access_key,
        "AWS_SECRET_ACCESS_KEY": own.secret_key,
        "AWS_ENDPOINT_URL": own.url,
    }
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=clean_environment(own.directory, keys),
        check=True,
        timeout=60,
    )
    page = Page(result.stdout)
    assert page.form["method"] == "post"
    assert page.form["enctype"] == "multipart/form-data"
    store.create_bucket(Bucket="builds")
    target = urlsplit(page.form["action"] or "").path
    fields = [field for field in page.fields if field[0] != "file"]
    form = Form(fields=fields, file=b"from the page", filename="a b.txt", after=page.after)
    answer = post(browser, target, form)
    assert (answer.status, answer.element("Key")) == (201, "incoming/a b.txt"), answer.body
    found = store.get_object(Bucket="builds", Key="incoming/a b.txt")
    assert found["Body"].read() == b"from the page"
    assert found["Metadata"] == {"source": "browser"}
