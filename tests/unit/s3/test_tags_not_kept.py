"""A backend that does not keep tags: what brings some is refused, and nothing is stored."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from typing import Any

import pytest

from deltaglider_core.context import RequestContext, S3Request
from deltaglider_core.errors import NotImplementedS3
from deltaglider_core.interfaces.auth import ANONYMOUS, Action, Decision, Principal, Resource
from deltaglider_core.interfaces.routing import Route
from deltaglider_core.interfaces.storage import (
    Capabilities,
    ObjectInfo,
    ObjectMetadata,
    StorageLayer,
)
from deltaglider_core.pipeline import Pipeline
from deltaglider_core.s3.copying import copy_object
from deltaglider_core.s3.handlers import Handler
from deltaglider_core.s3.multipart import create_multipart_upload
from deltaglider_core.s3.objects import put_object
from deltaglider_core.s3.post_object import post_object
from deltaglider_core.s3.tagging import put_object_tagging
from deltaglider_core.settings import AdvancedSettings, Settings
from deltaglider_core.testing import MemoryBackend, body, request

TAGS = {"team": "a"}
TAGGED = {"x-amz-tagging": "team=a"}
REPLACED = {"x-amz-tagging-directive": "REPLACE"}
FORM = {"tagging": "<Tagging><TagSet><Tag><Key>team</Key><Value>a</Value></Tag></TagSet></Tagging>"}


class Forgetful(MemoryBackend):
    """Stores all metadata but the tags, as a backend that has never heard of them."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, object_tags=False)

    async def put_object(self, *args: Any, metadata: ObjectMetadata, **rest: Any) -> ObjectInfo:
        return await super().put_object(*args, metadata=replace(metadata, tags={}), **rest)


class ByName:
    """A bucket is on the backend that has its name."""

    def resolve(self, bucket: str) -> Route | None:
        return Route(backend=bucket, bucket=bucket)


class Everything:
    """Allows everybody everything."""

    def authorize(
        self, principal: Principal, action: Action, resource: Resource, conditions: Any
    ) -> Decision:
        return Decision.ALLOW


@pytest.fixture
async def backends() -> dict[str, MemoryBackend]:
    """The objects ``tagged`` and ``plain`` on a backend that keeps tags, and one that does not."""
    found = {"keeps": MemoryBackend(), "forgets": Forgetful()}
    for name, backend in found.items():
        await backend.create_bucket(name)
    for key, tags in (("tagged", TAGS), ("plain", {})):
        metadata = ObjectMetadata(tags=tags)
        await found["keeps"].put_object("keeps", key, body(b"x"), size=1, metadata=metadata)
    return found


async def call(backends: dict[str, MemoryBackend], handler: Handler, asked: S3Request) -> None:
    """Behind a layer, as always: what the backend declares is seen through it."""
    pipeline = Pipeline(
        settings=Settings.model_construct(advanced=AdvancedSettings()),
        routers=(ByName(),),
        authorizers=(Everything(),),
        backends={name: StorageLayer(backend) for name, backend in backends.items()},
    )
    await handler(RequestContext(request=asked, principal=ANONYMOUS, pipeline=pipeline))


def asking(
    headers: dict[str, str] | None = None, *, form: dict[str, str] | None = None, **more: Any
) -> S3Request:
    sized = {"content-length": "1", **(headers or {})}
    asked = request(method="PUT", bucket="forgets", key="k", headers=sized, data=b"x", **more)
    return replace(asked, form=form)


def copying(source: str, **headers: str) -> S3Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return asking({"x-amz-copy-source": f"keeps/{source}", **named})


WITH_TAGS = {
    "put": (put_object, asking(TAGGED)),
    "copy": (copy_object, copying("tagged")),
    "copy of metadata": (copy_object, copying("tagged", x_amz_metadata_directive="REPLACE")),
    "copy with tags": (
        copy_object,
        asking({"x-amz-copy-source": "keeps/plain", **TAGGED} | REPLACED),
    ),
    "form": (post_object, asking(form=FORM)),
}
WITHOUT_TAGS = {
    "put": (put_object, asking()),
    "empty": (put_object, asking({"x-amz-tagging": ""})),
    "copy": (copy_object, copying("plain")),
    "copy without them": (copy_object, asking({"x-amz-copy-source": "keeps/tagged"} | REPLACED)),
    "form": (post_object, asking(form={"tagging": "<Tagging><TagSet/></Tagging>"})),
}


@pytest.mark.parametrize("name", WITH_TAGS)
async def test_tags_are_refused(backends: dict[str, MemoryBackend], name: str) -> None:
    handler, asked = WITH_TAGS[name]
    read: list[bytes] = []

    async def watched() -> Any:
        read.append(b"x")
        yield b"x"

    with pytest.raises(NotImplementedS3, match="does not keep object tags") as caught:
        await call(backends, handler, replace(asked, body=watched()))
    assert (caught.value.status, caught.value.code) == (501, "NotImplemented")
    assert backends["forgets"].keys("forgets") == []
    # Before the file of a form is taken in, and before a client that waits for it sends a body.
    assert read == []
    # The same request is fine where tags are kept.
    await call(backends, handler, replace(asked, bucket="keeps", body=body(b"x")))


@pytest.mark.parametrize("name", WITHOUT_TAGS)
async def test_everything_else_is_stored(backends: dict[str, MemoryBackend], name: str) -> None:
    handler, asked = WITHOUT_TAGS[name]
    await call(backends, handler, replace(asked, body=body(b"x")))
    assert backends["forgets"].keys("forgets") == ["k"]


async def test_an_upload(backends: dict[str, MemoryBackend]) -> None:
    for name, headers, refused in (
        ("forgets", TAGGED, True),
        ("forgets", {}, False),
        ("keeps", TAGGED, False),
    ):
        asked = replace(asking(headers | {"content-length": "0"}), bucket=name, body=body(b""))
        before = backends[name].keys(name)
        if refused:
            with pytest.raises(NotImplementedS3, match="does not keep object tags"):
                await call(backends, create_multipart_upload, asked)
        else:
            await call(backends, create_multipart_upload, asked)
        assert (backends[name].keys(name) == before) is refused


async def test_tags_of_a_stored_object(backends: dict[str, MemoryBackend]) -> None:
    """What a backend overrides counts for nothing as long as it does not declare it."""
    await call(backends, put_object, replace(asking(), body=body(b"x")))
    document = FORM["tagging"].encode()
    md5 = base64.b64encode(hashlib.md5(document, usedforsecurity=False).digest()).decode()
    headers = {"content-length": str(len(document)), "content-md5": md5}
    asked = replace(asking(headers), body=body(document))
    with pytest.raises(NotImplementedS3, match="does not keep object tags"):
        await call(backends, put_object_tagging, asked)
    assert dict(await backends["forgets"].get_object_tags("forgets", "k")) == {}
