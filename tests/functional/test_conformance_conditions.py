"""Conditional deletes, and conditional writes among writers at the same time.

Source: AWS, "How to perform conditional deletes", "How to prevent object overwrites with
conditional writes", "DeleteObject", "DeleteObjects".
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from support.raw import Answer, RawClient
from support.samples import release
from support.uploads import Upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

WRONG = '"00000000000000000000000000000000"'
MODIFIED = "x-amz-if-match-last-modified-time"
SIZE = "x-amz-if-match-size"
WRITERS = 12


def http_date(time: datetime) -> str:
    return format_datetime(time.astimezone(UTC), usegmt=True)


@pytest.mark.parametrize("key", ["plain", "app-1.zip"])
def test_a_delete_whose_conditions_hold_or_not(
    s3: S3Client, raw: RawClient, bucket: str, key: str
) -> None:
    s3.put_object(Bucket=bucket, Key="app-0.zip", Body=release(0))
    body = release(1)
    tag = s3.put_object(Bucket=bucket, Key=key, Body=body)["ETag"]
    modified = s3.head_object(Bucket=bucket, Key=key)["LastModified"]
    good = {"if-match": tag, MODIFIED: http_date(modified), SIZE: str(len(body))}
    bad = {
        "if-match": WRONG,
        MODIFIED: http_date(modified - timedelta(seconds=1)),
        SIZE: str(len(body) + 1),
    }
    target = f"/{bucket}/{key}"
    for name, value in bad.items():
        for headers in ({name: value}, good | {name: value}):
            answer = raw.request("DELETE", target, headers=headers)
            assert (answer.status, answer.code) == (412, "PreconditionFailed"), headers
    assert raw.request("GET", target).body == body
    assert raw.request("DELETE", target, headers=good).status == 204
    assert raw.request("HEAD", target).status == 404


def test_a_conditional_delete_of_nothing(raw: RawClient, bucket: str) -> None:
    """An ETag asks for an object; a size or a date does not."""
    target = f"/{bucket}/absent"
    for tag in ("*", WRONG):
        answer = raw.request("DELETE", target, headers={"if-match": tag})
        assert (answer.status, answer.code) == (404, "NoSuchKey")
    for headers in ({SIZE: "1"}, {MODIFIED: "Fri, 02 Jan 2015 03:04:05 GMT"}):
        assert raw.request("DELETE", target, headers=headers).status == 204


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({SIZE: "big"}, 400, "InvalidArgument"),
        ({SIZE: "-1"}, 400, "InvalidArgument"),
        ({SIZE: ""}, 400, "InvalidArgument"),
        ({MODIFIED: "yesterday"}, 400, "InvalidArgument"),
        ({MODIFIED: ""}, 400, "InvalidArgument"),
        ({"if-match": ""}, 400, "InvalidArgument"),
        ({"if-match": f"{WRONG}, {WRONG}"}, 501, "NotImplemented"),
        ({"if-none-match": "*"}, 501, "NotImplemented"),
        ({"if-match": 'W/"9dd4e461268c8034f5c8564e155c67a6"'}, 412, "PreconditionFailed"),
    ],
)
def test_conditions_that_cannot_be_read_delete_nothing(
    s3: S3Client, raw: RawClient, bucket: str, headers: dict[str, str], status: int, code: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = raw.request("DELETE", f"/{bucket}/k", headers=headers)
    assert (answer.status, answer.code) == (status, code)
    assert raw.request("GET", f"/{bucket}/k").body == b"x"


def test_batches_decide_each_object_alone(s3: S3Client, bucket: str) -> None:
    for key in ("size", "size-", "date", "date-", "etag", "etag-", "all", "any"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    head = s3.head_object(Bucket=bucket, Key="date")
    tag, date = head["ETag"], head["LastModified"]
    written = s3.head_object(Bucket=bucket, Key="all")["LastModified"]
    objects: list[Any] = [
        {"Key": "size", "Size": 1},
        {"Key": "size-", "Size": 2},
        {"Key": "date", "LastModifiedTime": date},
        {"Key": "date-", "LastModifiedTime": date - timedelta(days=1)},
        {"Key": "etag", "ETag": tag},
        {"Key": "etag-", "ETag": WRONG},
        {"Key": "all", "ETag": tag, "Size": 1, "LastModifiedTime": written},
        {"Key": "any", "ETag": "*"},
        {"Key": "absent", "ETag": "*"},
        {"Key": "absent-too", "Size": 3},
    ]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})
    assert {(error["Key"], error["Code"]) for error in answer["Errors"]} == {
        ("size-", "PreconditionFailed"),
        ("date-", "PreconditionFailed"),
        ("etag-", "PreconditionFailed"),
        ("absent", "NoSuchKey"),
    }
    assert [entry["Key"] for entry in answer["Deleted"]] == [
        "size",
        "date",
        "etag",
        "all",
        "any",
        "absent-too",
    ]
    left = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert [entry["Key"] for entry in left] == ["date-", "etag-", "size-"]


# --- at the same time ----------------------------------------------------------------------


def at_once(*requests: Any) -> list[Answer]:
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(lambda request: request(), requests))


def assert_one_winner(answers: list[Answer], success: int = 200) -> int:
    won = [number for number, answer in enumerate(answers) if answer.status == success]
    lost = {(a.status, a.code) for a in answers if a.status != success}
    assert len(won) == 1, [answer.status for answer in answers]
    assert lost <= {
        (412, "PreconditionFailed"),
        (409, "ConditionalRequestConflict"),
        (404, "NoSuchKey"),
    }
    return won[0]


@pytest.mark.parametrize("replacing", [False, True])
def test_one_of_several_completions_wins(
    s3: S3Client, raw: RawClient, bucket: str, replacing: bool
) -> None:
    headers = {"if-none-match": "*"}
    if replacing:
        headers = {"if-match": s3.put_object(Bucket=bucket, Key="k", Body=b"old")["ETag"]}
    uploads = [Upload(s3, bucket, "k") for _ in range(6)]
    bodies = []
    for number, upload in enumerate(uploads):
        tag = upload.part(1, b"%d" % number)
        part = f"<Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part>"
        bodies.append(f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode())

    def complete(number: int) -> Answer:
        return raw.request("POST", uploads[number].target, headers=headers, body=bodies[number])

    answers = at_once(*(lambda n=n: complete(n) for n in range(len(uploads))))
    winner = assert_one_winner(answers)
    assert raw.request("GET", f"/{bucket}/k").body == b"%d" % winner


def test_one_of_several_copies_wins(s3: S3Client, raw: RawClient, bucket: str) -> None:
    for number in range(WRITERS):
        s3.put_object(Bucket=bucket, Key=f"source-{number}", Body=b"%d" % number)

    def copy(number: int) -> Answer:
        headers = {"x-amz-copy-source": f"{bucket}/source-{number}", "if-none-match": "*"}
        return raw.request("PUT", f"/{bucket}/copy", headers=headers)

    winner = assert_one_winner(at_once(*(lambda n=n: copy(n) for n in range(WRITERS))))
    assert raw.request("GET", f"/{bucket}/copy").body == b"%d" % winner


@pytest.mark.parametrize("key", ["k", "app-1.zip"])
def test_a_writer_or_a_deleter_of_one_version_wins(
    s3: S3Client, raw: RawClient, bucket: str, key: str
) -> None:
    s3.put_object(Bucket=bucket, Key="app-0.zip", Body=release(0))
    target = f"/{bucket}/{key}"
    for number in range(4):
        tag = s3.put_object(Bucket=bucket, Key=key, Body=release(number + 1))["ETag"]
        headers = {"if-match": tag}
        put, delete = at_once(
            lambda headers=headers: raw.request("PUT", target, headers=headers, body=b"new"),
            lambda headers=headers: raw.request("DELETE", target, headers=headers),
        )
        assert (put.status == 200) != (delete.status == 204), (put.status, delete.status)
        loser = put if put.status != 200 else delete
        assert loser.status in (404, 409, 412)
        assert raw.request("HEAD", target).status == (200 if put.status == 200 else 404)


def test_dates_in_the_future_are_no_condition(raw: RawClient, bucket: str) -> None:
    assert raw.request("PUT", f"/{bucket}/k", body=b"x").status == 200
    headers = {"if-modified-since": http_date(datetime.now(UTC) + timedelta(days=1))}
    assert raw.request("GET", f"/{bucket}/k", headers=headers).status == 200
