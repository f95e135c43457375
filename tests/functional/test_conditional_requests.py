"""Conditions of reads (RFC 9110 section 13) and of writes (AWS, "Conditional writes")."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
from support.expect import refused
from support.raw import RawClient
from support.samples import noise, release

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PAST = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
FUTURE = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
WRONG = '"00000000000000000000000000000000"'
RIGHT = '"9dd4e461268c8034f5c8564e155c67a6"'  # MD5 of "x"
WEAK = "W/" + RIGHT


@pytest.fixture(scope="session")
def target(raw: RawClient, s3: S3Client) -> str:
    s3.create_bucket(Bucket="conditions")
    s3.put_object(Bucket="conditions", Key="k", Body=b"x", CacheControl="max-age=9")
    return "/conditions/k"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if-match": RIGHT}, 200),
        ({"if-match": RIGHT.strip('"')}, 200),
        ({"if-match": "*"}, 200),
        ({"if-match": f"{WRONG}, {RIGHT}"}, 200),
        ({"if-match": WRONG}, 412),
        ({"if-match": WEAK}, 412),
        ({"if-none-match": RIGHT}, 304),
        ({"if-none-match": WEAK}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": f"{WRONG}, {RIGHT}"}, 304),
        ({"if-none-match": WRONG}, 200),
        ({"if-modified-since": PAST}, 200),
        ({"if-modified-since": "yesterday"}, 200),
        ({"if-unmodified-since": PAST}, 412),
        ({"if-unmodified-since": FUTURE}, 200),
        ({"if-unmodified-since": "yesterday"}, 200),
        ({"if-match": RIGHT, "if-unmodified-since": PAST}, 200),
        ({"if-none-match": WRONG, "if-modified-since": FUTURE}, 200),
        ({"if-none-match": RIGHT, "if-modified-since": PAST}, 304),
        ({"if-match": WRONG, "if-none-match": RIGHT}, 412),
        ({"if-none-match": RIGHT, "range": "bytes=0-0"}, 304),
        ({"if-none-match": RIGHT, "range": "bytes=9-"}, 304),
        ({"if-match": WRONG, "range": "bytes=9-"}, 412),
        ({"if-match": RIGHT, "range": "bytes=9-"}, 416),
    ],
)
def test_reads(
    raw: RawClient, target: str, method: str, headers: dict[str, str], status: int
) -> None:
    answer = raw.request(method, target, headers=headers)
    assert answer.status == status
    if status == 304:
        assert answer.headers["etag"] == RIGHT
        assert "last-modified" in answer.headers
        assert answer.headers["cache-control"] == "max-age=9"
        assert answer.body == b""
    if status == 412 and method == "GET":
        assert answer.code == "PreconditionFailed"


def test_dates_are_compared_in_whole_seconds(raw: RawClient, target: str) -> None:
    modified = raw.request("HEAD", target).headers["last-modified"]
    assert raw.request("GET", target, headers={"if-modified-since": modified}).status == 304
    assert raw.request("GET", target, headers={"if-unmodified-since": modified}).status == 200


def test_absence_comes_before_conditions(raw: RawClient, target: str) -> None:
    for headers in ({"if-match": RIGHT}, {"if-none-match": "*"}):
        assert raw.request("GET", "/conditions/absent", headers=headers).status == 404


def test_the_connection_goes_on_after_304(raw: RawClient, target: str) -> None:
    signed = raw.signer.sign("GET", target, headers={"if-none-match": RIGHT})
    plain = raw.signer.sign("GET", target)
    with raw.connect() as connection:
        connection.send_head("GET", target, signed.headers)
        assert connection.answer().status == 304
        connection.send_head("GET", target, plain.headers)
        assert connection.answer().body == b"x"


# --- writes --------------------------------------------------------------------------------


def test_create_only(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"first", IfNoneMatch="*")
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfNoneMatch="*")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"first"


def test_create_only_beside_longer_keys(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k/1", Body=b"x")
    s3.put_object(Bucket=bucket, Key="k!", Body=b"x")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", IfNoneMatch="*")
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"y", IfNoneMatch="*")


def test_replace_only(s3: S3Client, bucket: str) -> None:
    tag = s3.put_object(Bucket=bucket, Key="k", Body=b"first")["ETag"]
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfMatch=WRONG)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"first"
    s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfMatch=tag)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"second"
    with refused("NoSuchKey", 404):
        s3.put_object(Bucket=bucket, Key="absent", Body=b"x", IfMatch=tag)


def test_replace_only_on_a_delta(s3: S3Client, bucket: str) -> None:
    for number in range(2):
        tag = s3.put_object(Bucket=bucket, Key=f"app-{number}.zip", Body=release(number))["ETag"]
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="app-1.zip", Body=release(2), IfMatch=WRONG)
    s3.put_object(Bucket=bucket, Key="app-1.zip", Body=release(2), IfMatch=tag)
    assert s3.get_object(Bucket=bucket, Key="app-1.zip")["Body"].read() == release(2)


def test_only_star_can_be_absent(s3: S3Client, bucket: str) -> None:
    with refused("NotImplemented", 501):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", IfNoneMatch=RIGHT)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize("key", ["k", "app.zip"])
def test_one_creator_of_many(raw: RawClient, bucket: str, key: str) -> None:
    def create(number: int) -> int:
        body = noise(100_000, seed=number)
        headers = {"if-none-match": "*"}
        return raw.request("PUT", f"/{bucket}/{key}", body=body, headers=headers).status

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(create, range(8)))
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 409, 412}
    found = raw.request("GET", f"/{bucket}/{key}").body
    assert found == noise(100_000, seed=statuses.index(200))


def test_one_replacer_of_many(s3: S3Client, raw: RawClient, bucket: str) -> None:
    tag = s3.put_object(Bucket=bucket, Key="k", Body=b"start")["ETag"]

    def replace(number: int) -> int:
        headers = {"if-match": tag}
        return raw.request("PUT", f"/{bucket}/k", body=b"%d" % number, headers=headers).status

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(replace, range(8)))
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 409, 412}
    assert raw.request("GET", f"/{bucket}/k").body == b"%d" % statuses.index(200)
