"""What a test of a client did, for ``docs/reference/s3-compatibility.md``.

A test says what it does as it does it (``with step("range"): ...``). The row travels with the
report of the test, through pytest-xdist as well, to ``scripts/compatibility.py``.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from support.samples import wait_until
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Name of the property of a test report.
PROPERTY = "s3-client"

#: What a client can do, in the order of the table. Steps have these names.
CAPABILITIES: Mapping[str, str] = {
    "buckets": "makes, lists and removes a bucket",
    "tree": "uploads a folder with awkward names and fetches it again, every byte compared",
    "list": "lists by prefix and delimiter",
    "metadata": "sets and reads content type and user metadata",
    "range": "reads a part of an object",
    "multipart": "uploads a large object in parts",
    "copy": "copies on the server",
    "conditions": "writes or reads on a condition",
    "presign": "makes URLs that work without credentials",
    "form": "makes forms that browsers upload with",
    "checksums": "has the checksums verified that it sends, and verifies those of the answer",
    "delete": "deletes single objects",
    "delete many": "deletes many objects, or all below a prefix",
}

_LINE = re.compile(
    r" operation=(\w+) received=\d+ request_id=([0-9A-F]+) sent=\d+ status=(\d+)", re.ASCII
)


class Recorder:
    """Calling it with the name of a capability records whether the block within succeeded.

    Args:
        client: Name of the client.
        version: Its version.
        server: The server that it speaks to.

    Attributes:
        rows: What was recorded: ``{"step": name, "outcome": "passed" or "failed"}``.
    """

    def __init__(self, client: str, version: str, server: ServerProcess) -> None:
        self.client = client
        self.version = version
        self.server = server
        self.rows: list[dict[str, str]] = []
        self._offset = server.log.stat().st_size

    @contextlib.contextmanager
    def __call__(self, *names: str) -> Iterator[None]:
        """Record the capabilities ``names``; an exception passes through."""
        unknown = set(names) - CAPABILITIES.keys()
        assert names, "a step needs a name"
        assert not unknown, f"{unknown} are not in CAPABILITIES"
        outcome = "failed"
        try:
            yield
            outcome = "passed"
        finally:
            self.rows += [{"step": name, "outcome": outcome} for name in names]

    def operations(self, observer: Observer) -> list[str]:
        """What the server served to the client since the beginning: names of operations.

        Requests that were refused do not count, nor do those of the observer.
        """
        last = observer.mark()
        wait_until(lambda: last in self._log(), "the last request is in the log of the server")
        found = _LINE.findall(self._log())
        return sorted(
            {
                operation
                for operation, request_id, status in found
                if request_id not in observer.request_ids and int(status) < 400
            }
        )

    def result(self, observer: Observer) -> dict[str, Any]:
        """One row for the table, of JSON values."""
        return {
            "client": self.client,
            "version": self.version,
            "scheme": self.server.url.partition(":")[0],
            "steps": self.rows,
            "operations": self.operations(observer),
        }

    def _log(self) -> str:
        with self.server.log.open("rb") as log:
            log.seek(self._offset)
            return log.read().decode(errors="replace")


class Observer:
    """A client that looks at what the client under test did, and knows its own requests.

    Attributes:
        s3: A boto3 client.
        request_ids: Of everything that it asked.
    """

    def __init__(self, s3: S3Client) -> None:
        self.s3 = s3
        self.request_ids: set[str] = set()
        s3.meta.events.register("after-call.s3", self._note)

    def mark(self) -> str:
        """Ask something harmless; returns the id of this request."""
        return self.s3.list_buckets(MaxBuckets=1)["ResponseMetadata"]["RequestId"]

    def _note(self, parsed: Mapping[str, Any], **_: object) -> None:
        self.request_ids.add(parsed["ResponseMetadata"]["RequestId"])
