"""Conditions of writes and deletes, in sequence and in races.

A backend that does not declare a capability still honours a condition that nobody races
with; only the decision among concurrent writers may then fall twice.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from deltaglider_core.errors import ConditionalRequestConflict, NoSuchKey, PreconditionFailed
from deltaglider_core.interfaces.storage import Condition, ObjectInfo, StorageBackend

from ._base import StorageTestBase, get, list_keys, put

TASKS = 24

#: What a writer that lost a race may see.
LOST = (PreconditionFailed, NoSuchKey, ConditionalRequestConflict)


async def race(*writers: object) -> list[object]:
    """Run all at once; answers and exceptions in the order of the writers."""
    return list(await asyncio.gather(*writers, return_exceptions=True))  # type: ignore[call-overload]


class ConditionTests(StorageTestBase):
    """``If-None-Match`` and ``If-Match`` on PUT and DELETE."""

    async def test_if_none_match(self, backend: StorageBackend, bucket: str) -> None:
        absent = Condition(if_none_match="*")
        await put(backend, bucket, "k", b"first", condition=absent)
        with pytest.raises(PreconditionFailed):
            await put(backend, bucket, "k", b"second", condition=absent)
        assert await get(backend, bucket, "k") == b"first"
        await backend.delete_object(bucket, "k")
        await put(backend, bucket, "k", b"third", condition=absent)
        assert await get(backend, bucket, "k") == b"third"

    async def test_if_none_match_beside_folder(self, backend: StorageBackend, bucket: str) -> None:
        """Keys below ``k/`` are not an object ``k``."""
        await put(backend, bucket, "k/below")
        await put(backend, bucket, "k", condition=Condition(if_none_match="*"))
        with pytest.raises(PreconditionFailed):
            await put(backend, bucket, "k", condition=Condition(if_none_match="*"))
        assert await list_keys(backend, bucket) == ["k", "k/below"]

    async def test_if_match(self, backend: StorageBackend, bucket: str) -> None:
        first = await put(backend, bucket, "k", b"first")
        second = await put(
            backend, bucket, "k", b"second", condition=Condition(if_match=first.etag)
        )
        with pytest.raises(PreconditionFailed):
            await put(backend, bucket, "k", b"third", condition=Condition(if_match=first.etag))
        assert await get(backend, bucket, "k") == b"second"
        assert (await backend.head_object(bucket, "k")).etag == second.etag
        await put(backend, bucket, "k", b"any", condition=Condition(if_match="*"))
        assert await get(backend, bucket, "k") == b"any"

    @pytest.mark.parametrize("etag", ["*", "d41d8cd98f00b204e9800998ecf8427e"])
    async def test_if_match_on_absent_key(
        self, backend: StorageBackend, bucket: str, etag: str
    ) -> None:
        with pytest.raises(NoSuchKey):
            await put(backend, bucket, "k", condition=Condition(if_match=etag))
        assert await list_keys(backend, bucket) == []

    async def test_race_of_creators(self, backend: StorageBackend, bucket: str) -> None:
        condition = Condition(if_none_match="*")
        answers = await race(
            *(
                put(backend, bucket, "dir/k", f"{number}".encode(), condition=condition)
                for number in range(TASKS)
            )
        )
        await self._check_race(backend, bucket, answers)

    async def test_race_of_replacers(self, backend: StorageBackend, bucket: str) -> None:
        first = await put(backend, bucket, "dir/k", b"first")
        condition = Condition(if_match=first.etag)
        answers = await race(
            *(
                put(backend, bucket, "dir/k", f"{number}".encode(), condition=condition)
                for number in range(TASKS)
            )
        )
        await self._check_race(backend, bucket, answers)

    @staticmethod
    async def _check_race(backend: StorageBackend, bucket: str, answers: list[object]) -> None:
        winners = [
            number for number, answer in enumerate(answers) if isinstance(answer, ObjectInfo)
        ]
        for answer in answers:
            assert isinstance(answer, (ObjectInfo, *LOST))
        assert winners
        if backend.capabilities.conditional_writes:
            assert len(winners) == 1
        assert int(await get(backend, bucket, "dir/k")) in winners

    async def test_conditional_delete(self, backend: StorageBackend, bucket: str) -> None:
        first = await put(backend, bucket, "k", b"first")
        await put(backend, bucket, "k", b"second")
        with pytest.raises(PreconditionFailed):
            await backend.delete_object(bucket, "k", condition=Condition(if_match=first.etag))
        assert await get(backend, bucket, "k") == b"second"
        head = await backend.head_object(bucket, "k")
        assert await backend.delete_object(bucket, "k", condition=Condition(if_match=head.etag))
        assert await list_keys(backend, bucket) == []

    async def test_delete_by_size_and_date(self, backend: StorageBackend, bucket: str) -> None:
        await put(backend, bucket, "k", b"four")
        head = await backend.head_object(bucket, "k")
        earlier = head.last_modified - timedelta(seconds=1)
        for wrong in (
            Condition(size=5),
            Condition(last_modified=earlier),
            Condition(if_match=head.etag, size=5),
            Condition(if_match="*", last_modified=earlier, size=4),
        ):
            with pytest.raises(PreconditionFailed):
                await backend.delete_object(bucket, "k", condition=wrong)
        assert await get(backend, bucket, "k") == b"four"
        whole_seconds = head.last_modified.replace(microsecond=0)
        right = Condition(if_match=head.etag, last_modified=whole_seconds, size=4)
        assert await backend.delete_object(bucket, "k", condition=right)
        assert await list_keys(backend, bucket) == []

    async def test_conditional_delete_of_absent_key(
        self, backend: StorageBackend, bucket: str
    ) -> None:
        for etag in ("*", "d41d8cd98f00b204e9800998ecf8427e"):
            with pytest.raises(NoSuchKey):
                await backend.delete_object(bucket, "k", condition=Condition(if_match=etag))
        for other in (Condition(size=0), Condition(last_modified=datetime(2026, 1, 1, tzinfo=UTC))):
            assert not await backend.delete_object(bucket, "k", condition=other)

    async def test_race_of_delete_and_replace(self, backend: StorageBackend, bucket: str) -> None:
        """One of the two saw the version it was meant for; the other one failed."""
        for number in range(10):
            key = f"k{number}"
            first = await put(backend, bucket, key, b"first")
            condition = Condition(if_match=first.etag)
            replaced, deleted = await race(
                put(backend, bucket, key, b"second", condition=condition),
                backend.delete_object(bucket, key, condition=condition),
            )
            assert isinstance(replaced, (ObjectInfo, *LOST))
            assert isinstance(deleted, (bool, *LOST))
            capable = backend.capabilities
            if capable.conditional_writes and capable.conditional_deletes:
                survived = isinstance(replaced, ObjectInfo)
                assert survived != (deleted is True)
                assert (key in await list_keys(backend, bucket)) is survived
