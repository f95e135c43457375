"""Listings, page by page, against a model that knows nothing of pages, trees or tokens.

The model is a sorted list of all keys: what is listed is what a person would underline in it.
Source: AWS, "ListObjects", "ListObjectsV2", "ListObjectVersions", and "Organizing objects using
prefixes".
"""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, unquote_plus, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.asgi import Service, open_service
from support.fuzz_world import fuzz_settings

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

_buckets = itertools.count(1)


@pytest.fixture(scope="module", params=["memory", "files"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("listing")
    with open_service(directory, files=request.param == "files", state=False) as opened:
        yield opened


# --- the model ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked of a bucket, however it is spelt in the three operations."""

    prefix: str = ""
    delimiter: str = ""
    after: str = ""
    max_keys: int | None = None
    url: bool = False


def entries(keys: Sequence[str], query: Query) -> list[tuple[str, str]]:
    """All entries of a listing, ``("key" or "prefix", text)``, in order."""
    found: dict[str, str] = {}
    for key in keys:
        if not key.startswith(query.prefix):
            continue
        rest = key.removeprefix(query.prefix)
        if query.delimiter and query.delimiter in rest:
            group = rest[: rest.index(query.delimiter)] + query.delimiter
            found[query.prefix + group] = "prefix"
        else:
            found[key] = "key"
    in_order = sorted(found, key=lambda text: text.encode())
    return [(found[text], text) for text in in_order if text.encode() > query.after.encode()]


# --- the service ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Page:
    """An answer, decoded."""

    entries: list[tuple[str, str]]
    truncated: bool
    fields: dict[str, str]


def bucket_with(service: Service, keys: Sequence[str]) -> str:
    bucket = f"listing-{next(_buckets)}"
    assert service.request("PUT", f"/{bucket}").status == 200
    for key in keys:
        assert service.request("PUT", f"/{bucket}/{quote(key)}", body=b"x").status == 200
    return bucket


def ask(service: Service, bucket: str, query: Query, **parameters: str) -> Page:
    asked = {"prefix": query.prefix, "delimiter": query.delimiter, **parameters}
    if query.max_keys is not None:
        asked["max-keys"] = str(query.max_keys)
    if query.url:
        asked["encoding-type"] = "url"
    named = {name: value for name, value in asked.items() if value or name == "versions"}
    answer = service.request("GET", f"/{bucket}?{urlencode(named, quote_via=quote)}")
    assert answer.status == 200, answer
    return read(answer.document, query)


def read(document: ET.Element, query: Query) -> Page:
    """Read a page and check what it says of itself."""

    def decode(text: str) -> str:
        if not query.url:
            return text
        # Some clients read it as a part of a URL, others as a form value.
        assert unquote(text) == unquote_plus(text)
        assert text.isascii()
        return unquote(text)

    found: list[tuple[str, str]] = []
    fields: dict[str, str] = {}
    for element in document:
        name = element.tag.rpartition("}")[2]
        if name in ("Contents", "Version"):
            found.append(("key", decode(leaf(element, "Key"))))
            assert leaf(element, "ETag") == '"9dd4e461268c8034f5c8564e155c67a6"'
            assert leaf(element, "Size") == "1"
            if name == "Version":
                assert (leaf(element, "VersionId"), leaf(element, "IsLatest")) == ("null", "true")
        elif name == "CommonPrefixes":
            found.append(("prefix", decode(leaf(element, "Prefix"))))
        else:
            fields[name] = element.text or ""
    for name in ("Prefix", "Delimiter", "Marker", "NextMarker", "StartAfter", "KeyMarker"):
        if name in fields:
            fields[name] = decode(fields[name])
    assert fields["Prefix"] == query.prefix
    assert fields.get("Delimiter", "") == query.delimiter
    assert fields["MaxKeys"] == str(min(1000 if query.max_keys is None else query.max_keys, 1000))
    assert fields.get("EncodingType", "") == ("url" if query.url else "")
    if "NextKeyMarker" in fields:
        fields["NextKeyMarker"] = decode(fields["NextKeyMarker"])
    # Keys and prefixes are two lists in the document, each in order.
    for kind in ("key", "prefix"):
        listed = [text.encode() for one, text in found if one == kind]
        assert listed == sorted(listed)
    found.sort(key=lambda entry: entry[1].encode())
    return Page(entries=found, truncated=fields["IsTruncated"] == "true", fields=fields)


def leaf(element: ET.Element, name: str) -> str:
    return next(child.text or "" for child in element if child.tag.rpartition("}")[2] == name)


def pages_v1(service: Service, bucket: str, query: Query) -> Iterator[Page]:
    marker = query.after
    while True:
        page = ask(service, bucket, query, marker=marker)
        yield page
        if not page.truncated:
            assert "NextMarker" not in page.fields
            return
        # S3 names the next marker only with a delimiter; else it is the last key.
        assert ("NextMarker" in page.fields) == bool(query.delimiter)
        marker = page.fields.get("NextMarker", page.entries[-1][1])


def pages_v2(service: Service, bucket: str, query: Query) -> Iterator[Page]:
    more = {"list-type": "2", "start-after": query.after}
    while True:
        page = ask(service, bucket, query, **more)
        assert page.fields["KeyCount"] == str(len(page.entries))
        assert page.fields.get("StartAfter", "") == query.after
        yield page
        assert ("NextContinuationToken" in page.fields) == page.truncated
        if not page.truncated:
            return
        more["continuation-token"] = page.fields["NextContinuationToken"]


def pages_of_versions(service: Service, bucket: str, query: Query) -> Iterator[Page]:
    more = {"versions": "", "key-marker": query.after}
    while True:
        page = ask(service, bucket, query, **more)
        yield page
        if not page.truncated:
            assert "NextKeyMarker" not in page.fields
            return
        more["key-marker"] = page.fields["NextKeyMarker"]
        more["version-id-marker"] = page.fields.get("NextVersionIdMarker", "")


# --- the properties -------------------------------------------------------------------------

#: Few characters, so that keys meet; among them the neighbours of "/" and both ends of Unicode,
#: whose order in UTF-16 would be another one.
CHARACTERS = "ab/.-0 +%&<é\ufb01\U0001f600"
text = st.text(CHARACTERS, max_size=5)


def is_key(key: str) -> bool:
    """Dot segments are no business of listings, and clients cannot send some of them."""
    return bool(key) and ".." not in key


keys = st.lists(text.filter(is_key), max_size=9, unique=True)
queries = st.builds(
    Query,
    prefix=text,
    delimiter=st.sampled_from(["", "/", "/", "a", "//", "é", "b/"]),
    after=text,
    max_keys=st.sampled_from([None, 1, 1, 2, 3, 1000, 5000]),
    url=st.booleans(),
)


@st.composite
def questions(draw: st.DrawFn) -> tuple[list[str], list[Query]]:
    """Keys, and queries of which many are about them."""
    present = draw(keys)
    asked = []
    for query in draw(st.lists(queries, min_size=1, max_size=4)):
        changed: dict[str, Any] = {}
        if draw(st.booleans()) and present:
            key = draw(st.sampled_from(present))
            changed["prefix"] = key[: draw(st.integers(0, len(key)))]
        if draw(st.booleans()) and present:
            key = draw(st.sampled_from(present))
            changed["after"] = key[: draw(st.integers(0, len(key)))]
        asked.append(Query(**{**vars(query), **changed}))
    return present, asked


@given(questions())
@example((["a/b", "a/c", "a0", "a-", "a"], [Query(delimiter="/", after="a/", max_keys=1)]))
@example((["a//b", "a/", "a"], [Query(prefix="a/", delimiter="/"), Query(delimiter="//")]))
@example((["\ufb01", "\U0001f600"], [Query(max_keys=1, url=True), Query(after="\ufb01")]))
@fuzz_settings(25)
def test_listings(service: Service, question: tuple[list[str], list[Query]]) -> None:
    present, asked = question
    bucket = bucket_with(service, present)
    for query in asked:
        expected = entries(present, query)
        size = min(query.max_keys or 1000, 1000)
        whole = [expected[at : at + size] for at in range(0, len(expected), size)] or [[]]
        for pages in (pages_v1, pages_v2, pages_of_versions):
            found = list(itertools.islice(pages(service, bucket, query), len(whole) + 1))
            assert [page.entries for page in found] == whole, (pages.__name__, query)


@given(keys, queries)
@fuzz_settings(5)
def test_a_page_of_nothing(service: Service, present: list[str], query: Query) -> None:
    """``max-keys=0`` is empty and ends there."""
    bucket = bucket_with(service, present)
    query = Query(**{**vars(query), "max_keys": 0})
    for pages in (pages_v1, pages_v2, pages_of_versions):
        [page] = pages(service, bucket, query)
        assert page.entries == []
