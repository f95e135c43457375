"""Listing: byte order, exact pages, prefixes, delimiters."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import pytest_asyncio

from deltaglider_core.interfaces.storage import StorageBackend

from ._base import StorageTestBase, put

#: Chosen so that order by path segment, by locale or by UTF-16 would differ from byte order.
KEYS = (
    "A",
    "a",
    "a!",
    "a-b",
    "a.zip",
    "a/",
    "a/1",
    "a/b/2",
    "a/b/3",
    "a/b/c/4",
    "a/b0",
    "a0",
    "ab/x",
    "b//x",
    "b/y",
    "z",
    "\u00e9/1",
    "\u00e9/2",
    "\uffee",
    "\U0001f600",
)


def expected_entries(keys: Iterable[str], prefix: str, delimiter: str, after: str) -> list[str]:
    """Keys and common prefixes that a complete listing shows, in order."""
    entries = set()
    for key in keys:
        if key.startswith(prefix):
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            entries.add(prefix + head + delimiter if found else key)
    return sorted((entry for entry in entries if entry > after), key=str.encode)


class ListingTests(StorageTestBase):
    """One set of keys, looked at in every way."""

    @pytest_asyncio.fixture
    async def filled(self, backend: StorageBackend, bucket: str) -> str:
        """A bucket with ``KEYS``, put in an order that is not theirs."""
        for key in sorted(KEYS, key=lambda key: key[::-1]):
            await put(backend, bucket, key, key.encode())
        return bucket

    @staticmethod
    async def entries(
        backend: StorageBackend, bucket: str, page_size: int = 1000, **query: str
    ) -> list[str]:
        """All entries, page by page; checks the shape of each page."""
        found: list[str] = []
        after = query.pop("start_after", "")
        for _ in range(len(KEYS) + 1):
            page = await backend.list_objects(
                bucket, start_after=after, max_keys=page_size, **query
            )
            keys = [info.key for info in page.objects]
            entries = sorted([*keys, *page.prefixes], key=str.encode)
            assert keys == sorted(keys, key=str.encode)
            assert list(page.prefixes) == sorted(page.prefixes, key=str.encode)
            assert len(entries) <= page_size
            found += entries
            if page.next_after is None:
                return found
            assert entries, "a page that is not the last one has an entry"
            assert page.next_after == entries[-1]
            after = page.next_after
        raise AssertionError("the listing does not end")

    async def test_list_order(self, backend: StorageBackend, filled: str) -> None:
        page = await backend.list_objects(filled)
        assert [info.key for info in page.objects] == sorted(KEYS, key=str.encode)
        assert page.next_after is None

    @pytest.mark.parametrize("page_size", [1, 2, 7, 1000])
    async def test_list_pages(self, backend: StorageBackend, filled: str, page_size: int) -> None:
        found = await self.entries(backend, filled, page_size)
        assert found == sorted(KEYS, key=str.encode)

    async def test_list_last_page_is_full(self, backend: StorageBackend, filled: str) -> None:
        """A page that ends with the last key says that nothing follows."""
        page = await backend.list_objects(filled, max_keys=len(KEYS))
        assert len(page.objects) == len(KEYS)
        assert page.next_after is None

    @pytest.mark.parametrize("prefix", ["a", "a/", "a/b", "a/b/", "b/", "\u00e9", "zz", "a//"])
    async def test_list_prefix(self, backend: StorageBackend, filled: str, prefix: str) -> None:
        found = await self.entries(backend, filled, 3, prefix=prefix)
        assert found == expected_entries(KEYS, prefix, "", "")

    @pytest.mark.parametrize("page_size", [1, 2, 7, 1000])
    @pytest.mark.parametrize(
        ("prefix", "delimiter"),
        [
            ("", "/"),
            ("a", "/"),
            ("a/", "/"),
            ("a/b/", "/"),
            ("b/", "/"),
            ("", "/b"),
            ("", "b"),
            ("a/b", "b"),
            ("", "\u00e9"),
            ("zz", "/"),
        ],
    )
    async def test_list_delimiter(
        self, backend: StorageBackend, filled: str, prefix: str, delimiter: str, page_size: int
    ) -> None:
        page = await backend.list_objects(filled, prefix=prefix, delimiter=delimiter)
        expected = expected_entries(KEYS, prefix, delimiter, "")
        assert [info.key for info in page.objects] == [
            key for key in expected if key in KEYS and delimiter not in key[len(prefix) :]
        ]
        found = await self.entries(backend, filled, page_size, prefix=prefix, delimiter=delimiter)
        assert found == expected

    @pytest.mark.parametrize("delimiter", ["", "/"])
    @pytest.mark.parametrize(
        "after", ["A", "a", "a/", "a/b", "a/b/", "a/b/2", "a/c", "a0", "zzz", "\U0010ffff", "!"]
    )
    async def test_list_start_after(
        self, backend: StorageBackend, filled: str, after: str, delimiter: str
    ) -> None:
        """The mark need not be a key, and may lie inside of a common prefix."""
        found = await self.entries(backend, filled, 4, start_after=after, delimiter=delimiter)
        assert found == expected_entries(KEYS, "", delimiter, after)

    async def test_list_prefix_and_start_after(self, backend: StorageBackend, filled: str) -> None:
        for after in ("A", "a/b/2", "z"):
            found = await self.entries(
                backend, filled, 2, prefix="a/", delimiter="/", start_after=after
            )
            assert found == expected_entries(KEYS, "a/", "/", after)

    async def test_list_empty_bucket(self, backend: StorageBackend, bucket: str) -> None:
        assert await self.entries(backend, bucket) == []
        assert await self.entries(backend, bucket, prefix="a/") == []
        assert await self.entries(backend, bucket, delimiter="/") == []
        assert await self.entries(backend, bucket, start_after="a") == []

    async def test_list_forgets_what_is_deleted(self, backend: StorageBackend, filled: str) -> None:
        for key in KEYS:
            if key.startswith("a/b/"):
                await backend.delete_object(filled, key)
        found = await self.entries(backend, filled, prefix="a/", delimiter="/")
        assert found == ["a/", "a/1", "a/b0"]
        await put(backend, filled, "a/b/new")
        found = await self.entries(backend, filled, prefix="a/", delimiter="/")
        assert found == ["a/", "a/1", "a/b/", "a/b0"]

    async def test_list_facts(self, backend: StorageBackend, filled: str) -> None:
        """Each entry has the facts of its own object."""
        page = await backend.list_objects(filled)
        for info in page.objects:
            head = await backend.head_object(filled, info.key)
            assert (info.size, info.etag) == (len(info.key.encode()), head.etag)
            assert info.last_modified == head.last_modified
