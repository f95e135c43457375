"""The AWS SDK for JavaScript, version 3; ``js/round.mjs`` runs in Node.js."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from install_clients import JAVASCRIPT
from support.clients import system_command
from support.compatibility import Recorder
from support.samples import contents
from support.script import run_script
from support.server import ServerProcess

CLIENT = "AWS SDK for JavaScript v3"
CAPABILITIES = (
    *("buckets", "tree", "checksums", "list", "metadata", "range", "multipart", "copy"),
    *("conditions", "presign", "form", "delete", "delete many"),
)


def version() -> str:
    lock = json.loads((JAVASCRIPT / "package-lock.json").read_text(encoding="utf-8"))
    return str(lock["packages"]["node_modules/@aws-sdk/client-s3"]["version"])


def test_round(
    endpoint: ServerProcess,
    bucket: str,
    stored: Callable[..., dict[str, bytes]],
    step: Recorder,
    tree: Path,
) -> None:
    task = {"bucket": bucket, "tree": str(tree), "names": json.dumps(sorted(contents(tree)))}
    trusted = {"NODE_EXTRA_CA_CERTS": os.fspath(endpoint.ca_file)} if endpoint.ca_file else {}
    command = (system_command("node"), JAVASCRIPT / "round.mjs")
    run_script(command, task, tree.parent, step, CAPABILITIES, trusted)
    assert stored("kept/") == contents(tree)
