"""The defaults of ``StorageBackend``: copies and multipart uploads on the ten methods."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from support.digests import digest as checksum_of

from deltaglider_core.backend_defaults import complete as _complete
from deltaglider_core.backend_defaults import uploads as _uploads
from deltaglider_core.backend_defaults.assembled import without_parts
from deltaglider_core.errors import (
    EntityTooSmall,
    InsufficientStorage,
    IntegrityError,
    InvalidPart,
    InvalidPartOrder,
    InvalidRequest,
    NoSuchKey,
    NoSuchUpload,
    PreconditionFailed,
    ServiceUnavailable,
)
from deltaglider_core.interfaces.storage import (
    Capabilities,
    CompletedPart,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    PartInfo,
)
from deltaglider_core.testing import MemoryBackend, body, metadata, read

PART = 5 * 1024 * 1024
GIVEN = metadata(headers={"content-type": "text/x"}, user={"a": "1"}, internal={"form": "verbatim"})


class Unconditional(MemoryBackend):
    """Declares no conditional writes and ignores conditions, as some S3 servers do."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    async def put_object(self, *args: Any, condition: Any = None, **rest: Any) -> ObjectInfo:
        return await super().put_object(*args, **rest)


class OpaqueETags(MemoryBackend):
    """ETags that are no MD5."""

    def _commit(self, *args: Any) -> ObjectInfo:
        info = super()._commit(*args)
        bucket, key = args[0], args[1]
        info = replace(info, etag=f"opaque-{info.etag[:6]}")
        stored = self._bucket(bucket).objects
        stored[key] = replace(stored[key], info=info)
        return info


@pytest.fixture
async def backend() -> MemoryBackend:
    """With the bucket ``b``."""
    backend = MemoryBackend()
    await backend.create_bucket("b")
    return backend


async def begin(backend: MemoryBackend, key: str = "k") -> str:
    return await backend.create_multipart_upload("b", key, metadata=GIVEN)


async def part(
    backend: MemoryBackend, upload_id: str, number: int, data: bytes, key: str = "k"
) -> PartInfo:
    return await backend.upload_part("b", key, upload_id, number, body(data), size=len(data))


def listed(*parts: PartInfo) -> Sequence[CompletedPart]:
    return [CompletedPart(part_number=item.part_number, etag=item.etag) for item in parts]


async def complete(
    backend: MemoryBackend,
    upload_id: str,
    *parts: PartInfo,
    key: str = "k",
    condition: Condition | None = None,
) -> ObjectInfo:
    return await backend.complete_multipart_upload(
        "b", key, upload_id, listed(*parts), condition=condition
    )


def folder(backend: MemoryBackend, upload_id: str) -> list[str]:
    """Names of what is left of an upload."""
    prefix = f".deltaglider/uploads/{upload_id}/"
    return [key.removeprefix(prefix) for key in backend.keys("b") if key.startswith(prefix)]


async def record_state(backend: MemoryBackend, upload_id: str) -> str:
    reader = await backend.get_object("b", f".deltaglider/uploads/{upload_id}/upload")
    return str(json.loads(await read(reader))["state"])


async def set_state(
    backend: MemoryBackend, upload_id: str, parts: Sequence[CompletedPart], *, age: float
) -> None:
    """Make the record that of a process which claimed the upload ``age`` seconds ago."""
    record = await _uploads.read_record(backend, "b", upload_id)
    assert record is not None
    claimed = replace(
        record,
        state=_uploads.State.COMMITTING,
        parts=_uploads.fingerprint(parts),
        since=record.since - age,
        nonce="of another process",
    )
    await _uploads.write_record(backend, "b", claimed)


# --- copy -----------------------------------------------------------------------------------


async def test_copy_closes_the_source_when_the_write_fails(backend: MemoryBackend) -> None:
    await backend.put_object("b", "s", body(b"x" * 200_000), size=None, metadata=GIVEN)
    backend.fail("put_object", InsufficientStorage(), key="t")
    with pytest.raises(InsufficientStorage):
        await backend.copy_object("b", "s", "b", "t")
    backend.fail("read_chunk", ServiceUnavailable(), skip=2)
    with pytest.raises(ServiceUnavailable):
        await backend.copy_object("b", "s", "b", "t")
    assert backend.keys("b") == ["s"]


async def test_copy_keeps_internal_metadata(backend: MemoryBackend) -> None:
    await backend.put_object("b", "s", body(b"x"), size=1, metadata=GIVEN)
    info = await backend.copy_object("b", "s", "b", "t")
    assert info.metadata == GIVEN


async def test_copy_of_a_source_that_changes_meanwhile(backend: MemoryBackend) -> None:
    """The bytes are those of the version that was opened."""
    old = b"o" * 200_000
    await backend.put_object("b", "s", body(old), size=None, metadata=GIVEN)

    async def overwrite(bucket: str, key: str) -> None:
        if key == "t":
            await backend.put_object("b", "s", body(b"new"), size=3, metadata=ObjectMetadata())

    backend.before("put_object", overwrite)
    await backend.copy_object("b", "s", "b", "t")
    assert await read(await backend.get_object("b", "t")) == old


# --- the answer of Complete -----------------------------------------------------------------


async def test_complete_stores_the_multipart_etag(backend: MemoryBackend) -> None:
    upload_id = await begin(backend)
    contents = [b"1" * PART, b"end"]
    parts = [await part(backend, upload_id, n, data) for n, data in enumerate(contents, 1)]
    info = await complete(backend, upload_id, *parts)
    raw = b"".join(hashlib.md5(data).digest() for data in contents)
    assert info.etag == f"{hashlib.md5(raw).hexdigest()}-2"
    head = await backend.head_object("b", "k")
    assert head.metadata is not None
    assert head.metadata.internal == {
        "form": "verbatim",
        "etag": info.etag,
        "parts": f"1;{PART},3",
        "checksum": f"crc64nvme:FULL_OBJECT:{checksum_of('crc64nvme', b''.join(contents))}",
    }
    assert (head.metadata.headers, head.metadata.user) == (GIVEN.headers, GIVEN.user)
    assert info == replace(head, etag=info.etag, metadata=without_parts(head.metadata))


async def test_complete_with_opaque_part_etags() -> None:
    """The ETag still has the form that clients expect, and tells contents apart."""
    backend = OpaqueETags()
    await backend.create_bucket("b")
    etags = set()
    for data in (b"one", b"two"):
        upload_id = await begin(backend)
        stored = await part(backend, upload_id, 1, data)
        assert stored.etag.startswith("opaque-")
        info = await complete(backend, upload_id, stored)
        digest, _, count = info.etag.partition("-")
        assert (len(bytes.fromhex(digest)), count) == (16, "1")
        etags.add(info.etag)
    assert len(etags) == 2


async def test_complete_leaves_only_a_small_record(backend: MemoryBackend) -> None:
    upload_id = await begin(backend)
    stored = [await part(backend, upload_id, n, b"x" * PART) for n in (1, 2)]
    first = await complete(backend, upload_id, *stored)
    assert folder(backend, upload_id) == ["upload"]
    assert await complete(backend, upload_id, *stored) == first


async def test_repeated_complete_survives_deletion(backend: MemoryBackend) -> None:
    upload_id = await begin(backend)
    stored = await part(backend, upload_id, 1, b"x")
    first = await complete(backend, upload_id, stored)
    await backend.delete_object("b", "k")
    assert await complete(backend, upload_id, stored) == first
    with pytest.raises(NoSuchKey):
        await backend.head_object("b", "k")


async def test_completed_upload_is_forgotten_in_time(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifteen minutes later it is unknown, and other Completes clear its record away."""
    old_id = await begin(backend)
    old = await part(backend, old_id, 1, b"old")
    await complete(backend, old_id, old)
    now = _uploads.time.time()
    monkeypatch.setattr(_uploads.time, "time", lambda: now + 901)
    with pytest.raises(NoSuchUpload):
        await complete(backend, old_id, old)
    new_id = await begin(backend)
    await complete(backend, new_id, await part(backend, new_id, 1, b"new"))
    assert folder(backend, old_id) == []
    assert folder(backend, new_id) == ["upload"]


async def test_sweep_leaves_open_uploads(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_id = await begin(backend, "open")
    stored = await part(backend, open_id, 1, b"x", "open")
    now = _uploads.time.time()
    monkeypatch.setattr(_uploads.time, "time", lambda: now + 10 * 86_400)
    other_id = await begin(backend)
    await complete(backend, other_id, await part(backend, other_id, 1, b"x"))
    info = await complete(backend, open_id, stored, key="open")
    assert info.size == 1


async def test_sweep_clears_orphans(backend: MemoryBackend) -> None:
    """Parts without a record belong to no upload: one that came in during an abort."""
    orphan = f".deltaglider/uploads/{'5' * 32}/00001"
    await backend.put_object("b", orphan, body(b"x"), size=1, metadata=ObjectMetadata())
    assert (await backend.list_multipart_uploads("b")).uploads == ()
    upload_id = await begin(backend)
    await complete(backend, upload_id, await part(backend, upload_id, 1, b"x"))
    assert orphan not in backend.keys("b")


# --- what Complete refuses ------------------------------------------------------------------


async def test_error_fields(backend: MemoryBackend) -> None:
    upload_id = await begin(backend)
    small = await part(backend, upload_id, 3, b"small")
    last = await part(backend, upload_id, 4, b"last")
    with pytest.raises(EntityTooSmall) as too_small:
        await complete(backend, upload_id, small, last)
    assert too_small.value.fields == {
        "ProposedSize": "5",
        "MinSizeAllowed": "5242880",
        "PartNumber": "3",
        "ETag": small.etag,
    }
    with pytest.raises(InvalidPart) as invalid:
        await complete(backend, upload_id, replace(small, etag="f" * 32))
    assert invalid.value.fields == {
        "UploadId": upload_id,
        "PartNumber": "3",
        "ETag": "f" * 32,
    }


@pytest.mark.parametrize("numbers", [(2, 1), (1, 1)])
async def test_order_of_parts(backend: MemoryBackend, numbers: tuple[int, int]) -> None:
    upload_id = await begin(backend)
    stored = {n: await part(backend, upload_id, n, b"x" * PART) for n in set(numbers)}
    with pytest.raises(InvalidPartOrder):
        await complete(backend, upload_id, *(stored[number] for number in numbers))


async def test_malformed_id_does_not_reach_the_backend(backend: MemoryBackend) -> None:
    backend.calls.clear()
    for upload_id in ("", "x", "../../k", "A" * 32, "0" * 31, "0" * 33, "0" * 32 + "\n"):
        with pytest.raises(NoSuchUpload):
            await backend.list_parts("b", "k", upload_id, max_parts=1)
        with pytest.raises(NoSuchUpload):
            await complete(backend, upload_id)
        with pytest.raises(NoSuchUpload):
            await backend.abort_multipart_upload("b", "k", upload_id)
    assert backend.calls == []


@pytest.mark.parametrize("data", [b"", b"{}", b"not json", b'{"format": 2}', b"x" * 300_000])
async def test_damaged_record_is_an_error(backend: MemoryBackend, data: bytes) -> None:
    """Never ``NoSuchUpload``: that would be an error taken for absence."""
    upload_id = await begin(backend)
    await backend.put_object(
        "b",
        f".deltaglider/uploads/{upload_id}/upload",
        body(data),
        size=len(data),
        metadata=ObjectMetadata(),
    )
    with pytest.raises(IntegrityError):
        await backend.list_parts("b", "k", upload_id, max_parts=1)
    with pytest.raises(IntegrityError):
        await backend.list_multipart_uploads("b")


async def test_unreachable_record_is_an_error(backend: MemoryBackend) -> None:
    upload_id = await begin(backend)
    backend.fail("get_object", ServiceUnavailable(), times=10)
    with pytest.raises(ServiceUnavailable):
        await backend.list_parts("b", "k", upload_id, max_parts=1)
    with pytest.raises(ServiceUnavailable):
        await backend.abort_multipart_upload("b", "k", upload_id)
    with pytest.raises(ServiceUnavailable):
        await part(backend, upload_id, 1, b"x")


# --- failures while completing --------------------------------------------------------------


async def two_parts(backend: MemoryBackend, upload_id: str) -> list[PartInfo]:
    return [
        await part(backend, upload_id, number, data)
        for number, data in enumerate((b"1" * PART, b"end"), 1)
    ]


def part_key(upload_id: str, number: int) -> str:
    return f".deltaglider/uploads/{upload_id}/{number:05d}"


@pytest.mark.parametrize("number", [1, 2])
async def test_part_replaced_while_completing(backend: MemoryBackend, number: int) -> None:
    """Parts are checked again when they are read: bytes of two uploads of a part never mix."""
    upload_id = await begin(backend)
    stored = await two_parts(backend, upload_id)
    done = False

    async def replace_part(bucket: str, key: str) -> None:
        nonlocal done
        if key == "k" and not done:
            done = True
            await part(backend, upload_id, number, b"2" * PART)

    backend.before("put_object", replace_part)
    with pytest.raises(InvalidPart) as caught:
        await complete(backend, upload_id, *stored)
    assert caught.value.fields["PartNumber"] == str(number)
    with pytest.raises(NoSuchKey):
        await backend.head_object("b", "k")
    assert await record_state(backend, upload_id) == "open"


async def test_part_vanishes_while_completing(backend: MemoryBackend) -> None:
    upload_id = await begin(backend)
    stored = await two_parts(backend, upload_id)

    async def vanish(bucket: str, key: str) -> None:
        if key == "k":
            await backend.delete_object("b", part_key(upload_id, 2))

    backend.before("put_object", vanish)
    with pytest.raises(InvalidPart):
        await complete(backend, upload_id, *stored)
    with pytest.raises(NoSuchKey):
        await backend.head_object("b", "k")


async def test_part_of_wrong_length(backend: MemoryBackend) -> None:
    """A backend that delivers fewer bytes than it announced does not shorten the object."""
    upload_id = await begin(backend)
    stored = await two_parts(backend, upload_id)
    backend.corrupt("b", part_key(upload_id, 1), b"1" * (PART - 1))
    with pytest.raises(IntegrityError):
        await complete(backend, upload_id, *stored)
    with pytest.raises(NoSuchKey):
        await backend.head_object("b", "k")


@pytest.mark.parametrize("method", ["list_objects", "get_object", "read_chunk", "put_object"])
async def test_failed_complete_can_be_repeated(backend: MemoryBackend, method: str) -> None:
    upload_id = await begin(backend)
    stored = await two_parts(backend, upload_id)
    key = {"put_object": "k", "list_objects": None}.get(method, part_key(upload_id, 1))
    backend.fail(method, ServiceUnavailable("away"), key=key)
    with pytest.raises(ServiceUnavailable, match="away"):
        await complete(backend, upload_id, *stored)
    assert await record_state(backend, upload_id) == "open"
    info = await complete(backend, upload_id, *stored)
    assert info.size == PART + 3


class FailsAtCommit(MemoryBackend):
    """Takes a body to its end, then fails to store it."""

    error: BaseException | None = None

    def _commit(self, bucket: str, key: str, *args: Any) -> ObjectInfo:
        if key == "k" and self.error is not None:
            error, self.error = self.error, None
            raise error
        return super()._commit(bucket, key, *args)


@pytest.mark.parametrize("error", [InsufficientStorage("full"), OSError("io"), ValueError("bug")])
async def test_claim_is_given_up_after_a_failed_commit(error: Exception) -> None:
    backend = FailsAtCommit()
    await backend.create_bucket("b")
    upload_id = await begin(backend)
    stored = await part(backend, upload_id, 1, b"x")
    backend.error = error
    with pytest.raises(type(error)) as caught:
        await complete(backend, upload_id, stored)
    assert caught.value is error
    assert await record_state(backend, upload_id) == "open"
    assert (await complete(backend, upload_id, stored)).size == 1


async def test_claim_is_given_up_when_cancelled() -> None:
    backend = FailsAtCommit()
    await backend.create_bucket("b")
    upload_id = await begin(backend)
    stored = await part(backend, upload_id, 1, b"x")
    backend.error = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await complete(backend, upload_id, stored)
    assert await record_state(backend, upload_id) == "open"


async def test_client_that_leaves_after_the_commit(backend: MemoryBackend) -> None:
    """The answer is recorded all the same, so that a repeated call gets it at once."""
    upload_id = await begin(backend)
    stored = await part(backend, upload_id, 1, b"x")
    task = asyncio.create_task(complete(backend, upload_id, stored))
    recorded = asyncio.Event()

    def leave(bucket: str, key: str) -> None:
        if key == "k":
            task.cancel()
        elif task.cancelling():
            recorded.set()

    backend.after("put_object", leave)
    with pytest.raises(asyncio.CancelledError):
        await task
    await recorded.wait()
    assert await record_state(backend, upload_id) == "done"
    assert (await complete(backend, upload_id, stored)).size == 1


async def test_refused_body_is_closed(backend: MemoryBackend) -> None:
    """A backend that stops in the middle of the body leaves no part open."""
    upload_id = await begin(backend)
    stored = await two_parts(backend, upload_id)
    closed = []
    real = backend.get_object

    async def watched(bucket: str, key: str, **rest: Any) -> Any:
        reader = await real(bucket, key, **rest)
        reader._close = lambda: closing(key)
        return reader

    async def closing(key: str) -> None:
        closed.append(key)

    async def stop(bucket: str, key: str, chunks: Any, **rest: Any) -> ObjectInfo:
        await anext(chunks)
        raise InsufficientStorage

    backend.get_object = watched  # type: ignore[method-assign]
    backend.put_object = stop  # type: ignore[method-assign, assignment]
    with pytest.raises(InsufficientStorage):
        await complete(backend, upload_id, *stored)
    assert part_key(upload_id, 1) in closed


async def test_claim_that_cannot_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first error arrives at once; the claim is void two minutes later."""
    backend = FailsAtCommit()
    await backend.create_bucket("b")
    upload_id = await begin(backend)
    stored = await part(backend, upload_id, 1, b"x")
    backend.error = InsufficientStorage("full")
    record = f".deltaglider/uploads/{upload_id}/upload"
    backend.fail("put_object", ServiceUnavailable(), key=record, skip=1)
    with pytest.raises(InsufficientStorage):
        await complete(backend, upload_id, stored)
    assert await record_state(backend, upload_id) == "committing"
    now = _uploads.time.time()
    monkeypatch.setattr(_uploads.time, "time", lambda: now + 121)
    assert (await complete(backend, upload_id, stored)).size == 1


async def test_answer_that_cannot_be_recorded(backend: MemoryBackend) -> None:
    """The object is there, so the call succeeds; the parts stay for a repeated one."""
    upload_id = await begin(backend)
    stored = await part(backend, upload_id, 1, b"x")
    record = f".deltaglider/uploads/{upload_id}/upload"
    backend.fail("put_object", ServiceUnavailable(), key=record, skip=1)
    info = await complete(backend, upload_id, stored)
    assert (await backend.head_object("b", "k")).size == info.size == 1
    assert folder(backend, upload_id) == ["00001", "upload"]


async def test_parts_that_cannot_be_deleted(backend: MemoryBackend) -> None:
    upload_id = await begin(backend)
    stored = await part(backend, upload_id, 1, b"x")
    backend.fail("delete_object", ServiceUnavailable(), times=1000)
    first = await complete(backend, upload_id, stored)
    assert await complete(backend, upload_id, stored) == first
    assert (await backend.list_multipart_uploads("b")).uploads == ()


# --- several at once ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MemoryBackend, Unconditional])
async def test_abort_while_parts_are_read(kind: type[MemoryBackend]) -> None:
    """The abort wins: nothing becomes visible after it has answered."""
    backend = kind()
    await backend.create_bucket("b")
    upload_id = await begin(backend)
    stored = await two_parts(backend, upload_id)
    aborted = False

    async def abort(bucket: str, key: str) -> None:
        nonlocal aborted
        if key == part_key(upload_id, 2) and not aborted:
            aborted = True
            await backend.abort_multipart_upload("b", "k", upload_id)

    backend.after("read_chunk", abort)
    with pytest.raises(NoSuchUpload):
        await complete(backend, upload_id, *stored)
    assert aborted
    with pytest.raises(NoSuchKey):
        await backend.head_object("b", "k")
    assert folder(backend, upload_id) == []


async def test_abort_while_committing(backend: MemoryBackend) -> None:
    """The Complete wins: the abort is refused."""
    upload_id = await begin(backend)
    stored = await part(backend, upload_id, 1, b"x")
    await set_state(backend, upload_id, listed(stored), age=0)
    with pytest.raises(InvalidRequest):
        await backend.abort_multipart_upload("b", "k", upload_id)
    assert folder(backend, upload_id) == ["00001", "upload"]


async def test_abort_after_a_crash_while_committing(backend: MemoryBackend) -> None:
    upload_id = await begin(backend)
    stored = await part(backend, upload_id, 1, b"x")
    await set_state(backend, upload_id, listed(stored), age=121)
    await backend.abort_multipart_upload("b", "k", upload_id)
    assert folder(backend, upload_id) == []


async def test_abort_that_is_cut_short(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload is gone at once; what could not be deleted is swept later."""
    upload_id = await begin(backend)
    await part(backend, upload_id, 1, b"x")
    backend.fail("delete_object", ServiceUnavailable(), times=1000)
    await backend.abort_multipart_upload("b", "k", upload_id)
    with pytest.raises(NoSuchUpload):
        await part(backend, upload_id, 2, b"x")
    assert (await backend.list_multipart_uploads("b")).uploads == ()
    assert folder(backend, upload_id) == ["00001", "upload"]
    backend.heal()
    now = _uploads.time.time()
    monkeypatch.setattr(_uploads.time, "time", lambda: now + 901)
    other = await begin(backend)
    await complete(backend, other, await part(backend, other, 1, b"x"))
    assert folder(backend, upload_id) == []


async def test_two_aborts_at_once(backend: MemoryBackend) -> None:
    upload_id = await begin(backend)
    answers = await asyncio.gather(
        *(backend.abort_multipart_upload("b", "k", upload_id) for _ in range(2)),
        return_exceptions=True,
    )
    assert None in answers
    assert all(answer is None or isinstance(answer, NoSuchUpload) for answer in answers)


async def test_complete_waits_for_the_one_that_commits(backend: MemoryBackend) -> None:
    upload_id = await begin(backend)
    stored = await part(backend, upload_id, 1, b"x")
    await set_state(backend, upload_id, listed(stored), age=0)
    waiting = asyncio.create_task(complete(backend, upload_id, stored))
    polled = asyncio.Event()
    backend.after("get_object", lambda bucket, key: polled.set())
    await polled.wait()
    record = await _uploads.read_record(backend, "b", upload_id)
    assert record is not None
    done = replace(
        record, state=_uploads.State.DONE, etag="e-1", size=1, last_modified=record.initiated
    )
    await _uploads.write_record(backend, "b", done)
    assert (await waiting).etag == "e-1"
    with pytest.raises(NoSuchKey):
        await backend.head_object("b", "k")


async def test_complete_does_not_wait_for_ever(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_complete, "_PATIENCE_SECONDS", 0.05)
    upload_id = await begin(backend)
    stored = await part(backend, upload_id, 1, b"x")
    await set_state(backend, upload_id, listed(stored), age=0)
    with pytest.raises(ServiceUnavailable):
        await complete(backend, upload_id, stored)


async def test_other_list_while_committing(backend: MemoryBackend) -> None:
    upload_id = await begin(backend)
    one, two = await part(backend, upload_id, 1, b"1"), await part(backend, upload_id, 2, b"2")
    await set_state(backend, upload_id, listed(one), age=0)
    with pytest.raises(InvalidRequest):
        await complete(backend, upload_id, two)


async def test_complete_after_a_crash_while_committing(backend: MemoryBackend) -> None:
    upload_id = await begin(backend)
    stored = await part(backend, upload_id, 1, b"x")
    await set_state(backend, upload_id, listed(stored), age=121)
    assert (await complete(backend, upload_id, stored)).size == 1


@pytest.mark.parametrize("kind", [MemoryBackend, Unconditional])
async def test_loser_of_two_completes_writes_nothing(kind: type[MemoryBackend]) -> None:
    """The second Complete finishes, and the key is overwritten, while the first one reads."""
    backend = kind()
    await backend.create_bucket("b")
    upload_id = await begin(backend)
    stored = await two_parts(backend, upload_id)
    winner: list[ObjectInfo] = []
    started = False

    async def overtake(bucket: str, key: str) -> None:
        nonlocal started
        if key == part_key(upload_id, 2) and not started:
            started = True
            winner.append(await complete(backend, upload_id, *stored))
            await backend.put_object("b", "k", body(b"newer"), size=5, metadata=ObjectMetadata())

    backend.after("read_chunk", overtake)
    info = await complete(backend, upload_id, *stored)
    assert info == winner[0]
    assert await read(await backend.get_object("b", "k")) == b"newer"


async def test_condition_of_a_complete_that_lost(backend: MemoryBackend) -> None:
    """If-None-Match fails because of the same upload: that is success, and stays so."""
    upload_id = await begin(backend)
    stored = await part(backend, upload_id, 1, b"x")
    absent = Condition(if_none_match="*")
    answers = await asyncio.gather(
        *(complete(backend, upload_id, stored, condition=absent) for _ in range(3))
    )
    assert answers[0] == answers[1] == answers[2]


async def test_refused_condition_leaves_the_upload_open(backend: MemoryBackend) -> None:
    await backend.put_object("b", "k", body(b"x"), size=1, metadata=ObjectMetadata())
    upload_id = await begin(backend)
    stored = await part(backend, upload_id, 1, b"new")
    with pytest.raises(PreconditionFailed):
        await complete(backend, upload_id, stored, condition=Condition(if_none_match="*"))
    assert await record_state(backend, upload_id) == "open"
    await backend.abort_multipart_upload("b", "k", upload_id)


# --- listings -------------------------------------------------------------------------------


async def test_list_multipart_uploads_reads_all_pages(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = sorted([await begin(backend, "k") for _ in range(25)])
    monkeypatch.setattr(_uploads, "PAGE", 4)
    calls = len(backend.calls)
    page = await backend.list_multipart_uploads("b", max_uploads=10)
    assert [item.upload_id for item in page.uploads] == ids[:10]
    assert page.next_marker == ("k", ids[9])
    assert len(backend.calls) - calls > 25
    rest = await backend.list_multipart_uploads(
        "b", key_marker="k", upload_id_marker=ids[9], max_uploads=100
    )
    assert [item.upload_id for item in rest.uploads] == ids[10:]


async def test_listings_of_nothing(backend: MemoryBackend) -> None:
    upload_id = await begin(backend)
    await part(backend, upload_id, 1, b"x")
    page = await backend.list_parts("b", "k", upload_id, max_parts=0)
    assert (page.parts, page.next_marker) == ((), None)
    uploads = await backend.list_multipart_uploads("b", max_uploads=0)
    assert (uploads.uploads, uploads.next_marker) == ((), None)


async def test_foreign_objects_among_the_uploads(backend: MemoryBackend) -> None:
    """What is no part and no upload by its name is not taken for one."""
    upload_id = await begin(backend)
    for key in (f"{upload_id}/000001", f"{upload_id}/1", f"{upload_id}/00001x", "notes/x", "y"):
        await backend.put_object(
            "b", f".deltaglider/uploads/{key}", body(b"x"), size=1, metadata=ObjectMetadata()
        )
    page = await backend.list_parts("b", "k", upload_id, max_parts=10)
    assert page.parts == ()
    uploads = await backend.list_multipart_uploads("b")
    assert [item.upload_id for item in uploads.uploads] == [upload_id]
