"""Stock S3 clients, unmodified, pointed at one server and at nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.server import ServerProcess, clean_environment, command_path

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"
COMMAND_SECONDS = 90.0


def boto3_client(server: ServerProcess, **options: Any) -> S3Client:
    """A boto3 S3 client: path style, SigV4, no retries, so that a test sees every answer.

    Args:
        server: Where to connect, and as whom.
        options: Passed on to ``botocore.config.Config``, over the values above; also
            ``access_key`` and ``secret_key`` for other credentials.
    """
    import boto3
    from botocore.config import Config

    access_key = options.pop("access_key", server.access_key)
    secret_key = options.pop("secret_key", server.secret_key)
    settings: dict[str, Any] = {
        "signature_version": "s3v4",
        "s3": {"addressing_style": "path"},
        "retries": {"total_max_attempts": 1},
        "proxies": {},
        "connect_timeout": 10,
        "read_timeout": 60,
    }
    session = boto3.session.Session(
        aws_access_key_id=access_key, aws_secret_access_key=secret_key, region_name=REGION
    )
    return session.client("s3", endpoint_url=server.url, config=Config(**(settings | options)))


class CommandClient:
    """A client that is a command; calling the object runs it.

    Args:
        server: Where to connect, and as whom.
        home: An empty directory that the command takes for its home.
    """

    command = ""

    def __init__(self, server: ServerProcess, home: Path) -> None:
        self.server = server
        self.home = home

    def variables(self) -> Mapping[str, str]:
        """What tells the command about the server."""
        raise NotImplementedError

    def __call__(
        self,
        *words: str | os.PathLike[str],
        check: bool = True,
        stdin: bytes = b"",
        timeout: float = COMMAND_SECONDS,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command with ``words`` and return what it printed.

        Raises:
            AssertionError: It failed, and ``check`` is true.
        """
        command = [command_path(self.command), *(os.fspath(word) for word in words)]
        result = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            timeout=timeout,
            cwd=self.home,
            env=clean_environment(self.home, self.variables()),
            check=False,
        )
        if check and result.returncode != 0:
            raise AssertionError(
                f"{' '.join(command)} ended with {result.returncode}\n"
                f"{result.stderr.decode(errors='replace')}"
            )
        return result


class AwsCli(CommandClient):
    """The aws command line; the endpoint and the key pair come from its environment."""

    command = "aws"

    def variables(self) -> Mapping[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.server.access_key,
            "AWS_SECRET_ACCESS_KEY": self.server.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.server.url,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_PAGER": "",
        }


class Rclone(CommandClient):
    """rclone with one remote, ``dg:``."""

    command = "rclone"

    def variables(self) -> Mapping[str, str]:
        return {
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_RETRIES": "1",
            "RCLONE_LOW_LEVEL_RETRIES": "1",
            "RCLONE_CONFIG_DG_TYPE": "s3",
            "RCLONE_CONFIG_DG_PROVIDER": "Other",
            "RCLONE_CONFIG_DG_ACCESS_KEY_ID": self.server.access_key,
            "RCLONE_CONFIG_DG_SECRET_ACCESS_KEY": self.server.secret_key,
            "RCLONE_CONFIG_DG_ENDPOINT": self.server.url,
            "RCLONE_CONFIG_DG_REGION": REGION,
            "RCLONE_CONFIG_DG_FORCE_PATH_STYLE": "true",
        }
