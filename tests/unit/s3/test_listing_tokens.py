"""Continuation tokens and the numbers of listings."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaglider_core.errors import InvalidArgument
from deltaglider_core.s3.listing import decode_token, encode_token


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_tokens_round_trip_and_are_opaque(entry: str) -> None:
    token = encode_token(entry)
    assert decode_token(token) == entry
    assert token.isascii()
    assert not set(token) & set("+/ &?")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "plain-key",
        "\u00e9",
        "AQ=",
        base64.urlsafe_b64encode(b"\x02key").decode(),
        base64.urlsafe_b64encode(b"\x01\xff\xfe").decode(),
        encode_token("key") + "!",
    ],
)
def test_tokens_that_are_none_are_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match="continuation token"):
        decode_token(token)
