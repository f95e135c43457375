"""Who holds one of the places for requests: nobody whom the service only waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from support.asgi import RawRequest, Service, exchange, open_service
from support.forms import BOUNDARY

from deltaglider_core.s3 import post_object, wire

LENGTH = (b"content-length", b"1000")
FORM = (b"content-type", f"multipart/form-data; boundary={BOUNDARY}".encode())
FIELD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="key"\r\n\r\nk\r\n'.encode()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One place, and nobody waits for it."""
    directory = tmp_path_factory.mktemp("places")
    limits = {"max_concurrent_requests": 1, "request_queue_seconds": 0}
    with open_service(directory, advanced=limits) as service:
        assert service.request("PUT", "/bucket").status == 200
        yield service


async def beside(service: Service, request: RawRequest) -> tuple[int, int, str]:
    """The status of a request that is sent while another one stalls; that of the other one."""
    assert request.stalled is not None
    held = asyncio.create_task(exchange(service.app, request))
    await request.stalled.wait()
    other = await exchange(service.app, RawRequest(path=b"/bucket"))
    assert not held.done(), "it did not stall long enough to be in the way"
    answer = await held
    return other.status, answer.status, answer.code


@pytest.mark.parametrize("pieces", [(), (FIELD,), (FIELD[:9],)])
def test_a_form_whose_fields_do_not_come(
    service: Service, pieces: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post_object, "FIELDS_SECONDS", 0.3)
    monkeypatch.setattr(wire, "LINGER_SECONDS", 0.1)

    async def run() -> tuple[int, int, str]:
        headers, stalled = (FORM, LENGTH), asyncio.Event()
        form = RawRequest(
            method="POST", path=b"/bucket", headers=headers, pieces=pieces, stalled=stalled
        )
        return await beside(service, form)

    assert service.run(run()) == (200, 400, "RequestTimeout")
    assert service.request("GET", "/bucket").status == 200


def test_fields_that_trickle_have_their_time_together(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every piece comes in time; all of them do not."""
    monkeypatch.setattr(post_object, "FIELDS_SECONDS", 0.3)
    monkeypatch.setattr(wire, "LINGER_SECONDS", 0.1)

    async def run() -> float:
        started = asyncio.get_running_loop().time()
        request = RawRequest(
            method="POST",
            path=b"/bucket",
            headers=(FORM, (b"content-length", b"10000")),
            pieces=[FIELD] * 1000,
            seconds_between=0.02,
        )
        answer = await exchange(service.app, request)
        assert (answer.status, answer.code) == (400, "RequestTimeout")
        return asyncio.get_running_loop().time() - started

    assert service.run(run()) >= 0.3


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        (b"/missing/k", (), 404, "NoSuchBucket"),
        (b"/bucket/k", ((b"if-none-match", b"*"),), 412, "PreconditionFailed"),
        (b"/bucket/k", ((b"content-md5", b"no"),), 400, "InvalidDigest"),
    ],
)
def test_a_refused_upload_that_is_not_read(
    service: Service,
    path: bytes,
    headers: tuple[tuple[bytes, bytes], ...],
    status: int,
    code: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "LINGER_SECONDS", 0.3)
    assert service.request("PUT", "/bucket/k", body=b"x").status == 200

    async def run() -> tuple[int, int, str]:
        upload = RawRequest(
            method="PUT", path=path, headers=(*headers, LENGTH), stalled=asyncio.Event()
        )
        return await beside(service, upload)

    assert service.run(run()) == (200, status, code)


def test_the_file_of_a_form_needs_a_place(service: Service) -> None:
    """What is stored is work: a form whose file comes in is a request like any other."""
    file = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"\r\n\r\ndata'.encode()

    async def run() -> tuple[int, str]:
        stalled = asyncio.Event()
        form = RawRequest(
            method="POST",
            path=b"/bucket",
            headers=(FORM, LENGTH),
            pieces=[FIELD + file],
            stalled=stalled,
        )
        held = asyncio.create_task(exchange(service.app, form))
        await stalled.wait()
        other = await exchange(service.app, RawRequest(path=b"/bucket"))
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)
        return other.status, other.code

    assert service.run(run()) == (503, "SlowDown")
    assert service.request("GET", "/bucket").status == 200
