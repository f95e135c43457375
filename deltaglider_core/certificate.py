"""The certificate of the service and its private key: read, checked, described.

Source: RFC 5280 (certificates), RFC 7468 (PEM).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from .configfile import EXIT_IO, EXIT_PARSE
from .errors import ConfigurationError

#: How early a certificate that is about to expire is warned of.
EXPIRES_SOON = timedelta(days=14)

#: A chain has some kilobytes; a wrong path may lead anywhere.
MAX_FILE_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificate:
    """A certificate with its private key, which belong together.

    Attributes:
        path: Where the chain was read.
        key_path: Where the private key was read.
        pem: The chain, as read.
        key_pem: The private key, as read and not encrypted.
        fingerprint: SHA-256 of the certificate in DER, in upper-case hex with colons.
        names: Host names and addresses that it is for.
        not_before: Aware, UTC.
        not_after: Aware, UTC.
        exposed_to: Who else can read the private key; empty for nobody.
    """

    path: Path
    key_path: Path
    pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)
    fingerprint: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    exposed_to: str = ""

    def require_unexpired(self, now: datetime) -> None:
        """Raise ``ConfigurationError`` if it has expired at ``now``, aware."""
        if now > self.not_after:
            raise _wrong(
                self.path, f"the certificate expired at {_moment(self.not_after)}; renew it"
            )

    def warnings(self, now: datetime) -> list[str]:
        """Sentences for the operator about what will trouble clients, or should trouble him.

        Args:
            now: Aware.
        """
        found = []
        if self.exposed_to:
            found.append(
                f"the private key {self.key_path} can be read by {self.exposed_to}; run: "
                f"chmod 600 {self.key_path}"
            )
        if now < self.not_before:
            found.append(
                f"the certificate {self.path} counts from {_moment(self.not_before)} only, "
                f"and the time is {_moment(now)}"
            )
        if now > self.not_after - EXPIRES_SOON:
            found.append(f"the certificate {self.path} expires at {_moment(self.not_after)}")
        if not self.names:
            found.append(
                f"the certificate {self.path} names no host in its subjectAltName, so clients "
                "will not trust it"
            )
        return found


def read_certificate(path: Path, key_path: Path) -> Certificate:
    """Read a chain and a private key, and check that they belong together.

    An expired one is returned as well.

    Raises:
        ConfigurationError: One of the files cannot be read (exit code 3), is not what it should
            be, or they do not match (exit code 4).
    """
    pem, _ = _read(path, "certificate")
    key_pem, mode = _read(key_path, "private key")
    chain = parse_chain(path, pem)
    key = parse_key(key_path, key_pem)
    mine = [certificate for certificate in chain if _belong_together(certificate, key)]
    leaf = chain[0]
    if not mine:
        raise _wrong(key_path, f"this private key is not that of the certificate {path}")
    if leaf not in mine:
        raise _wrong(path, "the certificate of the private key must be the first in the file")
    return Certificate(
        path=path,
        key_path=key_path,
        pem=pem,
        key_pem=key_pem,
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(":").upper(),
        names=_names(leaf),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        exposed_to=_exposed_to(mode),
    )


def parse_chain(path: Path, pem: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file, at least one. Raises ``ConfigurationError``."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _wrong(
            path,
            "there is no readable certificate in this file; it must be PEM, with "
            "-----BEGIN CERTIFICATE----- at the start",
        ) from error


def parse_key(path: Path, pem: bytes) -> PrivateKeyTypes:
    """The private key of a PEM file. Raises ``ConfigurationError``."""
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise _wrong(
            path,
            "the private key is encrypted, and nobody is there to enter its password; write it "
            f"without one: openssl pkey -in {path} -out FILE",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _wrong(
            path,
            "there is no readable private key in this file; it must be PEM, with "
            "-----BEGIN PRIVATE KEY----- at the start",
        ) from error


def _read(path: Path, what: str) -> tuple[bytes, int]:
    """The bytes and the mode of a file."""
    try:
        # Opening a pipe would wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise _wrong(path, f"this is no file, where the {what} should be")
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"advanced.tls: the {what} {path} cannot be read: {error.strerror or error}",
            exit_code=EXIT_IO,
        ) from error
    if len(text) > MAX_FILE_BYTES:
        raise _wrong(path, f"a {what} is not larger than {MAX_FILE_BYTES} bytes")
    return text, facts.st_mode


def _belong_together(certificate: x509.Certificate, key: PrivateKeyTypes) -> bool:
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        public = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
    return public.public_bytes(*form) == key.public_key().public_bytes(*form)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        ValueError,
    ):
        return ()
    addresses = found.get_values_for_type(x509.IPAddress)
    return (*found.get_values_for_type(x509.DNSName), *map(str, addresses))


def _exposed_to(mode: int) -> str:
    if mode & stat.S_IROTH:
        return "everybody"
    return "its group" if mode & stat.S_IRGRP else ""


def _moment(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _wrong(path: Path, problem: str) -> ConfigurationError:
    return ConfigurationError(f"advanced.tls: {path}: {problem}", exit_code=EXIT_PARSE)


__all__ = ["EXPIRES_SOON", "Certificate", "parse_chain", "parse_key", "read_certificate"]
