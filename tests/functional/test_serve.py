"""``serve`` as an operator meets it: announcements, refusals, reloads, dead workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from support.clients import boto3_client
from support.server import ServerFailed, ServerProcess, clean_environment, command_path

SECONDS = 20.0


def wait_until(condition: Callable[[], bool], server: ServerProcess) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, server.log_text()
        time.sleep(0.02)


def workers(pid: int) -> set[int]:
    """Process ids of the workers below a server."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            status = (entry / "stat").read_text()
            command = (entry / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        fields = status.rpartition(")")[2].split()
        alive = fields[0] != "Z"
        if fields[1] == str(pid) and alive and b"spawn_main" in command:
            found.add(int(entry.name))
    return found


@pytest.fixture
def two_workers(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, arguments=["--workers", "2"]) as server:
        yield server


def test_json_logs_are_json_from_the_first_line(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, settings={"advanced": {"log_format": "json"}})
    command = [command_path("deltaglider_proxy"), "-c", os.fspath(server.config)]
    environment = clean_environment(tmp_path, {"TMPDIR": os.fspath(server.temporary)})
    with subprocess.Popen(
        [*command, "-l", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment,
    ) as process:
        assert process.stderr is not None
        first = json.loads(process.stderr.readline())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
    assert first["event"] == "listening"
    assert first["address"].startswith("http://127.0.0.1:")
    assert first["level"] == "info"
    for line in err.splitlines():
        json.loads(line)
    assert out == b""
    assert process.returncode == 0


@pytest.mark.parametrize("count", ["1", "2"])
def test_an_address_in_use_is_one_sentence(count: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = ServerProcess(tmp_path)
        server._port = taken.getsockname()[1]
        server._arguments = ("--workers", count)
        with pytest.raises(ServerFailed, match="ended with 1") as caught:
            server.start()
    assert "another process listens there" in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_backend_that_cannot_be_opened_is_one_sentence(count: str, tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    server = ServerProcess(tmp_path, arguments=["--workers", count])
    with pytest.raises(ServerFailed, match="ended with 1") as caught:
        server.start()
    assert "storage_backends: 'filesystem' of plugin 'backend-fs'" in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("arguments", [[], ["--workers", "2"]])
def test_sighup_puts_a_new_configuration_in_force(arguments: list[str], tmp_path: Path) -> None:
    count = max(1, len(arguments))
    with ServerProcess(tmp_path, arguments=arguments) as server:
        client = boto3_client(server)
        client.create_bucket(Bucket="builds")
        old_secret = server.secret_key
        server.secret_key = "another-secret-of-this-server"
        server.write_config({"advanced": {"spool_max_bytes": 1000}})
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: server.log_text().count("configuration reloaded") == count, server)
        assert server.log_text().count("advanced.spool_max_bytes") == count
        for _ in range(4):
            with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
                client.list_buckets()
        renewed = boto3_client(server)
        assert [bucket["Name"] for bucket in renewed.list_buckets()["Buckets"]] == ["builds"]
        for text in (old_secret, server.secret_key):
            assert text not in server.log_text()
        client.close()
        renewed.close()


WRONG = (
    ({"advanced": {"no_such": 1}}, "advanced.no_such: unknown key"),
    ({"access": None}, "no credentials are configured"),
)


@pytest.mark.parametrize("arguments", [[], ["--workers", "2"]])
def test_a_wrong_configuration_is_not_put_in_force(arguments: list[str], tmp_path: Path) -> None:
    with ServerProcess(tmp_path, arguments=arguments) as server:
        client = boto3_client(server)
        for settings, words in WRONG:
            assert words not in server.log_text()
            server.write_config(settings)
            os.kill(server.pid, signal.SIGHUP)
            wait_until(lambda w=words: w in server.log_text(), server)
            assert "reload refused" in server.log_text()
            assert client.list_buckets()["Buckets"] == []
        client.close()
        server.write_config({})


def test_a_dead_worker_is_replaced(two_workers: ServerProcess) -> None:
    before = workers(two_workers.pid)
    assert len(before) == 2
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(workers(two_workers.pid) - {victim}) == 2, two_workers)
    assert "worker died, another one starts" in two_workers.log_text()
    client = boto3_client(two_workers)
    for _ in range(6):
        assert client.list_buckets()["Buckets"] == []
    client.close()
    assert two_workers.stop() == 0


def test_a_worker_that_cannot_start_stops_everything(two_workers: ServerProcess) -> None:
    two_workers.config.write_text("access: {}\n")
    os.kill(min(workers(two_workers.pid)), signal.SIGKILL)
    wait_until(lambda: two_workers._running().poll() is not None, two_workers)
    assert two_workers._running().returncode == 1
    assert two_workers.log_text().count("worker cannot start") == 1
    assert "no credentials are configured" in two_workers.log_text()
    assert "Traceback" not in two_workers.log_text()
    two_workers.kill()


def test_quickstart_serves_what_it_prints(tmp_path: Path) -> None:
    environment = clean_environment(tmp_path, {"TMPDIR": os.fspath(tmp_path)})
    with subprocess.Popen(
        [command_path("deltaglider_proxy"), "quickstart", "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
        env=environment,
        text=True,
    ) as process:
        assert process.stdout is not None
        exports = []
        for line in process.stdout:
            exports += [line.strip()] if line.strip().startswith("export ") else []
            if line.startswith("Stop with"):
                break
        script = "; ".join([*exports, "aws s3 mb s3://builds", "aws s3 ls"])
        path = f"{Path(command_path('deltaglider_proxy')).parent}:{environment['PATH']}"
        result = subprocess.run(
            ["bash", "-ec", script],
            env=environment | {"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].endswith(" builds")
    assert (tmp_path / "data" / "builds").is_dir()
    assert (tmp_path / "deltaglider_proxy.yaml").stat().st_mode & 0o777 == 0o600
