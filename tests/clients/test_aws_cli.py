"""The aws command line."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.clients import AwsCli
from support.compatibility import Recorder
from support.samples import MIB, contents, noise
from support.server import ServerProcess, command_path

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CLIENT = "aws CLI"

Stored = Callable[..., dict[str, bytes]]


def version() -> str:
    command = [command_path("aws"), "--version"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.match(r"aws-cli/(\S+)", shown)
    assert found is not None, shown
    return found[1]


@pytest.fixture
def aws(endpoint: ServerProcess, tmp_path: Path) -> AwsCli:
    """The command: ``aws("s3", "cp", path, "s3://bucket/key")``."""
    return AwsCli(endpoint, tmp_path)


def test_sync(aws: AwsCli, bucket: str, stored: Stored, step: Recorder, tree: Path) -> None:
    back = tree.parent / "back"
    with step("tree", "checksums"):
        aws("s3", "sync", tree, f"s3://{bucket}/x")
        assert stored("x/") == contents(tree)
        aws("s3", "sync", f"s3://{bucket}/x", back)
        assert contents(back) == contents(tree)
    with step("delete many"):
        (tree / "a.txt").unlink()
        done = aws("s3", "sync", "--delete", tree, f"s3://{bucket}/x").stdout.decode()
        assert done == f"delete: s3://{bucket}/x/a.txt\n", "nothing else is left to do"
        assert stored("x/") == contents(tree)
    with step("list"):
        listing = aws("s3", "ls", f"s3://{bucket}/x/sub/").stdout.decode().splitlines()
        assert [line.split(maxsplit=2)[-1] for line in listing] == [
            "deeper/",
            "1004 100% + 1%41.txt",
            "1005 b c+d&e.txt",
            "1007 ü☃.bin",
        ]
    with step("copy", "delete"):
        aws("s3", "mv", f"s3://{bucket}/x/sub/100% + 1%41.txt", f"s3://{bucket}/moved ü")
        aws("s3", "rm", "--recursive", f"s3://{bucket}/x")
        assert stored() == {"moved ü": contents(tree)["sub/100% + 1%41.txt"]}


def test_large_files(aws: AwsCli, bucket: str, step: Recorder, s3: S3Client) -> None:
    path = aws.home / "big file.iso"
    path.write_bytes(noise(9 * MIB))
    with step("multipart", "checksums"):
        aws("s3", "cp", path, f"s3://{bucket}/big file.iso")
        assert s3.head_object(Bucket=bucket, Key="big file.iso")["ETag"].endswith('-2"')
    with step("copy"):  # what is large by UploadPartCopy
        aws("s3", "cp", f"s3://{bucket}/big file.iso", f"s3://{bucket}/copy.iso")
    with step("range"):  # what is large in several ranges
        aws("s3", "cp", f"s3://{bucket}/copy.iso", aws.home / "back.iso")
        assert (aws.home / "back.iso").read_bytes() == path.read_bytes()


def test_buckets_and_pipes(
    aws: AwsCli, endpoint: ServerProcess, step: Recorder, opened: Callable[..., bytes]
) -> None:
    name = f"aws-made-{endpoint.url.partition(':')[0]}"
    with step("buckets"):
        aws("s3", "mb", f"s3://{name}")
        aws("s3", "cp", "-", f"s3://{name}/k ü", stdin=b"from a pipe")
    with step("presign"):
        # For us-east-1 and an endpoint of one's own the CLI still presigns with version 2.
        words = ("--expires-in", "60", "--region", "eu-central-1")
        url = aws("s3", "presign", f"s3://{name}/k ü", *words).stdout.decode().strip()
        assert opened(url) == b"from a pipe"
    with step("buckets", "delete"):
        aws("s3", "rb", "--force", f"s3://{name}")
        assert name.encode() not in aws("s3", "ls").stdout


def test_s3api(aws: AwsCli, bucket: str, step: Recorder) -> None:
    (aws.home / "body").write_bytes(b"0123456789")
    place = ("--bucket", bucket, "--key", "k")
    with step("metadata", "checksums"):
        put = aws(
            "s3api", "put-object", *place, "--body", "body", "--metadata", "colour=blue",
            "--content-type", "text/x", "--checksum-algorithm", "SHA256",
        )  # fmt: skip
        tag = json.loads(put.stdout)["ETag"]
    with step("range", "metadata"):
        got = aws("s3api", "get-object", *place, "--range", "bytes=2-4", "part").stdout
        assert (aws.home / "part").read_bytes() == b"234"
        head = json.loads(got)
        assert (head["ETag"], head["ContentRange"]) == (tag, "bytes 2-4/10")
        assert (head["Metadata"], head["ContentType"]) == ({"colour": "blue"}, "text/x")
    with step("conditions"):
        failed = aws("s3api", "put-object", *place, "--if-none-match", "*", check=False)
        assert b"PreconditionFailed" in failed.stderr
    with step("delete many"):
        document = json.dumps({"Objects": [{"Key": "k"}]})
        out = aws("s3api", "delete-objects", "--bucket", bucket, "--delete", document).stdout
        assert [entry["Key"] for entry in json.loads(out)["Deleted"]] == ["k"]
