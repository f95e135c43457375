"""rclone."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.clients import Rclone
from support.compatibility import Recorder
from support.samples import MIB, contents, noise, release
from support.server import ServerProcess, command_path

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CLIENT = "rclone"

Stored = Callable[..., dict[str, bytes]]


def version() -> str:
    command = [command_path("rclone"), "version"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.match(r"rclone v(\S+)", shown)
    assert found is not None, shown
    return found[1]


@pytest.fixture
def rclone(endpoint: ServerProcess, tmp_path: Path) -> Rclone:
    """The command, with the remote ``dg:``."""
    return Rclone(endpoint, tmp_path)


def test_tree(rclone: Rclone, bucket: str, stored: Stored, step: Recorder, tree: Path) -> None:
    remote = f"dg:{bucket}/x"
    with step("tree", "checksums"):
        rclone("copy", tree, remote)
        rclone("check", tree, remote)
        rclone("check", "--download", tree, remote)
        rclone("sync", remote, tree.parent / "back")
        assert contents(tree.parent / "back") == contents(tree)
    with step("list"):
        listed = rclone("lsf", "-R", "--files-only", remote).stdout.decode().splitlines()
        assert sorted(listed) == sorted(contents(tree))
        assert rclone("lsf", f"{remote}/sub").stdout.decode().splitlines() == [
            "100% + 1%41.txt",
            "b c+d&e.txt",
            "deeper/",
            "ü☃.bin",
        ]
    with step("delete"):
        (tree / "a.txt").unlink()
        (tree / "empty").write_bytes(b"no longer")
        rclone("sync", tree, remote)
        assert stored("x/") == contents(tree)
    with step("copy"):
        rclone("moveto", f"{remote}/sub/100% + 1%41.txt", f"dg:{bucket}/moved to")
        assert rclone("cat", f"dg:{bucket}/moved to").stdout == noise(1004, 4)
    with step("delete many"):
        rclone("delete", remote)
        assert rclone("lsf", "-R", "--files-only", f"dg:{bucket}").stdout == b"moved to\n"
    with step("buckets"):
        rclone("purge", f"dg:{bucket}")
        rclone("mkdir", f"dg:{bucket}-made")
        listed = rclone("lsf", "dg:").stdout.decode().splitlines()
        assert f"{bucket}-made/" in listed
        assert f"{bucket}/" not in listed


def test_chunked_upload(rclone: Rclone, s3: S3Client, bucket: str, step: Recorder) -> None:
    path = rclone.home / "large" / "large.bin"
    path.parent.mkdir()
    path.write_bytes(noise(11 * MIB + 5))
    flags = ("--s3-upload-cutoff", "0", "--s3-chunk-size", "5Mi")
    with step("multipart", "checksums"):
        rclone("copyto", *flags, path, f"dg:{bucket}/large.bin")
        assert s3.head_object(Bucket=bucket, Key="large.bin")["ETag"].endswith('-3"')
        rclone("check", "--download", path.parent, f"dg:{bucket}")
    with step("multipart"):
        rclone("rcat", *flags, f"dg:{bucket}/streamed", stdin=noise(6 * MIB))
        assert s3.get_object(Bucket=bucket, Key="streamed")["Body"].read() == noise(6 * MIB)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_times_and_links(
    rclone: Rclone, bucket: str, step: Recorder, opened: Callable[..., bytes]
) -> None:
    path = rclone.home / "dated"
    path.write_bytes(b"x")
    os.utime(path, (1_500_000_000, 1_500_000_000))
    with step("metadata"):
        rclone("copyto", path, f"dg:{bucket}/dated ü")
        out = rclone("lsjson", f"dg:{bucket}").stdout
        assert json.loads(out)[0]["ModTime"].startswith("2017-07-14T")
        rclone("touch", "--timestamp", "2001-02-03T04:05:06", f"dg:{bucket}/dated ü")
        out = rclone("lsjson", f"dg:{bucket}").stdout
        assert json.loads(out)[0]["ModTime"].startswith("2001-02-03T")
    with step("presign"):
        url = rclone("link", "--expire", "1m", f"dg:{bucket}/dated ü").stdout.decode().strip()
        assert opened(url) == b"x"


def test_deltas_in_ranges(rclone: Rclone, s3: S3Client, bucket: str, step: Recorder) -> None:
    for number in range(2):
        s3.put_object(Bucket=bucket, Key=f"app-{number}.zip", Body=release(number, 3 * MIB))
    streams = ("--multi-thread-streams", "4", "--multi-thread-cutoff", "1Mi")
    back = rclone.home / "back"
    with step("range"):
        rclone("copy", *streams, "--multi-thread-chunk-size", "1Mi", f"dg:{bucket}", back)
        for number in range(2):
            assert (back / f"app-{number}.zip").read_bytes() == release(number, 3 * MIB)
