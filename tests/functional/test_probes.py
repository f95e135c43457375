from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest
from support.raw import Answer, RawClient
from support.samples import wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from conftest import MakeClient, StartServer


def probe(raw: RawClient, path: str, method: str = "GET") -> Answer:
    """Ask without credentials, as a load balancer does."""
    return raw.send_unsigned(method, path, {"host": "probe"})


def test_health(raw: RawClient) -> None:
    answer = probe(raw, "/_/health")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert json.loads(answer.body) == {"status": "healthy"}


def test_load_balancers_that_ask_by_head(raw: RawClient) -> None:
    for path in ("/_/health", "/_/ready"):
        answer = probe(raw, path, "HEAD")
        assert (answer.status, answer.body) == (200, b"")


def test_ready(raw: RawClient) -> None:
    answer = probe(raw, "/_/ready")
    assert (answer.status, json.loads(answer.body)) == (
        200,
        {"status": "ready", "backend": "ready"},
    )


def test_not_ready_without_the_data(start_server: StartServer, boto3_factory: MakeClient) -> None:
    server = start_server()
    raw, s3 = RawClient(server), boto3_factory(server)
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="k", Body=b"x")
    shutil.rmtree(server.data)
    answer = probe(raw, "/_/ready")
    assert (answer.status, json.loads(answer.body)["status"]) == (503, "not_ready")
    assert str(server.data) not in answer.body.decode(), "paths are for the log"
    assert probe(raw, "/_/health").status == 200
    # A directory that is gone is neither an empty service nor one without this bucket.
    for method, target in (
        ("GET", "/"),
        ("GET", "/bucket"),
        ("GET", "/bucket/k"),
        ("DELETE", "/bucket/k"),
        ("PUT", "/bucket/k2"),
        ("PUT", "/bucket2"),
    ):
        found = raw.request(method, target)
        assert (found.status, found.code) == (503, "ServiceUnavailable"), (method, target)
    assert not server.data.exists()
    server.restart()
    assert probe(raw, "/_/ready").status == 200


def test_metrics(s3: S3Client, raw: RawClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 1000)
    s3.get_object(Bucket=bucket, Key="k")["Body"].read()
    raw.request("GET", f"/{bucket}/absent")
    raw.request("BREW", f"/{bucket}/k")
    answer = probe(raw, "/_/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    text = answer.body.decode()
    assert re.search(
        r'deltaglider_http_requests_total\{method="PUT",operation="put_object",status="200"\} \d',
        text,
    )
    assert re.search(r'operation="get_object",status="404"', text)
    for name in (
        "deltaglider_http_request_duration_seconds_bucket",
        "deltaglider_http_request_size_bytes_sum",
        "deltaglider_http_response_size_bytes_sum",
        "deltaglider_build_info",
        "process_start_time_seconds",
    ):
        assert re.search(rf"^{name}[ {{]", text, re.MULTILINE), name
    assert "BREW" not in text, "a method that somebody invents must not become a label"
    assert bucket not in text
    assert "absent" not in text


@pytest.mark.parametrize("path", ["/_/", "/_/other", "/_/healthx", "/_/health/x", "/_"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_unknown_paths(raw: RawClient, path: str, method: str) -> None:
    answer = probe(raw, path, method)
    assert answer.status in (404, 405)
    assert answer.headers["content-type"].startswith("application/json")
    json.loads(answer.body)


def test_only_reading_methods(raw: RawClient) -> None:
    for path in ("/_/health", "/_/ready", "/_/metrics"):
        assert probe(raw, path, "DELETE").status == 405
        assert probe(raw, path, "HEAD").status in (200, 405)


def test_buckets_of_similar_names_are_buckets(s3: S3Client) -> None:
    for name in ("health", "metrics", "ready"):
        s3.create_bucket(Bucket=name)
        s3.put_object(Bucket=name, Key="_/health", Body=b"object")
        assert s3.get_object(Bucket=name, Key="_/health")["Body"].read() == b"object"


def test_request_ids(raw: RawClient, bucket: str) -> None:
    seen = set()
    for _ in range(3):
        answer = raw.request("GET", f"/{bucket}/absent")
        request_id = answer.headers["x-amz-request-id"]
        assert answer.element("RequestId") == request_id
        assert answer.element("Resource") == f"/{bucket}/absent"
        seen.add(request_id)
    assert len(seen) == 3
    for answer in (raw.request("GET", "/"), raw.request("HEAD", f"/{bucket}/absent")):
        assert answer.headers["x-amz-request-id"]


def test_the_log_has_the_request_id(raw: RawClient, bucket: str) -> None:
    request_id = raw.request("GET", f"/{bucket}/absent").headers["x-amz-request-id"]
    wait_until(lambda: request_id in raw.server.log_text(), "the request is logged")
    line = next(line for line in raw.server.log_text().splitlines() if request_id in line)
    assert "404" in line
    assert "NoSuchKey" in line


def test_common_headers(raw: RawClient, bucket: str) -> None:
    host = {"host": "x"}
    for answer in (
        raw.request("GET", f"/{bucket}"),
        raw.request("GET", f"/{bucket}/absent"),
        raw.send_unsigned("GET", f"/{bucket}", host),
        raw.send_unsigned("OPTIONS", f"/{bucket}", host),
    ):
        assert "server" not in answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "date" in answer.headers
        assert "access-control-allow-origin" not in answer.headers
    for path in ("/_/health", "/_/ready", "/_/metrics", "/_/other"):
        answer = probe(raw, path)
        assert "server" not in answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff", path


def test_errors_are_xml_without_namespace(raw: RawClient, bucket: str) -> None:
    answer = raw.request("GET", f"/{bucket}/absent")
    assert answer.headers["content-type"] == "application/xml"
    assert answer.body.startswith(b"<?xml")
    assert b"<Error><Code>NoSuchKey</Code><Message>" in answer.body
