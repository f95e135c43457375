"""Names of references, families, and the choice among them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaglider_core.delta.record import Reference
from deltaglider_core.delta.references import (
    MAX_REFERENCES,
    Candidate,
    choose,
    deltaspace,
    family,
    references_prefix,
)
from deltaglider_core.errors import IntegrityError

if TYPE_CHECKING:
    from .conftest import MakeWorld

SHA = hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize(
    ("key", "space", "prefix"),
    [
        ("x.zip", "", ".deltaglider/refs/"),
        ("a/x.zip", "a", ".deltaglider/refs/a/"),
        ("a/b/x.zip", "a/b", ".deltaglider/refs/a/b/"),
        ("a//x.zip", "a/", ".deltaglider/refs/a//"),
        ("ü/x.zip", "ü", ".deltaglider/refs/ü/"),
    ],
)
def test_names(key: str, space: str, prefix: str) -> None:
    assert deltaspace(key) == space
    assert references_prefix(key) == prefix


def test_a_deltaspace_that_is_too_long_is_hashed() -> None:
    for space, hashed in (("d" * 941, False), ("d" * 942, True), ("ü" * 471, True)):
        prefix = references_prefix(f"{space}/x.zip")
        digest = hashlib.sha256(space.encode()).hexdigest()
        assert prefix == f".deltaglider/refs/{'%' + digest if hashed else space}/"
        assert len((prefix + SHA).encode()) <= 1024


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=600))
def test_any_key_has_a_name_that_s3_takes_and_an_ascii_family(key: str) -> None:
    name = references_prefix(key) + SHA
    assert len(name.encode("utf-8", "surrogatepass")) <= 1024
    assert family(key).isascii()
    assert len(family(key)) <= 128


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("app-1.0.zip", "app-1.0.1.zip", True),
        ("App-9.zip", "app-10.zip", True),
        ("v/app-2024-01-31.zip", "w/app-2025-2-1.zip", True),
        ("app.zip", "app.zip", True),
        ("app-1.zip", "lib-1.zip", False),
        ("app-1.zip", "app-1.jar", False),
        ("app.zip", "app-1.zip", False),
    ],
)
def test_families(one: str, two: str, same: bool) -> None:
    assert (family(one) == family(two)) is same


NOW = datetime(2026, 1, 1, tzinfo=UTC)


def candidate(name: str, source: str, age: int) -> Candidate:
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    return Candidate(
        reference=Reference(key=f".deltaglider/refs/{sha256}", sha256=sha256, size=1),
        source=source,
        created=NOW - timedelta(days=age),
    )


def test_the_choice() -> None:
    old, new = candidate("old", "app", 9), candidate("new", "app", 3)
    other = candidate("other", "lib", 1)
    assert choose([], "app", SHA) is None
    assert choose([old, new, other], "app", SHA) == new.reference
    assert choose([old, new, other], "unknown", SHA) is None
    assert choose([old, new], "app", old.reference.sha256) == old.reference
    many = [candidate(str(n), f"f{n}", n) for n in range(MAX_REFERENCES)]
    assert choose(many[1:], "unknown", SHA) is None
    assert choose(many, "unknown", SHA) == many[0].reference


async def test_a_damaged_reference_is_repaired_by_an_upload_of_its_bytes(
    make_world: MakeWorld,
) -> None:
    """Else the upload would name it, and be gone when the cache is."""
    first = await make_world()
    data = first.data(200_000)
    await first.put("app-1.zip", data)
    await first.put("app-2.zip", first.version(data))
    (reference,) = await first.references()
    damaged = bytearray(data)
    damaged[1000] ^= 1
    first.memory.corrupt("bucket", reference, bytes(damaged))
    second = await make_world(inner=first.inner)
    with pytest.raises(IntegrityError):
        await second.get("app-2.zip")
    await second.put("app-3.zip", data)
    assert second.logged("reference_repaired")
    third = await make_world(inner=first.inner)
    for key, expected in (
        ("app-1.zip", data),
        ("app-2.zip", third.version(data)),
        ("app-3.zip", data),
    ):
        assert await third.get(key) == expected
    assert await third.references() == [reference]
