"""What proxies say about clients, and who may say it."""

from __future__ import annotations

import pytest

from deltaglider_core.forwarded import TrustedProxies, parse_address

PROXIES = TrustedProxies(("10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32"))


def client(peer: str, *headers: tuple[str, str], proxies: TrustedProxies = PROXIES) -> str:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return proxies.read(peer, "http", raw).client_ip


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        # From the right to the first that is no proxy; what is left of it is the client's claim.
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.1.1.1,203.0.113.9 , 10.1.1.1,10.2.2.2", "203.0.113.9"),
        ("2001:db8::1", "2001:4860::8, 2001:db8::9", "2001:4860::8"),
        # Only proxies: the one that is farthest away.
        ("10.0.0.1", "10.3.3.3, 10.2.2.2", "10.3.3.3"),
        # What is no address vouches for nothing.
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9, garbage, 10.2.2.2", "10.2.2.2"),
        ("10.0.0.1", "<script>, 203.0.113.9", "203.0.113.9"),
        # IPv4 that is written as IPv6, on both sides; ports; brackets; zones.
        ("::ffff:10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9, ::ffff:10.9.9.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9:51234", "203.0.113.9"),
        ("10.0.0.1", '"[2001:4860::8]:443"', "2001:4860::8"),
        ("10.0.0.1", "fe80::1%eth0", "fe80::1"),
        # Nobody who is not listed is believed.
        ("203.0.113.1", "1.1.1.1", "203.0.113.1"),
        ("::ffff:203.0.113.1", "10.0.0.1", "203.0.113.1"),
        ("192.0.2.2", "1.1.1.1", "192.0.2.2"),
        ("", "1.1.1.1", ""),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", " , ,", "10.0.0.1"),
    ],
)
def test_the_client_of_a_request(peer: str, forwarded: str, expected: str) -> None:
    assert client(peer, ("x-forwarded-for", forwarded)) == expected


def test_repeated_headers_are_one_list() -> None:
    headers = (("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "203.0.113.9"))
    assert client("10.0.0.1", *headers) == "203.0.113.9"
    assert client("10.0.0.1", ("x-forwarded-for", "203.0.113.9, 10.1.1.1"), *headers[:1]) == (
        "1.1.1.1"
    )


def test_x_real_ip_counts_where_there_is_no_list() -> None:
    real = ("x-real-ip", "203.0.113.7")
    assert client("10.0.0.1", real) == "203.0.113.7"
    assert client("10.0.0.1", real, ("x-forwarded-for", "203.0.113.9")) == "203.0.113.9"
    assert client("10.0.0.1", ("x-real-ip", "nobody")) == "10.0.0.1"
    assert client("203.0.113.1", real) == "203.0.113.1"


def test_without_networks_nobody_is_believed() -> None:
    nobody = TrustedProxies()
    for peer in ("10.0.0.1", "127.0.0.1", "::1"):
        assert client(peer, ("x-forwarded-for", "1.1.1.1"), proxies=nobody) == peer


@pytest.mark.parametrize(
    ("headers", "scheme", "host", "port"),
    [
        ({}, "http", None, None),
        ({"x-forwarded-proto": "HTTPS"}, "https", None, None),
        ({"x-forwarded-proto": "https, http"}, "http", None, None),
        ({"x-forwarded-proto": "gopher"}, "http", None, None),
        ({"x-forwarded-host": "spoofed, s3.example.com:8443"}, "http", "s3.example.com:8443", None),
        ({"x-forwarded-host": " "}, "http", None, None),
        ({"x-forwarded-port": "8443"}, "http", None, "8443"),
        ({"x-forwarded-port": "x"}, "http", None, None),
        ({"x-forwarded-port": "123456"}, "http", None, None),
    ],
)
def test_scheme_host_and_port(
    headers: dict[str, str], scheme: str, host: str | None, port: str | None
) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    found = PROXIES.read("10.0.0.1", "http", raw)
    assert (found.scheme, found.host, found.port, found.by_proxy) == (
        scheme,
        host,
        port,
        bool(headers),
    )
    ignored = PROXIES.read("203.0.113.1", "http", raw)
    assert (ignored.scheme, ignored.host, ignored.port) == ("http", None, None)
    assert not ignored.by_proxy


@pytest.mark.parametrize("text", ["", "1.2.3", "1.2.3.4.5", "[::1", "::1]", "a:b:c:d", "1.2.3.4 x"])
def test_what_is_no_address(text: str) -> None:
    assert parse_address(text) is None
