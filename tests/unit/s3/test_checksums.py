"""Checksum algorithms, their encoding, and what a request may claim."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaglider_core.checksums import encode, new_hasher
from deltaglider_core.errors import InvalidRequest, S3Error
from deltaglider_core.interfaces.storage import CHECKSUM_SIZES
from deltaglider_core.s3.checksums import (
    ChecksumClaim,
    decode_digest,
    find_claim,
)


@pytest.mark.parametrize(
    ("algorithm", "data", "expected"),
    [
        ("crc32", b"hello world", "DUoRhQ=="),
        ("crc32c", b"hello world", "yZRlqg=="),
        ("crc64nvme", b"hello world", "jSnVw/bqjr4="),
        ("crc32", b"", "AAAAAA=="),
        ("crc64nvme", b"", "AAAAAAAAAAA="),
        ("crc32c", b"a" * 66560, "sOO8/Q=="),
        ("sha1", b"abc", "qZk+NkcGgWq6PiVxeFDCbJzQ2J0="),
        ("sha256", b"abc", "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="),
        ("md5", b"abc", "kAFQmDzST7DWlj99KOF/cg=="),
        (
            "sha512",
            b"abc",
            "3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==",
        ),
        # The values of an empty input are in the specification of XXH3 and XXH64.
        ("xxhash64", b"", "70bbN1HY6Zk="),
        ("xxhash3", b"", "LQaABTjTlMI="),
        ("xxhash128", b"", "maoG0wFHmNhgAcMkRo1Jfw=="),
    ],
)
def test_known_values(algorithm: str, data: bytes, expected: str) -> None:
    whole, split = new_hasher(algorithm), new_hasher(algorithm)
    whole.update(data)
    for byte in data[:100]:
        split.update(bytes([byte]))
    split.update(data[100:])
    assert encode(whole.digest()) == encode(split.digest()) == expected
    assert len(whole.digest()) == CHECKSUM_SIZES[algorithm]


@pytest.mark.parametrize(
    ("algorithm", "expected"), [("crc32c", "e3069283"), ("crc64nvme", "ae8b14860a799888")]
)
def test_check_values_of_the_polynomials(algorithm: str, expected: str) -> None:
    hasher = new_hasher(algorithm)
    hasher.update(b"123456789")
    assert hasher.digest().hex() == expected


def test_unknown_algorithm() -> None:
    with pytest.raises(KeyError, match="md4"):
        new_hasher("md4")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-amz-checksum-mode": "ENABLED", "x-amz-checksum-type": "COMPOSITE"}, None),
        ({"x-amz-checksum-algorithm": "CRC32"}, None),
        (
            {"x-amz-checksum-crc32": "DUoRhQ=="},
            ChecksumClaim(algorithm="crc32", digest=bytes.fromhex("0d4a1185")),
        ),
        (
            {"x-amz-checksum-crc32": "DUoRhQ==", "x-amz-sdk-checksum-algorithm": "CRC32"},
            ChecksumClaim(algorithm="crc32", digest=bytes.fromhex("0d4a1185")),
        ),
        (
            {"x-amz-trailer": "x-amz-checksum-crc64nvme"},
            ChecksumClaim(algorithm="crc64nvme", digest=None),
        ),
        (
            {"x-amz-trailer": " X-Amz-Checksum-SHA256 ,", "x-amz-sdk-checksum-algorithm": "sha256"},
            ChecksumClaim(algorithm="sha256", digest=None),
        ),
    ],
)
def test_claims(headers: dict[str, str], expected: ChecksumClaim | None) -> None:
    assert find_claim(headers) == expected
    assert expected is None or expected.name == f"x-amz-checksum-{expected.algorithm}"


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"x-amz-checksum-crc32": "DUoRhQ==", "x-amz-checksum-crc32c": "yZRlqg=="}, InvalidRequest),
        (
            {"x-amz-checksum-crc32": "DUoRhQ==", "x-amz-trailer": "x-amz-checksum-crc32"},
            InvalidRequest,
        ),
        ({"x-amz-trailer": "x-amz-checksum-crc32,x-amz-checksum-sha1"}, InvalidRequest),
        ({"x-amz-trailer": "x-amz-meta-a"}, InvalidRequest),
        ({"x-amz-trailer": "x-amz-checksum-md4"}, InvalidRequest),
        ({"x-amz-checksum-xxhash65": "AAAAAAAAAAA="}, InvalidRequest),
        ({"x-amz-checksum-xxhash64": "AAAAAAAAAAAAAAA="}, InvalidRequest),
        ({"x-amz-sdk-checksum-algorithm": "CRC32"}, InvalidRequest),
        ({"x-amz-sdk-checksum-algorithm": "MD4"}, InvalidRequest),
        (
            {"x-amz-sdk-checksum-algorithm": "SHA1", "x-amz-checksum-crc32": "DUoRhQ=="},
            InvalidRequest,
        ),
        (
            {"x-amz-sdk-checksum-algorithm": "SHA1", "x-amz-trailer": "x-amz-checksum-crc32"},
            InvalidRequest,
        ),
        ({"x-amz-checksum-crc32": ""}, InvalidRequest),
        ({"x-amz-checksum-crc32": "DUoRhQ"}, InvalidRequest),
        ({"x-amz-checksum-crc32": "DUoRhQ==!"}, InvalidRequest),
        ({"x-amz-checksum-crc32": "0d4a1185"}, InvalidRequest),
        ({"x-amz-checksum-crc32": "jSnVw/bqjr4="}, InvalidRequest),
        ({"x-amz-checksum-sha256": "ung\u00e9"}, InvalidRequest),
        ({"x-amz-checksum-sha1": "qZk+NkcGgWq6PiVxeFDCbJzQ2J0=-3"}, InvalidRequest),
    ],
)
def test_claims_that_are_refused(headers: dict[str, str], error: type[S3Error]) -> None:
    with pytest.raises(error):
        find_claim(headers)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "x-amz-checksum-crc32",
                "x-amz-trailer",
                "x-amz-sdk-checksum-algorithm",
                "x-amz-checksum-",
            ]
        ),
        st.text(max_size=20),
    )
)
@settings(deadline=None, max_examples=200)
def test_only_s3_errors_come_out(status_of: Callable[..., int], headers: dict[str, str]) -> None:
    assert status_of(find_claim, headers) in (200, 400)


@given(st.binary(max_size=100), st.sampled_from(sorted(CHECKSUM_SIZES)))
@settings(deadline=None, max_examples=100)
def test_digests_round_trip(data: bytes, algorithm: str) -> None:
    hasher = new_hasher(algorithm)
    hasher.update(data)
    digest = hasher.digest()
    assert decode_digest(f"x-amz-checksum-{algorithm}", encode(digest)) == digest
