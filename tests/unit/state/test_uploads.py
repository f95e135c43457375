"""Transactions on multipart uploads, and pages of them."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, insert, select

from deltaglider_core.errors import InvalidRequest, NoSuchUpload
from deltaglider_core.interfaces.storage import UploadPage
from deltaglider_core.state import upload_listing, uploads
from deltaglider_core.state.database import Database
from deltaglider_core.state.records import Present
from deltaglider_core.state.sums import Facts
from deltaglider_core.state.tables import uploads as table
from deltaglider_core.state.upload_listing import Query
from deltaglider_core.state.uploads import UploadChangedError

UPLOAD = "1" * 32
PRESENT = Present(
    write_id="w" * 32,
    facts=Facts(size=7, stored=3),
    etag="e-1",
    modified=1_790_000_000.123457,
    stored_as="delta",
)


class Steps:
    """Transactions on one upload."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await self.database.write(lambda c: function(c, *arguments), scope=1)

    async def create(self, upload_id: str = UPLOAD, key: bytes = b"k", now: float = 100.0) -> None:
        await self.database.write(
            lambda c: uploads.create(
                c, now, upload_id=upload_id, bucket=1, key=key, inner="inner", write_id="w" * 32
            ),
            scope=1,
        )

    async def find(self, now: float = 100.0, upload_id: str = UPLOAD) -> uploads.Upload:
        found: uploads.Upload = await self(uploads.find, now, 1, b"k", upload_id)
        return found


@pytest.fixture
def step(database: Database) -> Steps:
    return Steps(database)


async def test_an_upload_that_is_completed(step: Steps) -> None:
    await step.create()
    assert (await step.find()).state == "open"
    await step(uploads.check, 1, UPLOAD)
    await step(uploads.completing, 101.0, UPLOAD, "list")
    found = await step.find()
    assert (found.state, found.since, found.parts) == ("completing", 101.0, "list")
    with pytest.raises(UploadChangedError):
        await step(uploads.check, 1, UPLOAD)
    await step(uploads.completed, 102.0, UPLOAD, PRESENT)
    found = await step.find()
    assert (found.state, found.since, found.parts) == ("done", 102.0, "list")
    info = found.completed_object()
    assert (info.key, info.size, info.etag) == ("k", 7, "e-1")
    assert (info.stored_size, info.stored_as) == (3, "delta")
    assert info.last_modified == datetime.fromtimestamp(PRESENT.modified, UTC)
    assert info.last_modified.timestamp() == PRESENT.modified
    with pytest.raises(UploadChangedError):
        await step(uploads.check, 1, UPLOAD)
    with pytest.raises(NoSuchUpload):
        await step(uploads.find_open, 102.0, 1, b"k", UPLOAD)
    with pytest.raises(NoSuchUpload):
        await step(uploads.abort, 102.0, 1, b"k", UPLOAD)
    await step.find(102.0 + 900)
    with pytest.raises(NoSuchUpload):
        await step.find(102.0 + 901)


async def test_a_complete_that_failed(step: Steps) -> None:
    await step.create()
    await step(uploads.completing, 101.0, UPLOAD, "list")
    await step(uploads.reopened, 102.0, UPLOAD)
    found = await step.find()
    assert (found.state, found.since, found.parts) == ("open", 102.0, None)
    await step(uploads.check, 1, UPLOAD)


async def test_only_what_is_being_completed_is_reopened(step: Steps) -> None:
    """A process that was taken for dead gives up what has been decided without it."""
    await step.create()
    await step(uploads.completing, 101.0, UPLOAD, "list")
    await step(uploads.completed, 102.0, UPLOAD, PRESENT)
    await step(uploads.reopened, 103.0, UPLOAD)
    assert (await step.find()).state == "done"


async def test_a_complete_that_happened_after_all(step: Steps) -> None:
    await step.create()
    await step(uploads.completing, 101.0, UPLOAD, "list")
    await step(uploads.reopened, 102.0, UPLOAD)
    await step(uploads.completed, 103.0, UPLOAD, PRESENT, "list")
    found = await step.find()
    assert (found.state, found.parts) == ("done", "list")


async def test_an_upload_that_is_aborted(step: Steps) -> None:
    await step.create()
    assert await step(uploads.abort, 101.0, 1, b"k", UPLOAD) == "inner"
    for call in (
        step.find(),
        step(uploads.abort, 101.0, 1, b"k", UPLOAD),
        step(uploads.check, 1, UPLOAD),
        step(uploads.touch, 101.0, UPLOAD),
    ):
        with pytest.raises(NoSuchUpload) as caught:
            await call
        assert caught.value.fields == {"UploadId": UPLOAD}


async def test_what_is_being_completed_is_not_aborted(step: Steps) -> None:
    await step.create()
    await step(uploads.completing, 101.0, UPLOAD, "list")
    with pytest.raises(InvalidRequest):
        await step(uploads.abort, 102.0, 1, b"k", UPLOAD)
    with pytest.raises(NoSuchUpload):
        await step(uploads.touch, 102.0, UPLOAD)
    assert not await step(uploads.expire, 1e9, UPLOAD, 10.0)
    assert (await step.find()).state == "completing"


async def test_the_upload_of_another_key_or_bucket(step: Steps) -> None:
    await step.create()
    for bucket, key in ((2, b"k"), (1, b"K"), (1, b"")):
        with pytest.raises(NoSuchUpload):
            await step(uploads.find, 100.0, bucket, key, UPLOAD)
    with pytest.raises(NoSuchUpload):
        await step(uploads.check, 2, UPLOAD)
    for strange in ("", "x", "A" * 32, "1" * 31, "1" * 33, "1" * 31 + "\n", "é", "a\0"):
        with pytest.raises(NoSuchUpload):
            await step.find(upload_id=strange)


async def test_only_an_idle_upload_expires(step: Steps) -> None:
    await step.create()
    assert not await step(uploads.expire, 100.0 + 10 + 599, UPLOAD, 10.0)
    await step(uploads.touch, 200.0, UPLOAD)
    assert not await step(uploads.expire, 100.0 + 10 + 600, UPLOAD, 10.0)
    assert await step(uploads.expire, 200.0 + 10 + 600, UPLOAD, 10.0)
    assert not await step(uploads.expire, 1e9, UPLOAD, 10.0)
    assert not await step(uploads.expire, 1e9, "2" * 32, 10.0)
    with pytest.raises(NoSuchUpload):
        await step.find()


async def test_forgetting(step: Steps) -> None:
    """Only what is over, and only in time."""
    names = [str(number) * 32 for number in range(5)]
    for name in names:
        await step.create(name)
    for name in names[:3]:
        await step(uploads.completed, 100.0, name, PRESENT)
    await step(uploads.abort, 100.0, 1, b"k", names[3])
    assert await step(uploads.forget_done, 1000.0, 10) == 0
    assert await step(uploads.forget_done, 1001.0, 2) == 2
    assert await step(uploads.forget_done, 1001.0, 2) == 1
    for name in names:
        await step(uploads.forget_aborted, name)
    left = await step.database.read(lambda c: c.execute(select(table.c.upload_id)).scalars().all())
    assert left == [names[4]]


# --- pages --------------------------------------------------------------------------------

Row = tuple[str, str, str]  # key, upload id, state

VISIBLE = ("open", "completing")


def plant(connection: Connection, bucket: int, rows: list[Row]) -> None:
    if rows:
        connection.execute(
            insert(table),
            [
                {
                    "upload_id": upload_id,
                    "bucket": bucket,
                    "key": key.encode(),
                    "inner": upload_id,
                    "write_id": upload_id,
                    "initiated": 5.5,
                    "state": state,
                    "since": 5.5,
                }
                for key, upload_id, state in rows
            ],
        )


def model(rows: list[Row], query: Query) -> UploadPage:
    """The same page by a plain reading of what AWS says, as ``(key, id)`` pairs."""
    entries: set[tuple[bytes, str]] = set()
    for key, upload_id, state in rows:
        if state not in VISIBLE or not key.startswith(query.prefix):
            continue
        head, found, _ = key.removeprefix(query.prefix).partition(query.delimiter or "\0")
        entries.add(
            ((query.prefix + head + found).encode(), "") if found else (key.encode(), upload_id)
        )
    marker = query.key_marker.encode()
    above = []
    for entry in sorted(entries):
        if query.upload_id_marker and entry[1]:
            keep = entry > (marker, query.upload_id_marker)
        else:
            keep = not marker or entry[0] > marker
        if keep:
            above.append((entry[0].decode(), entry[1]))
    page = above[: query.max_uploads]
    return UploadPage(
        uploads=tuple(entry for entry in page if entry[1]),  # type: ignore[misc]
        prefixes=tuple(key for key, upload_id in page if not upload_id),
        next_marker=page[-1] if len(above) > query.max_uploads else None,
    )


def plain(page: UploadPage) -> UploadPage:
    assert all(item.initiated == datetime.fromtimestamp(5.5, UTC) for item in page.uploads)
    found = tuple((item.key, item.upload_id) for item in page.uploads)
    return replace(page, uploads=found)  # type: ignore[arg-type]


KEYS = st.text(alphabet="ab/é\U0001f600", min_size=1, max_size=5)
BUCKETS = iter(range(10, 10**9))


@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    keys=st.lists(st.tuples(KEYS, st.sampled_from([*VISIBLE, "done", "aborted"])), max_size=40),
    prefix=st.text(alphabet="ab/é", max_size=2),
    delimiter=st.sampled_from(["", "/", "é", "ab", "//"]),
    marker=st.text(alphabet="ab/é\U0001f600", max_size=4),
    sizes=st.integers(1, 7),
    few=st.integers(1, 4),
)
async def test_pages_against_the_model(
    database: Database,
    keys: list[tuple[str, str]],
    prefix: str,
    delimiter: str,
    marker: str,
    sizes: int,
    few: int,
) -> None:
    """Any page from any marker, and all pages one after another."""
    bucket = next(BUCKETS)
    rows = [
        (key, f"{number * 7919 % 97:02x}{bucket:030x}", state)
        for number, (key, state) in enumerate(keys)
    ]
    await database.write(lambda c: plant(c, bucket, rows))
    base = Query(bucket=bucket, prefix=prefix, delimiter=delimiter, max_uploads=sizes)
    whole = model(rows, replace(base, max_uploads=10_000))
    markers = [(marker, ""), (marker, "4" * 32)]

    def check(connection: Connection) -> None:
        for key_marker, upload_id_marker in markers:
            query = replace(base, key_marker=key_marker, upload_id_marker=upload_id_marker)
            assert plain(upload_listing.list_uploads(connection, query)) == model(rows, query)
        found: list[Any] = []
        prefixes: list[str] = []
        query = base
        for _ in range(len(rows) + 1):
            page = plain(upload_listing.list_uploads(connection, query))
            found += page.uploads
            prefixes += page.prefixes
            if page.next_marker is None:
                break
            query = replace(
                query, key_marker=page.next_marker[0], upload_id_marker=page.next_marker[1]
            )
        else:
            raise AssertionError("the listing does not end")
        assert (tuple(found), tuple(prefixes)) == (whole.uploads, whole.prefixes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upload_listing, "_FEW", few)
        patch.setattr(upload_listing, "_MANY", 2 * few)
        await database.read(check)


@contextmanager
def counted(connection: Connection) -> Iterator[list[int]]:
    """The number of rows that each query has read."""
    seen: list[int] = []

    def note(conn: Any, clause: Any, multi: Any, params: Any, options: Any, result: Any) -> None:
        seen.append(1)

    event.listen(connection, "after_execute", note)
    try:
        yield seen
    finally:
        event.remove(connection, "after_execute", note)


async def test_a_page_costs_the_same_however_much_a_prefix_stands_for(database: Database) -> None:
    """2,000 uploads behind each of three prefixes: a few queries of a few rows."""
    rows = [
        (f"{folder}/{number}", f"{index}{number:031x}", "open")
        for index, folder in enumerate("abc")
        for number in range(2000)
    ]
    rows += [("d", f"{number:032x}".replace("0", "f", 1), "open") for number in range(2000)]
    rows += [("same", f"e{number:031x}", "open") for number in range(2000)]
    await database.write(lambda c: plant(c, 5, rows))

    def look(connection: Connection) -> None:
        with counted(connection) as queries:
            query = Query(bucket=5, delimiter="/", max_uploads=4)
            page = upload_listing.list_uploads(connection, query)
            assert page.prefixes == ("a/", "b/", "c/")
            assert [item.key for item in page.uploads] == ["d"]
            assert page.next_marker == ("d", page.uploads[0].upload_id)
        assert len(queries) == 4
        ids = sorted(upload_id for key, upload_id, _ in rows if key == "same")
        for position in (0, 1000, 1995):
            with counted(connection) as queries:
                query = Query(
                    bucket=5, key_marker="same", upload_id_marker=ids[position], max_uploads=3
                )
                page = upload_listing.list_uploads(connection, query)
            expected = ids[bisect.bisect_right(ids, ids[position]) :][:3]
            assert [item.upload_id for item in page.uploads] == expected
            assert len(queries) == 1

    await database.read(look)
