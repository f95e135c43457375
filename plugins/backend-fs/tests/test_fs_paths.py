"""Keys to names and back."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deltaglider_backend_fs.paths import KeyCodec, Names, key_bytes
from deltaglider_core.errors import InvalidArgument, KeyTooLongError

PLAIN = KeyCodec()
FOLDING = KeyCodec(folding=True)

segments = st.one_of(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=40),
    st.sampled_from(
        ["", ".", "..", "%dg-self", "%dg-tmp", "%dg-q", "%dg-pa", "%DG-self", "A", "a"]
    ),
    st.integers(200, 400).map(lambda n: "x" * n),
    st.integers(80, 130).map(lambda n: "é" * n),
)
keys = (
    st.lists(segments, min_size=1, max_size=5)
    .map("/".join)
    .filter(lambda key: 0 < len(key.encode()) <= 1024)
)
codecs = st.sampled_from([PLAIN, FOLDING, KeyCodec(name_max=143)])


def decode(codec: KeyCodec, names: Names) -> bytes:
    """Inverse of ``key_names``, by the rule alone: a name that begins ``%dg-p`` goes on."""
    result: list[bytes] = []
    pending: Names = ()
    for name in names:
        pending += (name,)
        if not name.startswith(b"%dg-p"):
            segment = codec.segment(pending)
            assert segment is not None
            result.append(segment)
            pending = ()
    assert pending == ()
    return b"/".join(result)


@given(codec=codecs, key=keys)
@example(PLAIN, "/" * 1024)
@example(FOLDING, "A/" * 512)
@example(FOLDING, "é" * 512)
@settings(max_examples=300, deadline=None)
def test_encoding_is_reversible_and_stays_inside(codec: KeyCodec, key: str) -> None:
    names = codec.key_names(key_bytes(key))
    assert decode(codec, names) == key.encode()
    for name in names:
        assert name not in (b"", b".", b"..", b"%dg-self", b"%dg-tmp", b"%dg-locks", b"%dg-meta")
        assert b"/" not in name
        assert len(name) <= codec._name_max


@given(first=keys, second=keys, codec=codecs)
@settings(max_examples=200, deadline=None)
def test_different_keys_have_different_names(first: str, second: str, codec: KeyCodec) -> None:
    same = codec.key_names(first.encode()) == codec.key_names(second.encode())
    assert same == (first == second)


@given(first=keys, second=keys)
@settings(max_examples=200, deadline=None)
def test_a_folding_root_never_sees_names_it_would_confuse(first: str, second: str) -> None:
    one = b"/".join(FOLDING.key_names(first.encode()))
    two = b"/".join(FOLDING.key_names(second.encode()))
    assert one.isascii()
    assert (one.lower() == two.lower()) == (first == second)


@pytest.mark.parametrize("key", ["a", "a/b c/d.txt", "%2e%2e/x", "..a", "ünï", ".deltaglider/id"])
def test_ordinary_keys_are_paths(key: str) -> None:
    assert b"/".join(PLAIN.key_names(key.encode())) == key.encode()


@pytest.mark.parametrize(
    "name",
    [b"%dg-self", b"%dg-tmp", b"%dg-qplain", b"%dg-q%2E%2E", b"%dg-q%2f", b"%dg-q%00", b"\xff"],
)
def test_names_that_no_key_has_are_no_segments(name: bytes) -> None:
    assert PLAIN.segment((name,)) is None


def test_limits() -> None:
    assert key_bytes("é" * 512) == "é".encode() * 512
    with pytest.raises(KeyTooLongError):
        key_bytes("é" * 513)
    for bad in ("", "a\0b", "\ud800"):
        with pytest.raises(InvalidArgument):
            key_bytes(bad)
