"""The authenticator: principals, unknown keys, the clock, and its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from deltaglider_core.builtin.sigv4_auth import SigV4Authenticator, open_sigv4
from deltaglider_core.context import S3Request
from deltaglider_core.errors import (
    AccessDenied,
    AuthorizationHeaderMalformed,
    ConfigurationError,
    InvalidAccessKeyId,
    RequestTimeTooSkewed,
    ServiceUnavailable,
    SignatureDoesNotMatch,
)
from deltaglider_core.interfaces.auth import Authenticator, Credentials

Make = Callable[..., S3Request]


class Store:
    """Knows AKID and a key that lost its secret; EVIL cannot be asked."""

    async def get_credentials(self, access_key_id: str) -> Credentials | None:
        if access_key_id == "AKID":
            return Credentials(access_key_id="AKID", secret_access_key="secret", user="ada")
        if access_key_id == "EMPTY":
            return Credentials(access_key_id="EMPTY", secret_access_key="")
        if access_key_id == "DOWN":
            raise ServiceUnavailable
        return None


class Clock:
    def __init__(self, offset: float = 0) -> None:
        self._offset = timedelta(seconds=offset)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset


def boto_signed(
    make_request: Make, *, key: str = "AKID", secret: str = "secret", presign: bool = False
) -> S3Request:
    request = AWSRequest("PUT", "http://localhost:9000/bucket/a%20b", data=b"")
    credentials = BotoCredentials(key, secret)
    signer: Any
    if presign:
        signer = botocore.auth.S3SigV4QueryAuth(credentials, "s3", "us-east-1", expires=60)
    else:
        signer = botocore.auth.S3SigV4Auth(credentials, "s3", "us-east-1")
    signer.add_auth(request)
    parts = urlsplit(request.url)
    target = parts.path + ("?" + parts.query if parts.query else "")
    return make_request("PUT", target, [("Host", parts.netloc), *request.headers.items()])


def authenticator(offset: float = 0) -> SigV4Authenticator:
    return SigV4Authenticator(Store(), Clock(offset))


def test_it_is_an_authenticator() -> None:
    assert isinstance(authenticator(), Authenticator)


@pytest.mark.parametrize("presign", [False, True])
async def test_a_good_signature_gives_the_principal(make_request: Make, presign: bool) -> None:
    principal = await authenticator().authenticate(boto_signed(make_request, presign=presign))
    assert principal is not None
    assert (principal.name, principal.access_key_id) == ("ada", "AKID")
    assert (principal.authenticator, principal.anonymous) == ("sigv4", False)
    assert principal.payload is not None
    assert len(principal.payload.seed) == 64
    assert "secret" not in repr(principal)


async def test_no_evidence_is_none(make_request: Make) -> None:
    assert await authenticator().authenticate(make_request("GET", "/b/k")) is None
    basic = make_request("GET", "/b/k", [("authorization", "Basic eA==")])
    assert await authenticator().authenticate(basic) is None


@pytest.mark.parametrize("presign", [False, True])
async def test_wrong_secret(make_request: Make, presign: bool) -> None:
    request = boto_signed(make_request, secret="Secret", presign=presign)
    with pytest.raises(SignatureDoesNotMatch) as caught:
        await authenticator().authenticate(request)
    assert caught.value.fields["AWSAccessKeyId"] == "AKID"
    assert "secret" not in " ".join(caught.value.fields.values())


@pytest.mark.parametrize(("key", "secret"), [("NOBODY", "secret"), ("EMPTY", "")])
async def test_unknown_keys_and_keys_without_a_secret(
    make_request: Make, key: str, secret: str
) -> None:
    with pytest.raises(InvalidAccessKeyId) as caught:
        await authenticator().authenticate(boto_signed(make_request, key=key, secret=secret))
    assert caught.value.fields == {"AWSAccessKeyId": key}


async def test_a_store_that_cannot_be_asked_is_no_unknown_key(make_request: Make) -> None:
    with pytest.raises(ServiceUnavailable):
        await authenticator().authenticate(boto_signed(make_request, key="DOWN"))


async def test_tampered_path(make_request: Make) -> None:
    request = replace(boto_signed(make_request), raw_path="/bucket/%61%20b")
    assert await authenticator().authenticate(request) is not None
    with pytest.raises(SignatureDoesNotMatch):
        await authenticator().authenticate(replace(request, raw_path="/bucket/a%20c"))


async def test_clock(make_request: Make) -> None:
    request = boto_signed(make_request)
    for offset in (-890, 890):
        assert await authenticator(offset).authenticate(request) is not None
    for offset in (-910, 910):
        with pytest.raises(RequestTimeTooSkewed):
            await authenticator(offset).authenticate(request)
    url = boto_signed(make_request, presign=True)
    assert await authenticator(50).authenticate(url) is not None
    with pytest.raises(AccessDenied, match="expired"):
        await authenticator(70).authenticate(url)


async def test_unsigned_headers_that_matter(make_request: Make) -> None:
    request = boto_signed(make_request)
    more = [*request.header_list, ("x-amz-acl", "public-read")]
    with pytest.raises(AccessDenied, match="not signed"):
        await authenticator().authenticate(replace(request, header_list=more, headers=dict(more)))


async def test_malformed(make_request: Make) -> None:
    request = make_request("GET", "/b/k", [("authorization", "AWS4-HMAC-SHA256 junk")])
    with pytest.raises(AuthorizationHeaderMalformed):
        await authenticator().authenticate(request)


async def test_open_takes_skew_and_store(make_request: Make) -> None:
    settings: Any = SimpleNamespace(advanced=SimpleNamespace(clock_skew_seconds=5))
    services: Any = SimpleNamespace(credentials=Store(), clock=Clock(30))
    async with open_sigv4(settings, services) as opened:
        with pytest.raises(RequestTimeTooSkewed):
            await opened.authenticate(boto_signed(make_request))
    with pytest.raises(ConfigurationError):
        async with open_sigv4(settings, SimpleNamespace(credentials=None, clock=Clock())):  # type: ignore[arg-type]
            pass
