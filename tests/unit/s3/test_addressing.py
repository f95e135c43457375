"""To which bucket and key a request is addressed, and what its client may have signed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from deltaglider_core.errors import BadRequest, InvalidURI
from deltaglider_core.s3.addressing import AUTHORITY, Addressing, Target
from deltaglider_core.s3.names import decode_path
from deltaglider_core.s3.sigv4 import canonical_uri
from deltaglider_core.settings import AdvancedSettings

DOMAINS = ("s3.example.com", "example.com", "localhost")
PROXY = "10.0.0.1"


def addressing(**settings: Any) -> Addressing:
    return Addressing(AdvancedSettings(**{"virtual_host_domains": DOMAINS, **settings}))


def behind_proxy(**settings: Any) -> Addressing:
    return addressing(trust_proxy_headers=True, trusted_proxy_cidrs=(f"{PROXY}/32",), **settings)


def scope(
    host: str | None = "s3.example.com",
    path: str = "/",
    headers: Sequence[tuple[str, str]] = (),
    *,
    authority: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    pairs = [*([("host", host)] if host is not None else []), *headers]
    return {
        "client": (PROXY, 1234),
        "scheme": "http",
        "http_version": "1.1",
        "raw_path": path.encode("latin-1"),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in pairs],
        **({} if authority is None else {AUTHORITY: authority.encode()}),
        **more,
    }


@pytest.mark.parametrize(
    ("host", "path", "bucket", "key"),
    [
        # Path style: base domains themselves, unknown hosts, addresses.
        ("s3.example.com", "/b/k", "b", "k"),
        ("S3.Example.COM:9000", "/b/k", "b", "k"),
        ("example.com", "/b/k", "b", "k"),
        ("other.example.org", "/b/k", "b", "k"),
        ("xs3.example.org", "/b/k", "b", "k"),
        ("127.0.0.1:9000", "/b/k", "b", "k"),
        ("[::1]:9000", "/b/k", "b", "k"),
        ("[2001:db8::1]", "/", "", ""),
        ("notlocalhost", "/b", "b", ""),
        # Virtual-hosted style: the longest base domain counts.
        ("photos.s3.example.com", "/", "photos", ""),
        ("photos.s3.example.com", "/a/b%20c", "photos", "a/b c"),
        ("photos.s3.example.com:8443", "/a", "photos", "a"),
        ("photos.s3.example.com.", "/a", "photos", "a"),
        ("Photos.S3.example.com", "/a", "photos", "a"),
        ("my.dotted.bucket.s3.example.com", "/k", "my.dotted.bucket", "k"),
        ("photos.example.com", "/k", "photos", "k"),
        ("photos.localhost:9000", "/k", "photos", "k"),
        ("photos.s3.example.com", "//k", "photos", "/k"),
        ("photos.s3.example.com", "/_/health", "photos", "_/health"),
        ("photos.s3.example.com", "/photos/k", "photos", "photos/k"),
        ("photos.s3.example.com", "", "photos", ""),
    ],
)
def test_bucket_and_key(host: str, path: str, bucket: str, key: str) -> None:
    target = addressing().resolve(scope(host, path))
    assert target.split() == (bucket, key)
    assert target.spellings == ((host, path),)


@pytest.mark.parametrize(
    ("host", "path", "reserved"),
    [
        ("s3.example.com", "/_/health", True),
        ("127.0.0.1", "/_", True),
        ("photos.s3.example.com", "/_/health", False),
        ("photos.s3.example.com", "/_", False),
        ("s3.example.com", "/_x", False),
        ("s3.example.com", "//_/health", False),
        ("s3.example.com", "/%5F/health", False),
    ],
)
def test_what_is_reserved(host: str, path: str, reserved: bool) -> None:
    assert addressing().resolve(scope(host, path)).reserved is reserved


HOSTS = ["", " ", "a b", "a/b", "user@host", "a,b", "[::1", "[::::]", "[1.2.3.4.5]", "::1", "a:b",
         "a:65536", "a:123456", "..", "b..s3.example.com", ".s3.example.com", "h\u00f6st", "a%41",
         "x" * 256]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_a_malformed_host(host: str) -> None:
    with pytest.raises(BadRequest, match="is not valid"):
        addressing().resolve(scope(host))
    forwarded = [("x-forwarded-host", host)]
    if host.strip() and "," not in host:
        with pytest.raises(BadRequest, match="is not valid"):
            behind_proxy().resolve(scope("s3.example.com", headers=forwarded))
    # From anybody else the header does not even count as wrong.
    assert addressing().resolve(scope("s3.example.com", headers=forwarded)).bucket == ""


def test_no_host_and_two_hosts() -> None:
    read = addressing().resolve
    with pytest.raises(BadRequest, match="no Host header"):
        read(scope(None))
    old = read(scope(None, "/b/k", http_version="1.0"))
    assert (old.host, old.split()) == ("", ("b", "k"))
    for second in ("s3.example.com", "photos.s3.example.com"):
        with pytest.raises(BadRequest, match="more than one Host"):
            read(scope("s3.example.com", headers=[("host", second)]))


def test_a_target_in_absolute_form_counts_more_than_host() -> None:
    """RFC 9112 section 3.2.2; the signature is then held against that host, too."""
    read = addressing().resolve
    target = read(scope("photos.s3.example.com", "/k", authority="other.s3.example.com:80"))
    assert target.split() == ("other", "k")
    assert target.spellings == (("other.s3.example.com:80", "/k"),)
    for authority in ("", "a b", "user@s3.example.com"):
        with pytest.raises(BadRequest):
            read(scope("s3.example.com", authority=authority))
    with pytest.raises(BadRequest):
        read(scope("a b", authority="s3.example.com"))


def test_a_path_that_is_none() -> None:
    for path in ("*", "b/k"):
        with pytest.raises(InvalidURI):
            addressing().resolve(scope(path=path)).split()
    with pytest.raises(InvalidURI):
        addressing().resolve(scope(path="/\u00e9"))


# --- behind a proxy -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "bucket", "key", "reserved", "signed"),
    [
        # Passed on with the prefix: signed as it arrives.
        ("/s3/b/k", "b", "k", False, ["/s3/b/k"]),
        ("/s3", "", "", False, ["/s3"]),
        ("/s3/", "", "", False, ["/s3/"]),
        ("/s3//k", "", "", False, ["/s3//k"]),
        ("/s3/s3/k", "s3", "k", False, ["/s3/s3/k"]),
        ("/s3/_/health", "_", "health", True, ["/s3/_/health"]),
        # Stripped by the proxy: signed with the prefix; or there is no proxy.
        ("/b/k", "b", "k", False, ["/s3/b/k", "/b/k"]),
        ("/s3x/k", "s3x", "k", False, ["/s3/s3x/k", "/s3x/k"]),
        ("/%733x/k", "s3x", "k", False, ["/s3/%733x/k", "/%733x/k"]),
        ("/", "", "", False, ["/s3/", "/"]),
        ("/_/health", "_", "health", True, ["/s3/_/health", "/_/health"]),
    ],
)
def test_a_path_prefix(path: str, bucket: str, key: str, reserved: bool, signed: list[str]) -> None:
    target = addressing(path_prefix="/s3").resolve(scope(path=path))
    assert [spelling for _, spelling in target.spellings] == signed
    assert target.reserved is reserved
    if path == "/s3//k":
        with pytest.raises(InvalidURI):
            target.split()
    else:
        assert target.split() == (bucket, key)


@pytest.mark.parametrize("prefix", ["/s3", "/s3/a"])
@pytest.mark.parametrize("host", ["s3.example.com", "photos.s3.example.com"])
def test_a_prefix_in_another_spelling(host: str, prefix: str) -> None:
    """A signature for what is below the prefix would fit it, and it would mean another bucket."""
    read = addressing(path_prefix=prefix).resolve
    escaped = prefix.replace("s", "%73")
    for path in (f"{escaped}/b/k", escaped, f"{escaped}/", f"{prefix}%2Fb/k", f"{escaped}%2fb"):
        with pytest.raises(InvalidURI, match="prefix"):
            read(scope(host, path))
    for path in (f"{escaped}x/k", f"/{escaped}/k", f"{prefix}/{escaped}/k", f"/x{escaped}/k"):
        assert read(scope(host, path)).path in (path, path.removeprefix(prefix))
    with pytest.raises(InvalidURI):
        read(scope(host, "/%zz"))


def test_a_path_prefix_below_a_virtual_host() -> None:
    read = addressing(path_prefix="/s3").resolve
    assert read(scope("photos.s3.example.com", "/s3/a")).split() == ("photos", "a")
    assert read(scope("photos.s3.example.com", "/a")).split() == ("photos", "a")


@pytest.mark.parametrize(
    ("host", "headers", "hosts"),
    [
        ("s3.example.com", {}, ["s3.example.com"]),
        (
            "backend:9000",
            {"x-forwarded-host": "s3.example.com"},
            ["s3.example.com", "backend:9000"],
        ),
        (
            "backend:9000",
            {"x-forwarded-host": "s3.example.com", "x-forwarded-port": "8443"},
            ["s3.example.com", "s3.example.com:8443", "backend:9000"],
        ),
        (
            "backend:9000",
            {"x-forwarded-host": "s3.example.com:443", "x-forwarded-proto": "https"},
            ["s3.example.com:443", "s3.example.com", "backend:9000"],
        ),
        ("s3.example.com", {"x-forwarded-port": "8443"}, ["s3.example.com", "s3.example.com:8443"]),
        # The host of the request itself stands for another bucket: nobody may have signed it.
        ("backend:9000", {"x-forwarded-host": "a.s3.example.com"}, ["a.s3.example.com"]),
        (
            "a.s3.example.com",
            {"x-forwarded-host": "b.s3.example.com"},
            ["b.s3.example.com"],
        ),
        ("a.s3.example.com", {"x-forwarded-host": "a.s3.example.com"}, ["a.s3.example.com"]),
        (
            "a.localhost",
            {"x-forwarded-host": "a.s3.example.com"},
            ["a.s3.example.com", "a.localhost"],
        ),
    ],
)
def test_hosts_behind_a_proxy(host: str, headers: dict[str, str], hosts: list[str]) -> None:
    target = behind_proxy().resolve(scope(host, "/k", list(headers.items())))
    assert [name for name, _ in target.spellings] == hosts
    assert target.host == hosts[0]
    # From anybody else they mean nothing.
    stranger = scope(host, "/k", list(headers.items()), client=("203.0.113.1", 1))
    assert behind_proxy().resolve(stranger).spellings == ((host, "/k"),)


hosts = st.sampled_from(
    ["s3.example.com", "a.s3.example.com", "b.s3.example.com:80", "a.localhost", "1.2.3.4", "s3:9"]
)
#: Pieces of paths in several spellings; a slash that is escaped is one in the key.
paths = st.lists(
    st.sampled_from(["/", "/", "/", "s3", "a", "b", "_", "%73", "3", "s%33", "%61", "%2F", "%2f"]),
    max_size=8,
).map(lambda parts: "/" + "".join(parts))


@given(
    own=hosts,
    forwarded=st.none() | hosts,
    port=st.none() | st.sampled_from(["80", "443", "9"]),
    absolute=st.none() | hosts,
    path=paths,
    prefix=st.sampled_from(["", "/s3", "/s3/a"]),
)
def test_whatever_may_have_been_signed_stands_for_the_same_object(
    own: str, forwarded: str | None, port: str | None, absolute: str | None, path: str, prefix: str
) -> None:
    """Read by itself, without a proxy, each spelling has the meaning that the request is given.

    A signature covers the canonical path, and fits every spelling of it.
    """
    headers = [] if forwarded is None else [("x-forwarded-host", forwarded)]
    headers += [] if port is None else [("x-forwarded-port", port)]
    read = behind_proxy(path_prefix=prefix).resolve
    try:
        target = read(scope(own, path, headers, authority=absolute))
    except InvalidURI:
        reject()

    def meaning(found: Target) -> tuple[str, str]:
        return found.bucket, decode_path(found.path)

    assert target.spellings
    for host, spelling in target.spellings:
        for sent in (spelling, canonical_uri(spelling)):
            assert meaning(read(scope(host, sent))) == meaning(target)


@pytest.mark.parametrize(
    ("request_scope", "expected"),
    [
        (scope("h:9000", "/b/k"), "http://h:9000/b"),
        (scope("h:9000", "/s3/b/k"), "http://h:9000/s3/b"),
        (scope("b.localhost", "/k"), "http://b.localhost"),
        (scope(None, "/b/k", http_version="1.0"), "/b"),
        (
            scope(
                "backend",
                "/b/k",
                [("x-forwarded-host", "pub.example"), ("x-forwarded-proto", "https")],
            ),
            "https://pub.example/s3/b",
        ),
    ],
)
def test_the_url_of_the_bucket(request_scope: dict[str, Any], expected: str) -> None:
    target = behind_proxy(path_prefix="/s3").resolve(request_scope)
    assert target.url_of("b") == expected
