"""What counts as SigV4 evidence, and every way in which it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaglider_core.context import S3Request
from deltaglider_core.errors import (
    AccessDenied,
    AuthorizationHeaderMalformed,
    AuthorizationQueryParametersError,
    InvalidArgument,
    InvalidRequest,
    NotImplementedS3,
    RequestTimeTooSkewed,
)
from deltaglider_core.s3.sigv4 import (
    check_signed_headers,
    check_time,
    find_evidence,
)
from deltaglider_core.s3.sigv4_evidence import with_hoisted_headers

Make = Callable[..., S3Request]

CREDENTIAL = "AKID/20260102/us-east-1/s3/aws4_request"
SIGNED = "host;x-amz-content-sha256;x-amz-date"
SIGNATURE = "0123456789abcdef" * 4
GOOD = f"AWS4-HMAC-SHA256 Credential={CREDENTIAL}, SignedHeaders={SIGNED}, Signature={SIGNATURE}"
DATE = ("x-amz-date", "20260102T030405Z")
HASH = ("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
HOST = ("host", "localhost")
TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

QUERY = {
    "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
    "X-Amz-Credential": CREDENTIAL,
    "X-Amz-Date": "20260102T030405Z",
    "X-Amz-Expires": "60",
    "X-Amz-SignedHeaders": "host",
    "X-Amz-Signature": SIGNATURE,
}


def signed(make_request: Make, authorization: str = GOOD, *more: tuple[str, str]) -> S3Request:
    headers = [HOST, DATE, HASH, ("authorization", authorization), *more]
    return make_request("GET", "/b/k", headers)


def presigned(
    make_request: Make, *more: tuple[str, str], drop: str = "", **changed: str
) -> S3Request:
    query = {**QUERY, **{"X-Amz-" + name: value for name, value in changed.items()}}
    query.pop(drop, None)
    return make_request("GET", "/b/k?" + urlencode(query), [HOST, *more])


def test_header_evidence(make_request: Make) -> None:
    evidence = find_evidence(signed(make_request))
    assert evidence is not None
    assert evidence.access_key_id == "AKID"
    assert evidence.scope == "20260102/us-east-1/s3/aws4_request"
    assert evidence.signed_headers == ("host", "x-amz-content-sha256", "x-amz-date")
    assert (evidence.signature, evidence.time, evidence.expires) == (SIGNATURE, TIME, None)
    assert evidence.payload_hash == "UNSIGNED-PAYLOAD"


def test_spaces_order_and_case_in_the_header_are_free(make_request: Make) -> None:
    for value in (
        GOOD.replace(", ", ","),
        f"AWS4-HMAC-SHA256 Signature={SIGNATURE},SignedHeaders={SIGNED} , Credential={CREDENTIAL}",
        GOOD.replace(SIGNED, "X-Amz-Date;Host;x-amz-content-sha256"),
    ):
        assert find_evidence(signed(make_request, value)) == find_evidence(signed(make_request))


def test_an_access_key_may_contain_slashes(make_request: Make) -> None:
    evidence = find_evidence(signed(make_request, GOOD.replace("AKID/", "a/b/c/")))
    assert evidence is not None
    assert evidence.access_key_id == "a/b/c"


def test_presigned_evidence(make_request: Make) -> None:
    evidence = find_evidence(presigned(make_request))
    assert evidence is not None
    assert (evidence.expires, evidence.payload_hash) == (60, "UNSIGNED-PAYLOAD")


@pytest.mark.parametrize("value", ["Basic dXNlcjpwdw==", "Bearer abc", "", "AWS5-HMAC-SHA256 x"])
def test_no_evidence_of_this_kind(make_request: Make, value: str) -> None:
    assert find_evidence(make_request("GET", "/b/k", [HOST])) is None
    assert find_evidence(signed(make_request, value)) is None


@pytest.mark.parametrize(
    "value",
    [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 ",
        "AWS4-HMAC-SHA512 " + GOOD.partition(" ")[2],
        GOOD.replace("Credential=", "Credentials="),
        GOOD.replace("Signature=" + SIGNATURE, ""),
        GOOD.replace(f", Signature={SIGNATURE}", ""),
        GOOD + ", Signature=" + SIGNATURE,
        GOOD + ", Extra=1",
        GOOD.replace(CREDENTIAL, ""),
        GOOD.replace("AKID/", "/"),
        GOOD.replace("/20260102/", "/2026010/"),
        GOOD.replace("/us-east-1/", "//"),
        GOOD.replace("/s3/", "/ec2/"),
        GOOD.replace("aws4_request", "aws5_request"),
        GOOD.replace("/20260102/", "/20260103/"),
        GOOD.replace(SIGNATURE, SIGNATURE[:-1]),
        GOOD.replace(SIGNATURE, SIGNATURE.upper()),
        GOOD.replace(SIGNATURE, "z" * 64),
        GOOD.replace(SIGNED, ""),
        GOOD.replace(SIGNED, SIGNED + ";"),
        GOOD.replace(SIGNED, SIGNED + ";host"),
        GOOD.replace(SIGNED, "host x-amz-date"),
        GOOD.replace(SIGNED, "h\u00f6st"),
    ],
)
def test_malformed_headers(make_request: Make, value: str) -> None:
    with pytest.raises(AuthorizationHeaderMalformed):
        find_evidence(signed(make_request, value))


@pytest.mark.parametrize(
    "date",
    ["", "20260102", "2026-01-02T03:04:05Z", "20261302T030405Z", "20260102T250405Z",
     "Fri, 02 Jan 2026 03:04:05 GMT", "20260102T030405Z "],
)  # fmt: skip
def test_malformed_dates(make_request: Make, date: str) -> None:
    headers = [HOST, HASH, ("x-amz-date", date), ("authorization", GOOD)]
    with pytest.raises(AuthorizationHeaderMalformed):
        find_evidence(make_request("GET", "/b/k", headers))
    with pytest.raises(AuthorizationQueryParametersError):
        find_evidence(presigned(make_request, Date=date))


@pytest.mark.parametrize(
    ("missing", "named"), [(DATE, "x-amz-date"), (HASH, "x-amz-content-sha256")]
)
def test_missing_headers_are_named(
    make_request: Make, missing: tuple[str, str], named: str
) -> None:
    headers = [header for header in (HOST, DATE, HASH) if header != missing]
    with pytest.raises(InvalidRequest, match=named):
        find_evidence(make_request("GET", "/b/k", [*headers, ("authorization", GOOD)]))


@pytest.mark.parametrize("name", list(QUERY))
def test_presigned_needs_every_parameter_once(make_request: Make, name: str) -> None:
    request = presigned(make_request)
    doubled = make_request("GET", f"/b/k?{request.raw_query}&{name}={QUERY[name]}", [HOST])
    with pytest.raises(AuthorizationQueryParametersError):
        find_evidence(doubled)
    with pytest.raises(AuthorizationQueryParametersError):
        find_evidence(presigned(make_request, drop=name))


@pytest.mark.parametrize("expires", ["", "0", "-1", "604801", "1.5", "abc", "9" * 5000, "\u0661"])
def test_presigned_expiry_is_1_to_604800(make_request: Make, expires: str) -> None:
    with pytest.raises(AuthorizationQueryParametersError):
        find_evidence(presigned(make_request, Expires=expires))
    for good in ("1", "604800"):
        assert find_evidence(presigned(make_request, Expires=good)) is not None


@pytest.mark.parametrize(
    "changed",
    [
        {"Algorithm": "AWS4-HMAC-SHA1"},
        {"Credential": "AKID/20260103/us-east-1/s3/aws4_request"},
        {"Credential": "AKID"},
        {"SignedHeaders": ""},
        {"Signature": "x"},
    ],
)
def test_malformed_presigned(make_request: Make, changed: dict[str, str]) -> None:
    with pytest.raises(AuthorizationQueryParametersError):
        find_evidence(presigned(make_request, **changed))


@pytest.mark.parametrize(
    "target", ["?" + urlencode(QUERY), "?AWSAccessKeyId=a&Signature=b&Expires=1"]
)
@pytest.mark.parametrize("value", [GOOD, "Basic eA==", "AWS a:b"])
def test_credentials_in_header_and_query(make_request: Make, target: str, value: str) -> None:
    headers = [HOST, DATE, HASH, ("authorization", value)]
    with pytest.raises(InvalidArgument, match="Only one auth mechanism"):
        find_evidence(make_request("GET", "/b/k" + target, headers))


def test_signature_version_2(make_request: Make) -> None:
    with pytest.raises(InvalidRequest, match="AWS4-HMAC-SHA256"):
        find_evidence(signed(make_request, "AWS AKID:c2lnbmF0dXJl"))
    legacy = make_request("GET", "/b/k?AWSAccessKeyId=AKID&Expires=1&Signature=x", [HOST])
    with pytest.raises(InvalidRequest, match="signature_version='s3v4'"):
        find_evidence(legacy)


def test_sigv4a(make_request: Make) -> None:
    with pytest.raises(NotImplementedS3):
        find_evidence(signed(make_request, GOOD.replace("HMAC-SHA256", "ECDSA-P256-SHA256")))
    with pytest.raises(NotImplementedS3):
        find_evidence(presigned(make_request, Algorithm="AWS4-ECDSA-P256-SHA256"))


def test_session_tokens(make_request: Make) -> None:
    token = ("x-amz-security-token", "t")
    for request in (
        signed(make_request, GOOD, token),
        presigned(make_request, token),
        presigned(make_request, **{"Security-Token": "t"}),
    ):
        with pytest.raises(InvalidRequest, match="not supported"):
            find_evidence(request)


def test_presigned_streaming_is_refused(make_request: Make) -> None:
    mode = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    with pytest.raises(NotImplementedS3):
        find_evidence(presigned(make_request, ("x-amz-content-sha256", mode)))
    with pytest.raises(NotImplementedS3):
        find_evidence(presigned(make_request, **{"Content-Sha256": mode}))


def test_presigned_payload_hash(make_request: Make) -> None:
    digest = "a" * 64
    header = ("x-amz-content-sha256", digest)
    for request, expected in (
        (presigned(make_request, header), "UNSIGNED-PAYLOAD"),
        (presigned(make_request, header, SignedHeaders="host;x-amz-content-sha256"), digest),
        (presigned(make_request, **{"Content-Sha256": digest}), digest),
    ):
        evidence = find_evidence(request)
        assert evidence is not None
        assert evidence.payload_hash == expected


def test_hoisted_headers(make_request: Make) -> None:
    hoisted = {"x-amz-meta-a": "1", "x-amz-checksum-algorithm": "CRC32"}
    ignored = {"Checksum-CRC32": "AAAAAA==", "Sdk-Checksum-Algorithm": "CRC32"}
    query = presigned(
        make_request, **{"Meta-A": "1", "Checksum-Algorithm": "CRC32", **ignored}
    ).query
    assert with_hoisted_headers({"host": "h"}, query) == {"host": "h", **hoisted}
    assert with_hoisted_headers({"x-amz-meta-a": "1"}, query) == hoisted
    with pytest.raises(InvalidArgument, match="x-amz-meta-a contradicts"):
        with_hoisted_headers({"x-amz-meta-a": "2"}, query)
    assert with_hoisted_headers({"host": "h"}, [("x-amz-meta-a", "1")]) == {"host": "h"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("Meta-a\r\nb", ""), ("Meta-a b", ""), ("Meta-\u00e9", ""), ("Meta-A", "\n"), ("Acl", "\0")],
)
def test_hoisted_parameters_that_could_be_no_header(
    make_request: Make, name: str, value: str
) -> None:
    query = presigned(make_request).query
    with pytest.raises(InvalidArgument, match="no request can have"):
        with_hoisted_headers({}, [*query, (f"X-Amz-{name}", value)])
    assert with_hoisted_headers({}, [(f"X-Amz-{name}", value)]) == {}


@pytest.mark.parametrize("seconds", [0, 899, 900, -900])
def test_skew_within_bounds(make_request: Make, seconds: int) -> None:
    evidence = find_evidence(signed(make_request))
    assert evidence is not None
    check_time(evidence, TIME + timedelta(seconds=seconds))


@pytest.mark.parametrize(("seconds", "skew"), [(901, 900), (-901, 900), (6, 5), (86400 * 365, 900)])
def test_skew_out_of_bounds(make_request: Make, seconds: int, skew: int) -> None:
    evidence = find_evidence(signed(make_request))
    assert evidence is not None
    with pytest.raises(RequestTimeTooSkewed) as caught:
        check_time(evidence, TIME + timedelta(seconds=seconds), max_skew=skew)
    assert caught.value.fields["MaxAllowedSkewMilliseconds"] == str(skew * 1000)
    assert caught.value.fields["RequestTime"] == "20260102T030405Z"


def test_presigned_times(make_request: Make) -> None:
    evidence = find_evidence(presigned(make_request, Expires="86400"))
    assert evidence is not None
    for seconds in (-900, 0, 901, 86400):
        check_time(evidence, TIME + timedelta(seconds=seconds))
    with pytest.raises(AccessDenied, match="expired") as caught:
        check_time(evidence, TIME + timedelta(seconds=86401))
    assert caught.value.fields["Expires"] == "2026-01-03T03:04:05Z"
    with pytest.raises(RequestTimeTooSkewed):
        check_time(evidence, TIME - timedelta(seconds=901))


def test_host_and_all_amz_headers_must_be_signed(make_request: Make) -> None:
    def check(request: S3Request) -> None:
        evidence = find_evidence(request)
        assert evidence is not None
        check_signed_headers(request, evidence)

    check(signed(make_request))
    check(signed(make_request, GOOD, ("user-agent", "x"), ("range", "bytes=0-1")))
    check(presigned(make_request))
    check(presigned(make_request, ("x-amz-content-sha256", "a" * 64)))
    without_host = GOOD.replace("host;", "")
    for request, named in (
        (signed(make_request, without_host), "host"),
        (signed(make_request, GOOD, ("x-amz-acl", "private")), "x-amz-acl"),
        (signed(make_request, GOOD.replace(";x-amz-date", "")), "x-amz-date"),
        (
            presigned(make_request, ("x-amz-meta-b", "1"), ("x-amz-acl", "x")),
            "x-amz-acl, x-amz-meta-b",
        ),
        (presigned(make_request, ("range", "x"), SignedHeaders="range"), "host"),
    ):
        with pytest.raises(AccessDenied) as caught:
            check(request)
        assert caught.value.fields["HeadersNotSigned"] == named


@given(st.text(max_size=80), st.text(st.characters(max_codepoint=255), max_size=40))
@settings(deadline=None, max_examples=300)
def test_only_s3_errors_come_out(
    make_request: Make, status_of: Callable[..., int], rest: str, value: str
) -> None:
    requests = [
        signed(make_request, "AWS4-HMAC-SHA256 " + rest),
        signed(make_request, rest),
        signed(make_request, GOOD.replace("AKID", value)),
        *(presigned(make_request, **{name.removeprefix("X-Amz-"): rest}) for name in QUERY),
    ]
    for request in requests:
        assert status_of(find_evidence, request) in (200, 400, 403, 501)
