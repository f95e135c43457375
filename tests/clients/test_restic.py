"""restic: a repository in a bucket."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from install_clients import restic_command
from support.clients import Restic
from support.compatibility import Recorder
from support.samples import MIB, contents, noise
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CLIENT = "restic"


def version() -> str:
    command = [restic_command(), "version"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.match(r"restic (\S+)", shown)
    assert found is not None, shown
    return found[1]


def test_backup_and_restore(
    endpoint: ServerProcess, s3: S3Client, bucket: str, step: Recorder, tree: Path
) -> None:
    restic = Restic(endpoint, tree.parent, f"{bucket}-restic")
    (tree / "large.bin").write_bytes(noise(6 * MIB))
    first = contents(tree)
    with step("buckets"):
        restic("init")  # which makes the bucket
    with step("checksums"):
        restic("backup", "tree")
        (tree / "a.txt").write_bytes(b"changed")
        restic("backup", "tree")
        restic("check", "--read-data")
    with step("tree", "list", "range"):  # it reads trees and files by range from its pack files
        snapshots = json.loads(restic("snapshots", "--json").stdout)
        assert len(snapshots) == 2
        restic("restore", snapshots[0]["short_id"], "--target", "back")
        assert contents(restic.home / "back" / "tree") == first
    with step("delete"):
        restic("forget", "--keep-last", "1", "--prune")
        assert len(json.loads(restic("snapshots", "--json").stdout)) == 1
        restic("check")
    found = s3.list_objects_v2(Bucket=f"{bucket}-restic", Prefix="repository/locks/")
    assert found["KeyCount"] == 0, "no lock is left"
