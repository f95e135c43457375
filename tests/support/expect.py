"""What a test expects of an answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.samples import files_below, wait_until


@dataclass
class Refusal:
    """The error of a refused call, filled in when the call has failed."""

    status: int = 0
    error: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def refused(code: str, status: int) -> Iterator[Refusal]:
    """The boto3 call in this block fails with this S3 error code and HTTP status."""
    from botocore.exceptions import ClientError

    refusal = Refusal()
    with pytest.raises(ClientError) as caught:
        yield refusal
    response = caught.value.response
    refusal.status = response["ResponseMetadata"]["HTTPStatusCode"]
    refusal.error = dict(response["Error"])
    assert (refusal.error["Code"], refusal.status) == (code, status), caught.value


class Footprint:
    """The files of a server at one moment, temporary ones included.

    Lock files and the private folder of the process are no data: a lock file is empty, and
    what lies in the folder for temporary files is compared by itself.
    """

    def __init__(self, data: Path, temporary: Path) -> None:
        self._directories = (data, temporary)
        self._before = self._now()

    def _now(self) -> set[str]:
        return {
            name
            for directory in self._directories
            for name in files_below(directory)
            if "%dg-locks" not in name and "/cache/" not in name
        }

    def assert_unchanged(self) -> None:
        """Nothing was added or removed; waits for what the server still tidies up."""
        wait_until(
            lambda: self._now() == self._before,
            f"the files are as before; difference: {sorted(self._now() ^ self._before)}",
        )
