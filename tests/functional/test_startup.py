"""What stops the start, and in which words; and the ways to configure a server."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.raw import RawClient
from support.server import ServerFailed, ServerProcess, clean_environment, command_path

from deltaglider_core.cli import main

if TYPE_CHECKING:
    from conftest import MakeClient, StartServer


def run(
    directory: Path, *words: str, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run the command to its end; it must not serve."""
    result = subprocess.run(
        [command_path("deltaglider_proxy"), *words],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=directory,
        env=clean_environment(directory, environment),
        check=False,
    )
    return result.returncode, result.stdout + result.stderr


def start_fails(directory: Path, **options: Any) -> str:
    server = ServerProcess(directory, **options)
    with pytest.raises(ServerFailed):
        server.start()
    log = server.log_text()
    assert "Traceback" not in log, log
    return log


def test_no_credentials(tmp_path: Path) -> None:
    code, text = run(tmp_path, "serve", "--listen", "127.0.0.1:0")
    assert code == 1
    assert "Traceback" not in text
    for way_out in ("quickstart", "DGP_ACCESS_KEY_ID", "DGP_SECRET_ACCESS_KEY", "authentication"):
        assert way_out in text
    assert list(tmp_path.iterdir()) == [], "nothing is created by a start that is refused"


@pytest.mark.parametrize("missing", ["access_key_id", "secret_access_key"])
def test_half_a_key_pair(tmp_path: Path, missing: str) -> None:
    assert missing in start_fails(tmp_path, settings={"access": {missing: None}})


def test_an_empty_secret(tmp_path: Path) -> None:
    log = start_fails(tmp_path, settings={"access": {"secret_access_key": ""}})
    assert "secret_access_key" in log


def test_a_data_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("I am a file")
    log = start_fails(tmp_path)
    assert os.fspath(tmp_path / "data") in log
    assert (tmp_path / "data").read_text() == "I am a file"


def test_a_data_directory_that_cannot_be_written(tmp_path: Path) -> None:
    # Not even root can create a directory there.
    log = start_fails(tmp_path, settings={"storage": {"filesystem": "/sys/kernel/deltaglider"}})
    assert "/sys/kernel/deltaglider" in log


def test_a_spool_directory_that_cannot_be_written(tmp_path: Path) -> None:
    log = start_fails(tmp_path, settings={"advanced": {"spool_dir": "/sys/kernel/spool"}})
    assert "spool_dir" in log


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"advanced": {"max_delta_ration": 0.5}}, "max_delta_ration"),
        ({"storrage": {}}, "storrage"),
        ({"storage": {"buckets": {"b": {"kompression": True}}}}, "kompression"),
        ({"advanced": {"max_delta_ratio": 2}}, "max_delta_ratio"),
        ({"advanced": {"log_level": "loud"}}, "log_level"),
        ({"advanced": {"plugins": {"disabled": ["backend-fs"]}}}, "filesystem"),
        ({"advanced": {"codec": "bsdiff"}}, "bsdiff"),
        ({"access": {"authentication": "maybe"}}, "authentication"),
    ],
)
def test_wrong_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, Any], named: str
) -> None:
    """Found before anything is opened, so no process of its own is needed."""
    server = ServerProcess(tmp_path, settings=settings)
    before = server.config.read_bytes()
    words = ["serve", "--config", os.fspath(server.config), "--listen", "127.0.0.1:0"]
    assert main(words) in (4, 6)
    text = "".join(capsys.readouterr())
    assert named in text
    assert "Traceback" not in text
    assert server.secret_key not in text
    assert server.config.read_bytes() == before


def test_a_configuration_that_does_not_parse(tmp_path: Path) -> None:
    config = tmp_path / "deltaglider_proxy.yaml"
    config.write_text("access: {access_key_id: [\n")
    code, text = run(tmp_path, "serve", "--config", os.fspath(config), "--listen", "127.0.0.1:0")
    assert code == 4
    assert "Traceback" not in text
    assert config.name in text
    assert config.read_text() == "access: {access_key_id: [\n"


def test_a_configuration_that_is_missing(tmp_path: Path) -> None:
    code, text = run(tmp_path, "serve", "--config", "nowhere.yaml", "--listen", "127.0.0.1:0")
    assert code != 0
    assert "nowhere.yaml" in text
    assert "Traceback" not in text


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = ServerProcess(tmp_path)
        code, text = run(
            tmp_path, "serve", "--config", os.fspath(server.config), "--listen", address
        )
    assert code == 1
    assert address in text
    assert "Traceback" not in text


def test_wrong_words_on_the_command_line(tmp_path: Path) -> None:
    for words in (["serve", "--port", "1"], ["unknown"], ["serve", "--workers", "0"]):
        code, text = run(tmp_path, *words)
        assert code == 2, words
        assert "Traceback" not in text


def test_authentication_none(start_server: StartServer) -> None:
    server = start_server(
        settings={
            "access": {
                "authentication": "none",
                "access_key_id": None,
                "secret_access_key": None,
            }
        }
    )
    raw = RawClient(server)
    host = {"host": f"127.0.0.1:{server.port}"}
    assert raw.send_unsigned("PUT", "/open", host).status == 200
    put = {**host, "content-length": "4"}
    assert raw.send_unsigned("PUT", "/open/k", put, b"body").status == 200
    assert raw.send_unsigned("GET", "/open/k", host).body == b"body"
    assert "everybody" in server.log_text(), "open access is said aloud"


def test_keys_override_authentication_none(start_server: StartServer) -> None:
    server = start_server(settings={"access": {"authentication": "none"}})
    raw = RawClient(server)
    host = {"host": f"127.0.0.1:{server.port}"}
    assert raw.send_unsigned("GET", "/", host).code == "AccessDenied"
    assert raw.request("GET", "/").status == 200


def test_environment_instead_of_a_file(
    tmp_path: Path, start_server: StartServer, boto3_factory: MakeClient
) -> None:
    elsewhere = tmp_path / "elsewhere"
    server = start_server(
        settings={"access": None, "storage": None},
        environment={
            "DGP_ACCESS_KEY_ID": "AKENVIRONMENT",
            "DGP_SECRET_ACCESS_KEY": "a secret from outside",
            "DGP_DATA_DIR": os.fspath(elsewhere),
            "DGP_LOG_FORMAT": "json",
            "DGP_LOG_LEVEL": "debug",
        },
    )
    s3 = boto3_factory(server, access_key="AKENVIRONMENT", secret_key="a secret from outside")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="k", Body=b"x")
    assert (elsewhere / "bucket" / "k").read_bytes() == b"x"
    assert not server.data.exists()
    assert "a secret from outside" not in server.log_text() + server.config.read_text()
    assert server.log_text().lstrip().startswith("{")


def test_a_clean_end(start_server: StartServer) -> None:
    server = start_server()
    raw = RawClient(server)
    assert raw.request("PUT", "/bucket").status == 200
    assert server.stop() == 0
    assert "Traceback" not in server.log_text()
    assert not any(server.temporary.rglob("process-*")), "the work directory is removed"
    server.start()
    assert raw.request("HEAD", "/bucket").status == 200


def test_the_end_waits_for_requests_under_way(start_server: StartServer) -> None:
    import signal

    server = start_server()
    raw = RawClient(server)
    assert raw.request("PUT", "/bucket").status == 200
    signed = raw.signer.sign("PUT", "/bucket/k", payload="UNSIGNED-PAYLOAD")
    with raw.connect() as connection:
        connection.send_head("PUT", signed.target, {**signed.headers, "content-length": "4"})
        connection.send(b"bo")
        # The server has begun with it: it answers a later request on another connection.
        assert raw.request("HEAD", "/bucket").status == 200
        os.kill(server.pid, signal.SIGTERM)
        assert connection.is_silent(0.3)
        connection.send(b"dy")
        assert connection.answer().status == 200
    assert server.wait() == 0
    server.start()
    assert raw.request("GET", "/bucket/k").body == b"body"
