"""Stock S3 clients, unmodified, pointed at one server and at nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
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
            ``access_key`` and ``secret_key`` for other credentials, and ``endpoint_url`` for
            another name of the server.
    """
    import boto3
    import botocore.session
    from botocore.config import Config

    access_key = options.pop("access_key", server.access_key)
    secret_key = options.pop("secret_key", server.secret_key)
    endpoint_url = options.pop("endpoint_url", server.url)
    settings: dict[str, Any] = {
        "signature_version": "s3v4",
        "s3": {"addressing_style": "path"},
        "retries": {"total_max_attempts": 1},
        "proxies": {},
        "connect_timeout": 10,
        "read_timeout": 60,
    }
    core = botocore.session.Session()
    core.register_component("data_loader", service_models())
    session = boto3.session.Session(
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=REGION,
        botocore_session=core,
    )
    return session.client(
        "s3",
        endpoint_url=endpoint_url,
        verify=None if server.ca_file is None else os.fspath(server.ca_file),
        config=Config(**(settings | options)),
    )


@cache
def service_models() -> Any:
    """The descriptions of AWS's services; reading them is what a new client costs."""
    import botocore.session

    return botocore.session.Session().get_component("data_loader")


class CommandClient:
    """A client that is a command; calling the object runs it.

    Args:
        server: Where to connect, and as whom.
        home: An empty directory that the command takes for its home.
    """

    command = ""
    #: The variable that names a file of certificates to trust.
    ca_variable = ""

    def __init__(self, server: ServerProcess, home: Path) -> None:
        self.server = server
        self.home = home

    def path(self) -> str:
        """Where the command is."""
        return command_path(self.command)

    def variables(self) -> Mapping[str, str]:
        """What tells the command about the server."""
        return {}

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
        command = [self.path(), *(os.fspath(word) for word in words)]
        trusted = {}
        if self.ca_variable and self.server.ca_file is not None:
            trusted[self.ca_variable] = os.fspath(self.server.ca_file)
        result = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            timeout=timeout,
            cwd=self.home,
            env=clean_environment(self.home, {**self.variables(), **trusted}),
            check=False,
        )
        if check and result.returncode != 0:
            raise AssertionError(
                f"{' '.join(command)} ended with {result.returncode}\n"
                f"{(result.stdout[-4000:] + result.stderr[-4000:]).decode(errors='replace')}"
            )
        return result


class AwsCli(CommandClient):
    """The aws command line; the endpoint and the key pair come from its environment."""

    command = "aws"
    ca_variable = "AWS_CA_BUNDLE"

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
    ca_variable = "RCLONE_CA_CERT"

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


class S3Cmd(CommandClient):
    """s3cmd, by a configuration file as its users have it."""

    command = "s3cmd"

    def __init__(self, server: ServerProcess, home: Path) -> None:
        super().__init__(server, home)
        address = server.url.partition("://")[2]
        lines = {
            "access_key": server.access_key,
            "secret_key": server.secret_key,
            "host_base": address,
            "host_bucket": address,
            "bucket_location": REGION,
            "use_https": str(server.ca_file is not None),
            "multipart_chunk_size_mb": "5",
            "progress_meter": "False",
            "use_mime_magic": "False",
        }
        if server.ca_file is not None:
            lines["ca_certs_file"] = os.fspath(server.ca_file)
        text = "".join(f"{name} = {value}\n" for name, value in lines.items())
        (home / ".s3cfg").write_text(f"[default]\n{text}", encoding="utf-8")

    def variables(self) -> Mapping[str, str]:
        return {"LC_ALL": "C.UTF-8"}


class Curl(CommandClient):
    """curl, which signs by itself."""

    command = "curl"
    ca_variable = "CURL_CA_BUNDLE"

    def path(self) -> str:
        return system_command("curl")

    def signed(self, *words: str | os.PathLike[str], **options: Any) -> bytes:
        """The body of the answer to a signed request; an error status is an error."""
        return self("--fail-with-body", *self.signing(), *words, **options).stdout

    def signing(self) -> tuple[str, ...]:
        """The words that make a request a signed one."""
        user = f"{self.server.access_key}:{self.server.secret_key}"
        # Before version 8, curl does not send by itself the header that S3 demands.
        header = ("--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD")
        sign = ("--aws-sigv4", f"aws:amz:{REGION}:s3", "--user", user, *header)
        return ("--silent", "--show-error", *sign)


class Restic(CommandClient):
    """restic with its repository in a bucket."""

    command = "restic"
    ca_variable = "SSL_CERT_FILE"  # as every program in Go

    def __init__(self, server: ServerProcess, home: Path, bucket: str) -> None:
        super().__init__(server, home)
        self.bucket = bucket

    def path(self) -> str:
        # It is only needed, and on the path, where the tests of clients run.
        from install_clients import restic_command

        return restic_command()

    def variables(self) -> Mapping[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.server.access_key,
            "AWS_SECRET_ACCESS_KEY": self.server.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "RESTIC_REPOSITORY": f"s3:{self.server.url}/{self.bucket}/repository",
            "RESTIC_PASSWORD": "a password",
            "RESTIC_PROGRESS_FPS": "0.1",
        }


def system_command(name: str) -> str:
    """Path of a command that the machine has to have."""
    path = shutil.which(name)
    if path is None:
        raise FileNotFoundError(f"{name} is not installed; make test says what to install")
    return path
