"""CORS documents: what is read, what is refused, which requests a rule admits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaglider_core.errors import ClientError, InvalidRequest, MalformedXML
from deltaglider_core.s3.cors_xml import METHODS, CorsRule, parse_cors, render_cors
from deltaglider_core.s3.xml_output import escape

ORIGIN, METHOD = "<AllowedOrigin>*</AllowedOrigin>", "<AllowedMethod>GET</AllowedMethod>"


def rules(*contents: str) -> bytes:
    inner = "".join(f"<CORSRule>{content}</CORSRule>" for content in contents)
    return f"<CORSConfiguration>{inner}</CORSConfiguration>".encode()


def test_everything_that_a_rule_can_have() -> None:
    data = b"""<?xml version="1.0" encoding="UTF-8"?>
    <CORSConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
      <CORSRule>
        <MaxAgeSeconds>3000</MaxAgeSeconds>
        <ExposeHeader>ETag</ExposeHeader>
        <AllowedOrigin>https://*.example.com</AllowedOrigin>
        <AllowedOrigin>null</AllowedOrigin>
        <AllowedHeader>x-amz-*</AllowedHeader>
        <AllowedMethod>PUT</AllowedMethod>
        <ID>upload &amp; more</ID>
        <AllowedMethod>DELETE</AllowedMethod>
      </CORSRule>
      <CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>
    </CORSConfiguration>"""
    assert parse_cors(data) == (
        CorsRule(
            rule_id="upload & more",
            methods=("PUT", "DELETE"),
            origins=("https://*.example.com", "null"),
            headers=("x-amz-*",),
            exposed=("ETag",),
            max_age_seconds=3000,
        ),
        CorsRule(methods=("GET",), origins=("*",)),
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<CORSConfiguration/>",
        b"<Other/>",
        rules(METHOD),
        rules(ORIGIN),
        rules(METHOD + "<AllowedOrigin/>"),
        rules(METHOD + ORIGIN + "<Other/>"),
        rules(METHOD + ORIGIN + "<ID>a</ID><ID>b</ID>"),
        rules(METHOD + ORIGIN + "<ID>" + "a" * 256 + "</ID>"),
        rules(METHOD + ORIGIN + "<MaxAgeSeconds>-1</MaxAgeSeconds>"),
        rules(METHOD + ORIGIN + "<MaxAgeSeconds>1.5</MaxAgeSeconds>"),
        rules(METHOD + ORIGIN + "<MaxAgeSeconds></MaxAgeSeconds>"),
        rules(METHOD + ORIGIN + "<MaxAgeSeconds>1</MaxAgeSeconds><MaxAgeSeconds>1</MaxAgeSeconds>"),
        rules(METHOD + "<AllowedOrigin><b/></AllowedOrigin>"),
        rules(*[METHOD + ORIGIN] * 101),
        rules(METHOD + ORIGIN).replace(b"CORSRule", b"Rule"),
        rules(METHOD + ORIGIN)[:-5],
    ],
)
def test_documents_that_cannot_be(data: bytes) -> None:
    with pytest.raises(MalformedXML):
        parse_cors(data)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ("<AllowedMethod>OPTIONS</AllowedMethod>", "Unsupported method is OPTIONS"),
        ("<AllowedMethod>get</AllowedMethod>", "Unsupported method is get"),
        ("<AllowedMethod>*</AllowedMethod>", r"Unsupported method is \*"),
        (
            "<AllowedOrigin>http://*.*</AllowedOrigin>",
            r'^AllowedOrigin "http://\*\.\*" can not have more than one wildcard\.$',
        ),
        (
            "<AllowedHeader>x-*-*</AllowedHeader>",
            r'^AllowedHeader "x-\*-\*" can not have more than one wildcard\.$',
        ),
        (
            "<ExposeHeader>x-*</ExposeHeader>",
            r'^ExposeHeader "x-\*" contains wildcard\. We currently do not support wildcard',
        ),
        ("<AllowedHeader>a b</AllowedHeader>", "invalid character"),
        ("<ExposeHeader>a&#10;b</ExposeHeader>", "invalid character"),
        ("<ExposeHeader></ExposeHeader>", "invalid character"),
    ],
)
def test_values_that_cannot_be(more: str, text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        parse_cors(rules(METHOD + ORIGIN + more))


def test_the_most() -> None:
    rule = METHOD + ORIGIN + "<ID>" + "a" * 255 + "</ID><MaxAgeSeconds>999999999</MaxAgeSeconds>"
    assert len(parse_cors(rules(*[rule] * 100))) == 100


@pytest.mark.parametrize(
    ("pattern", "origin", "expected"),
    [
        ("*", "http://any", True),
        ("http://a", "http://a", True),
        ("http://a", "http://A", False),
        ("http://a", "http://a:80", False),
        ("http://*.a.com", "http://x.y.a.com", True),
        ("http://*.a.com", "http://.a.com", True),
        ("http://*.a.com", "http://a.com", False),
        ("http://*.a.com", "https://x.a.com", False),
        ("http://*.a.com", "http://x.a.com.evil", False),
        ("ab*ba", "aba", False),
        ("https://a.com:*", "https://a.com:8443", True),
        ("null", "null", True),
    ],
)
def test_origins(pattern: str, origin: str, expected: bool) -> None:
    rule = CorsRule(methods=("GET",), origins=("http://other", pattern))
    assert rule.admits(origin, "GET", ()) is expected
    assert not rule.admits(origin, "PUT", ())


@pytest.mark.parametrize(
    ("patterns", "names", "expected"),
    [
        ((), (), True),
        ((), ("content-type",), False),
        (("*",), ("content-type", "X-Any"), True),
        (("Content-Type",), ("content-TYPE",), True),
        (("x-amz-*", "range"), ("X-Amz-Date", "Range"), True),
        (("x-amz-*",), ("X-Amz-Date", "Range"), False),
        (("x-*-b", "X-*-A"), ("x-1-a", "X-2-B", "x--a"), True),
        (("x-*-b",), ("x-b",), False),
        (("*-Id",), ("my-id", "-ID"), True),
        (("*-id",), ("id",), False),
    ],
)
def test_headers(patterns: tuple[str, ...], names: tuple[str, ...], expected: bool) -> None:
    rule = CorsRule(methods=("GET",), origins=("*",), headers=patterns)
    assert rule.admits("http://a", "GET", names) is expected


def test_patterns_are_read_once_per_rule() -> None:
    """Anybody may ask, so the costs must not be names times patterns of the largest document."""

    class Counted(str):
        calls = 0

        def lower(self) -> str:
            Counted.calls += 1
            return str(self).lower()

    patterns = [Counted(f"x-header-{number}") for number in range(1_000)]
    rule = CorsRule(methods=("GET",), origins=("*",), headers=patterns)
    for _ in range(10):
        assert rule.admits("http://a", "GET", [f"X-Header-{number}" for number in range(100)])
    assert Counted.calls <= len(patterns)


words = st.text(alphabet="aB-*&<\u00fc\x0b ", max_size=4)


@given(
    st.lists(
        st.builds(
            CorsRule,
            rule_id=st.none() | words,
            methods=st.lists(st.sampled_from(METHODS), min_size=1, max_size=2).map(tuple),
            origins=st.lists(words, min_size=1, max_size=2).map(tuple),
            headers=st.lists(words, max_size=2).map(tuple),
            exposed=st.lists(words, max_size=2).map(tuple),
            max_age_seconds=st.none() | st.integers(0, 10**9 - 1),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_what_is_accepted_is_written_the_same(given_rules: list[CorsRule]) -> None:
    try:
        found = parse_cors(render_cors(given_rules))
    except ClientError:
        return
    assert found == tuple(given_rules)
    assert parse_cors(render_cors(found)) == found


def test_escaped_once() -> None:
    document = rules(METHOD + f"<AllowedOrigin>{escape('a&b')}</AllowedOrigin>")
    assert render_cors(parse_cors(document)).count(b"<AllowedOrigin>a&amp;b</AllowedOrigin>") == 1
