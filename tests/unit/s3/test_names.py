"""Bucket names, keys, and the one decoding of path and query."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaglider_core.errors import (
    InvalidArgument,
    InvalidBucketName,
    InvalidURI,
    KeyTooLongError,
)
from deltaglider_core.s3.names import (
    check_bucket_name,
    check_key,
    decode_path,
    parse_query,
    split_path,
)

keys = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)


@pytest.mark.parametrize(
    "name",
    [
        "abc",
        "a-b",
        "a.b.c",
        "1bucket",
        "a" * 63,
        "12345",
        "releases-2024",
        "0xff",
        "v1.2-x",
        "a.-b",
    ],
)
def test_good_bucket_names(name: str) -> None:
    check_bucket_name(name)
    check_bucket_name(name, creating=True)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ab",
        "a" * 64,
        "Abc",
        "a_b",
        "-ab",
        "ab-",
        ".ab",
        "ab.",
        "a..b",
        "..",
        "a/b",
        "a b",
        "abc\n",
        "b\u00fccher",
        "\u0661\u0662\u0663",
        "192.168.5.4",
        "127.1",
        "1.2.3",
        "0x7f.0.0.1",
        "0x7f.1",
        "xn--abc",
    ],
)
def test_bad_bucket_names(name: str) -> None:
    with pytest.raises(InvalidBucketName) as caught:
        check_bucket_name(name)
    assert caught.value.fields["BucketName"] == name


@pytest.mark.parametrize(
    "name", ["b-s3alias", "b--ol-s3", "abc.mrap", "b--use1-az4--x-s3", "b--table-s3"]
)
def test_reserved_suffixes_are_refused_only_when_creating(name: str) -> None:
    check_bucket_name(name)
    with pytest.raises(InvalidBucketName):
        check_bucket_name(name, creating=True)


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "/",
        "//",
        "a//b",
        ".",
        "./a",
        "a/.",
        "a\\b",
        "..a",
        "a..",
        "...",
        "a/../b",
        "a/b/../../c",
        "a/..",
        "reference.bin",
        "x.delta",
        "a b+c%41",
        "\u00e9" * 512,
        "a" * 1024,
        "\x01\x1f\n",
    ],
)
def test_good_keys(key: str) -> None:
    check_key(key)


@pytest.mark.parametrize(
    "key", ["..", "../a", "a/../../b", "/..", "./..", "//../a", "a/../b/../../c"]
)
def test_keys_that_lead_above_the_bucket(key: str) -> None:
    with pytest.raises(InvalidURI):
        check_key(key)


@pytest.mark.parametrize("key", ["a" * 1025, "\u00e9" * 513, "../" * 400])
def test_long_keys(key: str) -> None:
    with pytest.raises(KeyTooLongError) as caught:
        check_key(key)
    assert caught.value.fields["MaxSizeAllowed"] == "1024"


@pytest.mark.parametrize("key", ["", "a\0b", "\0", "\ud800"])
def test_impossible_keys(key: str) -> None:
    with pytest.raises(InvalidArgument):
        check_key(key)


@pytest.mark.parametrize(
    ("raw_path", "expected"),
    [
        ("", ("", "")),
        ("/", ("", "")),
        ("/b", ("b", "")),
        ("/b/", ("b", "")),
        ("/b/k", ("b", "k")),
        ("/b//k", ("b", "/k")),
        ("/b//", ("b", "/")),
        ("/b/k/", ("b", "k/")),
        ("/b/a+b", ("b", "a+b")),
        ("/b/a%20b%2Bc", ("b", "a b+c")),
        ("/b/%2541", ("b", "%41")),
        ("/%62/%73ecret/x", ("b", "secret/x")),
        ("/b%2Fk", ("b", "k")),
        ("/b/a%2f%2e%2e", ("b", "a/..")),
        ("/b/%C3%A9", ("b", "\u00e9")),
        ("/b/\xc3\xa9", ("b", "\u00e9")),
        ("/b/k?x", ("b", "k?x")),
        ("/b/../k", ("b", "../k")),
    ],
)
def test_split_path(raw_path: str, expected: tuple[str, str]) -> None:
    assert split_path(raw_path) == expected


@pytest.mark.parametrize(
    "raw_path",
    ["*", "b/k", "http://h/b", "//k", "/%2Fk", "/b/%", "/b/%4", "/b/%zz", "/b/%u0041", "/b/%FF",
     "/b/%C3", "/b/%ED%A0%80", "/b/\xff", "/b/\u20ac"],
)  # fmt: skip
def test_split_path_refuses(raw_path: str) -> None:
    with pytest.raises(InvalidURI):
        split_path(raw_path)


@given(keys)
@settings(deadline=None, max_examples=200)
def test_every_key_survives_the_path(key: str) -> None:
    assert split_path("/bucket/" + quote(key, safe="")) == ("bucket", key)
    assert split_path("/bucket/" + quote(key, safe="/!$&'()*+,;=:@")) == ("bucket", key)
    assert decode_path("/" + quote(key)) == "/" + key


@pytest.mark.parametrize(
    ("raw_query", "expected"),
    [
        ("", []),
        ("delete", [("delete", "")]),
        ("delete=", [("delete", "")]),
        ("a=1&a=2", [("a", "1"), ("a", "2")]),
        ("&&a=1&", [("a", "1")]),
        ("=v", [("", "v")]),
        ("a=b=c", [("a", "b=c")]),
        ("prefix=a+b%2Bc%20d", [("prefix", "a b+c d")]),
        ("p%61=%C3%A9", [("pa", "\u00e9")]),
        ("a=%2541", [("a", "%41")]),
        ("a=%26%3D", [("a", "&=")]),
        ("a;b=1", [("a;b", "1")]),
    ],
)
def test_parse_query(raw_query: str, expected: list[tuple[str, str]]) -> None:
    assert parse_query(raw_query) == expected


@pytest.mark.parametrize("raw_query", ["a=%", "a=%4", "%zz", "a=%FF", "a=%ED%A0%80", "a=\u20ac"])
def test_parse_query_refuses(raw_query: str) -> None:
    with pytest.raises(InvalidURI):
        parse_query(raw_query)


@given(st.text(max_size=60))
@settings(deadline=None, max_examples=300)
def test_only_s3_errors_come_out(status_of: Callable[..., int], text: str) -> None:
    for function in (check_bucket_name, check_key, split_path, parse_query):
        assert status_of(function, text) in (200, 400)
