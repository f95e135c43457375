"""The life of a server process: it starts, ends orderly, survives a kill, refuses nonsense."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.clients import AwsCli, Rclone, boto3_client
from support.server import ServerFailed, ServerProcess, merged

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MakeClient = Callable[..., "S3Client"]
StartServer = Callable[..., ServerProcess]


def health(server: ServerProcess) -> int:
    with urllib.request.urlopen(f"{server.url}/_/health", timeout=10) as answer:
        return int(answer.status)


def test_it_serves_until_sigterm_and_then_again_at_the_same_place(
    start_server: StartServer,
) -> None:
    server = start_server()
    url = server.url
    assert health(server) == 200
    assert server.stop() == 0
    with pytest.raises(urllib.error.URLError):
        health(server)
    server.restart()
    assert server.url == url
    assert health(server) == 200
    assert "Traceback" not in server.log_text()


def test_what_was_answered_survives_a_kill(
    start_server: StartServer, boto3_factory: MakeClient
) -> None:
    server = start_server()
    client = boto3_factory(server)
    client.create_bucket(Bucket="kept")
    client.put_object(Bucket="kept", Key="a/b", Body=b"before the kill")
    pid = server.pid
    server.kill()
    with pytest.raises(ServerFailed, match="is not running"):
        server.kill()
    server.restart()
    assert server.pid != pid
    assert client.get_object(Bucket="kept", Key="a/b")["Body"].read() == b"before the kill"


def test_nothing_temporary_is_left_after_an_orderly_end(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        client = boto3_client(server)
        client.create_bucket(Bucket="builds")
        client.put_object(Bucket="builds", Key="v1.tar", Body=b"x" * 100_000)
        client.put_object(Bucket="builds", Key="v2.tar", Body=b"x" * 100_001)
        client.close()
    left = [path for path in server.temporary.rglob("*") if path.is_file() and path.stat().st_size]
    assert left == []


def test_workers_share_one_port_and_end_together(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, arguments=["--workers", "2"]) as server:
        client = boto3_client(server)
        client.create_bucket(Bucket="builds")
        for number in range(20):
            client.put_object(Bucket="builds", Key=str(number), Body=b"x")
        assert client.list_objects_v2(Bucket="builds")["KeyCount"] == 20
        client.close()
    with pytest.raises(urllib.error.URLError):
        health(server)


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, settings={"advanced": {"no_such_setting": 1}})
    with pytest.raises(ServerFailed, match=r"advanced\.no_such_setting"):
        server.start()


def test_without_credentials_it_does_not_start(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, settings={"access": None})
    with pytest.raises(ServerFailed, match="authentication: none"):
        server.start()
    server.write_config({"access": {"authentication": "none"} | dict.fromkeys(KEY_PAIR)})
    with server:
        assert health(server) == 200


KEY_PAIR = ("access_key_id", "secret_access_key")


def test_the_stock_commands_reach_the_server(
    aws_cli: AwsCli, rclone: Rclone, bucket: str, tmp_path: Path
) -> None:
    source = tmp_path / "source.txt"
    source.write_bytes(b"from the aws command")
    aws_cli("s3", "cp", "--no-progress", source, f"s3://{bucket}/dir/source.txt")
    assert rclone("cat", f"dg:{bucket}/dir/source.txt").stdout == b"from the aws command"
    failed = aws_cli("s3", "ls", "s3://no-such-bucket", check=False)
    assert failed.returncode != 0
    assert b"NoSuchBucket" in failed.stderr
    with pytest.raises(AssertionError, match="NoSuchBucket"):
        aws_cli("s3", "ls", "s3://no-such-bucket")


def test_settings_are_laid_over_the_written_configuration() -> None:
    base = {"a": {"x": 1, "y": 2}, "b": 3}
    assert merged(base, {"a": {"y": 4, "z": 5}, "c": {"d": 6}}) == {
        "a": {"x": 1, "y": 4, "z": 5},
        "b": 3,
        "c": {"d": 6},
    }
    assert merged(base, {"a": {"x": None}, "b": None}) == {"a": {"y": 2}}
    assert base == {"a": {"x": 1, "y": 2}, "b": 3}
