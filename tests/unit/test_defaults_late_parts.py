"""Parts that arrive when their upload has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from deltaglider_core.errors import NoSuchUpload
from deltaglider_core.interfaces.storage import CompletedPart
from deltaglider_core.testing import MemoryBackend, body, metadata


@pytest.mark.parametrize("end", ["abort", "complete"])
async def test_a_late_part_leaves_nothing(end: str) -> None:
    backend = MemoryBackend()
    await backend.create_bucket("bucket")
    upload = await backend.create_multipart_upload("bucket", "k", metadata=metadata())
    first = await backend.upload_part("bucket", "k", upload, 1, body(b"x"), size=1)

    async def late() -> AsyncIterator[bytes]:
        yield b"y"
        if end == "abort":
            await backend.abort_multipart_upload("bucket", "k", upload)
        else:
            listed = [CompletedPart(part_number=1, etag=first.etag)]
            await backend.complete_multipart_upload("bucket", "k", upload, listed)

    with pytest.raises(NoSuchUpload):
        await backend.upload_part("bucket", "k", upload, 2, late(), size=1)
    assert not [key for key in backend.keys("bucket") if key.endswith("/00002")]
