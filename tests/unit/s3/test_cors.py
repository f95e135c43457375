"""CORS and bucket configurations without a state database, and while it does not answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deltaglider_core.context import RequestContext, S3Request
from deltaglider_core.errors import (
    AccessForbidden,
    BadRequest,
    NoSuchBucketConfiguration,
    NotImplementedS3,
    ServiceUnavailable,
)
from deltaglider_core.interfaces.auth import ANONYMOUS
from deltaglider_core.interfaces.configurations import BucketConfigurations
from deltaglider_core.interfaces.routing import Route
from deltaglider_core.pipeline import DEFAULT_BACKEND_NAME, Pipeline
from deltaglider_core.s3 import cors, tagging
from deltaglider_core.s3.handlers import Handler
from deltaglider_core.s3.response import S3Response
from deltaglider_core.settings import AdvancedSettings, Settings
from deltaglider_core.testing import MemoryBackend, request

ORIGIN = {"origin": "https://a"}
PREFLIGHT = request(
    method="OPTIONS", bucket="bucket", headers={**ORIGIN, "access-control-request-method": "GET"}
)
DOCUMENT = (
    "<CORSConfiguration><CORSRule><AllowedOrigin>https://a</AllowedOrigin>"
    "<AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"
)


class OneRouter:
    """Every bucket is on the one backend, by its own name."""

    def resolve(self, bucket: str) -> Route | None:
        return Route(backend=DEFAULT_BACKEND_NAME, bucket=bucket)


class Fixed:
    """Configurations of which one document is known, or nothing can be known at the moment."""

    def __init__(self, document: str | None) -> None:
        self._document = document

    async def get(self, bucket: str, name: str) -> str | None:
        return self.current(bucket, name)

    async def put(self, bucket: str, name: str, document: str | None) -> None:
        self._document = document

    def current(self, bucket: str, name: str) -> str | None:
        if self._document is None:
            raise ServiceUnavailable
        return self._document


@pytest.fixture
async def pipeline() -> Pipeline:
    """Without a state database."""
    backend = MemoryBackend()
    await backend.create_bucket("bucket")
    settings = Settings.model_construct(advanced=AdvancedSettings())
    return Pipeline(
        settings=settings, routers=(OneRouter(),), backends={DEFAULT_BACKEND_NAME: backend}
    )


def with_configurations(pipeline: Pipeline, found: BucketConfigurations) -> Pipeline:
    return replace(pipeline, configurations=found)


def context(pipeline: Pipeline, asked: S3Request) -> RequestContext:
    return RequestContext(request=asked, principal=ANONYMOUS, pipeline=pipeline)


@pytest.mark.parametrize(
    "handler",
    [
        cors.put_bucket_cors,
        cors.delete_bucket_cors,
        tagging.put_bucket_tagging,
        tagging.delete_bucket_tagging,
    ],
)
async def test_without_a_state_nothing_is_set(pipeline: Pipeline, handler: Handler) -> None:
    asked = request(method="PUT", bucket="bucket", headers={"content-md5": "x"})
    with pytest.raises(NotImplementedS3, match="state database"):
        await handler(context(pipeline, asked))


async def test_without_a_state_nothing_was_ever_set(pipeline: Pipeline) -> None:
    asked = request(bucket="bucket")
    for handler, code in (
        (cors.get_bucket_cors, "NoSuchCORSConfiguration"),
        (tagging.get_bucket_tagging, "NoSuchTagSet"),
    ):
        with pytest.raises(NoSuchBucketConfiguration) as caught:
            await handler(context(pipeline, asked))
        assert caught.value.code == code
    with pytest.raises(AccessForbidden):
        await cors.cors_preflight(context(pipeline, PREFLIGHT))


async def test_what_is_not_known_is_not_allowed(pipeline: Pipeline) -> None:
    """Reads that need no state go on; a page of another site must wait until it is known."""
    away = with_configurations(pipeline, Fixed(None))
    answer = S3Response(headers={"ETag": '"1"'})
    asked = request(bucket="bucket", key="k", headers=ORIGIN)
    assert cors.with_cors_headers(asked, away, answer) is answer
    with pytest.raises(ServiceUnavailable):
        await cors.cors_preflight(context(away, PREFLIGHT))
    known = with_configurations(pipeline, Fixed(DOCUMENT))
    assert cors.with_cors_headers(asked, known, answer).headers == {
        "ETag": '"1"',
        "Access-Control-Allow-Origin": "https://a",
        "Access-Control-Allow-Methods": "GET",
        "Access-Control-Allow-Credentials": "true",
        "Vary": cors.VARY,
    }


async def test_an_origin_that_no_header_can_carry(pipeline: Pipeline) -> None:
    document = DOCUMENT.replace("https://a", "https://*")
    known = with_configurations(pipeline, Fixed(document))
    asked = request(bucket="bucket", headers={"origin": "https://a\nb"})
    answer = cors.with_cors_headers(asked, known, S3Response())
    assert answer.headers == {"Vary": cors.VARY}


async def test_how_many_headers_a_page_may_ask_for(pipeline: Pipeline) -> None:
    document = DOCUMENT.replace("</CORSRule>", "<AllowedHeader>*</AllowedHeader></CORSRule>")
    known = with_configurations(pipeline, Fixed(document))

    async def ask(names: str) -> S3Response:
        headers = {**PREFLIGHT.headers, "access-control-request-headers": names}
        return await cors.cors_preflight(context(known, replace(PREFLIGHT, headers=headers)))

    most = [f"x-{number}" for number in range(cors.MAX_REQUESTED_HEADERS)]
    answer = await ask(",".join(most))
    assert answer.headers["Access-Control-Allow-Headers"] == ", ".join(most)
    # Each once, in the order of the request.
    answer = await ask("X-B, x-a,,X-A , x-b")
    assert answer.headers["Access-Control-Allow-Headers"] == "x-b, x-a"
    for names in ([*most, "x-more"], ["a"] * 30_000, [""] * 30_000, [*most, "in valid"]):
        with pytest.raises(AccessForbidden, match="not allowed") as caught:
            await ask(",".join(names))
        assert caught.value.fields == {"Method": "GET", "ResourceType": "BUCKET"}
    with pytest.raises(BadRequest, match='"x-a, in valid" contains invalid character'):
        await ask("x-a, in valid")
