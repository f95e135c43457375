"""A backend that fails under reads: an error is never absence, and no wrong byte is sent whole."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from support.clients import boto3_client
from support.expect import refused
from support.faults import Fault, Faults
from support.raw import Answer, RawClient
from support.samples import MIB, noise, release, wait_until
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "faults"
PLAIN, OLD, DELTA = "plain.bin", "app/1.zip", "app/2.zip"
CONTENT = {PLAIN: noise(2 * MIB, 3), OLD: release(0), DELTA: release(1)}


@dataclass
class Place:
    server: ServerProcess
    faults: Faults
    s3: S3Client

    def get(self, key: str) -> Answer:
        return RawClient(self.server).request("GET", f"/{BUCKET}/{key}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("faults")
    faults = Faults(directory / "plugin")
    # No cache: every read of a delta asks the backend for its reference.
    settings = {"advanced": {"cache_size_mb": 0}}
    with ServerProcess(
        directory / "server", settings=settings, environment=faults.environment
    ) as server:
        s3 = boto3_client(server)
        s3.create_bucket(Bucket=BUCKET)
        for key, data in CONTENT.items():
            s3.put_object(Bucket=BUCKET, Key=key, Body=data)
        stored = server.data / BUCKET / DELTA
        assert stored.stat().st_size < MIB // 10, "the sample is no delta"
        yield Place(server, faults, s3)
        s3.close()


@pytest.mark.parametrize(("error", "status"), [("ServiceUnavailable", 503), ("TimeoutError", 500)])
@pytest.mark.parametrize("key", CONTENT)
def test_an_error_is_not_absence(place: Place, key: str, error: str, status: int) -> None:
    with place.faults.armed(Fault(action="error", method="*et_object", error=error)):
        answer = place.get(key)
        assert (answer.status, answer.code) != (404, "NoSuchKey")
        assert answer.status == status
    with place.faults.armed(Fault(action="error", method="*_object", error=error)):
        head = RawClient(place.server).request("HEAD", f"/{BUCKET}/{key}")
        assert head.status == status
    assert place.get(key).body == CONTENT[key]


def test_a_missing_reference_is_the_fault_of_the_server(place: Place) -> None:
    """404 would tell the client that the object is gone, which it could act upon."""
    fault = Fault(action="error", key=".deltaglider/refs/*", error="NoSuchKey")
    with place.faults.armed(fault):
        answer = place.get(DELTA)
    assert place.faults.calls(fault)
    assert answer.status in (500, 503) or not answer.complete
    assert place.get(DELTA).body == CONTENT[DELTA]


@pytest.mark.parametrize("error", ["", "OSError"])
@pytest.mark.parametrize("count", [0, 1, 1000, 100_000])
@pytest.mark.parametrize("key", CONTENT)
def test_a_body_that_is_cut_is_never_complete(
    place: Place, key: str, count: int, error: str
) -> None:
    """Whether the backend says that something is wrong or just ends."""
    fault = Fault(action="cut", method="get_object", error=error, bytes=count)
    with place.faults.armed(fault):
        answer = place.get(key)
    assert place.faults.calls(fault)
    if answer.status == 200:
        assert CONTENT[key].startswith(answer.body)
        assert answer.complete == (answer.body == CONTENT[key])
    else:
        assert answer.status in (500, 503)
    assert place.get(key).body == CONTENT[key]


@pytest.mark.parametrize("method", ["head_object", "list_objects", "*"])
@pytest.mark.parametrize("suffix", ["bin", "zip"])
def test_a_stale_look_up_mixes_no_versions(place: Place, method: str, suffix: str) -> None:
    """Facts of one version never come with bytes of another."""
    key = f"stale/{method.strip('*')}/object.{suffix}"
    versions = {}
    for number in range(3):
        data = release(number, MIB // 4)[: MIB // 4 - number]
        answer = place.s3.put_object(Bucket=BUCKET, Key=key, Body=data)
        versions[answer["ETag"]] = data
        # So that there is an answer to repeat when the next version is there.
        place.s3.head_object(Bucket=BUCKET, Key=key)
        place.s3.list_objects_v2(Bucket=BUCKET, Prefix=key)
    latest = data
    with place.faults.armed(Fault(action="stale", method=method)):
        for _ in range(3):
            answer = place.get(key)
            if answer.status == 200 and answer.complete:
                assert answer.body == versions[answer.headers["etag"]]
                assert int(answer.headers["content-length"]) == len(answer.body)
            else:
                assert answer.status in (200, 500, 503)
        place.s3.put_object(Bucket=BUCKET, Key=key, Body=latest)
    assert place.get(key).body == latest


def test_a_listing_that_fails_is_not_empty(place: Place) -> None:
    with place.faults.armed(Fault(action="error", method="list_objects", error="SlowDown")):
        with refused("SlowDown", 503):
            place.s3.list_objects_v2(Bucket=BUCKET)
        with refused("SlowDown", 503):
            place.s3.list_objects(Bucket=BUCKET)
    listed = place.s3.list_objects_v2(Bucket=BUCKET, Prefix="app/")["Contents"]
    assert [entry["Key"] for entry in listed] == [OLD, DELTA]


def test_a_bucket_is_not_deleted_on_a_look_up_that_fails(place: Place) -> None:
    place.s3.create_bucket(Bucket="full")
    place.s3.put_object(Bucket="full", Key="object", Body=b"x")
    for method in ("list_objects", "head_bucket", "list_multipart_uploads", "delete_bucket"):
        with (
            place.faults.armed(Fault(action="error", method=method, bucket="full")),
            pytest.raises(place.s3.exceptions.ClientError),
        ):
            place.s3.delete_bucket(Bucket="full")
        assert place.s3.get_object(Bucket="full", Key="object")["Body"].read() == b"x"


def test_a_backend_that_hangs_holds_up_nobody_else(place: Place) -> None:
    answers: list[Answer] = []

    def put() -> None:
        raw = RawClient(place.server)
        answers.append(raw.request("PUT", f"/{BUCKET}/hanging", body=b"late"))

    fault = Fault(action="hang", method="put_object", key="hanging")
    with place.faults.armed(fault):
        thread = threading.Thread(target=put)
        thread.start()
        wait_until(lambda: bool(place.faults.calls(fault)), "the backend is asked to write")
        for key, data in CONTENT.items():
            assert place.get(key).body == data
        place.s3.put_object(Bucket=BUCKET, Key="other", Body=b"now")
        assert place.get("hanging").status == 404
        assert not answers
    thread.join(20)
    assert [answer.status for answer in answers] == [200]
    assert place.get("hanging").body == b"late"


def test_a_slow_backend_is_waited_for(place: Place) -> None:
    with place.faults.armed(Fault(action="delay", seconds=0.2)):
        for key, data in CONTENT.items():
            assert place.get(key).body == data
