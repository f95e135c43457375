"""s3cmd."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.clients import S3Cmd
from support.compatibility import Recorder
from support.samples import MIB, contents, noise
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CLIENT = "s3cmd"

Stored = Callable[..., dict[str, bytes]]


def version() -> str:
    return metadata.version("s3cmd")


@pytest.fixture
def s3cmd(endpoint: ServerProcess, tmp_path: Path) -> S3Cmd:
    """The command."""
    return S3Cmd(endpoint, tmp_path)


def test_sync(s3cmd: S3Cmd, bucket: str, stored: Stored, step: Recorder, tree: Path) -> None:
    back = tree.parent / "back"
    back.mkdir()
    with step("tree", "checksums"):
        s3cmd("sync", f"{tree}/", f"s3://{bucket}/x/")
        assert stored("x/") == contents(tree)
        again = s3cmd("sync", f"{tree}/", f"s3://{bucket}/x/").stdout
        assert b"upload:" not in again, "nothing is left to do"
        s3cmd("sync", f"s3://{bucket}/x/", f"{back}/")
        assert contents(back) == contents(tree)
    with step("list"):
        lines = s3cmd("ls", f"s3://{bucket}/x/sub/").stdout.decode().splitlines()
        assert [line.split(f"s3://{bucket}/x/sub/")[1] for line in lines] == [
            "deeper/",
            "100% + 1%41.txt",
            "b c+d&e.txt",
            "ü☃.bin",
        ]
    with step("copy"):
        s3cmd("cp", f"s3://{bucket}/x/sub/100% + 1%41.txt", f"s3://{bucket}/copied ü")
        s3cmd("mv", f"s3://{bucket}/copied ü", f"s3://{bucket}/moved +")
        assert stored("moved") == {" +": contents(tree)["sub/100% + 1%41.txt"]}
    with step("delete", "delete many"):
        s3cmd("del", f"s3://{bucket}/moved +")
        (tree / "a.txt").unlink()
        s3cmd("sync", "--delete-removed", f"{tree}/", f"s3://{bucket}/x/")
        assert stored() == {f"x/{name}": data for name, data in contents(tree).items()}
        s3cmd("del", "--recursive", "--force", f"s3://{bucket}/x/")
        assert stored() == {}


def test_large_file_and_buckets(s3cmd: S3Cmd, s3: S3Client, bucket: str, step: Recorder) -> None:
    path = s3cmd.home / "large file"
    path.write_bytes(noise(11 * MIB))
    target = f"s3://{bucket}-made/large file"
    with step("buckets"):
        s3cmd("mb", f"s3://{bucket}-made")
        assert f"s3://{bucket}-made".encode() in s3cmd("ls").stdout
    with step("multipart", "metadata"):
        headers = ("--add-header", "x-amz-meta-colour: blue", "--mime-type", "text/x")
        s3cmd("put", *headers, path, target)
        head = s3.head_object(Bucket=f"{bucket}-made", Key="large file")
        assert head["ETag"].endswith('-3"')
        assert head["ContentType"] == "text/x"
        shown = s3cmd("info", target).stdout.decode()
        assert "x-amz-meta-colour: blue" in shown
        assert "text/x" in shown
    with step("range"):  # it goes on where an earlier download was cut
        (s3cmd.home / "back").write_bytes(path.read_bytes()[: 4 * MIB])
        s3cmd("get", "--continue", target, s3cmd.home / "back")
        assert (s3cmd.home / "back").read_bytes() == path.read_bytes()
    with step("buckets", "delete many"):
        s3cmd("rb", "--recursive", "--force", f"s3://{bucket}-made")
        assert f"s3://{bucket}-made".encode() not in s3cmd("ls").stdout
