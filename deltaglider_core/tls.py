"""TLS on the listening socket, with a certificate that can be exchanged while serving.

Source: RFC 8446 and RFC 5246 (TLS 1.3 and 1.2), RFC 9325 (which of their choices are safe),
RFC 6797 (Strict-Transport-Security).
"""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from .configfile import EXIT_PARSE
from .errors import ConfigurationError
from .listen import parse_listen
from .log import get_logger
from .tls_listener import TlsListener

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .certificate import Certificate
    from .loading import Loaded
    from .settings import Settings
    from .settings_tls import TlsSettings

#: Seconds that a client has for the handshake: some round trips.
HANDSHAKE_SECONDS = 10.0

#: For TLS 1.2: an ephemeral key exchange and authenticated encryption. All of TLS 1.3 are so.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

#: In every answer over TLS, and in no other: a browser ignores it there, RFC 6797 section 7.2.
HEADERS = (("strict-transport-security", "max-age=31536000; includeSubDomains"),)

#: What makes the event loop, as uvicorn takes it.
LOOP = f"{__name__}:TlsLoop"


class ServerTls:
    """The TLS of one process, or of the parent of several, which pass it on to them.

    Args:
        certificate: What clients are shown at first.

    Attributes:
        certificate: What clients are shown now.

    Raises:
        ConfigurationError: OpenSSL does not take the certificate.
    """

    def __init__(self, certificate: Certificate) -> None:
        self.certificate = certificate
        self._shown = _context_with(certificate)

    def __reduce__(self) -> tuple[type[ServerTls], tuple[Certificate]]:
        # A worker starts with the certificate of its parent, whatever has become of the files.
        return ServerTls, (self.certificate,)

    def use(self, other: ServerTls) -> None:
        """Show the certificate of another in all handshakes from now on.

        Connections that exist go on as they are.
        """
        self.certificate, self._shown = other.certificate, other._shown
        self.describe()

    def describe(self) -> None:
        """Tell the log what clients are shown, and what is doubtful about it."""
        certificate, log = self.certificate, get_logger()
        log.info(
            "certificate",
            path=str(certificate.path.absolute()),
            sha256=certificate.fingerprint,
            names=", ".join(certificate.names),
            expires=certificate.not_after.isoformat(),
        )
        for warning in certificate.warnings(datetime.now(UTC)):
            log.warning(warning)

    def context(self, *_unused: object) -> ssl.SSLContext:
        """The context to listen with; uvicorn's ``ssl_context_factory``."""
        context = _bare_context()
        # Loading another pair into a context that is in use would leave it with half of that
        # pair for a moment, or for good if it is a bad one.
        context.sni_callback = self._show
        return context

    def _show(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._shown


def _context_with(certificate: Certificate) -> ssl.SSLContext:
    context = _bare_context()
    # OpenSSL reads from a file only, and this one has no name and never touches a disk.
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(certificate.pem + b"\n" + certificate.key_pem)
        # The password keeps OpenSSL from asking for one on the terminal.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    except OSError as error:  # that of OpenSSL is one as well
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        raise ConfigurationError(
            f"advanced.tls: OpenSSL refuses the certificate {certificate.path} with its private "
            f"key: {reason.replace('_', ' ').lower()}",
            exit_code=EXIT_PARSE,
        ) from error
    finally:
        os.close(descriptor)
    return context


def _bare_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


class TlsLoop(uvloop.Loop):
    """An event loop whose listeners limit handshakes; uvicorn has no options for it."""

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], Any], *arguments: Any, **options: Any
    ) -> asyncio.AbstractServer:
        """As the loop's; with ``ssl`` it takes a bound socket, ``sock``, and ``backlog`` only.

        Clients then have ``HANDSHAKE_SECONDS``, and ``TlsListener`` counts them.
        """
        context: ssl.SSLContext | None = options.pop("ssl", None)
        if context is None:
            return await super().create_server(protocol_factory, *arguments, **options)
        listener = TlsListener(self, protocol_factory, context, HANDSHAKE_SECONDS, **options)
        await listener.start_serving()
        return listener


# --- which certificate --------------------------------------------------------------------


def open_tls(loaded: Loaded) -> ServerTls | None:
    """TLS with the certificate that the settings name, or the self-signed one, renewed if due.

    Returns:
        None if it is off.

    Raises:
        ConfigurationError: The certificate cannot be read or made, has expired, or is unusable.
    """
    advanced = loaded.settings.advanced
    if not advanced.tls.enabled:
        return None
    now = datetime.now(UTC)
    certificate = _given(advanced.tls, now)
    if certificate is None:
        from .self_signed import self_signed

        host, _ = parse_listen(advanced.listen_addr)
        certificate = self_signed(_own_directory(loaded), host, now)
    return ServerTls(certificate)


def check_tls(settings: Settings) -> list[str]:
    """Check the certificate that the settings name, if they do, and return warnings.

    Raises:
        ConfigurationError: As a start with these settings would.
    """
    tls, now = settings.advanced.tls, datetime.now(UTC)
    certificate = _given(tls, now) if tls.enabled else None
    return [] if certificate is None else ServerTls(certificate).certificate.warnings(now)


def _given(tls: TlsSettings, now: datetime) -> Certificate | None:
    if tls.cert_path is None or tls.key_path is None:
        return None
    # Its libraries take 40 ms to import, which a service without TLS need not wait for.
    from .certificate import read_certificate

    certificate = read_certificate(tls.cert_path, tls.key_path)
    certificate.require_unexpired(now)
    return certificate


def certificate_to_trust(loaded: Loaded) -> Path | None:
    """The self-signed certificate that clients have to be told of, if that is what is served."""
    tls = loaded.settings.advanced.tls
    if not tls.enabled or tls.cert_path is not None:
        return None
    from .self_signed import CERTIFICATE_NAME

    return _own_directory(loaded) / CERTIFICATE_NAME


def _own_directory(loaded: Loaded) -> Path:
    """Beside the embedded database; without one, beside the configuration."""
    if (database := loaded.database.path) is not None:
        return database.parent
    return (loaded.path.parent if loaded.path is not None else Path()).absolute()


__all__ = [
    "HANDSHAKE_SECONDS",
    "HEADERS",
    "LOOP",
    "ServerTls",
    "TlsLoop",
    "certificate_to_trust",
    "check_tls",
    "open_tls",
]
