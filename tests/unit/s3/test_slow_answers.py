"""Answers that take long begin early, with white space, so that no client gives up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest
from structlog.testing import capture_logs

from deltaglider_core.context import S3Request
from deltaglider_core.errors import IntegrityError, NoSuchUpload, ServiceUnavailable
from deltaglider_core.s3 import copying
from deltaglider_core.s3.copying import slow_xml
from deltaglider_core.s3.response import S3Response

MakeRequest = Callable[..., S3Request]

DOCUMENT = b'<?xml version="1.0" encoding="UTF-8"?>\n<Result>done</Result>'


class Work:
    """An operation that ends when it is told."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.go_on = asyncio.Event()
        self.finished = asyncio.Event()
        self.failure = failure

    async def __call__(self) -> bytes:
        await self.go_on.wait()
        self.finished.set()
        if self.failure is not None:
            raise self.failure
        return DOCUMENT


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "KEEP_ALIVE_SECONDS", 0.02)


async def rest(response: S3Response, work: Work) -> bytes:
    """Everything that is sent; the work ends once white space has come twice."""
    assert response.stream is not None
    pieces = []
    async for piece in response.stream:
        pieces.append(piece)
        if pieces.count(b" ") == 2:
            work.go_on.set()
    return b"".join(pieces)


async def test_fast_work_is_an_ordinary_answer(make_request: MakeRequest) -> None:
    work = Work()
    work.go_on.set()
    response = await slow_xml(work, make_request())
    assert (response.status, response.body, response.stream) == (200, DOCUMENT, None)


async def test_fast_failure_is_an_ordinary_error(make_request: MakeRequest) -> None:
    work = Work(NoSuchUpload())
    work.go_on.set()
    with pytest.raises(NoSuchUpload):
        await slow_xml(work, make_request())


async def test_white_space_before_the_document(make_request: MakeRequest) -> None:
    work = Work()
    response = await slow_xml(work, make_request())
    body = await rest(response, work)
    assert (response.status, response.headers["Content-Type"]) == (200, "application/xml")
    assert body.startswith(b"<?xml"), "white space before the declaration is no XML"
    assert b"  " in body
    assert ET.fromstring(body).text == "done"


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (NoSuchUpload(), "NoSuchUpload"),
        (RuntimeError("secret detail"), "InternalError"),
        (IntegrityError("secret detail"), "InternalError"),
    ],
)
async def test_a_late_failure_is_an_error_document(
    make_request: MakeRequest, failure: Exception, code: str
) -> None:
    work = Work(failure)
    body = await rest(await slow_xml(work, make_request()), work)
    document = ET.fromstring(body)
    assert (document.tag, document.findtext("Code")) == ("Error", code)
    assert document.findtext("RequestId")
    assert b"secret detail" not in body


@pytest.mark.parametrize(
    ("failure", "logged"),
    [
        (NoSuchUpload(), []),
        (ServiceUnavailable(), [("ServiceUnavailable", False)]),
        (IntegrityError("for the log"), [("InternalError", False)]),
        (RuntimeError("unforeseen"), [(None, True)]),
    ],
)
async def test_a_late_failure_is_logged_as_an_early_one(
    make_request: MakeRequest, failure: Exception, logged: list[tuple[str | None, bool]]
) -> None:
    """With a stack only where nobody foresaw it, and not at all if the client is at fault."""
    work = Work(failure)
    with capture_logs() as logs:
        await rest(await slow_xml(work, make_request()), work)
    assert [(entry.get("code"), "exc_info" in entry) for entry in logs] == logged


async def test_the_work_outlives_its_client(make_request: MakeRequest) -> None:
    work = Work()
    response = await slow_xml(work, make_request())
    assert response.stream is not None
    await anext(response.stream)
    # The request lasts as long as the work: what it uses must not be closed before.
    closing = asyncio.ensure_future(response.stream.aclose())  # type: ignore[attr-defined]
    done, _ = await asyncio.wait({closing}, timeout=0.05)
    assert not done
    work.go_on.set()
    await asyncio.wait_for(closing, 5)
    assert work.finished.is_set()
