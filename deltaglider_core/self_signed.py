"""A certificate that the service makes for itself, for whoever has no other yet.

It is kept, so that it is the same after a restart and in all processes: clients trust this one
certificate and no authority. A renewed one has the same key, and has to be trusted anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import socket
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .certificate import Certificate, parse_chain, parse_key, read_certificate
from .configfile import EXIT_IO, EXIT_PARSE
from .errors import ConfigurationError
from .state.keyfile import sync_directory

CERTIFICATE_NAME = "deltaglider_tls.crt"
KEY_NAME = "deltaglider_tls.key"
LOCK_NAME = "deltaglider_tls.lock"

#: The most that Apple's clients accept, https://support.apple.com/en-us/103769.
LIFETIME = timedelta(days=825)
#: What is left of it when a new one is made.
RENEWED_BEFORE = timedelta(days=30)
#: For clients whose clocks are behind.
BACKDATED = timedelta(hours=1)

_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "DeltaGlider")])


def self_signed(directory: Path, listen_host: str, now: datetime) -> Certificate:
    """The certificate in a directory, made or renewed if need be.

    Args:
        directory: Where it is kept; exists.
        listen_host: An address or a name by which clients may reach the service.
        now: Aware.

    Raises:
        ConfigurationError: It is damaged, or it cannot be kept.
    """
    found = _found(directory, now)
    if found is None:
        try:
            with _lock(directory):
                # Another process may have made it meanwhile.
                found = _found(directory, now)
                if found is None:
                    _make(directory, _host_names(listen_host), now)
                    found = read_certificate(directory / CERTIFICATE_NAME, directory / KEY_NAME)
        except OSError as error:
            raise ConfigurationError(
                f"advanced.tls: a certificate cannot be made in {directory}: "
                f"{error.strerror or error}; make it writable, or give a certificate by "
                "advanced.tls.cert_path and advanced.tls.key_path",
                exit_code=EXIT_IO,
            ) from error
    return found


def _found(directory: Path, now: datetime) -> Certificate | None:
    """The one that is there, unless it is to be renewed."""
    path, key_path = directory / CERTIFICATE_NAME, directory / KEY_NAME
    if not (path.exists() and key_path.exists()):
        return None
    try:
        found = read_certificate(path, key_path)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{error}; delete {path} and {key_path} to have new ones made",
            exit_code=error.exit_code,
        ) from error
    return found if now < found.not_after - RENEWED_BEFORE else None


def _make(directory: Path, names: list[x509.GeneralName], now: datetime) -> None:
    path, key_path = directory / CERTIFICATE_NAME, directory / KEY_NAME
    if key_path.exists():
        key = parse_key(key_path, key_path.read_bytes())
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not _is_ours(path):
            raise ConfigurationError(
                f"advanced.tls: {path} with {key_path} was not made by this service, which would "
                "now replace it; name both in advanced.tls.cert_path and advanced.tls.key_path, "
                "or move them away",
                exit_code=EXIT_PARSE,
            )
    else:
        # A certificate beside a key that is not its own would be an error at every start.
        path.unlink(missing_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _write(key_path, text, 0o600)
    certificate = _sign(key, names, now)
    _write(path, certificate.public_bytes(Encoding.PEM), 0o644)


def _is_ours(path: Path) -> bool:
    """Whether a certificate may be replaced: it is missing, or one that was made here."""
    return not path.exists() or parse_chain(path, path.read_bytes())[0].issuer == _NAME


def _sign(
    key: ec.EllipticCurvePrivateKey, names: list[x509.GeneralName], now: datetime
) -> x509.Certificate:
    public = key.public_key()
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        # Whoever trusts it does not trust other certificates that this key signs.
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
    return (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(server, critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )


def _host_names(listen_host: str) -> list[x509.GeneralName]:
    """Whatever clients on this machine and others may call it."""
    found: dict[x509.GeneralName, None] = {}
    for text in ("localhost", "127.0.0.1", "::1", socket.gethostname(), listen_host):
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            # What is not ASCII cannot be written there, nor can clients send it.
            if text and text.isascii() and len(text) <= 253:
                found[x509.DNSName(text.lower())] = None
        else:
            if not address.is_unspecified:
                # Without the zone, which has a meaning on this machine only.
                found[x509.IPAddress(ipaddress.ip_address(address.packed))] = None
    return list(found)


@contextlib.contextmanager
def _lock(directory: Path) -> Iterator[None]:
    flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
    descriptor = os.open(directory / LOCK_NAME, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, text: bytes, mode: int) -> None:
    """Put a file in its place, whole and durably. Raises ``OSError``."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    sync_directory(path.parent)


__all__ = ["CERTIFICATE_NAME", "KEY_NAME", "LIFETIME", "RENEWED_BEFORE", "self_signed"]
