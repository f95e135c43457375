"""Fixtures of every test in this tree: a real server, and stock clients for it.

``server`` is shared by all tests of one pytest process, so a test works in a bucket of its
own (``bucket``). A test that kills, restarts or configures a server starts one with
``start_server``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.clients import AwsCli, Rclone, boto3_client
from support.no_sync import NoSync
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

StartServer = Callable[..., ServerProcess]
MakeClient = Callable[..., "S3Client"]

bucket_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Neither the processes of pytest-xdist nor any server waits for the disk."""
    if not hasattr(config, "workerinput"):
        config.add_cleanup(NoSync().undo)


@pytest.fixture(scope="session", autouse=True)
def foreign_settings_removed() -> Iterator[None]:
    """Nothing that is set for whoever runs the tests reaches a server or a client."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("AWS_", "DGP_", "RCLONE_")) or name.lower().endswith("_proxy"):
                patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the default settings; never killed, restarted or reconfigured."""
    with ServerProcess(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Start servers of the test's own: ``start_server(settings=..., arguments=...)``."""
    numbers = itertools.count(1)
    with contextlib.ExitStack() as stack:

        def start(**options: Any) -> ServerProcess:
            directory = tmp_path / f"server-{next(numbers)}"
            return stack.enter_context(ServerProcess(directory, **options))

        yield start


@pytest.fixture
def boto3_factory() -> Iterator[MakeClient]:
    """Make boto3 clients: ``boto3_factory(server, **botocore_config)``."""
    with contextlib.ExitStack() as stack:

        def make(server: ServerProcess, **options: Any) -> S3Client:
            client = boto3_client(server, **options)
            stack.callback(client.close)
            return client

        yield make


@pytest.fixture(scope="session")
def s3(server: ServerProcess) -> Iterator[S3Client]:
    """A boto3 client of the shared server."""
    client = boto3_client(server)
    yield client
    client.close()


@pytest.fixture
def bucket(s3: S3Client) -> str:
    """Name of a fresh bucket on the shared server."""
    name = f"bucket-{next(bucket_numbers)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def aws_cli(server: ServerProcess, tmp_path: Path) -> AwsCli:
    """The aws command for the shared server: ``aws_cli("s3", "cp", path, "s3://b/k")``."""
    return AwsCli(server, tmp_path)


@pytest.fixture
def rclone(server: ServerProcess, tmp_path: Path) -> Rclone:
    """rclone for the shared server: ``rclone("copyto", path, "dg:b/k")``."""
    return Rclone(server, tmp_path)
