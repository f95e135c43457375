"""The policy language: documents, conditions, coverage, expiration."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from deltaglider_core.errors import AccessDenied, InvalidPolicyDocument
from deltaglider_core.s3.post_policy import PostPolicy, SizeRange, parse_policy

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = "2026-01-02T03:04:06Z"
BUCKET = {"bucket": "b"}


def encoded(document: object) -> str:
    text = document if isinstance(document, str) else json.dumps(document)
    return base64.b64encode(text.encode()).decode()


def policy(*conditions: object, expiration: object = LATER) -> PostPolicy:
    return parse_policy(encoded({"expiration": expiration, "conditions": [BUCKET, *conditions]}))


def allows(condition: object, **fields: str) -> bool:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    try:
        policy(condition).check(named, bucket="b", now=NOW)
    except AccessDenied:
        return False
    return True


@pytest.mark.parametrize(
    ("condition", "value", "holds"),
    [
        ({"key": "a/b"}, "a/b", True),
        ({"key": "a/b"}, "a/B", False),
        ({"KeY": "a/b"}, "a/b", True),
        (["eq", "$key", "a"], "a", True),
        (["eq", "$key", "a"], "ab", False),
        (["EQ", "$KEY", "a"], "a", True),
        (["eq", "key", "a"], "a", False),
        (["eq", "$key", ""], "", True),
        (["starts-with", "$key", "user/"], "user/eric/x", True),
        (["starts-with", "$key", "user/"], "users/", False),
        (["Starts-With", "$key", ""], "anything", True),
        (["starts-with", "$key", "\\$foo"], "\\$foo.txt", True),
        (["starts-with", "$key", "a,"], "a,b", True),
        (["starts-with", "$key", "a"], "a,b", True),
    ],
)
def test_one_condition(condition: object, value: str, holds: bool) -> None:
    assert allows(condition, key=value) is holds


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        ("image/jpg", True),
        ("image/jpg,image/png,image/gif", True),
        ("image/jpg, image/png", True),
        ("image/jpg,text/plain", False),
        ("image/jpg,", False),
        ("text/plain", False),
    ],
)
def test_content_types_are_lists(value: str, holds: bool) -> None:
    assert allows(["starts-with", "$Content-Type", "image/"], content_type=value) is holds


def test_a_field_must_be_there_and_named() -> None:
    assert not allows(["starts-with", "$x-amz-meta-tag", ""])
    assert not allows({"x-amz-meta-tag": "v"})
    both = policy(["starts-with", "$key", "a"], ["starts-with", "$key", "ab"])
    both.check({"key": "abc"}, bucket="b", now=NOW)
    with pytest.raises(AccessDenied, match='failed: \\["starts-with", "\\$key", "ab"\\]'):
        both.check({"key": "ac"}, bucket="b", now=NOW)
    with pytest.raises(AccessDenied, match="Extra input fields: acl, x-amz-meta-a"):
        both.check({"key": "abc", "acl": "", "x-amz-meta-a": ""}, bucket="b", now=NOW)


def test_fields_that_need_no_condition() -> None:
    free = (
        *("policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"),
        *("x-amz-security-token", "file", "submit", "x-ignore-anything"),
        *("awsaccesskeyid", "signature"),
    )
    policy().check(dict.fromkeys(free, "v"), bucket="b", now=NOW)
    for name in ("key", "x-amz-meta-x", "x-ignore", "x-amz-checksum-crc32", "tagging"):
        with pytest.raises(AccessDenied, match=f"Extra input fields: {name}"):
            policy().check({name: "v"}, bucket="b", now=NOW)


def test_the_bucket_is_that_of_the_request() -> None:
    with pytest.raises(AccessDenied, match='failed: \\["eq", "\\$bucket", "b"\\]'):
        policy().check({"bucket": "b"}, bucket="other", now=NOW)
    with_none = parse_policy(encoded({"expiration": LATER, "conditions": [{"key": "k"}]}))
    with pytest.raises(AccessDenied, match="Extra input fields: bucket"):
        with_none.check({"key": "k"}, bucket="b", now=NOW)


@pytest.mark.parametrize(
    ("expiration", "valid"),
    [
        ("2026-01-02T03:04:06Z", True),
        ("2026-01-02T03:04:05.001Z", True),
        ("2026-01-02T04:04:06+01:00", True),
        ("2026-01-02T03:04:05Z", False),
        ("2026-01-02T03:04:05.000Z", False),
        ("2007-12-01T12:00:00.000Z", False),
        ("2026-01-02T04:04:05+01:00", False),
    ],
)
def test_expiration(expiration: str, valid: bool) -> None:
    found = policy(expiration=expiration)
    if valid:
        found.check({}, bucket="b", now=NOW)
        return
    with pytest.raises(AccessDenied, match="Policy expired"):
        found.check({}, bucket="b", now=NOW)


@pytest.mark.parametrize(
    ("conditions", "sizes"),
    [
        ([], SizeRange()),
        ([["content-length-range", 1, 10]], SizeRange(minimum=1, maximum=10)),
        ([["Content-Length-Range", "5", "10"]], SizeRange(minimum=5, maximum=10)),
        (
            [["content-length-range", 0, 10], ["content-length-range", 5, 20]],
            SizeRange(minimum=5, maximum=10),
        ),
        ([["content-length-range", 0, 0]], SizeRange(maximum=0)),
    ],
)
def test_sizes(conditions: list[Any], sizes: SizeRange) -> None:
    assert policy(*conditions).sizes == sizes


def test_sizes_within_others() -> None:
    assert SizeRange().within(SizeRange()) == SizeRange()
    assert SizeRange(maximum=5).within(SizeRange(minimum=2)) == SizeRange(minimum=2, maximum=5)


@pytest.mark.parametrize("ends", [["test", "10"], [0, None], [True, 5], [[], 1], ["1.5", 2]])
def test_a_range_that_is_none_never_holds(ends: list[Any]) -> None:
    with pytest.raises(AccessDenied, match="Policy Condition failed"):
        policy(["content-length-range", *ends])


def with_conditions(text: str) -> str:
    return f'{{"expiration": "{LATER}", "conditions": {text}}}'


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("", "Invalid JSON"),
        ("{", "Invalid JSON"),
        ("[]", "Invalid JSON"),
        ("null", "Invalid JSON"),
        ("[" * 12_000, "Invalid JSON"),
        ({}, "missing expiration"),
        ({"conditions": []}, "missing expiration"),
        ({"expiration": LATER}, "missing conditions"),
        ({"EXPIRATION": LATER, "conditions": []}, "Unexpected: 'EXPIRATION'"),
        ({"expiration": LATER, "CONDITIONS": []}, "Unexpected: 'CONDITIONS'"),
        ({"expiration": LATER, "conditions": {}}, "must be a List"),
        ({"expiration": None, "conditions": []}, "Invalid 'expiration' value"),
        ({"expiration": 5, "conditions": []}, "Invalid 'expiration' value"),
        ({"expiration": "2026-01-02 03:04:05+00:00", "conditions": []}, "Invalid 'expiration'"),
        ({"expiration": "2026-13-02T03:04:05Z", "conditions": []}, "Invalid 'expiration' value"),
        ({"expiration": "2026-01-02T03:04:05", "conditions": []}, "Invalid 'expiration' value"),
        ({"expiration": "2026-01-02", "conditions": []}, "Invalid 'expiration' value"),
        (with_conditions("[{}]"), "exactly one property"),
        (with_conditions('[{"key": "a", "acl": "b"}]'), "exactly one property"),
        (with_conditions('[{"key": "a", "key": "b"}]'), "Invalid JSON"),
        (with_conditions('[{"key": 5}]'), "value must be a string"),
        (with_conditions('[{"key": null}]'), "value must be a string"),
        (with_conditions('["eq"]'), "must be a List or Object"),
        (with_conditions("[[]]"), "missing operation identifier"),
        (with_conditions("[[5, 6, 7]]"), "missing operation identifier"),
        (with_conditions('[["ends-with", "$key", "a"]]'), "unknown operation 'ends-with'"),
        (with_conditions('[["eq", "$key"]]'), "wrong number of arguments"),
        (with_conditions('[["eq", "$key", "a", "b"]]'), "wrong number of arguments"),
        (with_conditions('[["eq", "$key", 5]]'), "must be strings"),
        (with_conditions('[["starts-with", 5, "a"]]'), "must be strings"),
        (with_conditions('[["content-length-range", 0]]'), "wrong number of arguments"),
        (with_conditions('[["content-length-range", -1, 0]]'), "must not be negative"),
        (with_conditions('[["content-length-range", 0, 512.0]]'), "Invalid JSON"),
        (with_conditions('[["content-length-range", 0, Infinity]]'), "Invalid JSON"),
        (with_conditions(f'[["content-length-range", 0, {"9" * 5000}]]'), "Invalid JSON"),
    ],
)
def test_documents_that_are_no_policy(document: object, reason: str) -> None:
    with pytest.raises(InvalidPolicyDocument, match=r"^Invalid Policy: ") as caught:
        parse_policy(encoded(document))
    assert reason in caught.value.text


@pytest.mark.parametrize("text", ["!", "eyJ", "ü", "/w==", "e30=\n", "e30"])
def test_what_is_no_text_in_base64(text: str) -> None:
    with pytest.raises(InvalidPolicyDocument):
        parse_policy(text)


def test_escapes_that_json_lacks() -> None:
    text = with_conditions(r'[{"bucket": "b"}, ["eq", "$key", "\$a\v\\$\u00fc\\v"]]')
    parse_policy(encoded(text)).check({"key": "$a\v\\$ü\\v"}, bucket="b", now=NOW)
