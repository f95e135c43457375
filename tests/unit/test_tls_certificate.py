"""Given certificates: what is taken, and what a start and ``config lint`` say of the others."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from support.certificates import Authority, Pair

from deltaglider_core.certificate import EXPIRES_SOON, read_certificate
from deltaglider_core.cli import main
from deltaglider_core.errors import ConfigurationError
from deltaglider_core.settings_tls import TlsSettings

DAY = timedelta(days=1)

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def good(authority: Authority) -> Pair:
    return authority.pair()


def write(path: Path, data: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(data)
    return path


def configured(directory: Path, cert: Path, key: Path) -> str:
    """A configuration with these files."""
    tls = {"enabled": True, "cert_path": os.fspath(cert), "key_path": os.fspath(key)}
    document = {
        "access": {"access_key_id": "admin", "secret_access_key": "secret"},
        "storage": {"filesystem": os.fspath(directory / "data")},
        "advanced": {"tls": tls, "listen_addr": "127.0.0.1:0"},
    }
    return os.fspath(write(directory / "f.yaml", json.dumps(document).encode()))


# --- what is taken --------------------------------------------------------------------------


def test_a_chain_and_its_key(good: Pair, tmp_path: Path) -> None:
    cert, key = good.write(tmp_path)
    found = read_certificate(cert, key)
    assert found.fingerprint == good.fingerprint.hex(":").upper()
    assert found.names == ("localhost", "127.0.0.1")
    assert found.warnings(datetime.now(UTC)) == []
    found.require_unexpired(datetime.now(UTC))
    assert good.key_pem() not in repr(found).encode()
    assert "PRIVATE" not in repr(found)


def test_other_forms_of_the_same(good: Pair, authority: Authority, tmp_path: Path) -> None:
    rsa_key = rsa.generate_private_key(65537, 2048)
    traditional = rsa_key.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    one_file = write(tmp_path / "both", good.chain + good.key_pem())
    forms = [
        (one_file, one_file),
        (one_file, write(tmp_path / "reverse", good.key_pem() + good.chain)),
        (
            write(tmp_path / "crlf", good.chain.replace(b"\n", b"\r\n")),
            write(tmp_path / "text", b"some words\n" + good.key_pem()),
        ),
        (
            write(tmp_path / "rsa.crt", authority.pair(key=rsa_key).chain),
            write(tmp_path / "rsa.key", traditional),
        ),
    ]
    for number, (cert, key) in enumerate(forms):
        assert read_certificate(cert, key).names == ("localhost", "127.0.0.1"), number
        assert main(["config", "lint", configured(tmp_path, cert, key)]) == 0, number


def test_names_that_cannot_be_read_are_none(good: Pair, tmp_path: Path) -> None:
    """OpenSSL serves it; clients will not trust it, which is what the operator is told."""
    cert, key = good.write(tmp_path)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    start = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(good.key.public_key())
        .serial_number(1)
        .not_valid_before(start - DAY)
        .not_valid_after(start + 90 * DAY)
        .add_extension(names, critical=False)
        .add_extension(x509.IssuerAlternativeName(list(names)), critical=False)
        .sign(good.key, hashes.SHA256())
    )
    # The builder makes none with the same extension twice: rename that of the issuer.
    der = built.public_bytes(Encoding.DER).replace(b"\x55\x1d\x12", b"\x55\x1d\x11")
    write(cert, ssl.DER_cert_to_PEM_cert(der).encode())
    found = read_certificate(cert, key)
    assert found.names == ()
    assert any("names no host" in line for line in found.warnings(start))


# --- what is refused ------------------------------------------------------------------------


def _missing(_: Authority, good: Pair, directory: Path) -> tuple[Path, Path]:
    return good.write(directory)[0], directory / "missing.key"


def _directory(_: Authority, good: Pair, directory: Path) -> tuple[Path, Path]:
    return directory, good.write(directory)[1]


def _pipe(_: Authority, good: Pair, directory: Path) -> tuple[Path, Path]:
    os.mkfifo(directory / "pipe")
    return good.write(directory)[0], directory / "pipe"


def _huge(_: Authority, good: Pair, directory: Path) -> tuple[Path, Path]:
    return write(directory / "huge", good.chain * 3000), good.write(directory)[1]


def _empty(_: Authority, good: Pair, directory: Path) -> tuple[Path, Path]:
    return write(directory / "empty", b""), good.write(directory)[1]


def _der(_: Authority, good: Pair, directory: Path) -> tuple[Path, Path]:
    der = x509.load_pem_x509_certificates(good.chain)[0].public_bytes(Encoding.DER)
    return write(directory / "der", der), good.write(directory)[1]


def _cut(_: Authority, good: Pair, directory: Path) -> tuple[Path, Path]:
    return write(directory / "cut", good.chain[:300]), good.write(directory)[1]


def _garbage(_: Authority, good: Pair, directory: Path) -> tuple[Path, Path]:
    text = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    return write(directory / "garbage", text), good.write(directory)[1]


def _swapped(_: Authority, good: Pair, directory: Path) -> tuple[Path, Path]:
    cert, key = good.write(directory)
    return key, cert


def _no_key(_: Authority, good: Pair, directory: Path) -> tuple[Path, Path]:
    return good.write(directory)[0], write(directory / "certificate", good.chain)


def _cut_key(_: Authority, good: Pair, directory: Path) -> tuple[Path, Path]:
    return good.write(directory)[0], write(directory / "key", good.key_pem()[:100])


def _encrypted(_: Authority, good: Pair, directory: Path) -> tuple[Path, Path]:
    return good.write(directory)[0], write(directory / "key", good.key_pem("hunter2"))


def _mismatch(authority: Authority, good: Pair, directory: Path) -> tuple[Path, Path]:
    return good.write(directory)[0], write(directory / "other", authority.pair().key_pem())


def _issuer_first(authority: Authority, good: Pair, directory: Path) -> tuple[Path, Path]:
    return write(directory / "chain", authority.pem + good.chain), good.write(directory)[1]


def _expired(authority: Authority, _: Pair, directory: Path) -> tuple[Path, Path]:
    return authority.pair(begins=-9 * DAY, ends=-DAY).write(directory)


def _weak(authority: Authority, _: Pair, directory: Path) -> tuple[Path, Path]:
    key = rsa.generate_private_key(65537, 1024)
    return authority.pair(key=key).write(directory)


Make = Callable[[Authority, Pair, Path], tuple[Path, Path]]


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (_missing, 3, "missing.key cannot be read: No such file or directory"),
        (_directory, 3, "cannot be read: Is a directory"),
        (_pipe, 4, "this is no file, where the private key should be"),
        (_huge, 4, "a certificate is not larger than"),
        (_empty, 4, "no readable certificate"),
        (_der, 4, "it must be PEM"),
        (_cut, 4, "no readable certificate"),
        (_garbage, 4, "no readable certificate"),
        (_swapped, 4, "server.key: there is no readable certificate"),
        (_no_key, 4, "no readable private key"),
        (_cut_key, 4, "no readable private key"),
        (_encrypted, 4, "the private key is encrypted"),
        (_mismatch, 4, "this private key is not that of the certificate"),
        (_issuer_first, 4, "must be the first in the file"),
        (_expired, 4, "the certificate expired at 20"),
        (_weak, 4, "key too small"),
    ],
)
def test_an_unusable_one_stops_a_start_and_lint(
    make: Make,
    code: int,
    words: str,
    authority: Authority,
    good: Pair,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    config = configured(tmp_path, *make(authority, good, tmp_path))
    for command in (["config", "lint", config], ["serve", "-c", config]):
        assert main(command) == code, command
        printed = capsys.readouterr()
        assert words in printed.err
        assert "advanced.tls: " in printed.err
        assert "Traceback" not in printed.err
    assert not (tmp_path / "data").exists()


def test_an_unreadable_key(good: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = good.write(tmp_path)
    real = os.open

    def refuse(path: Path, *arguments: int, **options: int) -> int:
        if path == key:
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    # The tests may run as root, whom no mode keeps out.
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ConfigurationError, match="key cannot be read: Permission denied") as caught:
        read_certificate(cert, key)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("lost", ["cert_path", "key_path"])
def test_one_without_the_other(lost: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "f.yaml"
    given = {"cert_path": "a.crt", "key_path": "a.key"}
    del given[lost]
    for enabled in (True, False):
        document = {"advanced": {"tls": {"enabled": enabled, **given}}}
        write(path, json.dumps(document).encode())
        assert main(["config", "lint", os.fspath(path)]) == 4
        assert f"advanced.tls: {lost} is missing" in capsys.readouterr().err


def test_what_is_off_is_not_read() -> None:
    settings = TlsSettings.model_validate({"cert_path": "no.crt", "key_path": "no.key"})
    assert not settings.enabled


# --- what is doubtful -----------------------------------------------------------------------


def test_lint_warns_of_what_troubles_clients(
    authority: Authority, tmp_path: Path, capsys: Capture
) -> None:
    cert, key = authority.pair(begins=DAY, ends=2 * DAY, names=False).write(tmp_path)
    key.chmod(0o640)
    config = configured(tmp_path, cert, key)
    assert main(["config", "lint", config]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{config}: ok with 4 warnings\n"
    for words in (
        f"can be read by its group; run: chmod 600 {key}",
        "counts from 20",
        "expires at 20",
        "names no host in its subjectAltName",
    ):
        assert words in printed.err
    key.chmod(0o604)
    assert main(["config", "lint", config]) == 0
    assert "can be read by everybody" in capsys.readouterr().err


def test_the_moments(good: Pair, tmp_path: Path) -> None:
    found = read_certificate(*good.write(tmp_path))
    last = found.not_after
    found.require_unexpired(last)
    with pytest.raises(ConfigurationError, match="expired"):
        found.require_unexpired(last + timedelta(seconds=1))
    assert found.warnings(last - EXPIRES_SOON) == []
    assert len(found.warnings(last - EXPIRES_SOON + timedelta(seconds=1))) == 1
