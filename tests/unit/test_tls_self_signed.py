"""The certificate that the service makes for itself."""

from __future__ import annotations

import socket
import ssl
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from support.certificates import Authority

from deltaglider_core.errors import ConfigurationError
from deltaglider_core.loading import load
from deltaglider_core.self_signed import (
    CERTIFICATE_NAME,
    KEY_NAME,
    LIFETIME,
    RENEWED_BEFORE,
    self_signed,
)
from deltaglider_core.tls import certificate_to_trust, open_tls

NOW = datetime(2030, 1, 2, tzinfo=UTC)


def parsed(directory: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / CERTIFICATE_NAME).read_bytes())


def test_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Build-7.example.com")
    found = self_signed(tmp_path, "192.0.2.7", NOW)
    certificate = parsed(tmp_path)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    extensions = certificate.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "build-7.example.com"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ip_address(text) for text in ("127.0.0.1", "::1", "192.0.2.7")
    ]
    assert found.names == ("localhost", "build-7.example.com", "127.0.0.1", "::1", "192.0.2.7")
    # It vouches for itself and for no other.
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert certificate.not_valid_after_utc == NOW + LIFETIME
    assert certificate.not_valid_before_utc < NOW
    assert found.warnings(NOW) == []


@pytest.mark.parametrize(
    ("host", "added"),
    [
        ("0.0.0.0", []),
        ("::", []),
        ("localhost", []),
        ("127.0.0.1", []),
        ("s3.example.com", ["s3.example.com"]),
        ("fe80::1%eth0", ["fe80::1"]),
        ("bücher.example", []),
    ],
)
def test_the_listen_address_is_named_if_it_is_one(
    host: str, added: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    names = set(self_signed(tmp_path, host, NOW).names)
    assert names == {"localhost", "127.0.0.1", "::1", *added}


def test_it_is_kept(tmp_path: Path) -> None:
    first = self_signed(tmp_path, "0.0.0.0", NOW)
    assert stat.S_IMODE((tmp_path / KEY_NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / CERTIFICATE_NAME).stat().st_mode) == 0o644
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    # Another address or host name, as of a new container, is no reason for a new one.
    again = self_signed(tmp_path, "192.0.2.9", NOW + LIFETIME - RENEWED_BEFORE - timedelta(hours=1))
    assert again == first
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files
    assert not [path for path in files if path.suffix not in {".crt", ".key", ".lock"}]


@pytest.mark.parametrize("late", [LIFETIME - RENEWED_BEFORE, LIFETIME + timedelta(days=400)])
def test_it_is_renewed_in_time_or_late_with_its_key(late: timedelta, tmp_path: Path) -> None:
    first = self_signed(tmp_path, "0.0.0.0", NOW)
    second = self_signed(tmp_path, "0.0.0.0", NOW + late)
    assert second.fingerprint != first.fingerprint
    assert second.key_pem == first.key_pem
    assert second.not_after == NOW + late + LIFETIME


def test_all_processes_have_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: self_signed(tmp_path, "0.0.0.0", NOW), range(16)))
    assert len({certificate.fingerprint for certificate in found}) == 1


def test_half_a_pair_is_made_whole(tmp_path: Path) -> None:
    first = self_signed(tmp_path, "0.0.0.0", NOW)
    (tmp_path / CERTIFICATE_NAME).unlink()
    second = self_signed(tmp_path, "0.0.0.0", NOW)
    assert second.key_pem == first.key_pem
    (tmp_path / KEY_NAME).unlink()
    third = self_signed(tmp_path, "0.0.0.0", NOW)
    assert third.key_pem != first.key_pem
    assert third.fingerprint == self_signed(tmp_path, "0.0.0.0", NOW).fingerprint


def test_a_damaged_one_is_not_overwritten(tmp_path: Path) -> None:
    self_signed(tmp_path, "0.0.0.0", NOW)
    for name, damage in ((KEY_NAME, b"no key"), (CERTIFICATE_NAME, b"")):
        path = tmp_path / name
        text = path.read_bytes()
        path.write_bytes(damage)
        with pytest.raises(ConfigurationError, match="to have new ones made") as caught:
            self_signed(tmp_path, "0.0.0.0", NOW)
        assert caught.value.exit_code == 4
        assert path.read_bytes() == damage
        path.write_bytes(text)
    (tmp_path / CERTIFICATE_NAME).unlink()
    (tmp_path / KEY_NAME).write_bytes(b"no key")
    with pytest.raises(ConfigurationError, match="no readable private key"):
        self_signed(tmp_path, "0.0.0.0", NOW)


def test_one_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    pair = Authority().pair(ends=timedelta(days=9))
    (tmp_path / CERTIFICATE_NAME).write_bytes(pair.chain)
    (tmp_path / KEY_NAME).write_bytes(pair.key_pem())
    with pytest.raises(ConfigurationError, match="was not made by this service") as caught:
        self_signed(tmp_path, "0.0.0.0", datetime.now(UTC))
    assert caught.value.exit_code == 4
    assert (tmp_path / CERTIFICATE_NAME).read_bytes() == pair.chain


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="a certificate cannot be made in") as caught:
        self_signed(tmp_path / "missing", "0.0.0.0", NOW)
    assert caught.value.exit_code == 3
    assert "advanced.tls.cert_path" in str(caught.value)


def test_openssl_trusts_it_strictly(tmp_path: Path) -> None:
    self_signed(tmp_path, "0.0.0.0", datetime.now(UTC))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / CERTIFICATE_NAME, tmp_path / KEY_NAME)
    client = ssl.create_default_context(cafile=tmp_path / CERTIFICATE_NAME)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(theirs, ours, server_hostname="localhost")
    other = server.wrap_bio(ours, theirs, server_side=True)
    for end in (one, other, one, other):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert one.version() == "TLSv1.3"


@pytest.mark.parametrize("database", [None, "elsewhere"])
def test_it_lies_beside_the_state(database: str | None, tmp_path: Path) -> None:
    directory = tmp_path / (database or ".")
    directory.mkdir(exist_ok=True)
    url = f"sqlite:///{directory}/state.db" if database else "postgresql://u@127.0.0.1/x"
    config = tmp_path / "f.yaml"
    config.write_text(f"advanced: {{tls: {{enabled: true}}, database_url: '{url}'}}\n")
    loaded = load(config=config, environ={})
    tls = open_tls(loaded)
    assert tls is not None
    assert tls.certificate.path == directory / CERTIFICATE_NAME
    assert certificate_to_trust(loaded) == tls.certificate.path
    off = load(config=config, environ={"DGP_TLS_ENABLED": "false"})
    assert open_tls(off) is None
    assert certificate_to_trust(off) is None
    given = {"DGP_TLS_CERT": "a", "DGP_TLS_KEY": "b"}
    assert certificate_to_trust(load(config=config, environ=given)) is None
