"""Which signed requests may change something only once, and what tells them apart."""

from __future__ import annotations

import pytest

from deltaglider_core.interfaces.auth import ANONYMOUS, PayloadSignature, Principal
from deltaglider_core.s3.replay import signature_of
from deltaglider_core.testing.builders import request

SEED = "a" * 64
QUERY = (("X-Amz-Signature", SEED),)


def principal(seed: str = SEED, timestamp: str = "20260102T030405Z") -> Principal:
    payload = PayloadSignature(signing_key=b"k" * 32, seed=seed, timestamp=timestamp, scope="")
    return Principal(name="user", authenticator="sigv4", payload=payload)


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_a_signed_change_has_a_signature(method: str) -> None:
    found = signature_of(request(method=method), principal(), 900, 900)
    assert found is not None
    assert len(found.digest) == 16
    assert (found.call, found.window) == ("", 900.0)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_again_is_no_replay(method: str) -> None:
    assert signature_of(request(method=method), principal(), 900, 900) is None


def test_what_may_be_used_again() -> None:
    put = request(method="PUT")
    assert signature_of(put, ANONYMOUS, 900, 900) is None
    assert signature_of(put, principal(""), 900, 900) is None
    assert signature_of(put, principal(), 0, 900) is None
    assert signature_of(request(method="PUT", query=QUERY), principal(), 900, 900) is None


def test_signatures_and_calls_are_told_apart() -> None:
    def found(seed: str, **headers: str) -> tuple[bytes, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        signature = signature_of(request(method="PUT", headers=named), principal(seed), 900, 900)
        assert signature is not None
        return signature.digest, signature.call

    first = found(SEED, amz_sdk_invocation_id="1", amz_sdk_request="attempt=1")
    again = found(SEED, amz_sdk_invocation_id="1", amz_sdk_request="attempt=2; max=3")
    other = found(SEED, amz_sdk_invocation_id="2", amz_sdk_request="attempt=1")
    assert first[0] == again[0] == other[0] != found("b" * 64)[0]
    assert len({first[1], again[1], other[1], ""}) == 4
    assert SEED not in repr(signature_of(request(method="PUT"), principal(), 900, 900))


@pytest.mark.parametrize(
    ("window", "timestamp", "expected"),
    [
        (900, "20260102T030405Z", 900),
        (900, "20260102T031405Z", 1500),  # ten minutes ahead of us
        (60, "20260102T030405Z", 900),
        (7200, "20260102T030405Z", 7200),
    ],
)
def test_it_is_remembered_for_as_long_as_it_is_accepted(
    window: int, timestamp: str, expected: int
) -> None:
    found = signature_of(request(method="PUT"), principal(timestamp=timestamp), window, 900)
    assert found is not None
    assert found.window == expected
