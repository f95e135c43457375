"""A service with something in it, and what must hold of every answer it gives."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, Phase, settings
from sqlalchemy import Connection, select

from deltaglider_core import errors
from deltaglider_core.s3.response import is_sendable
from deltaglider_core.state.tables import bucket_configurations, objects, uploads

from .asgi import RawAnswer, RawRequest, Service, open_service
from .fuzz_bases import DATA
from .fuzz_requests import filled
from .samples import release

BUCKET = "fuzzed"
#: Of which the bucket is emptied again, so that looking at all of them stays quick.
MAX_OBJECTS = 20
_OBJECTS = {"k": DATA, "a/b": b"x", "dir/": b"", "app.zip": release(1, 5000)}
#: Runs of ``make fuzz`` do this many times the work of a test run.
FACTOR = int(os.environ.get("DGP_TEST_FUZZ_FACTOR", "1"))

_ILLEGAL_REFERENCE = re.compile(rb"&#x(?:[0-8BCEF]|1[0-9A-F]|D[89A-F][0-9A-F]{2}|FFF[EF]);")


def fuzz_settings(examples: int) -> settings:
    """Settings of a property that is tried ``examples`` times.

    The same examples come in every test run; ``make fuzz`` draws others, from a seed that it
    prints.
    """
    return settings(
        max_examples=examples * FACTOR,
        derandomize=FACTOR == 1,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


def _known_errors() -> Mapping[str, set[int]]:
    found: dict[str, set[int]] = {}
    classes: list[type[errors.S3Error]] = [errors.ClientError, errors.NotImplementedS3]
    while classes:
        known = classes.pop()
        found.setdefault(known.code, set()).add(known.status)
        classes.extend(known.__subclasses__())
    return found


#: Status by code of what a request may be refused with, whatever is wrong with it.
REFUSALS = _known_errors()
#: What AWS answers for what was never configured.
_EMPTY_STATE = re.compile(r"NoSuch[A-Za-z]+|[A-Za-z]+NotFound(?:Error)?")


class World:
    """A bucket with objects and an open upload, which is made whole again when it was hit.

    Args:
        service: An application in memory.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.upload = ""
        self.etag = ""
        self.repair()

    def repair(self) -> None:
        """Put everything back that a request has removed."""
        present = self.service.stored().get(BUCKET)
        if present is None:
            self._must("PUT", f"/{BUCKET}")
            present = {}
        for key, data in _OBJECTS.items():
            if key not in present:
                self._must("PUT", f"/{BUCKET}/{key}", data)
        added = [key for key in present if not key.startswith(".deltaglider/")]
        for key in added[MAX_OBJECTS:]:
            self._must("DELETE", f"/{BUCKET}/{quote(key)}")
        target = f"/{BUCKET}/up?uploadId={self.upload}"
        if not self.upload or self.service.request("GET", target).status != 200:
            answer = self._must("POST", f"/{BUCKET}/up?uploads")
            self.upload = next(e.text or "" for e in answer.document if e.tag.endswith("UploadId"))
            target = f"/{BUCKET}/up?uploadId={self.upload}"
        answer = self._must("PUT", f"{target}&partNumber=1", DATA)
        self.etag = (answer.header("etag") or "").strip('"')

    def _must(self, method: str, target: str, body: bytes = b"") -> RawAnswer:
        answer = self.service.request(method, target, body=body)
        assert answer.status in (200, 204), (method, target, answer, self.service.logged.take())
        return answer

    def try_out(self, request: RawRequest) -> RawAnswer:
        """Send a request and check everything that must hold whatever it is."""
        request = self.filled(request)
        before = self._everything()
        self.service.logged.take()
        answer = self.service.send(request)
        logged = self.service.logged.take()
        assert not logged, "\n".join(logged)
        check_answer(request, answer)
        refused = answer.status >= 400 or answer.status == 304
        harmless = request.method in ("GET", "HEAD", "OPTIONS")
        if refused or harmless:
            after = self._everything()
            assert after == before, f"{answer.status} {answer.code}: {_difference(before, after)}"
        else:
            self.repair()
        return answer

    def filled(self, request: RawRequest) -> RawRequest:
        """The request about the upload that is open now."""
        return filled(request, upload=self.upload, etag=self.etag)

    def _everything(self) -> dict[tuple[str, ...], object]:
        state = self.service.app.state
        assert state is not None
        found = self.service.run(state.database.read(_rows))
        for bucket, held in self.service.stored().items():
            found[("bucket", bucket)] = None
            found.update({(bucket, key): info for key, info in held.items()})
        return found


def _rows(connection: Connection) -> dict[tuple[str, ...], object]:
    """What the state database says of the buckets."""
    # When an upload was last used is no content: what tries to complete it keeps it alive.
    columns = {
        table.name: [column for column in table.columns if column.name != "since"]
        for table in (bucket_configurations, objects, uploads)
    }
    return {
        (name, str(number)): tuple(row)
        for name, listed in columns.items()
        for number, row in enumerate(connection.execute(select(*listed)))
    }


def _difference(before: Mapping[Any, object], after: Mapping[Any, object]) -> str:
    """What has changed, for the person who reads the failure."""
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return "; ".join(f"{name}: {before.get(name)} -> {after.get(name)}" for name in changed)


def check_answer(request: RawRequest, answer: RawAnswer) -> None:
    """Whatever the request was, the answer is one of S3."""
    assert answer.complete
    assert 200 <= answer.status < 600
    for name, value in answer.headers:
        assert is_sendable(name.decode("latin-1"), value.decode("latin-1")), (name, value)
    names = [name.lower() for name, _ in answer.headers if name.lower() != b"connection"]
    assert len(names) == len(set(names)), "a header came twice"
    if request.method == "HEAD" or answer.status in (204, 304):
        assert answer.body == b""
    else:
        assert answer.header("content-length") in (None, str(len(answer.body)))
    if answer.status >= 400:
        _check_refusal(request, answer)
    elif answer.body.startswith(b"<?xml") and not _ILLEGAL_REFERENCE.search(answer.body):
        # Keys may hold what XML cannot; then it is written as S3 does, and clients ask for
        # encoding-type=url.
        assert answer.document.tag != "Error"


def _check_refusal(request: RawRequest, answer: RawAnswer) -> None:
    if request.path.startswith(b"/_") and answer.header("content-type") != "application/xml":
        assert answer.status in (400, 404, 405), "of a probe"
        return
    if request.method == "HEAD":
        assert any(answer.status in statuses for statuses in REFUSALS.values()), answer
        return
    assert answer.header("content-type") == "application/xml", answer
    document = answer.document
    code = document.findtext("Code") or ""
    assert document.tag == "Error"
    assert document.findtext("Message")
    assert document.findtext("RequestId") == answer.header("x-amz-request-id")
    if code not in REFUSALS:
        assert _EMPTY_STATE.fullmatch(code), code
        assert answer.status == 404
    else:
        assert answer.status in REFUSALS[code], (answer.status, code)


@contextmanager
def open_world(directory: Path, *, open_to_everybody: bool = True) -> Iterator[World]:
    """A world for the tests of one module."""
    # The same request may come twice within a second.
    advanced = {"replay_window_seconds": 0}
    with open_service(directory, open_to_everybody=open_to_everybody, advanced=advanced) as service:
        yield World(service)


__all__ = ["REFUSALS", "World", "check_answer", "fuzz_settings", "open_world"]
