"""Parsers of client documents: what is read, and that all else is MalformedXML."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaglider_core.errors import (
    InvalidArgument,
    InvalidPartOrder,
    MalformedXML,
    NotImplementedS3,
)
from deltaglider_core.interfaces.storage import Condition
from deltaglider_core.s3.xml import (
    DeleteEntry,
    check_part_order,
    escape,
    parse_complete_multipart,
    parse_create_bucket,
    parse_delete_objects,
)

NS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
PARSERS: list[Callable[[bytes], Any]] = [
    parse_create_bucket,
    parse_delete_objects,
    parse_complete_multipart,
]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b"", ""),
        (b"<CreateBucketConfiguration/>", ""),
        (
            f"<CreateBucketConfiguration {NS}><LocationConstraint>eu-west-1</LocationConstraint>"
            "</CreateBucketConfiguration>".encode(),
            "eu-west-1",
        ),
        (
            b"<CreateBucketConfiguration><LocationConstraint/></CreateBucketConfiguration>",
            "",
        ),
    ],
)
def test_create_bucket(document: bytes, expected: str) -> None:
    assert parse_create_bucket(document) == expected


@pytest.mark.parametrize(
    "child", ["<Location/>", "<Bucket><Type>Directory</Type></Bucket>", "<Tags/>"]
)
def test_create_bucket_features_that_do_not_exist(child: str) -> None:
    with pytest.raises(NotImplementedS3):
        parse_create_bucket(
            f"<CreateBucketConfiguration>{child}</CreateBucketConfiguration>".encode()
        )


def delete(body: str, attributes: str = "") -> bytes:
    return f"<Delete {attributes}>{body}</Delete>".encode()


def test_delete_objects() -> None:
    parsed = parse_delete_objects(
        delete(
            "<Quiet>true</Quiet><Object><Key>a b/&amp;&lt;&#13;&#10;\u00e9</Key></Object>"
            '<Object><Key> x </Key><VersionId>null</VersionId><ETag>"abc"</ETag></Object>',
            NS,
        )
    )
    assert parsed.quiet is True
    assert list(parsed.objects) == [
        DeleteEntry(key="a b/&<\r\n\u00e9"),
        DeleteEntry(key=" x ", version_id="null", condition=Condition(if_match="abc")),
    ]


@pytest.mark.parametrize("attributes", ["", NS, 'xmlns="urn:other"', f'a="b" {NS}'])
def test_any_namespace_or_none(attributes: str) -> None:
    parsed = parse_delete_objects(delete("<Object><Key>k</Key></Object>", attributes))
    assert [entry.key for entry in parsed.objects] == ["k"]
    assert parsed.quiet is False


@pytest.mark.parametrize(
    ("sent", "expected"), [("*", "*"), ('"*"', '"*"'), ("abc", "abc"), ('""abc""', "abc")]
)
def test_delete_conditions(sent: str, expected: str) -> None:
    parsed = parse_delete_objects(delete(f"<Object><Key>k</Key><ETag>{sent}</ETag></Object>"))
    assert parsed.objects[0].condition == Condition(if_match=expected)


def test_prefixed_namespace_declaration_and_encodings() -> None:
    text = (
        '<?xml version="1.0" encoding="{}"?>\n<s3:Delete xmlns:s3="urn:x"><s3:Object>'
        "<s3:Key>\u00e9</s3:Key></s3:Object></s3:Delete>"
    )
    for encoding in ("utf-8", "utf-16", "iso-8859-1"):
        parsed = parse_delete_objects(text.format(encoding).encode(encoding))
        assert parsed.objects[0].key == "\u00e9"


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30))
@settings(deadline=None, max_examples=100)
def test_keys_arrive_unchanged(key: str) -> None:
    for text in (escape(key), "<![CDATA[" + key.replace("]]>", "]]]]><![CDATA[>") + "]]>"):
        if "\ufffe" in key or "\uffff" in key:
            continue
        parsed = parse_delete_objects(delete(f"<Object><Key>{text}</Key></Object>"))
        assert parsed.objects[0].key == key


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<Quiet>true</Quiet>",
        "<Object/>",
        "<Object><Key/></Object>",
        "<Object><Key></Key></Object>",
        "<Object><Key>a</Key><Key>b</Key></Object>",
        "<Object><Key>a<b/></Key></Object>",
        "<Object><Key>a</Key><ETag/></Object>",
        '<Object><Key>a</Key><ETag>""</ETag></Object>',
        "<Object><Key>a</Key><Unknown/></Object>",
        "<Object><Key>a</Key></Object><Unknown/>",
        "<Object><Key>a</Key></Object><Quiet>yes</Quiet>",
        "<Object><Key>a</Key></Object><Quiet/>",
        "<Object><Key>a&#0;</Key></Object>",
        "<Object><Key>a&#1;</Key></Object>",
        "<Object><Key>a</Key></Object>" * 1001,
    ],
)
def test_malformed_deletes(body: str) -> None:
    with pytest.raises(MalformedXML):
        parse_delete_objects(delete(body))


def test_one_to_a_thousand_objects() -> None:
    assert len(parse_delete_objects(delete("<Object><Key>a</Key></Object>" * 1000)).objects) == 1000


def test_delete_conditions_on_size_and_date() -> None:
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    for text in ("Fri, 02 Jan 2026 03:04:05 GMT", "2026-01-02T03:04:05Z"):
        more = f"<LastModifiedTime>{text}</LastModifiedTime><Size> 7 </Size>"
        parsed = parse_delete_objects(delete(f"<Object><Key>a</Key>{more}</Object>"))
        assert parsed.objects[0].condition == Condition(last_modified=time, size=7)


@pytest.mark.parametrize(
    "condition",
    [
        "<LastModifiedTime>1</LastModifiedTime>",
        "<LastModifiedTime/>",
        "<Size>-1</Size>",
        "<Size>x</Size>",
        "<Size/>",
        "<ETag/>",
        "<Unknown>1</Unknown>",
    ],
)
def test_delete_conditions_that_cannot_be_read_are_not_ignored(condition: str) -> None:
    with pytest.raises(MalformedXML):
        parse_delete_objects(delete(f"<Object><Key>a</Key>{condition}</Object>"))


def complete(body: str) -> bytes:
    return f"<CompleteMultipartUpload {NS}>{body}</CompleteMultipartUpload>".encode()


def part(number: object, etag: str = '"e"', more: str = "") -> str:
    return f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>{more}</Part>"


def test_complete_multipart() -> None:
    more = "<ChecksumCRC32>DUoRhQ==</ChecksumCRC32>"
    first, second = parse_complete_multipart(
        complete(part(7, "&quot;abc&quot;", more) + part(" 2 ", "def"))
    )
    assert (first.part_number, first.etag, first.checksums) == (7, "abc", {"crc32": "DUoRhQ=="})
    assert (second.part_number, second.etag, second.checksums) == (2, "def", {})


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<Part/>",
        "<Part><PartNumber>1</PartNumber></Part>",
        "<Part><ETag>e</ETag></Part>",
        part(1, ""),
        part(""),
        part("x"),
        part("-1"),
        part("1.0"),
        part("\u0661"),
        part("9" * 5000),
        part(1) + "<Other/>",
        part(1, more="<ETag>f</ETag>"),
        part(1, more="<PartNumber>2</PartNumber>"),
    ],
)
def test_malformed_completes(body: str) -> None:
    with pytest.raises(MalformedXML):
        parse_complete_multipart(complete(body))


@pytest.mark.parametrize("number", [0, 10_001])
def test_part_numbers_out_of_range(number: int) -> None:
    with pytest.raises(InvalidArgument):
        parse_complete_multipart(complete(part(number)))


def test_at_most_ten_thousand_parts() -> None:
    parts = "".join(part(number) for number in range(1, 10_001))
    assert len(parse_complete_multipart(complete(parts))) == 10_000
    with pytest.raises(MalformedXML):
        parse_complete_multipart(complete(parts + part(1)))


def test_part_order() -> None:
    for numbers in ([], [5], [1, 2, 9, 10_000]):
        check_part_order(numbers, "id")
    for numbers in ([2, 1], [1, 1], [1, 3, 2]):
        with pytest.raises(InvalidPartOrder) as caught:
            check_part_order(numbers, "id")
        assert caught.value.fields == {"UploadId": "id"}


LAUGHS = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
BOMBS = [
    f'<!DOCTYPE Delete [<!ENTITY l0 "lol">{LAUGHS}]><Delete>&l9;</Delete>',
    f'<!DOCTYPE Delete [<!ENTITY a "{"a" * 50_000}">]><Delete>{"&a;" * 50_000}</Delete>',
    '<!DOCTYPE Delete [<!ENTITY x SYSTEM "file:///etc/passwd">]><Delete>&x;</Delete>',
    '<!DOCTYPE Delete SYSTEM "http://127.0.0.1:1/x.dtd"><Delete/>',
    "<!DOCTYPE Delete><Delete><Object><Key>a</Key></Object></Delete>",
    '<!DOCTYPE Delete [<!ENTITY % p "x"> %p;]><Delete/>',
    "<Delete>" + "<a>" * 200_000,
    "<Delete>" + "<a>" * 200_000 + "</a>" * 200_000 + "</Delete>",
]


@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_bombs(bomb: str) -> None:
    start = time.perf_counter()
    for parser in PARSERS:
        with pytest.raises(MalformedXML):
            parser(bomb.encode())
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    "document",
    [
        b"junk",
        b"<",
        b"<Delete>",
        b"<Delete></delete>",
        b"<Delete/><Delete/>",
        b"<Other/>",
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b'<?xml version="1.0" encoding="nonsense"?><Delete/>',
        b'<?xml version="1.0" encoding="big5"?><Delete/>',
        b'<?xml version="9"?><Delete/>',
        b"<Delete>&undefined;</Delete>",
        b"<Delete>\xff</Delete>",
        b"<a:Delete/>",
    ],
)
def test_garbage(document: bytes) -> None:
    for parser in PARSERS:
        with pytest.raises(MalformedXML):
            parser(document)
    for parser in PARSERS[1:]:
        with pytest.raises(MalformedXML):
            parser(b"")


fragments = st.sampled_from(
    ["<Delete>", "</Delete>", "<Object>", "</Object>", "<Key>", "</Key>", "k", "<Quiet>", "true",
     "</Quiet>", "<CompleteMultipartUpload>", "</CompleteMultipartUpload>", "<Part>", "</Part>",
     "<PartNumber>", "1", "</PartNumber>", "<ETag>", "</ETag>", "&amp;", "<!--", "-->", "<?xml ?>",
     "<CreateBucketConfiguration>", "</CreateBucketConfiguration>", "<![CDATA[", "]]>",
     "<!DOCTYPE a>"]
)  # fmt: skip


@given(st.binary(max_size=60) | st.lists(fragments, max_size=14).map(lambda x: "".join(x).encode()))
@settings(deadline=None, max_examples=400)
def test_only_s3_errors_come_out(status_of: Callable[..., int], document: bytes) -> None:
    for parser in PARSERS:
        assert status_of(parser, document) in (200, 400, 501)


def test_very_many_elements_are_refused_while_they_are_read() -> None:
    document = b"<Delete>" + b"<a/>" * 1_000_000 + b"</Delete>"
    tracemalloc.start()
    try:
        with pytest.raises(MalformedXML):
            parse_delete_objects(document)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * len(document)


def test_the_largest_honest_document_is_read() -> None:
    sums = "".join(
        f"<Checksum{name}>AAAA</Checksum{name}>"
        for name in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")
    )
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>e</ETag>{sums}</Part>"
        for number in range(1, 10_001)
    )
    document = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    assert len(parse_complete_multipart(document)) == 10_000
