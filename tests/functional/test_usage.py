"""What is counted: ``/_/stats``, ``usage``, ``reconcile``, and quotas, on a real server."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from support.raw import RawClient
from support.samples import release
from support.server import ServerProcess, clean_environment, command_path

if TYPE_CHECKING:
    from conftest import MakeClient, StartServer

OTHER = {"access": {"access_key_id": None, "secret_access_key": None, "authentication": "none"}}


def command(server: ServerProcess, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command_path("deltaglider_proxy"), *words, "--config", str(server.config)],
        capture_output=True,
        text=True,
        cwd=server.directory,
        env=clean_environment(server.directory),
        check=False,
        timeout=60,
    )


def stats(server: ServerProcess, query: str = "") -> dict[str, Any]:
    answer = RawClient(server).request("GET", f"/_/stats{query}")
    assert answer.status == 200, answer
    return dict(json.loads(answer.body))


def stored_on_disk(server: ServerProcess, bucket: str) -> int:
    """Bytes of objects and references as they lie in the directory."""
    root = server.data / bucket
    ours = root / ".deltaglider"
    return sum(
        path.stat().st_size
        for path in root.rglob("*")
        if path.is_file()
        and (ours not in path.parents or (ours / "refs") in path.parents)
        and "%dg-" not in path.name
    )


def test_stats_and_usage_say_what_is_there(
    start_server: StartServer, boto3_factory: MakeClient
) -> None:
    server = start_server()
    s3 = boto3_factory(server)
    for bucket in ("first", "second"):
        s3.create_bucket(Bucket=bucket)
    sizes = {}
    for number in range(4):
        data = release(number)
        s3.put_object(Bucket="first", Key=f"app-{number}.zip", Body=data)
        sizes[f"app-{number}.zip"] = len(data)
    s3.put_object(Bucket="first", Key="app-0.zip", Body=b"small now")
    sizes["app-0.zip"] = 9
    s3.copy_object(Bucket="first", Key="copy", CopySource="first/app-1.zip")
    sizes["copy"] = sizes["app-1.zip"]
    s3.put_object(Bucket="second", Key="k", Body=b"12345")
    s3.put_object(Bucket="second", Key="gone", Body=b"12345")
    s3.delete_object(Bucket="second", Key="gone")
    found = stats(server)
    assert found["total_objects"] == 6
    assert found["total_original_size"] == sum(sizes.values()) + 5
    first = found["buckets"]["first"]
    assert first["total_stored_size"] == stored_on_disk(server, "first")
    assert first["total_stored_size"] < first["total_original_size"]
    assert 0 < first["savings_percentage"] < 100
    assert first["pending_writes"] == 0
    assert stats(server, "?bucket=second")["total_original_size"] == 5
    printed = command(server, "usage", "--json")
    assert printed.returncode == 0, printed.stderr
    assert json.loads(printed.stdout) == found
    table = command(server, "usage", "second").stdout.splitlines()
    assert table[0].split()[:4] == ["BUCKET", "OBJECTS", "BYTES", "STORED"]
    assert table[1].split()[:4] == ["second", "1", "5", "5"]
    missing = command(server, "usage", "nowhere")
    assert missing.returncode == 8
    assert "'nowhere'" in missing.stderr


def test_stats_are_for_those_who_may_list(server: ServerProcess) -> None:
    raw = RawClient(server)
    with raw.connect() as connection:
        connection.send_head("GET", "/_/stats", {"host": raw.signer.host})
        assert connection.answer().status == 403
    signed = raw.signer.sign("GET", "/_/stats")
    wrong = {**signed.headers, "authorization": signed.headers["authorization"][:-4] + "0000"}
    with raw.connect() as connection:
        connection.send_head("GET", "/_/stats", wrong)
        assert connection.answer().status == 403


def test_open_access_shows_stats(start_server: StartServer) -> None:
    server = start_server(settings=OTHER)
    raw = RawClient(server)
    with raw.connect() as connection:
        connection.send_head("GET", "/_/stats", {"host": raw.signer.host})
        answer = connection.answer()
    assert (answer.status, json.loads(answer.body)["total_objects"]) == (200, 0)


def test_reconcile_counts_what_others_wrote(
    start_server: StartServer, boto3_factory: MakeClient
) -> None:
    server = start_server()
    s3 = boto3_factory(server)
    s3.create_bucket(Bucket="mine")
    s3.put_object(Bucket="mine", Key="k", Body=b"12345")
    theirs = server.data / "theirs"
    theirs.mkdir()
    for number in range(30):
        (theirs / f"file-{number}").write_bytes(b"x" * number)
    (server.data / "mine" / "k").unlink()
    s3.put_object(Bucket="theirs", Key="ours", Body=b"1")
    assert stats(server, "?bucket=theirs")["complete"] is False
    assert "run reconcile" in command(server, "usage", "theirs").stdout
    done = command(server, "reconcile")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "mine: 0 objects, 0 corrected, 1 that are not there dropped",
        "theirs: 31 objects, 30 corrected, 0 that are not there dropped",
    ]
    found = stats(server)["buckets"]
    assert found["mine"]["total_objects"] == 0
    assert found["theirs"]["total_objects"] == 31
    assert found["theirs"]["total_original_size"] == sum(range(30)) + 1
    assert found["theirs"]["complete"] is True
    wrong = command(server, "reconcile", "nowhere")
    assert wrong.returncode == 5
    assert "nowhere: NoSuchBucket" in wrong.stderr


def test_a_quota_over_http(start_server: StartServer, boto3_factory: MakeClient) -> None:
    quotas = {"small": {"quota_bytes": 100_000}, "frozen": {"quota_bytes": 0}}
    server = start_server(settings={"storage": {"buckets": quotas}}, arguments=["--workers", "2"])
    s3 = boto3_factory(server, max_pool_connections=8)
    for bucket in quotas:
        s3.create_bucket(Bucket=bucket)

    def refused(call: Any, **names: Any) -> bool:
        try:
            call(**names)
        except ClientError as error:
            answer = error.response
        else:
            return False
        assert answer["Error"]["Code"] == "QuotaExceeded"
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403
        return True

    def put(number: int) -> bool:
        body = bytes([number]) * 30_000
        return not refused(s3.put_object, Bucket="small", Key=f"k{number}", Body=body)

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(put, range(8))) == 3
    assert stats(server, "?bucket=small")["total_original_size"] == 90_000
    source = "small/" + s3.list_objects_v2(Bucket="small")["Contents"][0]["Key"]
    assert refused(s3.copy_object, Bucket="small", Key="copy", CopySource=source)
    assert refused(s3.put_object, Bucket="frozen", Key="k", Body=b"")
    assert refused(s3.create_multipart_upload, Bucket="frozen", Key="k")
    upload: Any = {"Bucket": "small", "Key": "parts"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    part = s3.upload_part(**upload, PartNumber=1, Body=b"x" * 10_000)
    s3.put_object(Bucket="small", Key="filler", Body=b"x" * 5_000)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    assert refused(s3.complete_multipart_upload, **upload, MultipartUpload=parts)
    s3.delete_object(Bucket="small", Key="filler")
    s3.complete_multipart_upload(**upload, MultipartUpload=parts)
    assert stats(server, "?bucket=small")["total_original_size"] == 100_000


def test_a_command_says_what_is_wrong(start_server: StartServer) -> None:
    server = start_server()
    server.stop()
    (server.directory / "deltaglider_config.key").unlink()
    for word in ("usage", "reconcile", "collect", "events"):
        done = command(server, word)
        assert done.returncode != 0, word
        assert "deltaglider_config.key" in done.stderr, word
        assert "Traceback" not in done.stderr, word
