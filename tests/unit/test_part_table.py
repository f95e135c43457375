"""The table of parts as text, and the checksum of a whole from those of its parts."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.digests import composite, digest

from deltaglider_core.checksums import default_type, is_possible, of_parts
from deltaglider_core.interfaces.storage import CHECKSUM_SIZES, Checksum
from deltaglider_core.part_table import MAX_TEXT, PartTable

SIZES = st.integers(min_value=0, max_value=5 * 1024**4)


@given(st.lists(SIZES, min_size=1, max_size=30), st.sampled_from(["", *CHECKSUM_SIZES]))
@settings(deadline=None, max_examples=100)
def test_text_and_back(sizes: list[int], algorithm: str) -> None:
    length = CHECKSUM_SIZES.get(algorithm, 0) * len(sizes)
    digests = random.Random(length).randbytes(length)
    table = PartTable(sizes=tuple(sizes), algorithm=algorithm, digests=digests)
    text = table.to_text()
    assert text.isascii()
    assert PartTable.from_text(text) == table
    assert table.starts[-1] == sum(sizes)
    for number in (1, len(sizes)):
        found = table.checksum(number)
        assert (found is None) == (algorithm == "")
        if found is not None:
            size = CHECKSUM_SIZES[algorithm]
            assert found.digest == digests[(number - 1) * size : number * size]
            assert found.algorithm == algorithm


def test_the_text_is_what_the_format_says() -> None:
    table = PartTable(sizes=(5, 5, 5, 17))
    assert table.to_text() == "1;5*3,17"
    digests = bytes(range(16))
    kept = PartTable(sizes=(5, 5, 5, 17), algorithm="crc32", digests=digests)
    assert kept.to_text() == "1;5*3,17;crc32:AAECAwQFBgcICQoLDA0ODw=="


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1;",
        "2;5",
        "5*3,17",
        "1;5,",
        "1;-5",
        "1;05",
        "1;5*0",
        "1;5*10001",
        "1;5*6000,6*6000",
        "1;5*3*2",
        "1;99999999999999999999",
        "1;\u0665",
        "1;5;",
        "1;5;crc32",
        "1;5;crc32:",
        "1;5;crc32:AAA",
        "1;5;crc32:AAAAAA",
        "1;5;crc32:AAAAAAAAAAA=",
        "1;5;crc31:AAAAAA==",
        "1;5;crc32:AAAAAA==;",
        "1;5;crc32:\u00e9",
        "1;" + "5," * MAX_TEXT,
    ],
)
def test_anything_else_is_no_table(text: str) -> None:
    assert PartTable.from_text(text) is None


@given(st.text(alphabet="0123456789;*,:crc=A", max_size=40))
@settings(deadline=None, max_examples=200)
def test_no_text_raises(text: str) -> None:
    table = PartTable.from_text(text)
    assert table is None or PartTable.from_text(table.to_text()) == table


# --- checksums ------------------------------------------------------------------------------


def checksum(algorithm: str, data: bytes) -> Checksum:
    return Checksum(algorithm=algorithm, value=digest(algorithm, data))


@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=8),
    st.sampled_from(sorted(CHECKSUM_SIZES)),
    st.sampled_from(["FULL_OBJECT", "COMPOSITE"]),
)
@settings(deadline=None, max_examples=150)
def test_of_parts(parts: list[bytes], algorithm: str, kind: str) -> None:
    whole = of_parts(
        Checksum(algorithm=algorithm, type=kind),
        [(checksum(algorithm, part), len(part)) for part in parts],
    )
    if not is_possible(algorithm, kind):
        assert whole is None
        return
    assert whole is not None
    full = kind == "FULL_OBJECT"
    expected = digest(algorithm, b"".join(parts)) if full else composite(algorithm, parts)
    assert (whole.algorithm, whole.type, whole.value) == (algorithm, kind, expected)
    assert Checksum.parse(str(whole)) == whole


def test_an_unknown_part_leaves_the_whole_unknown() -> None:
    chosen = Checksum(algorithm="crc32")
    known = (checksum("crc32", b"a"), 1)
    assert of_parts(chosen, []) is None
    assert of_parts(chosen, [known, (None, 1)]) is None
    assert of_parts(chosen, [known, (checksum("crc32c", b"a"), 1)]) is None


def test_ten_thousand_parts_take_no_time() -> None:
    parts = [(checksum("crc64nvme", b"%d" % n), 5 * 1024**2) for n in range(10_000)]
    began = time.process_time()
    assert of_parts(Checksum(algorithm="crc64nvme"), parts) is not None
    assert time.process_time() - began < 1


def test_types() -> None:
    kinds = {name: default_type(name) for name in CHECKSUM_SIZES}
    assert kinds.pop("crc64nvme") == "FULL_OBJECT"
    assert set(kinds.values()) == {"COMPOSITE"}
    full = {name for name in CHECKSUM_SIZES if is_possible(name, "FULL_OBJECT")}
    assert full == {"crc32", "crc32c", "crc64nvme"}
    assert not is_possible("crc64nvme", "COMPOSITE")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "crc32",
        "crc31:FULL_OBJECT",
        "crc32:PARTIAL",
        "crc32:FULL_OBJECT:",
        "crc32:FULL_OBJECT:AAAA",
        "crc32:FULL_OBJECT:AAAAA",
        "crc32:FULL_OBJECT:AAAAAA==-3",
        "crc32:COMPOSITE:AAAAAA==",
        "crc32:COMPOSITE:AAAAAA==-0",
        "crc32:COMPOSITE:AAAAAA==-123456",
        "crc32:FULL_OBJECT:AAAAAA==\n",
        "CRC32:FULL_OBJECT:AAAAAA==",
        "crc32:FULL_OBJECT:" + "A" * 100_000,
    ],
)
def test_what_is_no_checksum(text: str) -> None:
    assert Checksum.parse(text) is None


def test_digests_of_another_algorithm_than_the_object_has_are_dropped() -> None:
    plain = PartTable(sizes=(5, 3))
    kept = PartTable(sizes=(5, 3), algorithm="crc32", digests=b"aaaabbbb")
    other, same = Checksum(algorithm="sha256", value="x"), Checksum(algorithm="crc32", value="x")
    assert kept.agreeing(other) == plain == plain.agreeing(other)
    assert kept.agreeing(same) == kept
