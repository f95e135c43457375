"""Fixtures of the tests of clients: every test runs over http and over https.

A test file names its client in ``CLIENT`` and has a function ``version()``. Tests say what they
do in ``with step("multipart"):``; see ``support.compatibility``.
"""

from __future__ import annotations

import os
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.clients import boto3_client
from support.compatibility import PROPERTY, Observer, Recorder
from support.samples import noise, release
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Keys that clients like to get wrong, and two releases that are stored as delta.
NAMES = (
    "a.txt",
    "app-1.tar",
    "app-2.tar",
    "empty",
    "sub/100% + 1%41.txt",
    "sub/b c+d&e.txt",
    "sub/deeper/and deeper/x.zip",
    "sub/ü☃.bin",
)
#: S3 has whole seconds: some clients take a file of this very second for a newer one.
LONG_AGO = 1_600_000_000


@pytest.fixture(scope="session")
def https_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The same as ``server``, over https."""
    with ServerProcess(tmp_path_factory.mktemp("https-server"), tls=True) as running:
        yield running


@pytest.fixture(params=["http", "https"])
def endpoint(request: pytest.FixtureRequest) -> ServerProcess:
    """The server that a test speaks to; each is started by the first test that needs it."""
    name = {"http": "server", "https": "https_server"}[request.param]
    running: ServerProcess = request.getfixturevalue(name)
    assert running.url.startswith(f"{request.param}://")
    return running


def observe(server: ServerProcess) -> Iterator[Observer]:
    client = boto3_client(server)
    yield Observer(client)
    client.close()


@pytest.fixture(scope="session")
def http_observer(server: ServerProcess) -> Iterator[Observer]:
    """Who looks at what clients did on ``server``."""
    yield from observe(server)


@pytest.fixture(scope="session")
def https_observer(https_server: ServerProcess) -> Iterator[Observer]:
    """Who looks at what clients did on ``https_server``."""
    yield from observe(https_server)


@pytest.fixture
def observer(request: pytest.FixtureRequest, endpoint: ServerProcess) -> Observer:
    """The observer of this endpoint."""
    found: Observer = request.getfixturevalue(f"{endpoint.url.partition(':')[0]}_observer")
    return found


@pytest.fixture
def s3(observer: Observer) -> S3Client:
    """The boto3 client of the observer."""
    return observer.s3


@pytest.fixture
def step(
    request: pytest.FixtureRequest,
    endpoint: ServerProcess,
    observer: Observer,
    record_property: Callable[[str, object], None],
) -> Iterator[Recorder]:
    """Records what the client of this test file did."""
    recorder = Recorder(request.module.CLIENT, request.module.version(), endpoint)
    yield recorder
    record_property(PROPERTY, recorder.result(observer))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with the files of ``NAMES``."""
    root = tmp_path / "tree"
    for number, name in enumerate(NAMES):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.startswith("app-"):
            path.write_bytes(release(number, 300_000))
        else:
            path.write_bytes(b"" if name == "empty" else noise(1000 + number, number))
        os.utime(path, (LONG_AGO, LONG_AGO))
    return root


@pytest.fixture
def stored(s3: S3Client, bucket: str) -> Callable[[str], dict[str, bytes]]:
    """What is in the bucket below a prefix: ``stored("x/")``, keys without the prefix."""

    def read(prefix: str = "") -> dict[str, bytes]:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return {
            key.removeprefix(prefix): s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            for key in keys
        }

    return read


@pytest.fixture
def opened(endpoint: ServerProcess) -> Callable[..., bytes]:
    """The body behind a URL or a request without credentials: ``opened(url)``."""
    context = None
    if endpoint.ca_file is not None:
        context = ssl.create_default_context(cafile=os.fspath(endpoint.ca_file))

    def read(request: str | urllib.request.Request) -> bytes:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            body: bytes = answer.read()
            return body

    return read
