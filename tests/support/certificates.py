"""Certificates for tests, from an authority of their own."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A certificate and its private key.

    Attributes:
        chain: PEM of the certificate and, if any, its issuer's.
        fingerprint: SHA-256 of the certificate, bytes.
    """

    chain: bytes
    key: Key
    fingerprint: bytes

    def key_pem(self, password: str = "") -> bytes:
        """PEM of the private key, encrypted if there is a password."""
        encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)

    def write(self, directory: Path) -> tuple[Path, Path]:
        """Write ``server.crt`` and ``server.key`` (mode 0600) and return their paths."""
        paths = directory / "server.crt", directory / "server.key"
        for path, text in zip(paths, (self.chain, self.key_pem()), strict=True):
            path.touch(mode=0o600)
            path.write_bytes(text)
        return paths


class Authority:
    """Signs certificates; ``pem`` is what a client trusts."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("Authority of the tests")
        self._certificate = (
            _builder(self._name, self._key, timedelta(days=-1), timedelta(days=3))
            .issuer_name(self._name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = self._certificate.public_bytes(Encoding.PEM)

    def pair(
        self,
        *,
        key: Key | None = None,
        begins: timedelta = timedelta(days=-1),
        ends: timedelta = timedelta(days=90),
        names: bool = True,
    ) -> Pair:
        """A certificate for localhost and 127.0.0.1.

        Args:
            key: A fresh P-256 key if omitted.
            begins: From now.
            ends: From now.
            names: Whether it has a subjectAltName.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name("server"), key, begins, ends).issuer_name(self._name)
        if names:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            both = x509.SubjectAlternativeName([x509.DNSName("localhost"), address])
            builder = builder.add_extension(both, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Pair(
            chain=certificate.public_bytes(Encoding.PEM) + self.pem,
            key=key,
            fingerprint=certificate.fingerprint(hashes.SHA256()),
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, key: Key, begins: timedelta, ends: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )
