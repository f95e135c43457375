"""Open uploads: listing them and their parts, aborting, ids that fit nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from deltaglider_core.errors import IncompleteBody, NoSuchKey, NoSuchUpload, S3Error
from deltaglider_core.interfaces.storage import (
    CompletedPart,
    ObjectInfo,
    ObjectMetadata,
    PartInfo,
    StorageBackend,
)
from deltaglider_core.testing import body, broken_body

from ._base import PART, StorageTestBase, get, list_keys, random_bytes
from .multipart import begin, listed, upload
from .writes import BodyError

Call = Callable[[StorageBackend, str, str, str], Awaitable[object]]

_LIST = [CompletedPart(part_number=1, etag="0" * 32)]

#: Every call that names an upload.
CALLS: dict[str, Call] = {
    "upload_part": lambda b, bucket, key, upload_id: b.upload_part(
        bucket, key, upload_id, 1, body(b"x"), size=1
    ),
    "list_parts": lambda b, bucket, key, upload_id: b.list_parts(
        bucket, key, upload_id, max_parts=1
    ),
    "complete": lambda b, bucket, key, upload_id: b.complete_multipart_upload(
        bucket, key, upload_id, _LIST
    ),
    "abort": lambda b, bucket, key, upload_id: b.abort_multipart_upload(bucket, key, upload_id),
}

#: Ids that no upload has, among them some that lead elsewhere as a path.
STRANGE_IDS = ("", "0" * 32, "F" * 32, "x", "..", "../..", "a/b", "%2e", "\u00e9", "0" * 2000)

KEYS = ("a", "a/1", "a/2", "a/b/3", "b", "b", "b", "z/1")


class UploadTests(StorageTestBase):
    """Everything about an upload but Complete."""

    async def test_list_parts(self, backend: StorageBackend, bucket: str) -> None:
        upload_id = await begin(backend, bucket)
        numbers = (2, 1, 10_000, 30, 4)
        stored = {n: await upload(backend, bucket, upload_id, n, b"x" * n) for n in numbers}
        expected = [stored[number] for number in sorted(numbers)]
        page = await backend.list_parts(bucket, "dir/k", upload_id, max_parts=1000)
        assert list(page.parts) == expected
        assert page.next_marker is None
        assert expected[0].last_modified.utcoffset() == timedelta(0)
        for size in (1, 2, 5):
            found: list[PartInfo] = []
            marker = 0
            while True:
                page = await backend.list_parts(
                    bucket, "dir/k", upload_id, part_number_marker=marker, max_parts=size
                )
                assert len(page.parts) <= size
                found += page.parts
                if page.next_marker is None:
                    break
                assert page.next_marker == page.parts[-1].part_number
                marker = page.next_marker
            assert found == expected
        page = await backend.list_parts(
            bucket, "dir/k", upload_id, part_number_marker=10_000, max_parts=1
        )
        assert list(page.parts) == []

    async def test_failing_part(self, backend: StorageBackend, bucket: str) -> None:
        """Neither a broken body nor one of the wrong size makes or changes a part."""
        upload_id = await begin(backend, bucket)
        part = await upload(backend, bucket, upload_id, 1, b"good")
        for number in (1, 2):
            with pytest.raises(BodyError):
                await backend.upload_part(
                    bucket,
                    "dir/k",
                    upload_id,
                    number,
                    broken_body(b"xy", BodyError()),
                    size=2,
                )
            for size in (1, 3):
                with pytest.raises(IncompleteBody):
                    await backend.upload_part(
                        bucket, "dir/k", upload_id, number, body(b"xy"), size=size
                    )
        page = await backend.list_parts(bucket, "dir/k", upload_id, max_parts=10)
        assert list(page.parts) == [part]

    async def test_concurrent_parts(self, backend: StorageBackend, bucket: str) -> None:
        upload_id = await begin(backend, bucket)
        contents = [random_bytes(PART, 0), random_bytes(PART, 1), b"last"]
        parts = await asyncio.gather(
            *(
                upload(backend, bucket, upload_id, number, data)
                for number, data in enumerate(contents, 1)
            )
        )
        await backend.complete_multipart_upload(bucket, "dir/k", upload_id, listed(*parts))
        assert await get(backend, bucket, "dir/k") == b"".join(contents)

    async def test_abort(self, backend: StorageBackend, bucket: str) -> None:
        upload_id = await begin(backend, bucket)
        await upload(backend, bucket, upload_id, 1, b"content")
        await backend.abort_multipart_upload(bucket, "dir/k", upload_id)
        for call in CALLS.values():
            with pytest.raises(NoSuchUpload):
                await call(backend, bucket, "dir/k", upload_id)
        page = await backend.list_multipart_uploads(bucket)
        assert list(page.uploads) == []
        assert await list_keys(backend, bucket) == []

    async def test_abort_or_complete(self, backend: StorageBackend, bucket: str) -> None:
        """Of both at once, at least one succeeds, and an aborted upload gives no object."""
        for number in range(8):
            key = f"k{number}"
            upload_id = await begin(backend, bucket, key)
            part = await upload(backend, bucket, upload_id, 1, b"content", key)
            completed, aborted = await asyncio.gather(
                backend.complete_multipart_upload(bucket, key, upload_id, listed(part)),
                backend.abort_multipart_upload(bucket, key, upload_id),
                return_exceptions=True,
            )
            assert isinstance(completed, (ObjectInfo, S3Error))
            assert aborted is None or isinstance(aborted, S3Error)
            assert isinstance(completed, ObjectInfo) or aborted is None
            if isinstance(completed, ObjectInfo):
                assert await get(backend, bucket, key) == b"content"
            else:
                with pytest.raises(NoSuchKey):
                    await backend.head_object(bucket, key)

    async def test_completed_upload_is_gone(self, backend: StorageBackend, bucket: str) -> None:
        upload_id = await begin(backend, bucket)
        part = await upload(backend, bucket, upload_id, 1, b"content")
        await backend.complete_multipart_upload(bucket, "dir/k", upload_id, listed(part))
        for name in ("upload_part", "list_parts", "abort"):
            with pytest.raises(NoSuchUpload):
                await CALLS[name](backend, bucket, "dir/k", upload_id)
        assert list((await backend.list_multipart_uploads(bucket)).uploads) == []
        assert await get(backend, bucket, "dir/k") == b"content"

    @pytest.mark.parametrize("call", CALLS)
    async def test_strange_upload(self, backend: StorageBackend, bucket: str, call: str) -> None:
        """Unknown and malformed ids, and an id with the key or bucket of another upload."""
        await backend.create_bucket("testkit-two")
        upload_id = await begin(backend, bucket)
        for strange in STRANGE_IDS:
            with pytest.raises(NoSuchUpload):
                await CALLS[call](backend, bucket, "dir/k", strange)
        with pytest.raises(NoSuchUpload):
            await CALLS[call](backend, bucket, "other", upload_id)
        with pytest.raises(NoSuchUpload):
            await CALLS[call](backend, "testkit-two", "dir/k", upload_id)
        page = await backend.list_parts(bucket, "dir/k", upload_id, max_parts=1)
        assert list(page.parts) == []

    async def test_list_uploads(self, backend: StorageBackend, bucket: str) -> None:
        expected = sorted([(key, await begin(backend, bucket, key)) for key in KEYS])
        page = await backend.list_multipart_uploads(bucket)
        assert [(item.key, item.upload_id) for item in page.uploads] == expected
        assert page.next_marker is None
        assert all(item.initiated.utcoffset() == timedelta(0) for item in page.uploads)
        for size in (1, 2, 7, len(KEYS)):
            assert await self._entries(backend, bucket, size) == expected
        page = await backend.list_multipart_uploads(bucket, prefix="a/")
        assert [item.key for item in page.uploads] == ["a/1", "a/2", "a/b/3"]
        page = await backend.list_multipart_uploads(bucket, key_marker="b")
        assert [item.key for item in page.uploads] == ["z/1"], "the marker's key is left out"

    async def test_list_uploads_with_delimiter(self, backend: StorageBackend, bucket: str) -> None:
        uploads = sorted([(key, await begin(backend, bucket, key)) for key in KEYS])
        plain = [entry for entry in uploads if "/" not in entry[0]]
        expected = sorted([*plain, ("a/", ""), ("z/", "")])
        for size in (1, 2, 3, 1000):
            assert await self._entries(backend, bucket, size, delimiter="/") == expected
        page = await backend.list_multipart_uploads(bucket, prefix="a/", delimiter="/")
        assert [item.key for item in page.uploads] == ["a/1", "a/2"]
        assert list(page.prefixes) == ["a/b/"]

    @staticmethod
    async def _entries(
        backend: StorageBackend, bucket: str, size: int, delimiter: str = ""
    ) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        marker = ("", "")
        for _ in range(len(KEYS) + 1):
            page = await backend.list_multipart_uploads(
                bucket,
                delimiter=delimiter,
                key_marker=marker[0],
                upload_id_marker=marker[1],
                max_uploads=size,
            )
            entries = [(item.key, item.upload_id) for item in page.uploads]
            entries += [(prefix, "") for prefix in page.prefixes]
            assert len(entries) <= size
            found += sorted(entries)
            if page.next_marker is None:
                return found
            marker = page.next_marker
        raise AssertionError("the listing does not end")

    async def test_uploads_of_one_key(self, backend: StorageBackend, bucket: str) -> None:
        """Each upload has parts of its own; the last Complete wins."""
        first, second = await begin(backend, bucket), await begin(backend, bucket)
        assert first != second
        one = await upload(backend, bucket, first, 1, b"one")
        two = await upload(backend, bucket, second, 1, b"two")
        await backend.complete_multipart_upload(bucket, "dir/k", second, listed(two))
        await backend.complete_multipart_upload(bucket, "dir/k", first, listed(one))
        assert await get(backend, bucket, "dir/k") == b"one"

    async def test_upload_of_hostile_key(self, backend: StorageBackend, bucket: str) -> None:
        for key in ("%dg-x", "a/", "//", "\u00e9" * 512, "a\x01b"):
            upload_id = await backend.create_multipart_upload(
                bucket, key, metadata=ObjectMetadata()
            )
            part = await upload(backend, bucket, upload_id, 1, key.encode(), key)
            page = await backend.list_multipart_uploads(bucket)
            assert [item.key for item in page.uploads] == [key]
            await backend.complete_multipart_upload(bucket, key, upload_id, listed(part))
            assert await get(backend, bucket, key) == key.encode()
