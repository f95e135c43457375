"""Keys: any valid S3 key is stored, found, listed and deleted under just that name."""

from __future__ import annotations

import pytest

from deltaglider_core.errors import NoSuchKey
from deltaglider_core.interfaces.storage import StorageBackend

from .._bytes import check_same
from ._base import StorageTestBase, get, list_keys, put

#: Keys that a file system, a URL or a careless join would change.
HOSTILE_KEYS = (
    "plain",
    "%dg-x",
    "%dg-self",
    "a/%dg-self",
    "a/%dg-self/b",
    "%2e%2e/x",
    "%00",
    "100%",
    "dir/",
    "/",
    "//",
    "///",
    "/leading",
    "//leading",
    "a//b",
    "a///b/",
    ".",
    "./x",
    "x/.",
    "a/./b",
    "a/../b",
    "a/b/../..",
    "...",
    ".hidden",
    "a/.hidden/b",
    ".deltaglider",
    ".deltagliderx/y",
    "x/.deltaglider/y",
    " leading blank",
    "trailing blank ",
    "trailing dot.",
    "trailing/dot./x",
    "control\x01\x1f\x7f",
    "tab\tline\nreturn\r",
    "back\\slash\\..\\x",
    "C:\\x",
    "con",
    "aux.txt",
    '*?<>|":',
    "'quote'",
    "a+b c&d=e;f,g",
    "#fragment?query",
    "$HOME `x` $(x)",
    "~",
    "-rf",
    "UPPER/lower",
    "upper/LOWER",
    "UPPER/LOWER",
    "caf\u00e9",
    "cafe\u0301",
    "caf\u00e9/x",
    "cafe\u0301/x",
    "\u212b\u00c5A\u030a",
    "\u2028\u2029\u200b\u202e\ufeff",
    "\ud7ff\ue000\uffff",
    "\U0001f600/\U0010ffff",
    "\U0001f600" * 256,
    "s" * 255,
    "t" * 256,
    "t" * 255 + "/x",
    "t" * 256 + "/x",
    "\u00e9" * 127 + "x",
    "\u00e9" * 128,
    "u" * 1024,
    "d/" * 512,
    "/" * 1024,
    ("v" * 255 + "/") * 4,
)


class KeyTests(StorageTestBase):
    """Hostile keys, alone and beside each other."""

    @pytest.mark.parametrize("key", HOSTILE_KEYS, ids=range(len(HOSTILE_KEYS)))
    async def test_hostile_key(self, backend: StorageBackend, bucket: str, key: str) -> None:
        assert len(key.encode()) <= 1024
        data = b"of " + key.encode()
        assert (await put(backend, bucket, key, data)).key == key
        assert (await backend.head_object(bucket, key)).key == key
        check_same(await get(backend, bucket, key), data)
        page = await backend.list_objects(bucket, prefix=key)
        assert [info.key for info in page.objects] == [key]
        assert await list_keys(backend, bucket) == [key]
        assert await backend.delete_object(bucket, key) is True
        assert await list_keys(backend, bucket) == []

    async def test_hostile_keys_together(self, backend: StorageBackend, bucket: str) -> None:
        """No key stands for another one, and the order is that of the UTF-8 bytes."""
        for key in HOSTILE_KEYS:
            await put(backend, bucket, key, b"of " + key.encode())
        in_order = sorted(HOSTILE_KEYS, key=str.encode)
        assert await list_keys(backend, bucket) == in_order
        for key in HOSTILE_KEYS:
            assert await get(backend, bucket, key) == b"of " + key.encode()
        for key in HOSTILE_KEYS[::2]:
            assert await backend.delete_object(bucket, key) is True
        rest = [key for key in in_order if key in HOSTILE_KEYS[1::2]]
        assert await list_keys(backend, bucket) == rest
        for key in rest:
            assert await get(backend, bucket, key) == b"of " + key.encode()
            assert await backend.delete_object(bucket, key) is True
        assert await list_keys(backend, bucket) == []
        await backend.delete_bucket(bucket)

    @pytest.mark.parametrize(
        "keys",
        [
            ("a", "a/b"),
            ("a/b", "a"),
            ("a/b", "a", "a/b/c"),
            ("a/b/c", "a/b", "a/", "a"),
            ("a/", "a", "a//", "a/b"),
        ],
        ids="-".join,
    )
    async def test_key_beside_its_folder(
        self, backend: StorageBackend, bucket: str, keys: tuple[str, ...]
    ) -> None:
        """``a`` and ``a/b`` are two objects, in whatever order they come and go."""
        for key in keys:
            await put(backend, bucket, key, key.encode())
        assert await list_keys(backend, bucket) == sorted(keys)
        for number, key in enumerate(keys):
            assert await get(backend, bucket, key) == key.encode()
            assert await backend.delete_object(bucket, key) is True
            with pytest.raises(NoSuchKey):
                await backend.head_object(bucket, key)
            assert await list_keys(backend, bucket) == sorted(keys[number + 1 :])
