"""s3fs, the S3 file system of fsspec; ``s3fs/round.py`` runs in an environment of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from install_clients import S3FS, S3FS_PYTHON
from support.compatibility import Recorder
from support.samples import contents
from support.script import run_script

CLIENT = "s3fs"
CAPABILITIES = (
    *("buckets", "tree", "checksums", "list", "metadata", "range", "multipart", "copy"),
    *("conditions", "presign", "delete", "delete many"),
)


def version() -> str:
    pins = (S3FS / "constraints.txt").read_text(encoding="utf-8")
    found = re.search(r"^s3fs==(.+)$", pins, flags=re.MULTILINE)
    assert found is not None
    return found[1]


def test_round(
    bucket: str,
    stored: Callable[..., dict[str, bytes]],
    step: Recorder,
    tree: Path,
    opened: Callable[..., bytes],
) -> None:
    task = {"bucket": bucket, "tree": str(tree), "back": str(tree.parent / "back")}
    command = (S3FS_PYTHON, S3FS / "round.py")
    run_script(command, task, tree.parent, step, CAPABILITIES)
    assert contents(tree.parent / "back") == contents(tree)
    assert stored("kept/") == contents(tree)
    url = (tree.parent / "presigned").read_text()
    assert opened(url) == contents(tree)["a.txt"]
