"""CopyObject of an object onto itself: what the client is told if somebody was faster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deltaglider_core.context import RequestContext
from deltaglider_core.delta.layer import DeltaLayer, open_engine
from deltaglider_core.delta.policy import DeltaPolicy
from deltaglider_core.errors import S3Error
from deltaglider_core.interfaces.auth import ANONYMOUS, Action, Decision, Principal, Resource
from deltaglider_core.interfaces.routing import Route
from deltaglider_core.interfaces.storage import ObjectMetadata
from deltaglider_core.pipeline import Pipeline
from deltaglider_core.s3.copying import copy_object
from deltaglider_core.settings import AdvancedSettings, Settings
from deltaglider_core.testing import MemoryBackend, body, request, services_for_tests

OLD, NEW = b"old bytes", b"new bytes, acknowledged"


class Straight:
    """A bucket is where its name says."""

    def resolve(self, bucket: str) -> Route | None:
        return Route(backend="b", bucket=bucket)


class Everything:
    """Allows everybody everything."""

    def authorize(
        self, principal: Principal, action: Action, resource: Resource, conditions: Any
    ) -> Decision:
        return Decision.ALLOW


async def ask(backend: MemoryBackend, directory: Path, headers: dict[str, str]) -> int:
    """Status of the answer, or of the error."""
    settings = Settings.model_construct(advanced=AdvancedSettings())
    asked = request(
        method="PUT",
        bucket="bucket",
        key="k.mp4",
        headers={
            "x-amz-copy-source": "bucket/k.mp4",
            "x-amz-metadata-directive": "REPLACE",
            "x-amz-meta-new": "1",
            **headers,
        },
    )
    async with open_engine(DeltaPolicy(), services_for_tests(directory)) as engine:
        pipeline = Pipeline(
            settings=settings,
            routers=(Straight(),),
            authorizers=(Everything(),),
            backends={"b": DeltaLayer(backend, engine)},
        )
        context = RequestContext(request=asked, principal=ANONYMOUS, pipeline=pipeline)
        try:
            return (await copy_object(context)).status
        except S3Error as error:
            return error.status


async def store(backend: MemoryBackend, data: bytes) -> str:
    given = ObjectMetadata(tags={"of": data[:3].decode()})
    info = await backend.put_object("bucket", "k.mp4", body(data), size=len(data), metadata=given)
    return info.etag


@pytest.mark.parametrize("computed", [False, True])
@pytest.mark.parametrize("moment", ["get_object", "read_chunk", "put_object"])
@pytest.mark.parametrize(
    ("condition", "overwritten"),
    [
        ("", 409),
        ("if-match", 412),
        ("x-amz-copy-source-if-match", 412),
    ],
)
async def test_nothing_that_was_acknowledged_is_undone(
    tmp_path: Path, computed: bool, moment: str, condition: str, overwritten: int
) -> None:
    for act, status in ((NEW, overwritten), (None, 404)):
        backend = MemoryBackend()
        await backend.create_bucket("bucket")
        etag = await store(backend, OLD)

        async def meanwhile(
            *, backend: MemoryBackend = backend, act: bytes | None = act, **call: str
        ) -> None:
            if call["key"] != "k.mp4":
                return
            backend.heal()
            if act is None:
                await backend.delete_object("bucket", "k.mp4")
            else:
                await store(backend, act)

        backend.before(moment, meanwhile)
        headers = {condition: f'"{etag}"'} if condition else {}
        if computed:
            headers["x-amz-checksum-algorithm"] = "SHA256"
        assert await ask(backend, tmp_path, headers) == status
        if act is None:
            assert "k.mp4" not in backend.keys("bucket")
        else:
            present = await backend.head_object("bucket", "k.mp4")
            assert present.size == len(act)
            assert present.metadata is not None
            assert present.metadata.tags == {"of": "new"}
            assert not present.metadata.user
        assert await ask(backend, tmp_path, {}) == (404 if act is None else 200)


async def test_an_overwrite_with_the_same_bytes_is_kept(tmp_path: Path) -> None:
    """The copy is made of it: its tags stay."""
    backend = MemoryBackend()
    await backend.create_bucket("bucket")
    await store(backend, OLD)

    async def meanwhile(*, key: str, **_: str) -> None:
        if key == "k.mp4":
            backend.heal()
            given = ObjectMetadata(tags={"legal": "hold"})
            await backend.put_object("bucket", key, body(OLD), size=len(OLD), metadata=given)

    backend.before("put_object", meanwhile)
    assert await ask(backend, tmp_path, {}) == 200
    present = await backend.head_object("bucket", "k.mp4")
    assert present.metadata is not None
    assert (present.metadata.tags, present.metadata.user) == ({"legal": "hold"}, {"new": "1"})
