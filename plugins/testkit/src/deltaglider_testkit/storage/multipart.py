"""Multipart uploads: what Complete assembles, refuses and repeats."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

import pytest

from deltaglider_core.errors import (
    EntityTooSmall,
    InvalidArgument,
    InvalidPart,
    NoSuchKey,
    NoSuchUpload,
    PreconditionFailed,
)
from deltaglider_core.interfaces.storage import (
    CompletedPart,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    PartInfo,
    StorageBackend,
)
from deltaglider_core.testing import body

from .._bytes import check_same
from ._base import PART, StorageTestBase, get, list_keys, put, random_bytes

GIVEN = ObjectMetadata(headers={"content-type": "text/x-test"}, user={"a": "1"})


async def begin(backend: StorageBackend, bucket: str, key: str = "dir/k") -> str:
    """Open an upload."""
    return await backend.create_multipart_upload(bucket, key, metadata=GIVEN)


async def upload(
    backend: StorageBackend,
    bucket: str,
    upload_id: str,
    number: int,
    data: bytes,
    key: str = "dir/k",
) -> PartInfo:
    """Store a part."""
    return await backend.upload_part(bucket, key, upload_id, number, body(data), size=len(data))


def listed(*parts: PartInfo) -> Sequence[CompletedPart]:
    """Parts as a client lists them."""
    return [CompletedPart(part_number=part.part_number, etag=part.etag) for part in parts]


class MultipartTests(StorageTestBase):
    """Complete."""

    async def check_logical(
        self, backend: StorageBackend, bucket: str, key: str, info: ObjectInfo
    ) -> None:
        """HEAD shows what Complete answered."""
        head = await backend.head_object(bucket, key)
        assert (head.size, head.last_modified) == (info.size, info.last_modified)
        assert head.metadata is not None
        etag = head.etag
        if not self.logical_etags:
            etag = head.metadata.internal.get("etag", head.etag)
        assert etag == info.etag
        assert dict(head.metadata.headers) == dict(GIVEN.headers)
        assert dict(head.metadata.user) == dict(GIVEN.user)

    async def test_multipart(self, backend: StorageBackend, bucket: str) -> None:
        """Gaps between the numbers are fine, and so is the order of arrival."""
        upload_id = await begin(backend, bucket)
        assert "/" not in upload_id
        contents = {1: random_bytes(PART), 5: random_bytes(PART + 1), 10_000: b"end"}
        parts = {}
        for number in (10_000, 1, 5):
            parts[number] = await upload(backend, bucket, upload_id, number, contents[number])
            assert parts[number].part_number == number
            assert parts[number].size == len(contents[number])
        assert await list_keys(backend, bucket) == [], "invisible until completed"
        info = await backend.complete_multipart_upload(
            bucket, "dir/k", upload_id, listed(parts[1], parts[5], parts[10_000])
        )
        assert (info.key, info.size) == ("dir/k", 2 * PART + 4)
        assert await get(backend, bucket, "dir/k") == b"".join(contents[n] for n in (1, 5, 10_000))
        assert await list_keys(backend, bucket) == ["dir/k"]
        await self.check_logical(backend, bucket, "dir/k", info)

    async def test_multipart_etag(self, backend: StorageBackend, bucket: str) -> None:
        """``md5(raw MD5s)-N`` where the ETags of the parts are MD5s, else any ``-N``."""
        upload_id = await begin(backend, bucket)
        contents = [random_bytes(PART), b"end"]
        parts = [
            await upload(backend, bucket, upload_id, number, data)
            for number, data in enumerate(contents, 1)
        ]
        info = await backend.complete_multipart_upload(bucket, "dir/k", upload_id, listed(*parts))
        digests = [hashlib.md5(data, usedforsecurity=False) for data in contents]
        if [part.etag for part in parts] == [digest.hexdigest() for digest in digests]:
            raw = b"".join(digest.digest() for digest in digests)
            assert info.etag == f"{hashlib.md5(raw, usedforsecurity=False).hexdigest()}-2"
        else:
            assert info.etag.endswith("-2")

    @pytest.mark.parametrize("data", [b"", b"x"], ids=["empty", "one byte"])
    async def test_single_part(self, backend: StorageBackend, bucket: str, data: bytes) -> None:
        upload_id = await begin(backend, bucket)
        part = await upload(backend, bucket, upload_id, 3, data)
        await backend.complete_multipart_upload(bucket, "dir/k", upload_id, listed(part))
        check_same(await get(backend, bucket, "dir/k"), data)

    async def test_part_is_replaced(self, backend: StorageBackend, bucket: str) -> None:
        upload_id = await begin(backend, bucket)
        old = await upload(backend, bucket, upload_id, 1, b"old")
        new = await upload(backend, bucket, upload_id, 1, b"new")
        with pytest.raises(InvalidPart):
            await backend.complete_multipart_upload(bucket, "dir/k", upload_id, listed(old))
        await backend.complete_multipart_upload(bucket, "dir/k", upload_id, listed(new))
        assert await get(backend, bucket, "dir/k") == b"new"

    async def test_part_left_out(self, backend: StorageBackend, bucket: str) -> None:
        """Parts that are not listed are dropped."""
        upload_id = await begin(backend, bucket)
        await upload(backend, bucket, upload_id, 1, b"dropped")
        part = await upload(backend, bucket, upload_id, 2, b"kept")
        await backend.complete_multipart_upload(bucket, "dir/k", upload_id, listed(part))
        assert await get(backend, bucket, "dir/k") == b"kept"

    async def test_invalid_part(self, backend: StorageBackend, bucket: str) -> None:
        """A refused Complete changes nothing; the upload can still be completed."""
        upload_id = await begin(backend, bucket)
        part = await upload(backend, bucket, upload_id, 1, b"content")
        wrong = "0" * 32
        for parts in (
            [CompletedPart(part_number=2, etag=part.etag)],
            [CompletedPart(part_number=1, etag=wrong)],
            [*listed(part), CompletedPart(part_number=2, etag=wrong)],
            [],
        ):
            with pytest.raises(InvalidPart):
                await backend.complete_multipart_upload(bucket, "dir/k", upload_id, parts)
        with pytest.raises(NoSuchKey):
            await backend.head_object(bucket, "dir/k")
        await backend.complete_multipart_upload(bucket, "dir/k", upload_id, listed(part))
        assert await get(backend, bucket, "dir/k") == b"content"

    async def test_small_part(self, backend: StorageBackend, bucket: str) -> None:
        """All parts but the last have at least 5 MiB."""
        upload_id = await begin(backend, bucket)
        small = await upload(backend, bucket, upload_id, 1, random_bytes(PART - 1))
        last = await upload(backend, bucket, upload_id, 2, b"end")
        with pytest.raises(EntityTooSmall):
            await backend.complete_multipart_upload(bucket, "dir/k", upload_id, listed(small, last))
        enough = await upload(backend, bucket, upload_id, 1, random_bytes(PART))
        info = await backend.complete_multipart_upload(
            bucket, "dir/k", upload_id, listed(enough, last)
        )
        assert info.size == PART + 3

    async def test_complete_is_repeatable(self, backend: StorageBackend, bucket: str) -> None:
        """The same answer again, and never a second write."""
        upload_id = await begin(backend, bucket)
        part = await upload(backend, bucket, upload_id, 1, b"content")
        first = await backend.complete_multipart_upload(bucket, "dir/k", upload_id, listed(part))
        again = await backend.complete_multipart_upload(bucket, "dir/k", upload_id, listed(part))
        assert (again.key, again.size, again.etag) == (first.key, first.size, first.etag)
        await put(backend, bucket, "dir/k", b"newer")
        again = await backend.complete_multipart_upload(bucket, "dir/k", upload_id, listed(part))
        assert again.etag == first.etag
        assert await get(backend, bucket, "dir/k") == b"newer"

    async def test_complete_with_another_list(self, backend: StorageBackend, bucket: str) -> None:
        upload_id = await begin(backend, bucket)
        one = await upload(backend, bucket, upload_id, 1, b"one")
        two = await upload(backend, bucket, upload_id, 2, b"two")
        await backend.complete_multipart_upload(bucket, "dir/k", upload_id, listed(one))
        with pytest.raises((InvalidPart, NoSuchUpload)):
            await backend.complete_multipart_upload(bucket, "dir/k", upload_id, listed(two))
        assert await get(backend, bucket, "dir/k") == b"one"

    async def test_completed_at_once(self, backend: StorageBackend, bucket: str) -> None:
        """Identical calls give one object and one answer."""
        upload_id = await begin(backend, bucket)
        contents = [random_bytes(PART), b"end"]
        parts = listed(
            *[
                await upload(backend, bucket, upload_id, number, data)
                for number, data in enumerate(contents, 1)
            ]
        )
        answers = await asyncio.gather(
            *(
                backend.complete_multipart_upload(bucket, "dir/k", upload_id, parts)
                for _ in range(4)
            )
        )
        assert len({answer.etag for answer in answers}) == 1
        assert await get(backend, bucket, "dir/k") == b"".join(contents)

    async def test_complete_with_condition(self, backend: StorageBackend, bucket: str) -> None:
        present = await put(backend, bucket, "dir/k", b"present")
        upload_id = await begin(backend, bucket)
        part = await upload(backend, bucket, upload_id, 1, b"new")
        for condition in (Condition(if_none_match="*"), Condition(if_match="0" * 32)):
            with pytest.raises(PreconditionFailed):
                await backend.complete_multipart_upload(
                    bucket, "dir/k", upload_id, listed(part), condition=condition
                )
        assert await get(backend, bucket, "dir/k") == b"present"
        await backend.complete_multipart_upload(
            bucket,
            "dir/k",
            upload_id,
            listed(part),
            condition=Condition(if_match=present.etag),
        )
        assert await get(backend, bucket, "dir/k") == b"new"

    @pytest.mark.parametrize("number", [-1, 0, 10_001, 100_000])
    async def test_part_number(self, backend: StorageBackend, bucket: str, number: int) -> None:
        upload_id = await begin(backend, bucket)
        with pytest.raises(InvalidArgument):
            await upload(backend, bucket, upload_id, number, b"x")
        page = await backend.list_parts(bucket, "dir/k", upload_id, max_parts=10)
        assert list(page.parts) == []
