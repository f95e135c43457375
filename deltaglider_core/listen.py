"""Listen addresses: ``127.0.0.1:9000``, ``[::]:9000``, ``localhost:9000``."""

from __future__ import annotations

import errno
import socket

from .errors import ConfigurationError


def parse_listen(text: str) -> tuple[str, int]:
    """Split ``host:port``; an IPv6 address stands in brackets.

    Raises:
        ValueError: It is not one.
    """
    host, colon, port_text = text.strip().rpartition(":")
    if not colon or not host:
        raise ValueError("write an address and a port, such as 127.0.0.1:9000 or [::]:9000")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address stands in brackets, such as [::1]:9000")
    digits = port_text.isascii() and port_text.isdigit() and len(port_text) <= 5
    if not digits or int(port_text) > 65535:
        raise ValueError("the port must be a number from 0 to 65535")
    return host, int(port_text)


def format_address(host: str, port: int) -> str:
    """``host:port``, with the brackets that IPv6 needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind(listen_addr: str) -> socket.socket:
    """Bind and listen, so that connections queue from now on.

    Raises:
        ConfigurationError: The address is taken, unknown or not ours, in one sentence.
    """
    host, port = parse_listen(listen_addr)
    try:
        candidates = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigurationError(f"cannot listen on {listen_addr}: {host} is unknown") from error
    family, kind, protocol, _, address = candidates[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
        listener.set_inheritable(True)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            hint = "another process listens there; stop it or choose another port with --listen"
        elif error.errno == errno.EACCES:
            hint = "this port needs more rights; choose one above 1023"
        else:
            hint = error.strerror or str(error)
        raise ConfigurationError(f"cannot listen on {listen_addr}: {hint}") from error
    return listener
