"""Transactions on references: holding, condemning, forgetting, and the sums."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, update
from support.collecting import make_bucket, open_intent, rows, settle

from deltaglider_core.errors import NoSuchBucket
from deltaglider_core.state import references
from deltaglider_core.state.database import Database
from deltaglider_core.state.references import Judged, NotOwnerError, Pass, Verdict
from deltaglider_core.state.tables import buckets, intents, refs

KEY = b".deltaglider/refs/a/" + b"0" * 64
OTHER = b".deltaglider/refs/b/" + b"1" * 64


@pytest.fixture
async def bucket(database: Database) -> int:
    return (await make_bucket(database)).number


async def hold(
    database: Database,
    bucket: int,
    write_id: str,
    key: bytes = KEY,
    size: int = 10,
    now: float = 1.0,
) -> bool:
    return await database.write(
        lambda c: references.hold(
            c, bucket=bucket, write_id=write_id, reference=key, size=size, now=now
        ),
        scope=bucket,
    )


async def named(database: Database, write_id: str) -> bytes | None:
    found: bytes | None = await database.read(
        lambda c: c.execute(
            select(intents.c.reference).where(intents.c.write_id == write_id)
        ).scalar_one()
    )
    return found


async def plant(database: Database, bucket: int, key: bytes, **fields: Any) -> None:
    """A row as it is, and its part of the sum."""
    values = {"size": 10, "version": 0, "registered": 0.0, "deleting": False, **fields}

    def put(connection: Connection) -> None:
        connection.execute(insert(refs).values(bucket=bucket, key=key, **values))
        connection.execute(
            update(buckets)
            .where(buckets.c.number == bucket)
            .values(reference_bytes=buckets.c.reference_bytes + values["size"])
        )

    await database.write(put)


def a_pass(bucket: int, started: float = 1000.0) -> Pass:
    return Pass(bucket=bucket, id="9" * 32, started=started)


# --- holding ----------------------------------------------------------------------------------


async def test_an_unknown_reference_becomes_known(database: Database, bucket: int) -> None:
    write_id = await open_intent(database, bucket)
    held = await database.write(
        lambda c: references.hold(
            c, bucket=bucket, write_id=write_id, reference=KEY, size=77, now=5.0
        )
    )
    assert held is True
    assert await named(database, write_id) == KEY
    row = (await rows(database, bucket))[KEY.decode()]
    assert (row.size, row.registered, row.condemned, row.deleting) == (77, 5.0, None, False)
    version = await database.read(
        lambda c: c.execute(
            select(buckets.c.version).where(buckets.c.number == bucket)
        ).scalar_one()
    )
    assert row.version == version > 0


async def test_a_known_one_is_counted_once(database: Database, bucket: int) -> None:
    for now in (1.0, 2.0, 3.0):
        write_id = await open_intent(database, bucket, str(now).encode())
        assert await hold(database, bucket, write_id, now=now)
    found = await rows(database, bucket)
    assert [(row.size, row.registered) for row in found.values()] == [(10, 3.0)]


async def test_another_one_gives_the_first_back(database: Database, bucket: int) -> None:
    write_id = await open_intent(database, bucket)
    assert await hold(database, bucket, write_id, KEY)
    assert await hold(database, bucket, write_id, OTHER)
    assert await named(database, write_id) == OTHER
    begun = a_pass(bucket)
    page = await database.write(lambda c: references.judge(c, begun, now=1001.0, grace=0.0))
    verdicts = {each.key: each.verdict for each in page.judged}
    assert verdicts == {KEY: Verdict.CONDEMN, OTHER: Verdict.KEEP}


@pytest.mark.parametrize("state", [{"condemned": 5.0}, {"condemned": 5.0, "deleting": True}])
async def test_a_condemned_one_is_refused(
    database: Database, bucket: int, state: dict[str, Any]
) -> None:
    await plant(database, bucket, KEY, **state)
    write_id = await open_intent(database, bucket)
    assert await hold(database, bucket, write_id, OTHER)
    assert await hold(database, bucket, write_id, KEY) is False
    assert await named(database, write_id) == OTHER
    row = (await rows(database, bucket))[KEY.decode()]
    assert (row.condemned, row.registered) == (5.0, 0.0)


async def test_a_write_that_was_settled_by_others_holds_nothing(
    database: Database, bucket: int
) -> None:
    write_id = await open_intent(database, bucket)
    await settle(database, write_id)
    assert await hold(database, bucket, write_id) is False
    assert await rows(database, bucket) == {}
    await plant(database, bucket, KEY)
    assert await hold(database, bucket, write_id, now=9.0) is False
    assert (await rows(database, bucket))[KEY.decode()].registered == 0.0


async def test_a_bucket_that_is_gone(database: Database, bucket: int) -> None:
    write_id = await open_intent(database, bucket + 1)
    with pytest.raises(NoSuchBucket):
        await hold(database, bucket + 1, write_id)
    assert await named(database, write_id) is None


async def test_buckets_do_not_mix(database: Database, bucket: int) -> None:
    second = (await make_bucket(database, "second")).number
    await plant(database, bucket, KEY, condemned=5.0)
    write_id = await open_intent(database, second)
    assert await hold(database, second, write_id, size=3)
    assert {row.size for row in (await rows(database, second)).values()} == {3}
    begun = a_pass(bucket)
    page = await database.write(lambda c: references.judge(c, begun, now=1001.0, grace=0.0))
    assert [each.verdict for each in page.judged] == [Verdict.DELETE]
    assert (await rows(database, second))[KEY.decode()].condemned is None


# --- a collection -----------------------------------------------------------------------------


async def test_begin(database: Database, bucket: int) -> None:
    begun = await database.write(lambda c: references.begin(c, bucket=bucket, now=7.0))
    again = await database.write(lambda c: references.begin(c, bucket=bucket, now=8.0))
    assert (begun.bucket, begun.started) == (bucket, 7.0)
    assert begun.id != again.id


async def test_only_the_owner_collects(database: Database) -> None:
    foreign = (await make_bucket(database, owner="f" * 32)).number
    with pytest.raises(NotOwnerError):
        await database.write(lambda c: references.begin(c, bucket=foreign, now=7.0))


@pytest.mark.parametrize("state", ["creating", "deleting", "deleted", None])
async def test_a_bucket_that_is_not_active(database: Database, state: str | None) -> None:
    number = 4711 if state is None else (await make_bucket(database, state=state)).number
    with pytest.raises(NoSuchBucket):
        await database.write(lambda c: references.begin(c, bucket=number, now=7.0))
    begun = a_pass(number)
    with pytest.raises(NoSuchBucket):
        await database.write(lambda c: references.judge(c, begun, now=9.0, grace=0.0))


_GRACE = 100.0
_OLD, _FRESH = 900.0, 901.0  # a pass that begins at 1000 may delete what is that old


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize(
    ("row", "verdict", "when_seen"),
    [
        ({}, Verdict.CONDEMN, Verdict.KEEP),
        ({"registered": 999.9}, Verdict.CONDEMN, Verdict.KEEP),
        ({"registered": 1000.0}, Verdict.KEEP, Verdict.KEEP),
        ({"registered": 1000.5}, Verdict.KEEP, Verdict.KEEP),
        ({"seen": "8" * 32}, Verdict.CONDEMN, Verdict.KEEP),
        ({"condemned": _FRESH}, Verdict.WAIT, Verdict.REPRIEVE),
        ({"condemned": _OLD}, Verdict.DELETE, Verdict.REPRIEVE),
        ({"condemned": _FRESH, "deleting": True}, Verdict.WAIT, Verdict.WAIT),
        ({"condemned": _OLD, "deleting": True}, Verdict.DELETE, Verdict.REPRIEVE),
    ],
)
async def test_verdicts(
    database: Database,
    bucket: int,
    row: dict[str, Any],
    verdict: Verdict,
    when_seen: Verdict,
    seen: bool,
) -> None:
    await plant(database, bucket, KEY, **row)
    before = (await rows(database, bucket))[KEY.decode()]
    begun = a_pass(bucket)
    if seen:
        await database.write(lambda c: references.mark(c, begun, lambda key: key == KEY))
        before = (await rows(database, bucket))[KEY.decode()]
        verdict = when_seen
    condemned, deleting = {
        Verdict.KEEP: (None, False),
        Verdict.REPRIEVE: (None, False),
        Verdict.CONDEMN: (1001.0, False),
        Verdict.WAIT: (before.condemned, before.deleting),
        Verdict.DELETE: (1001.0, True),
    }[verdict]
    for dry_run in (True, False):
        page = await database.write(
            partial(references.judge, begun=begun, now=1001.0, grace=_GRACE, dry_run=dry_run)
        )
        assert page.after is None
        assert page.judged == [Judged(key=KEY, size=10, verdict=verdict, marked=condemned)]
        after = (await rows(database, bucket))[KEY.decode()]
        if dry_run:
            assert after == before
        else:
            assert (after.condemned, after.deleting) == (condemned, deleting)


async def test_what_an_intent_names_is_neither_condemned_nor_deleted(
    database: Database, bucket: int
) -> None:
    write_id = await open_intent(database, bucket)
    assert await hold(database, bucket, write_id, KEY)
    await plant(database, bucket, OTHER, condemned=1.0)
    other = await open_intent(database, bucket)
    # No writer can get here: a condemned one cannot be held.
    await database.write(
        lambda c: (
            c.execute(update(intents).where(intents.c.write_id == other).values(reference=OTHER))
            and None
        )
    )
    begun = a_pass(bucket)

    async def verdicts() -> list[Verdict]:
        page = await database.write(lambda c: references.judge(c, begun, now=1001.0, grace=0.0))
        return [each.verdict for each in page.judged]

    assert await verdicts() == [Verdict.KEEP, Verdict.WAIT]
    await settle(database, write_id)
    await settle(database, other)
    assert await verdicts() == [Verdict.CONDEMN, Verdict.DELETE]


async def test_found_takes_note_of_what_is_there(database: Database, bucket: int) -> None:
    await plant(database, bucket, KEY, size=10, condemned=3.0)
    begun = a_pass(bucket)
    listed = {KEY: 12, OTHER: 5}
    for _ in range(2):
        await database.write(lambda c: references.found(c, begun.bucket, listed, now=1002.0))
        found = await rows(database, bucket)
        assert {row.key: row.size for row in found.values()} == listed
    assert found[KEY.decode()].condemned == 3.0
    assert found[OTHER.decode()].registered == 1002.0


async def test_marks_and_judgements_go_page_by_page(database: Database, bucket: int) -> None:
    keys = sorted(b".deltaglider/refs/%064d" % number for number in range(7))
    for key in keys:
        await plant(database, bucket, key)
    begun, named_keys = a_pass(bucket), frozenset(keys[::2]).__contains__
    after: bytes | None = b""
    pages = 0
    while after is not None:
        after = await database.write(
            partial(references.mark, begun=begun, named=named_keys, after=after, limit=3)
        )
        pages += 1
    assert pages == 3
    judged: list[Judged] = []
    after = b""
    while after is not None:
        page = await database.write(
            partial(references.judge, begun=begun, now=1001.0, grace=0.0, after=after, limit=3)
        )
        judged += page.judged
        after = page.after
    assert [each.key for each in judged] == keys
    condemned = [each.key for each in judged if each.verdict is Verdict.CONDEMN]
    assert condemned == keys[1::2]
    first = await database.read(lambda c: references.condemned(c, bucket=bucket, limit=2))
    assert first == [(keys[1], 10, 1001.0), (keys[3], 10, 1001.0)]
    rest = await database.read(lambda c: references.condemned(c, bucket=bucket, after=keys[3]))
    assert [key for key, _, _ in rest] == [keys[5]]


async def test_forget_drops_only_what_this_pass_marked(database: Database, bucket: int) -> None:
    await plant(database, bucket, KEY, condemned=1001.25, deleting=True)
    begun = a_pass(bucket)

    async def forget(marked: float | None) -> set[str]:
        gone = [Judged(key=KEY, size=10, verdict=Verdict.DELETE, marked=marked)]
        await database.write(lambda c: references.forget(c, begun, gone))
        return set(await rows(database, bucket))

    assert await forget(1001.0) == {KEY.decode()}
    assert await forget(None) == {KEY.decode()}
    assert await forget(1001.25) == set()
    assert await forget(1001.25) == set()  # the sum is right, which rows() checks


async def test_sums_hold_whatever_happens(database: Database, bucket: int) -> None:
    chance = random.Random(11)
    keys = [b".deltaglider/refs/%064d" % number for number in range(6)]
    open_writes: list[str] = []
    forgotten = held = 0
    for step in range(120):
        clock = float(step)
        what = chance.randrange(6)
        if what <= 1:
            write_id = await open_intent(database, bucket)
            size = chance.randrange(1, 50)
            held += await hold(database, bucket, write_id, chance.choice(keys), size, clock)
            open_writes.append(write_id)
        elif what == 2 and open_writes:
            await settle(database, open_writes.pop(chance.randrange(len(open_writes))))
        elif what == 3:
            listed = {key: chance.randrange(1, 50) for key in chance.sample(keys, 2)}
            await database.write(partial(references.found, bucket=bucket, listed=listed, now=clock))
        else:
            begun = await database.write(partial(references.begin, bucket=bucket, now=clock))
            names = frozenset(chance.sample(keys, 1))
            mark = partial(references.mark, begun=begun, named=names.__contains__)
            await database.write(mark)
            judge = partial(references.judge, begun=begun, now=clock, grace=2.0)
            page = await database.write(judge)
            gone = [each for each in page.judged if each.verdict is Verdict.DELETE]
            forgotten += len(gone)
            await database.write(partial(references.forget, begun=begun, deleted=gone))
        await rows(database, bucket)
    assert forgotten > 3
    assert held > 10
