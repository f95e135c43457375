"""Clients that a script in another environment or language drives.

The script gets one argument, a JSON object. Whenever it has done something, it prints a line
with a JSON list of capabilities; all else that it prints is for a person. It ends with an error
when something is not as it should be.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.compatibility import Recorder
from support.server import clean_environment

SCRIPT_SECONDS = 50.0


def run_script(
    command: Sequence[str | os.PathLike[str]],
    task: Mapping[str, str],
    home: Path,
    step: Recorder,
    capabilities: Sequence[str],
    variables: Mapping[str, str] | None = None,
) -> None:
    """Run a script and record what it did; what it should have done and did not, has failed.

    Args:
        command: Interpreter and script.
        task: The argument of the script; the server is added.
        home: An empty directory that the script takes for its home.
        step: The recorder of the test.
        capabilities: What the script has to do.
        variables: More variables for the process.
    """
    server = step.server
    task = {
        "url": server.url,
        "accessKey": server.access_key,
        "secretKey": server.secret_key,
        "ca": "" if server.ca_file is None else os.fspath(server.ca_file),
    } | dict(task)
    result = subprocess.run(
        [*command, json.dumps(task)],
        capture_output=True,
        cwd=home,
        env=clean_environment(home, variables),
        timeout=SCRIPT_SECONDS,
        check=False,
    )
    printed = result.stdout.decode().splitlines()
    done = {name for line in printed if line.startswith("[") for name in json.loads(line)}
    for name in capabilities:
        if name in done:
            with step(name):
                pass
    missing = [name for name in capabilities if name not in done]
    if missing or result.returncode != 0:
        with step(*(missing or capabilities)):
            raise AssertionError(
                f"{os.fspath(command[-1])} ended with {result.returncode}; not done: {missing}\n"
                f"{(result.stdout[-4000:] + result.stderr[-4000:]).decode(errors='replace')}"
            )
    assert done == set(capabilities), "the script does more than its test says"
