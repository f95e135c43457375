"""Answers of the backend that are lost while an upload changes its state."""

from __future__ import annotations

import pytest

from deltaglider_core.backend_defaults import complete as _complete
from deltaglider_core.errors import (
    NoSuchUpload,
    PreconditionFailed,
    S3Error,
    ServiceUnavailable,
)
from deltaglider_core.interfaces.storage import CompletedPart
from deltaglider_core.testing import MemoryBackend, body, metadata, read


@pytest.mark.parametrize("error", [ServiceUnavailable(), PreconditionFailed()])
@pytest.mark.parametrize("lost", [0, 1])
async def test_a_lost_answer_does_not_lock_the_upload(
    monkeypatch: pytest.MonkeyPatch, lost: int, error: S3Error
) -> None:
    """First the claim, then the end. A request that is refused was repeated by a client library."""
    monkeypatch.setattr(_complete, "_PATIENCE_SECONDS", 0.1)
    backend = MemoryBackend()
    await backend.create_bucket("bucket")
    upload = await backend.create_multipart_upload("bucket", "k", metadata=metadata())
    part = await backend.upload_part("bucket", "k", upload, 1, body(b"x"), size=1)
    parts = [CompletedPart(part_number=1, etag=part.etag)]
    seen = 0

    def lose(bucket: str, key: str) -> None:
        nonlocal seen
        if key.endswith("/upload"):
            seen += 1
            if seen == lost + 1:
                raise error

    backend.after("put_object", lose)
    info = await backend.complete_multipart_upload("bucket", "k", upload, parts)
    assert seen == 2
    backend.heal()
    assert await read(await backend.get_object("bucket", "k")) == b"x"
    assert await backend.complete_multipart_upload("bucket", "k", upload, parts) == info
    with pytest.raises(NoSuchUpload):
        await backend.abort_multipart_upload("bucket", "k", upload)
    assert not [key for key in backend.keys("bucket") if key.endswith("/00001")]
