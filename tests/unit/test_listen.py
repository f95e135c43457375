"""Listen addresses."""

from __future__ import annotations

import socket

import pytest

from deltaglider_core.errors import ConfigurationError
from deltaglider_core.listen import bind, format_address, parse_listen


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("127.0.0.1:9000", ("127.0.0.1", 9000)),
        (" 0.0.0.0:0 ", ("0.0.0.0", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("localhost:80", ("localhost", 80)),
    ],
)
def test_an_address_is_parsed_and_formatted(text: str, parsed: tuple[str, int]) -> None:
    assert parse_listen(text) == parsed
    assert format_address(*parsed) == text.strip()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("9000", "an address and a port"),
        (":9000", "an address and a port"),
        ("", "an address and a port"),
        ("127.0.0.1", "an address and a port"),
        ("::1:9000", "brackets"),
        ("127.0.0.1:", "0 to 65535"),
        ("127.0.0.1:65536", "0 to 65535"),
        ("127.0.0.1:-1", "0 to 65535"),
        ("127.0.0.1:٣", "0 to 65535"),
        ("127.0.0.1:http", "0 to 65535"),
    ],
)
def test_nonsense_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_listen(text)


def test_connections_queue_as_soon_as_it_is_bound() -> None:
    with (
        bind("127.0.0.1:0") as listener,
        socket.create_connection(listener.getsockname()[:2], timeout=5) as client,
    ):
        assert client.getpeername() == listener.getsockname()


def test_an_address_in_use_is_one_sentence() -> None:
    with bind("127.0.0.1:0") as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigurationError) as caught:
            bind(f"127.0.0.1:{port}")
    assert str(caught.value).startswith(f"cannot listen on 127.0.0.1:{port}: another process")
    assert "--listen" in str(caught.value)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("address", ["no-such-host.invalid:9000", "192.0.2.1:9000", "a..b:1"])
def test_an_address_that_is_not_ours_is_one_sentence(address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^cannot listen on [^\n]+$"):
        bind(address)
