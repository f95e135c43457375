"""The signature of a form, against the examples of AWS and botocore."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from deltaglider_core.builtin.sigv4_auth import SigV4Authenticator
from deltaglider_core.context import S3Request
from deltaglider_core.errors import (
    AccessDenied,
    InvalidAccessKeyId,
    InvalidArgument,
    InvalidRequest,
    NotImplementedS3,
    RequestTimeTooSkewed,
    S3Error,
    SignatureDoesNotMatch,
)
from deltaglider_core.interfaces.auth import ANONYMOUS, Credentials, Principal
from deltaglider_core.pipeline import Pipeline
from deltaglider_core.s3.endpoint import identify
from deltaglider_core.s3.replay import signature_of
from deltaglider_core.testing.builders import request as build
from deltaglider_core.testing.clock import FakeClock

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SIGNED = datetime(2015, 12, 29, tzinfo=UTC)

# AWS, "Examples: browser-based upload using HTTP POST (using AWS Signature Version 4)".
AWS_POLICY = "\r\n".join(
    (
        '{ "expiration": "2015-12-30T12:00:00.000Z",',
        '  "conditions": [',
        '    {"bucket": "sigv4examplebucket"},',
        '    ["starts-with", "$key", "user/user1/"],',
        '    {"acl": "public-read"},',
        '    {"success_action_redirect": '
        '"http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html"},',
        '    ["starts-with", "$Content-Type", "image/"],',
        '    {"x-amz-meta-uuid": "14365123651274"},',
        '    {"x-amz-server-side-encryption": "AES256"},',
        '    ["starts-with", "$x-amz-meta-tag", ""],',
        "",
        '    {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"},',
        '    {"x-amz-algorithm": "AWS4-HMAC-SHA256"},',
        '    {"x-amz-date": "20151229T000000Z" }',
        "  ]",
        "}",
    )
)
AWS_SIGNATURE = "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e"

FORM = {
    "key": "user/user1/photo.jpg",
    "x-amz-algorithm": "AWS4-HMAC-SHA256",
    "x-amz-credential": f"{ACCESS_KEY}/20151229/us-east-1/s3/aws4_request",
    "x-amz-date": "20151229T000000Z",
    "policy": base64.b64encode(AWS_POLICY.encode()).decode(),
    "x-amz-signature": AWS_SIGNATURE,
}


class Store:
    async def get_credentials(self, access_key_id: str) -> Credentials | None:
        if access_key_id != ACCESS_KEY:
            return None
        return Credentials(access_key_id=ACCESS_KEY, secret_access_key=SECRET, user="mary")


async def no_body() -> AsyncIterator[bytes]:
    for piece in ():
        yield piece


def request(form: dict[str, str] | None, **options: Any) -> S3Request:
    made = build(method="POST", bucket="sigv4examplebucket", operation="post_object", **options)
    return replace(made, form=form, body=no_body())


async def authenticate(
    changes: dict[str, str | None] | None = None, *, now: datetime = SIGNED, **options: Any
) -> Principal | None:
    form = {name: value for name, value in {**FORM, **(changes or {})}.items() if value is not None}
    authenticator = SigV4Authenticator(Store(), FakeClock(now))
    return await authenticator.authenticate(request(form, **options))


async def test_the_example_of_aws() -> None:
    principal = await authenticate()
    assert principal is not None
    assert (principal.name, principal.access_key_id) == ("mary", ACCESS_KEY)


async def test_what_botocore_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.auth import S3SigV4PostAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials as Keys

    signed = AWSRequest(method="POST", url="http://localhost/b")
    signed.context["s3-presign-post-policy"] = {"expiration": "x", "conditions": []}
    S3SigV4PostAuth(Keys(ACCESS_KEY, SECRET), "s3", "eu-west-1").add_auth(signed)
    fields = signed.context["s3-presign-post-fields"]
    principal = await authenticate(fields, now=datetime.now(UTC))
    assert principal is not None
    with pytest.raises(SignatureDoesNotMatch):
        await authenticate({**fields, "policy": fields["policy"][:-4]}, now=datetime.now(UTC))


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"policy": "e30="}, SignatureDoesNotMatch, "does not match"),
        ({"x-amz-signature": AWS_SIGNATURE[::-1]}, SignatureDoesNotMatch, "does not match"),
        ({"x-amz-signature": AWS_SIGNATURE.upper()}, SignatureDoesNotMatch, "does not match"),
        ({"x-amz-signature": AWS_SIGNATURE[:-1]}, SignatureDoesNotMatch, "does not match"),
        ({"x-amz-signature": "invalid"}, SignatureDoesNotMatch, "does not match"),
        (
            {"x-amz-credential": f"{ACCESS_KEY}/20151229/eu-west-1/s3/aws4_request"},
            SignatureDoesNotMatch,
            "does not match",
        ),
        (
            {"x-amz-credential": "OTHER/20151229/us-east-1/s3/aws4_request"},
            InvalidAccessKeyId,
            "does not exist",
        ),
        ({"x-amz-algorithm": None}, InvalidArgument, "'X-Amz-Algorithm'.  If"),
        ({"x-amz-credential": None}, InvalidArgument, "'X-Amz-Credential'"),
        ({"x-amz-date": None}, InvalidArgument, "'X-Amz-Date'"),
        ({"x-amz-signature": None}, InvalidArgument, "'X-Amz-Signature'"),
        ({"policy": None}, InvalidArgument, "'Policy'"),
        ({"policy": ""}, InvalidArgument, "'Policy'"),
        ({"x-amz-algorithm": "AWS4-HMAC-SHA512"}, InvalidArgument, "only supports"),
        ({"x-amz-algorithm": "AWS4-ECDSA-P256-SHA256"}, NotImplementedS3, "SigV4A"),
        ({"x-amz-credential": ACCESS_KEY}, InvalidArgument, "credential is malformed"),
        (
            {"x-amz-credential": f"{ACCESS_KEY}/20151229/us-east-1/ec2/aws4_request"},
            InvalidArgument,
            "service",
        ),
        ({"x-amz-date": "20151230T000000Z"}, InvalidArgument, "Invalid credential date"),
        ({"x-amz-date": "2015-12-29"}, InvalidArgument, "ISO8601"),
        ({"x-amz-security-token": "t"}, InvalidRequest, "Session tokens"),
        ({"awsaccesskeyid": ACCESS_KEY}, InvalidRequest, "s3v4"),
        ({"signature": "abc="}, InvalidRequest, "s3v4"),
    ],
)
async def test_refusals(changes: dict[str, str | None], error: type[S3Error], text: str) -> None:
    with pytest.raises(error) as caught:
        await authenticate(changes)
    assert text in caught.value.text


async def test_a_mismatch_says_what_was_signed() -> None:
    with pytest.raises(SignatureDoesNotMatch) as caught:
        await authenticate({"policy": "e30="})
    assert caught.value.fields == {
        "AWSAccessKeyId": ACCESS_KEY,
        "StringToSign": "e30=",
        "SignatureProvided": AWS_SIGNATURE,
        "StringToSignBytes": "65 33 30 3d",
    }


async def test_time() -> None:
    assert await authenticate(now=SIGNED + timedelta(days=7)) is not None
    assert await authenticate(now=SIGNED - timedelta(seconds=900)) is not None
    with pytest.raises(RequestTimeTooSkewed):
        await authenticate(now=SIGNED - timedelta(seconds=901))
    with pytest.raises(AccessDenied, match="expired"):
        await authenticate(now=SIGNED + timedelta(days=7, seconds=1))


async def test_a_form_without_credentials_is_not_ours() -> None:
    authenticator = SigV4Authenticator(Store(), FakeClock(SIGNED))
    for form in ({"key": "k"}, {"key": "k", "policy": "e30="}):
        made = request(form)
        assert await authenticator.authenticate(made) is None
        assert not made.has_credentials
        basic = request(form, headers={"authorization": "Basic eA=="})
        assert await authenticator.authenticate(basic) is None


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"authorization": "Basic eA=="}},
        {"query": (("X-Amz-Signature", "0"),)},
    ],
)
async def test_one_way_to_sign_at_a_time(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="Only one auth mechanism"):
        await authenticate(**options)


async def test_a_header_does_not_sign_a_form() -> None:
    scope = f"{ACCESS_KEY}/20151229/us-east-1/s3/aws4_request"
    headers = {
        "authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, "
        f"Signature={AWS_SIGNATURE}",
        "x-amz-date": "20151229T000000Z",
        "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
    }
    authenticator = SigV4Authenticator(Store(), FakeClock(SIGNED))
    with pytest.raises(InvalidArgument, match="signed by its fields"):
        await authenticator.authenticate(request({"key": "k"}, headers=headers))


async def test_forms_may_be_sent_again() -> None:
    principal = await authenticate()
    assert principal is not None
    made = request(FORM)
    assert made.has_credentials
    assert signature_of(made, principal, 2, 900) is None
    assert signature_of(replace(made, form=None), principal, 2, 900) is not None


class TakesForms:
    """Another way to sign forms, as a plugin would bring it."""

    async def authenticate(self, request: S3Request) -> Principal | None:
        if request.form is None or request.form.get("x-amz-signature") != "from the plugin":
            return None
        return Principal(name=request.form["key"], authenticator="plugin")


async def test_other_authenticators_see_forms_and_none_is_passed_over() -> None:
    exchange = cast(Any, SimpleNamespace(log_fields={}))
    pipeline = Pipeline(settings=cast(Any, None), authenticators=(TakesForms(),))
    form = {"key": "mary", "x-amz-signature": "from the plugin"}
    assert (await identify(request(form), pipeline, exchange)).name == "mary"
    assert await identify(request({"key": "k"}), pipeline, exchange) == ANONYMOUS
    for name in ("x-amz-signature", "x-amz-credential", "signature", "awsaccesskeyid"):
        with pytest.raises(AccessDenied, match="verifies"):
            await identify(request({"key": "k", name: "x"}), pipeline, exchange)
