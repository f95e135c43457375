from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support.raw import RawClient

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NAMES = [f"lister-{letter}" for letter in "abcde"]


@pytest.fixture(scope="session", autouse=True)
def buckets(s3: S3Client) -> None:
    for name in reversed(NAMES):
        s3.create_bucket(Bucket=name)


def test_lists_sorted_with_dates(s3: S3Client) -> None:
    answer = s3.list_buckets()
    names = [bucket["Name"] for bucket in answer["Buckets"]]
    assert names == sorted(names)
    assert set(NAMES) <= set(names)
    assert answer["Owner"]["ID"]
    assert "ContinuationToken" not in answer
    for bucket in answer["Buckets"]:
        assert abs(datetime.now(UTC) - bucket["CreationDate"]) < timedelta(minutes=10)


def test_creation_date_does_not_move(s3: S3Client) -> None:
    def date_of(name: str) -> datetime:
        found = {b["Name"]: b["CreationDate"] for b in s3.list_buckets()["Buckets"]}
        return found[name]

    before = date_of("lister-a")
    s3.put_object(Bucket="lister-a", Key="k", Body=b"x")
    s3.put_object(Bucket="lister-a", Key="d/k", Body=b"x")
    assert date_of("lister-a") == before


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6])
def test_paging(s3: S3Client, size: int) -> None:
    seen: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = s3.list_buckets(Prefix="lister-", MaxBuckets=size, **token)  # type: ignore[arg-type]
        assert page["Prefix"] == "lister-"
        assert 1 <= len(page["Buckets"]) <= size
        seen += [bucket["Name"] for bucket in page["Buckets"]]
        if "ContinuationToken" not in page:
            break
        token = {"ContinuationToken": page["ContinuationToken"]}
    assert seen == NAMES


@pytest.mark.parametrize("query", ["max-buckets=0", "max-buckets=10001", "max-buckets=x"])
def test_wrong_page_sizes(raw: RawClient, query: str) -> None:
    answer = raw.request("GET", f"/?{query}")
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_wrong_token(raw: RawClient) -> None:
    answer = raw.request("GET", "/?continuation-token=lister-a")
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_head_of_the_service_needs_no_identity(raw: RawClient) -> None:
    host = {"host": f"127.0.0.1:{raw.server.port}"}
    assert raw.send_unsigned("HEAD", "/", host).status == 200
    assert raw.send_unsigned("GET", "/", host).code == "AccessDenied"


def test_other_methods_on_the_service(raw: RawClient) -> None:
    for method in ("PUT", "POST", "DELETE"):
        answer = raw.request(method, "/")
        assert (answer.status, answer.code) == (405, "MethodNotAllowed")
