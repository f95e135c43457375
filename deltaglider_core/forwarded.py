"""What reverse proxies say about the client, if they may be believed.

Only headers that come from a trusted network count, and of a list only what trusted proxies
have appended: everything to the left of it is what the client itself claims.

Source: the ``X-Forwarded-*`` headers as HAProxy, nginx and Traefik document them; RFC 7239
section 8.1 for why they cannot be believed otherwise. ``Forwarded`` itself is not read.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORT = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Forwarded:
    """Where a request came from and how it was addressed.

    Attributes:
        client_ip: IPv4 addresses that are mapped into IPv6 are written as IPv4.
        scheme: ``http`` or ``https``, as the client sees it.
        host: As the proxy received it, not checked; None if no proxy says so.
        port: Digits; None if no proxy says so.
        by_proxy: Whether a trusted proxy says that it has forwarded the request.
    """

    client_ip: str
    scheme: str
    host: str | None = None
    port: str | None = None
    by_proxy: bool = False


class TrustedProxies:
    """The networks whose word counts.

    Args:
        cidrs: Networks; none trusts nobody.
    """

    def __init__(self, cidrs: Sequence[str] = ()) -> None:
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(cidr) for cidr in cidrs)

    def read(self, peer: str, scheme: str, raw_headers: Iterable[tuple[bytes, bytes]]) -> Forwarded:
        """Read the headers of a request.

        Args:
            peer: Address of the other end of the connection; empty for a Unix socket.
            scheme: Of the connection.
            raw_headers: As in an ASGI scope, lower-case names.
        """
        address = parse_address(peer)
        if not self.trusts(address):
            return Forwarded(client_ip=peer if address is None else str(address), scheme=scheme)
        headers = _joined(raw_headers)
        proto = _last(headers.get("x-forwarded-proto", "")).lower()
        port = _last(headers.get("x-forwarded-port", ""))
        return Forwarded(
            client_ip=self._client(peer, headers),
            scheme=proto if proto in ("http", "https") else scheme,
            host=_last(headers.get("x-forwarded-host", "")) or None,
            port=port if _PORT.fullmatch(port) else None,
            by_proxy=any(name.startswith("x-forwarded-") for name in headers),
        )

    def trusts(self, address: Address | None) -> bool:
        """Whether an address lies in one of the networks."""
        return address is not None and any(address in network for network in self._networks)

    def _client(self, peer: str, headers: Mapping[str, str]) -> str:
        """The first hop, from the right, that is no trusted proxy.

        What is no address ends the walk: the hop before it is the last that somebody vouches for.
        """
        client = parse_address(peer)
        hops = [hop for hop in headers.get("x-forwarded-for", "").split(",") if hop.strip()]
        if not hops:
            real = parse_address(headers.get("x-real-ip", ""))
            return str(real or client)
        for hop in reversed(hops):
            address = parse_address(hop)
            if address is None:
                break
            client = address
            if not self.trusts(address):
                break
        return str(client)


@lru_cache(maxsize=1024)
def parse_address(text: str) -> Address | None:
    """An IP address, also with brackets, a port or a zone; None for anything else."""
    text = text.strip().strip('"')
    if text.startswith("["):
        inner, bracket, _ = text[1:].partition("]")
        text = inner if bracket else ""
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _joined(raw_headers: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """The headers that proxies write; what is repeated is one list (RFC 9110 section 5.3)."""
    found: dict[str, str] = {}
    for name, value in raw_headers:
        if name.startswith(b"x-"):
            key, text = name.decode("latin-1"), value.decode("latin-1")
            found[key] = f"{found[key]},{text}" if key in found else text
    return found


def _last(value: str) -> str:
    """The entry that the nearest proxy has written."""
    return value.rpartition(",")[2].strip()


__all__ = ["Forwarded", "TrustedProxies", "parse_address"]
