"""The rules of tags, in the header and in the document."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaglider_core.errors import (
    BadRequest,
    ClientError,
    InvalidArgument,
    InvalidTag,
    MalformedXML,
    S3Error,
)
from deltaglider_core.s3 import tags
from deltaglider_core.s3.xml_output import escape


def document(*pairs: tuple[str, str]) -> bytes:
    inner = "".join(
        f"<Tag><Key>{escape(key)}</Key><Value>{escape(value)}</Value></Tag>" for key, value in pairs
    )
    return f"<Tagging><TagSet>{inner}</TagSet></Tagging>".encode()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", {}),
        ("  ", {}),
        ("a=1", {"a": "1"}),
        ("a=1&b=2&", {"a": "1", "b": "2"}),
        ("a", {"a": ""}),
        ("a=", {"a": ""}),
        ("a=b=c", {"a": "b=c"}),
        ("a+b=c+d%2Be", {"a b": "c d+e"}),
        ("%C3%BC=%E5%80%A4", {"ü": "値"}),
    ],
)
def test_header(header: str, expected: dict[str, str]) -> None:
    assert tags.parse_tagging_header(header) == expected


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ("a=1&a=2", InvalidArgument),
        ("a=%zz", InvalidArgument),
        ("a=%", InvalidArgument),
        ("a=%a", InvalidArgument),
        ("a=%ff", InvalidArgument),
        ("=v", InvalidTag),
        ("aws:a=1", InvalidTag),
        ("a=%00", InvalidTag),
        ("a=" + "v" * 257, InvalidTag),
        ("&".join(f"k{number}" for number in range(11)), BadRequest),
    ],
)
def test_header_that_cannot_be(header: str, error: type[S3Error]) -> None:
    with pytest.raises(error) as caught:
        tags.parse_tagging_header(header)
    assert caught.value.status == 400
    if error is InvalidArgument:
        fields = {"ArgumentName": "x-amz-tagging", "ArgumentValue": header}
        assert caught.value.fields == fields


@pytest.mark.parametrize(
    "pair",
    [
        ("k" * 128, "v" * 256),
        ("値" * 128, "値" * 256),
        ("k" * 126 + "\U00020000", "v" * 254 + "\U00020000"),  # two code units of UTF-16
        ("a b+c-d=e.f_g:h/i@j", ""),
        (" ", "\u3000"),
        ("awsx", "aws:"),
        ("½Ⅷ", "٣"),
    ],
)
def test_tags_that_can_be(pair: tuple[str, str]) -> None:
    assert tags.parse_object_tagging(document(pair)) == dict([pair])
    assert tags.parse_bucket_tagging(document(pair)) == dict([pair])


@pytest.mark.parametrize(
    ("pair", "text", "fields"),
    [
        (("", "v"), "TagKey", {"TagKey": ""}),
        (("k" * 129, "v"), "TagKey", {"TagKey": "k" * 129}),
        (("k" * 127 + "\U00020000", "v"), "TagKey", None),
        (("a,b", "v"), "TagKey", None),
        (("a\tb", "v"), "TagKey", None),
        (("a\nb", "v"), "TagKey", None),
        (("\U0001f600", "v"), "TagKey", None),
        (("k", "v" * 257), "TagValue", {"TagValue": "v" * 257}),
        (("k", "<"), "TagValue", {"TagValue": "<"}),
        (("aws:x", "v"), "System tags", {"TagKey": "aws:x"}),
        (("AWS:", "v"), "System tags", None),
    ],
)
def test_tags_that_cannot_be(
    pair: tuple[str, str], text: str, fields: dict[str, str] | None
) -> None:
    for parse in (tags.parse_object_tagging, tags.parse_bucket_tagging):
        with pytest.raises(InvalidTag, match=text) as caught:
            parse(document(("first", "1"), pair))
        assert fields in (None, caught.value.fields)


def test_how_many() -> None:
    pairs = [(f"k{number}", "v") for number in range(51)]
    assert len(tags.parse_object_tagging(document(*pairs[:10]))) == 10
    assert len(tags.parse_bucket_tagging(document(*pairs[:50]))) == 50
    assert tags.parse_object_tagging(document()) == {}
    with pytest.raises(BadRequest, match="Object tags cannot be greater than 10"):
        tags.parse_object_tagging(document(*pairs[:11]))
    with pytest.raises(BadRequest, match="greater than 50"):
        tags.parse_bucket_tagging(document(*pairs))
    with pytest.raises(InvalidTag, match="same key"):
        tags.parse_object_tagging(document(("a", "1"), ("a", "2")))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<Tagging/>",
        b"<Tagging><TagSet>",
        b"<Tagging><TagSet/><TagSet/></Tagging>",
        b"<Tagging><TagSet/><Other/></Tagging>",
        b"<Other><TagSet/></Other>",
        b"<Tagging><TagSet><Other/></TagSet></Tagging>",
        b"<Tagging><TagSet><Tag><Key>k</Key></Tag></TagSet></Tagging>",
        document(("k", "v")).replace(b"</Tag>", b"<Value>w</Value></Tag>"),
        b"<Tagging><TagSet><Tag><Key><a/></Key><Value>v</Value></Tag></TagSet></Tagging>",
    ],
)
def test_documents_that_cannot_be(data: bytes) -> None:
    with pytest.raises(MalformedXML):
        tags.parse_object_tagging(data)


@given(st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=11))
def test_what_is_read_is_written_the_same(given_tags: dict[str, str]) -> None:
    try:
        found = tags.checked_object_tags(given_tags.items())
    except ClientError:
        return
    assert found == given_tags
    assert tags.parse_object_tagging(tags.render_tagging(found)) == given_tags


@given(st.text(max_size=30))
def test_any_header_is_tags_or_an_error_of_s3(header: str) -> None:
    try:
        found = tags.parse_tagging_header(header)
    except ClientError:
        return
    assert tags.checked_object_tags(found.items()) == found
