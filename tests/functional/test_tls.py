"""https as clients meet it: stock clients, several workers, renewed certificates."""

from __future__ import annotations

import http.client
import os
import re
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.certificates import Authority
from support.clients import AwsCli, Curl, boto3_client
from support.processes import workers_of
from support.raw import RawClient
from support.samples import MIB, noise, wait_until
from support.server import ServerFailed, ServerProcess, clean_environment

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "secure"
HSTS = "max-age=31536000; includeSubDomains"
SECONDS = 20.0


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Two workers with the certificate that the service made."""
    directory = tmp_path_factory.mktemp("tls")
    with ServerProcess(directory, tls=True, arguments=["--workers", "2"]) as server:
        yield server


@pytest.fixture(scope="module")
def client(secure: ServerProcess) -> Iterator[S3Client]:
    client = boto3_client(secure)
    client.create_bucket(Bucket=BUCKET)
    yield client
    client.close()


# --- clients --------------------------------------------------------------------------------


def test_boto3_with_its_mode_for_https(client: S3Client) -> None:
    sent: dict[str, str] = {}

    def note(request: Any, **_: Any) -> None:
        for name, value in request.headers.items():
            sent[name.lower()] = value if isinstance(value, str) else value.decode()

    client.meta.events.register("before-send.s3.PutObject", note)
    body = noise(3 * MIB + 5)
    client.put_object(Bucket=BUCKET, Key="put", Body=body)
    client.meta.events.unregister("before-send.s3.PutObject", note)
    # What this test is about: over http the same client signs the body instead.
    assert sent["x-amz-content-sha256"] == "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    assert sent["transfer-encoding"] == "chunked"
    answer = client.get_object(Bucket=BUCKET, Key="put")
    assert answer["Body"].read() == body
    assert answer["ResponseMetadata"]["HTTPHeaders"]["strict-transport-security"] == HSTS
    part = client.get_object(Bucket=BUCKET, Key="put", Range="bytes=1048570-2097160")
    assert part["Body"].read() == body[1048570:2097161]
    client.copy_object(Bucket=BUCKET, Key="copy", CopySource=f"{BUCKET}/put")
    client.put_object(Bucket=BUCKET, Key="empty", Body=b"")
    listed = client.list_objects_v2(Bucket=BUCKET)["Contents"]
    assert {entry["Key"]: entry["Size"] for entry in listed} == {
        "copy": len(body),
        "empty": 0,
        "put": len(body),
    }
    keys = [{"Key": key} for key in ("copy", "empty", "put")]
    assert len(client.delete_objects(Bucket=BUCKET, Delete={"Objects": keys})["Deleted"]) == 3
    with pytest.raises(client.exceptions.NoSuchKey) as caught:
        client.get_object(Bucket=BUCKET, Key="put")
    metadata = caught.value.response["ResponseMetadata"]
    assert metadata["HTTPHeaders"]["strict-transport-security"] == HSTS


def test_boto3_in_parts(client: S3Client) -> None:
    body = noise(17 * MIB, 2)
    client.upload_fileobj(BytesIO(body), BUCKET, "parts")
    assert client.head_object(Bucket=BUCKET, Key="parts")["ETag"].endswith('-3"')
    found = BytesIO()
    client.download_fileobj(BUCKET, "parts", found)
    assert sha256(found.getvalue()).digest() == sha256(body).digest()
    client.delete_object(Bucket=BUCKET, Key="parts")


def test_the_aws_command(secure: ServerProcess, client: S3Client, tmp_path: Path) -> None:
    aws = AwsCli(secure, tmp_path)
    body = noise(9 * MIB, 3)
    (tmp_path / "file").write_bytes(body)
    aws("s3", "cp", tmp_path / "file", f"s3://{BUCKET}/cli")
    assert aws("s3", "cp", f"s3://{BUCKET}/cli", "-").stdout == body
    client.delete_object(Bucket=BUCKET, Key="cli")


def test_curl_trusts_the_file_and_nothing_else(
    secure: ServerProcess, client: S3Client, tmp_path: Path
) -> None:
    curl = Curl(secure, tmp_path)
    by_name = secure.url.replace("127.0.0.1", "localhost")
    (tmp_path / "file").write_bytes(b"some bytes")
    for url in (secure.url, by_name):
        curl.signed("--upload-file", tmp_path / "file", f"{url}/{BUCKET}/curl")
        assert curl.signed(f"{url}/{BUCKET}/curl") == b"some bytes"
    client.delete_object(Bucket=BUCKET, Key="curl")
    words = [curl.path(), "--silent", f"{secure.url}/_/health"]
    strange = subprocess.run(words, env=clean_environment(tmp_path), check=False)
    assert strange.returncode == 60  # CURLE_PEER_FAILED_VERIFICATION


def test_http_gets_no_answer_and_hurts_nobody(secure: ServerProcess, client: S3Client) -> None:
    raw = RawClient(secure)
    for _ in range(4):
        with raw.connect() as connection:
            connection.send_head("GET", "/", {"host": "x"})
            assert connection.receive_some() == b""
    assert [found["Name"] for found in client.list_buckets()["Buckets"]] == [BUCKET]
    assert "Traceback" not in secure.log_text()


def test_an_upload_that_ends_in_the_middle_leaves_nothing(
    secure: ServerProcess, client: S3Client
) -> None:
    signed = RawClient(secure).signer.sign("PUT", f"/{BUCKET}/cut", payload="UNSIGNED-PAYLOAD")
    connection = https(secure)
    connection.putrequest("PUT", f"/{BUCKET}/cut", skip_host=True, skip_accept_encoding=True)
    for name, value in {**signed.headers, "content-length": str(4 * MIB)}.items():
        connection.putheader(name, value)
    connection.endheaders(noise(MIB))
    connection.close()
    # The end of the connection is worked on some time after it.
    noticed = re.compile(r"error=IncompleteBody .*key=cut ")
    wait_until(lambda: noticed.search(secure.log_text()) is not None, "the end is noticed")
    listed = client.list_objects_v2(Bucket=BUCKET, Prefix="cut")
    assert "Contents" not in listed


def test_it_says_what_to_trust(secure: ServerProcess) -> None:
    assert secure.ca_file is not None
    der = ssl.PEM_cert_to_DER_cert(secure.ca_file.read_text())
    log = secure.log_text()
    assert sha256(der).digest().hex(":").upper() in log
    assert str(secure.ca_file) in log
    assert f"listening on https://127.0.0.1:{secure.port}" in log
    assert "PRIVATE" not in log


# --- renewal --------------------------------------------------------------------------------


def https(server: ServerProcess, ca: bytes | None = None) -> http.client.HTTPSConnection:
    """A connection of its own that trusts the server, or an authority."""
    if ca is not None:
        context = ssl.create_default_context(cadata=ca.decode())
    else:
        context = ssl.create_default_context(cafile=server.ca_file)
    return http.client.HTTPSConnection("localhost", server.port, context=context, timeout=SECONDS)


def healthy(connection: http.client.HTTPSConnection) -> bool:
    connection.request("GET", "/_/health")
    answer = connection.getresponse()
    answer.read()
    return answer.status == 200 and answer.headers["strict-transport-security"] == HSTS


def shown(server: ServerProcess, ca: bytes | None = None) -> bytes:
    """SHA-256 of the certificate that a new connection is shown, after a request on it."""
    with closing(https(server, ca)) as connection:
        assert healthy(connection)
        assert isinstance(connection.sock, ssl.SSLSocket)
        found = connection.sock.getpeercert(binary_form=True)
        assert found is not None
        return sha256(found).digest()


@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_shows_a_renewed_certificate_and_keeps_the_old_before_a_bad_one(
    workers: int, tmp_path: Path
) -> None:
    authority = Authority()
    first, second = authority.pair(), authority.pair()
    cert, key = first.write(tmp_path)
    tls = {"enabled": True, "cert_path": os.fspath(cert), "key_path": os.fspath(key)}
    server = ServerProcess(
        tmp_path / "server",
        settings={"advanced": {"tls": tls}},
        arguments=["--workers", str(workers)],
    )

    def reload(words: str, times: int) -> None:
        seen = server.log_text().count(words)
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: server.log_text().count(words) == seen + times, words)

    def all_shown() -> set[bytes]:
        return {shown(server, authority.pem) for _ in range(6 * workers)}

    with server:
        assert server.url.startswith("https://")
        old = https(server, authority.pem)
        assert healthy(old)
        assert all_shown() == {first.fingerprint}
        second.write(tmp_path)
        assert all_shown() == {first.fingerprint}
        reload("configuration reloaded", workers)
        assert all_shown() == {second.fingerprint}

        key.write_bytes(first.key_pem())
        reload("reload refused, the old configuration goes on", 1)
        assert f"{key}: this private key is not that of the certificate {cert}" in server.log_text()
        assert all_shown() == {second.fingerprint}
        assert healthy(old), "the connection from before has been dropped"
        old.close()
        if workers > 1:
            # The files are of no use now: workers have the certificate from the supervisor.
            before = workers_of(server.pid)
            for worker in before:
                os.kill(worker, signal.SIGKILL)
            wait_until(lambda: len(workers_of(server.pid) - before) == 2, "new workers")
            assert all_shown() == {second.fingerprint}
        assert "Traceback" not in server.log_text()


def test_an_idle_connection_does_not_delay_the_stop(tmp_path: Path) -> None:
    """The client of one that is kept alive does not listen, so nobody can wait for its farewell."""
    server = ServerProcess(tmp_path, tls=True).start()
    idle = https(server)
    silent = RawClient(server).connect()  # in the middle of its handshake
    try:
        assert healthy(idle)
        process = server.pid
        os.kill(process, signal.SIGTERM)
        # The child of the test stays a zombie until it is waited for.
        wait_until(lambda: not runs(process), "the server has ended", seconds=10)
        assert server.wait() in (0, -signal.SIGTERM)
    finally:
        idle.close()
        silent.close()
    assert "Traceback" not in server.log_text()


def runs(pid: int) -> bool:
    """Whether a child process has not ended."""
    # (pid) (name) state ...; the name may hold anything.
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


def test_a_bad_certificate_stops_the_start(tmp_path: Path) -> None:
    cert, key = Authority().pair().write(tmp_path)
    key.write_bytes(b"")
    environment = {
        "DGP_TLS_ENABLED": "yes",
        "DGP_TLS_CERT": os.fspath(cert),
        "DGP_TLS_KEY": os.fspath(key),
    }
    server = ServerProcess(tmp_path / "server", environment=environment)
    with pytest.raises(ServerFailed, match="ended with 4") as caught:
        server.start()
    assert f"{key}: there is no readable private key in this file" in str(caught.value)
    assert "Traceback" not in str(caught.value)
