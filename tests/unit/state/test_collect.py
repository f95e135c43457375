"""Collection: what is named stays, what nothing names goes, and any doubt ends the pass."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from support.collecting import SIZE, Collected, make_bucket, open_collected

from deltaglider_core.errors import IntegrityError, NoSuchBucket, ServiceUnavailable
from deltaglider_core.interfaces.storage import Capabilities, ObjectPage
from deltaglider_core.state import collect as collecting
from deltaglider_core.state.collect import CollectionRunsError, lease_name
from deltaglider_core.state.database import Database
from deltaglider_core.state.leases import LeaseLost
from deltaglider_core.state.references import NotOwnerError
from deltaglider_core.state.tables import buckets, leases, refs
from deltaglider_core.testing import MemoryBackend, body, metadata

DAY = 86_400.0


class BareBackend(MemoryBackend):
    """Listings without metadata."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, listing_metadata=False)

    async def list_objects(self, bucket: str, **arguments: Any) -> ObjectPage:
        page = await super().list_objects(bucket, **arguments)
        return replace(page, objects=tuple(replace(o, metadata=None) for o in page.objects))


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> AsyncIterator[Collected]:
    async with open_collected(database, tmp_path) as opened:
        yield opened


async def orphan(world: Collected, key: str = "a-1.zip") -> str:
    """A reference whose only object is gone; returns its key."""
    assert await world.put(key, world.data()) == "delta"
    await world.remove(key)
    (reference,) = world.references()
    return reference


async def check_untouched(world: Collected, reference: str) -> None:
    """Nothing was condemned or deleted."""
    assert reference in world.references()
    row = (await world.rows())[reference]
    assert (row.condemned, row.deleting) == (None, False)


# --- the life of a reference ------------------------------------------------------------------


async def test_two_passes_and_the_waiting_time(world: Collected) -> None:
    reference = await orphan(world)
    report = await world.collect(grace=DAY)
    assert (report.references, report.condemned, report.deleted) == (1, 1, 0)
    assert report.reference_bytes == SIZE
    await world.age(DAY - 60)
    report = await world.collect(grace=DAY)
    assert (report.condemned, report.waiting, report.deleted) == (0, 1, 0)
    assert world.references() == [reference]
    await world.age(61)
    report = await world.collect(grace=DAY)
    assert (report.waiting, report.deleted, report.deleted_bytes) == (0, 1, SIZE)
    assert world.references() == []
    assert await world.rows() == {}
    report = await world.collect(grace=DAY)
    assert (report.references, report.deleted) == (0, 0)
    assert await world.put("a-1.zip", world.data()) == "delta"
    assert await world.get("a-1.zip") == world.data()


async def test_what_is_named_stays(world: Collected) -> None:
    await world.put("a-1.zip", world.data())
    await world.put("a-2.zip", world.version(7))
    await world.put("b/x.zip", world.data(9))
    await world.copy("a-2.zip", "elsewhere/copy.zip")
    await world.remove("a-1.zip", "a-2.zip")
    await world.put("plain.txt", b"text")
    for _ in range(3):
        report = await world.collect()
    assert (report.objects, report.references) == (3, 2)
    assert (report.condemned, report.waiting, report.deleted) == (0, 0, 0)
    assert await world.get("elsewhere/copy.zip") == world.version(7)
    assert await world.get("b/x.zip") == world.data(9)
    await world.remove("elsewhere/copy.zip")
    await world.collect()
    assert (await world.collect()).deleted == 1
    assert await world.get("b/x.zip") == world.data(9)


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("lost", ["nothing", "metadata", "ref"])
async def test_names_are_found_wherever_they_are(
    database: Database, tmp_path: Path, bare: bool, lost: str
) -> None:
    backend = BareBackend() if bare else MemoryBackend()
    async with open_collected(database, tmp_path, backend) as world:
        await world.put("a-1.zip", world.data())
        await world.put("a-2.zip", world.version(7))
        await world.remove("a-1.zip")
        info = await backend.head_object("bucket", "a-2.zip")
        assert info.metadata is not None
        internal = dict(info.metadata.internal)
        assert internal.pop("ref") in world.references()[0]
        if lost != "nothing":
            # Under another name too: no suffix is trusted.
            stored = await backend.get_object("bucket", "a-2.zip")
            blob = b"".join([chunk async for chunk in stored])
            await world.plant("foreign.dat", blob, internal if lost == "ref" else None)
            await world.remove("a-2.zip")
        for _ in range(2):
            report = await world.collect()
            assert (report.condemned, report.deleted) == (0, 0)
        await backend.delete_object("bucket", "a-2.zip" if lost == "nothing" else "foreign.dat")
        await world.collect()
        assert (await world.collect()).deleted == 1


async def test_a_reference_that_is_a_delta_names_its_base(world: Collected) -> None:
    base = await orphan(world)
    await world.put("a-2.zip", world.version(7))
    info = await world.backend.head_object("bucket", "a-2.zip")
    assert info.metadata is not None
    stored = await world.backend.get_object("bucket", "a-2.zip")
    blob = b"".join([chunk async for chunk in stored])
    sha256 = hashlib.sha256(world.version(7)).hexdigest()
    chained = f".deltaglider/refs/{sha256}.on.{base.rpartition('/')[2]}"
    await world.plant(chained, blob, info.metadata.internal)
    await world.remove("a-2.zip")
    # An object that names the chained one.
    await world.plant("x.zip", blob, {**info.metadata.internal, "ref": sha256})
    for _ in range(2):
        report = await world.collect()
    assert (report.references, report.condemned, report.deleted) == (2, 0, 0)
    await world.backend.delete_object("bucket", "x.zip")
    assert (await world.collect()).condemned == 1
    assert (await world.collect()).deleted == 1
    assert world.references() == [base]
    await world.collect()
    assert (await world.collect()).deleted == 1
    assert world.references() == []


async def test_the_same_bytes_in_two_deltaspaces_are_both_named(world: Collected) -> None:
    """Metadata has only the SHA-256: what may be meant is kept."""
    await world.put("a/1.zip", world.data())
    await world.put("b/1.zip", world.data())
    assert len(world.references()) == 2
    await world.remove("b/1.zip")
    for _ in range(2):
        assert (await world.collect()).condemned == 0
    await world.remove("a/1.zip")
    await world.collect()
    assert (await world.collect()).deleted == 2


async def test_unknown_files_are_registered_and_foreign_ones_left(world: Collected) -> None:
    data = world.data(5)
    old = f".deltaglider/refs/old/{hashlib.sha256(data).hexdigest()}"
    foreign = (".deltaglider/refs/README", f".deltaglider/other/{'0' * 64}", ".deltaglider/id")
    await world.plant(old, data)
    for key in foreign:
        await world.plant(key, b"x")
    report = await world.collect()
    # What is known since this pass only may be as young as the listing.
    assert (report.references, report.condemned) == (1, 0)
    assert await world.reference_bytes() == SIZE
    assert (await world.collect()).condemned == 1
    assert (await world.collect()).deleted == 1
    assert set(foreign) <= set(world.backend.keys("bucket"))


async def test_a_row_without_a_file_goes(world: Collected) -> None:
    """A writer died between the row and the bytes."""
    async with world.writing() as write:
        assert await write.hold(".deltaglider/refs/" + "0" * 64, 99)
    assert await world.reference_bytes() == 99
    assert (await world.collect()).condemned == 1
    assert (await world.collect()).deleted == 1
    assert await world.rows() == {}


# --- beside writers ---------------------------------------------------------------------------


def once(world: Collected, method: str, action: Any, *, skip: int = 0) -> None:
    """Run ``action`` inside the call number ``skip`` of a method of the backend."""
    seen = 0

    async def hook(*, bucket: str, key: str) -> None:
        nonlocal seen
        seen += 1
        if seen == skip + 1:
            await action()

    world.backend.after(method, hook)


async def test_a_write_that_begins_during_the_listing(world: Collected) -> None:
    """It is settled before the judgement, and its key was passed before it was there."""
    reference = await orphan(world)
    for number in range(1100):
        await world.plant(f"m/{number:04}", b"")

    async def write() -> None:
        assert await world.put("a-2.zip", world.version(7)) == "delta"

    once(world, "list_objects", write)
    report = await world.collect()
    assert (report.condemned, report.objects) == (0, 1100)
    await check_untouched(world, reference)
    assert await world.get("a-2.zip") == world.version(7)


async def test_a_write_that_is_under_way_keeps_its_reference(world: Collected) -> None:
    reference = await orphan(world)
    async with world.writing() as write:
        assert await write.hold(reference, SIZE)
        await world.age(DAY)
        for _ in range(2):
            await world.collect()
        await check_untouched(world, reference)
    assert (await world.collect()).condemned == 1


async def test_nothing_new_names_what_is_condemned(world: Collected) -> None:
    """Also not a copy from behind the listing to before it."""
    reference = await orphan(world)
    await world.collect()
    assert await world.put("a-2.zip", world.version(7)) == "delta"
    assert len(world.references()) == 2  # it became its own
    await world.collect()
    assert world.references() != []
    assert reference not in world.references()
    assert await world.get("a-2.zip") == world.version(7)


async def test_a_copy_from_behind_the_listing_to_before_it(world: Collected) -> None:
    """The listing sees neither; so the copy must not name what the pass may delete."""
    await world.put("z/x-1.zip", world.data())
    (reference,) = world.references()
    for number in range(1100):
        await world.plant(f"m/{number:04}", b"")
    await world.database.write(lambda c: c.execute(update(refs).values(condemned=1.0)) and None)

    async def move() -> None:
        await world.copy("z/x-1.zip", "a.zip")
        await world.remove("z/x-1.zip")

    once(world, "list_objects", move)
    assert (await world.collect()).deleted == 1
    assert reference not in world.references()
    assert await world.get("a.zip") == world.data()


async def test_what_is_named_again_is_reprieved(world: Collected) -> None:
    reference = await orphan(world)
    await world.put("a-2.zip", world.version(7))
    stored = await world.backend.get_object("bucket", "a-2.zip")
    blob = b"".join([chunk async for chunk in stored])
    await world.remove("a-2.zip")
    assert (await world.collect()).condemned == 1
    await world.plant("restored.zip", blob)  # from a backup, behind our back
    report = await world.collect()
    assert (report.reprieved, report.deleted) == (1, 0)
    await check_untouched(world, reference)
    assert await world.get("restored.zip") == world.version(7)
    async with world.writing() as write:
        assert await write.hold(reference, SIZE)


# --- doubt ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("method", ["list_objects", "head_object", "get_object", "read_chunk"])
async def test_any_failing_request_ends_the_pass(
    database: Database, tmp_path: Path, bare: bool, method: str
) -> None:
    backend = BareBackend() if bare else MemoryBackend()
    async with open_collected(database, tmp_path, backend) as world:
        reference = await orphan(world)
        await world.plant("foreign-1", b"x" * 100)
        await world.plant("foreign-2", b"x" * 100)
        asked = 0
        for skip in range(10):
            backend.fail(method, ServiceUnavailable(), skip=skip)
            try:
                await world.collect(dry_run=skip == 9)
            except ServiceUnavailable:
                asked += 1
                await check_untouched(world, reference)
            else:
                backend.heal()
                break
            backend.heal()
        expected = {"list_objects": 1, "head_object": 3 if bare else 0}
        assert asked == expected.get(method, 2)


@pytest.mark.parametrize(
    "internal", [{"form": "delta"}, {"form": "a form of tomorrow"}, {"form": "delta", "ref": "x"}]
)
async def test_an_object_that_cannot_be_read_ends_the_pass(
    world: Collected, internal: dict[str, str]
) -> None:
    reference = await orphan(world)
    await world.plant("v/damaged.zip", b"\x00" * 100, internal)
    for _ in range(2):
        with pytest.raises(IntegrityError, match=r"bucket/v/damaged\.zip cannot be read"):
            await world.collect()
    await check_untouched(world, reference)
    await world.remove("v/damaged.zip")
    assert (await world.collect()).condemned == 1


async def test_an_object_that_vanishes_names_nothing(world: Collected) -> None:
    await orphan(world)
    await world.plant("foreign", b"x" * 100)

    async def vanish(*, bucket: str, key: str) -> None:
        if key == "foreign":
            await world.backend.delete_object("bucket", key)

    world.backend.before("get_object", vanish)
    assert (await world.collect()).condemned == 1


async def test_an_object_that_changes_all_the_time_ends_the_pass(world: Collected) -> None:
    await world.put("a-1.zip", world.data())
    await world.put("a-2.zip", world.version(7))
    stored = await world.backend.get_object("bucket", "a-2.zip")
    blob = b"".join([chunk async for chunk in stored])
    info = await world.backend.head_object("bucket", "a-2.zip")
    assert info.metadata is not None
    internal = {name: value for name, value in info.metadata.internal.items() if name != "ref"}
    count = 0

    async def change(*, bucket: str, key: str) -> None:
        nonlocal count
        if key == "a-2.zip":
            count += 1
            await world.plant("a-2.zip", blob + bytes(count), internal)

    await world.plant("a-2.zip", blob, internal)
    world.backend.before("get_object", change)
    with pytest.raises(ServiceUnavailable):
        await world.collect()
    assert count > 1
    world.backend.heal()
    await world.plant("a-2.zip", blob, internal)
    assert (await world.collect()).condemned == 0


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_deletion_of_unknown_outcome(world: Collected, when: str) -> None:
    reference = await orphan(world)
    await world.collect(grace=DAY)
    await world.age(2 * DAY)

    async def fail(*, bucket: str, key: str) -> None:
        raise ServiceUnavailable

    getattr(world.backend, when)("delete_object", fail)
    with pytest.raises(ServiceUnavailable):
        await world.collect(grace=DAY)
    world.backend.heal()
    assert (reference in world.references()) is (when == "before")
    assert (await world.rows())[reference].deleting
    async with world.writing() as write:
        assert await write.hold(reference, SIZE) is False
    # The request may still be on its way: only after another waiting time it is done again.
    report = await world.collect(grace=DAY)
    assert (report.waiting, report.deleted) == (1, 0)
    assert (await world.rows())[reference].deleting
    await world.age(2 * DAY)
    assert (await world.collect(grace=DAY)).deleted == 1
    assert await world.rows() == {}
    assert world.references() == []


async def test_what_was_deleted_before_a_failure_is_forgotten(world: Collected) -> None:
    for seed in (1, 2, 3):
        await world.put(f"{seed}/a.zip", world.data(seed))
        await world.remove(f"{seed}/a.zip")
    await world.collect()
    bad = world.references()[1]
    world.backend.fail("delete_object", ServiceUnavailable(), key=bad)
    with pytest.raises(ServiceUnavailable):
        await world.collect()
    assert bad in world.references()
    assert set(await world.rows()) == set(world.references())


async def test_a_judgement_that_is_too_old_deletes_nothing(
    world: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = await orphan(world)
    await world.collect()
    monkeypatch.setattr(collecting, "_DELETE_SECONDS", -1.0)
    with pytest.raises(ServiceUnavailable):
        await world.collect()
    assert world.references() == [reference]


# --- one at a time ----------------------------------------------------------------------------


async def test_one_collection_at_a_time(world: Collected) -> None:
    await orphan(world)
    refused = 0

    async def again() -> None:
        nonlocal refused
        with pytest.raises(CollectionRunsError):
            await world.collect()
        refused += 1

    once(world, "list_objects", again)
    assert (await world.collect()).condemned == 1
    assert refused == 1
    assert (await world.collect()).deleted == 1


async def test_a_collection_that_was_replaced_neither_judges_nor_deletes(world: Collected) -> None:
    reference = await orphan(world)
    await world.collect()
    await world.put("b-1.zip", world.data())
    kept = set(world.references())

    async def take_over() -> None:
        name = lease_name(world.bucket.id)
        await world.database.write(
            lambda c: (
                c.execute(update(leases).where(leases.c.name == name).values(expires=0.0)) and None
            )
        )
        assert await world.leases.acquire(name, 60.0) is not None

    once(world, "list_objects", take_over)
    with pytest.raises(LeaseLost):
        await world.collect()
    assert set(world.references()) == kept
    assert not (await world.rows())[reference].deleting


async def test_only_the_owner_collects(world: Collected) -> None:
    foreign = await make_bucket(world.database, "bucket", owner="f" * 32)
    reference = await orphan(world)
    with pytest.raises(NotOwnerError):
        await replace(world, bucket=foreign).collect()
    await check_untouched(world, reference)


async def test_a_bucket_that_is_deleted_meanwhile(world: Collected) -> None:
    reference = await orphan(world)
    await world.collect()

    async def begin_to_delete() -> None:
        await world.database.write(
            lambda c: (
                c.execute(
                    update(buckets)
                    .where(buckets.c.number == world.bucket.number)
                    .values(state="deleting")
                )
                and None
            )
        )

    once(world, "list_objects", begin_to_delete)
    with pytest.raises(NoSuchBucket):
        await world.collect()
    assert world.references() == [reference]


async def test_a_failed_pass_gives_its_lease_back(world: Collected) -> None:
    await orphan(world)
    world.backend.fail("list_objects", ServiceUnavailable())
    with pytest.raises(ServiceUnavailable):
        await world.collect()
    assert (await world.collect()).condemned == 1


# --- the rest ---------------------------------------------------------------------------------


async def test_a_dry_run_says_what_would_happen(world: Collected) -> None:
    reference = await orphan(world)
    for _ in range(2):
        report = await world.collect(dry_run=True)
        assert (report.dry_run, report.condemned, report.deleted) == (True, 1, 0)
        await check_untouched(world, reference)
    await world.collect()
    for _ in range(2):
        report = await world.collect(dry_run=True)
        assert (report.deleted, report.deleted_bytes) == (1, SIZE)
        assert world.references() == [reference]
        assert not (await world.rows())[reference].deleting


async def test_bounded_pages(world: Collected, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_MAX_NAMES", 2), ("_MARKED_AT_ONCE", 2), ("_JUDGED_AT_ONCE", 2)):
        monkeypatch.setattr(collecting, name, value)
    for seed in range(9):
        await world.put(f"{seed}/a.zip", world.data(seed))
        if seed % 2:
            await world.remove(f"{seed}/a.zip")
    shown: list[tuple[int, int]] = []
    report = await world.collect(progress=lambda *counts: shown.append(counts))
    assert (report.objects, report.references, report.condemned) == (5, 9, 4)
    assert shown == [(5, 9)]
    assert (await world.collect()).deleted == 4
    for seed in range(0, 9, 2):
        assert await world.get(f"{seed}/a.zip") == world.data(seed)


async def test_many_pages_of_the_listing(world: Collected) -> None:
    await world.put("zz/a.zip", world.data())
    for number in range(2100):
        await world.plant(f"m/{number:04}", b"")
    shown: list[tuple[int, int]] = []
    report = await world.collect(progress=lambda *counts: shown.append(counts))
    assert report.objects == 2101
    assert report.condemned == 0
    assert len(shown) == 3
    assert shown == sorted(shown)
    assert shown[-1] == (2101, 1)


async def test_every_object_survives_any_sequence(database: Database, tmp_path: Path) -> None:
    """Nothing is on its way between two steps, so no waiting time is needed."""
    chance = random.Random(3)
    async with open_collected(database, tmp_path) as world:
        there: dict[str, bytes] = {}
        deleted = deltas = 0
        for step in range(60):
            what = chance.randrange(8)
            key = f"{chance.choice('ab')}/{chance.choice('xyz')}-{chance.randrange(3)}.zip"
            if what <= 2:
                there[key] = world.version(step + 1, of=chance.randrange(3))
                deltas += await world.put(key, there[key]) == "delta"
            elif what == 3 and there:
                source = chance.choice(sorted(there))
                await world.copy(source, key)
                there[key] = there[source]
            elif what <= 5 and there:
                gone = chance.choice(sorted(there))
                await world.remove(gone)
                del there[gone]
            elif what >= 6:
                deleted += (await world.collect()).deleted
                assert set(await world.rows()) == set(world.references())
        for key, data in there.items():
            assert await world.get(key) == data
        assert deleted > 3
        assert deltas > 10
        assert there


async def test_uploads_in_parts_name_nothing(world: Collected) -> None:
    """A part may begin with our magic, whole or cut."""
    await world.put("a-1.zip", world.data())
    stored = await world.backend.get_object("bucket", "a-1.zip")
    blob = b"".join([chunk async for chunk in stored])
    upload = await world.layer.create_multipart_upload("bucket", "k", metadata=metadata())
    await world.layer.upload_part("bucket", "k", upload, 1, body(blob[:100]), size=100)
    await world.remove("a-1.zip")
    assert (await world.collect()).condemned == 1
