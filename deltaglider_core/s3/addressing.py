"""Which bucket and key a request is addressed to: by its path, or by its host.

A signature covers the host and the path that the *client* used. Behind a reverse proxy these may
differ from what arrives, so the spellings that the client may have signed are listed here, by one
rule: a spelling counts only if it stands for the very bucket and key that the request is read as.
So no signed request can be passed off as one for another object, whatever a proxy, or somebody
who pretends to be one, writes into headers.

Source: AWS, "Virtual hosting of general purpose buckets"; RFC 9112 section 3.2 (request target
and Host), RFC 3986 section 3.2.2 (host).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..errors import BadRequest, InvalidURI
from ..forwarded import Forwarded, TrustedProxies, parse_address
from .names import decode_path, split_path

if TYPE_CHECKING:
    from ..context import S3Request
    from ..settings_network import NetworkSettings

#: In the ASGI scope: the authority of a target in absolute form, and the result of ``resolve``.
AUTHORITY = "deltaglider.authority"
TARGET = "deltaglider.target"

_AUTHORITY = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~!$&'()*+;=-]{1,255})(?::(?P<port>[0-9]{0,5}))?"
)
_DEFAULT_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Whom a request is addressed to, before its path is decoded.

    Attributes:
        client_ip: Of the client, behind trusted proxies too.
        scheme: ``http`` or ``https``, as the client sees it.
        host: With the port, as the client wrote it; empty for HTTP/1.0 without one.
        bucket: From the host; empty in path style.
        path: As sent, percent-encoded, without the configured prefix.
        prefix: Path below which the client sees the service.
        spellings: Pairs of host and path that the client may have signed, likeliest first.
    """

    client_ip: str
    scheme: str
    host: str
    bucket: str
    path: str
    prefix: str
    spellings: tuple[tuple[str, str], ...]

    @property
    def reserved(self) -> bool:
        """Whether the path belongs to the service itself: ``/_`` and below, in path style."""
        return not self.bucket and is_reserved(self.path)

    def split(self) -> tuple[str, str]:
        """Bucket and key, decoded once. Raises ``InvalidURI``."""
        if not self.bucket:
            return split_path(self.path)
        return self.bucket, decode_path(self.path)[1:]

    def url_of(self, bucket: str) -> str:
        """The URL of the request's bucket, without a final slash, addressed as this request is.

        Only a path where the client has not said which host it sees.
        """
        path = self.prefix if self.bucket else f"{self.prefix}/{bucket}"
        return f"{self.scheme}://{self.host}{path}" if self.host else path


class Addressing:
    """Reads the address of requests; made from the settings, immutable."""

    def __init__(self, settings: NetworkSettings) -> None:
        # The longest first: "b.s3.example.com" is the bucket b of "s3.example.com", even if
        # "example.com" is a base domain as well.
        self._domains = sorted(settings.virtual_host_domains, key=len, reverse=True)
        self._prefix = settings.path_prefix
        trusted = settings.trusted_proxy_cidrs if settings.trust_proxy_headers else ()
        self._proxies = TrustedProxies(trusted)

    def resolve(self, scope: Mapping[str, Any]) -> Target:
        """Read the ASGI scope of a request.

        Raises:
            BadRequest: ``Host`` is missing, given twice or malformed.
            InvalidURI: The path is no path, not ASCII, or has the prefix with escapes.
        """
        peer = (scope.get("client") or ("",))[0]
        forwarded = self._proxies.read(peer, scope.get("scheme", "http"), scope["headers"])
        own = _host_of(scope)
        host = own if forwarded.host is None else forwarded.host
        if host:
            host_name(host)
        bucket = self.bucket_of(host)
        try:
            raw_path = scope["raw_path"].decode("ascii")
        except UnicodeDecodeError:
            raise InvalidURI from None
        path, seen = self._paths(raw_path)
        hosts = [
            candidate
            for candidate in self._hosts(host, own, forwarded)
            if self.bucket_of(candidate) == bucket
        ]
        # A direct client of a service whose proxy strips the prefix has not seen it.
        prefixed = seen[0] == raw_path or forwarded.by_proxy
        return Target(
            client_ip=forwarded.client_ip,
            scheme=forwarded.scheme,
            host=hosts[0],
            bucket=bucket,
            path=path,
            prefix=self._prefix if prefixed else "",
            spellings=tuple((name, spelling) for name in hosts for spelling in seen),
        )

    def bucket_of(self, host: str) -> str:
        """The bucket that a host stands for, or an empty text for path style."""
        name = host_name(host) if host else ""
        for domain in self._domains:
            if name == domain:
                return ""
            if name.endswith(f".{domain}"):
                return name[: -len(domain) - 1]
        return ""

    def _paths(self, raw_path: str) -> tuple[str, tuple[str, ...]]:
        """The path below the prefix, and what the client may have signed.

        Raises:
            InvalidURI: The path has the prefix, but spells it with escapes.
        """
        prefix = self._prefix
        if not prefix:
            return raw_path, (raw_path,)
        if raw_path == prefix or raw_path.startswith(f"{prefix}/"):
            return raw_path[len(prefix) :] or "/", (raw_path,)
        decoded = decode_path(raw_path)
        if decoded == prefix or decoded.startswith(f"{prefix}/"):
            # A signature covers the path in one spelling only, so that for the path below the
            # prefix would fit, and this one means another bucket. No client writes it so.
            raise InvalidURI(
                f"The path begins with the prefix of this service, {prefix}, in another spelling. "
                "Send it without percent-encoding.",
                fields={"URI": raw_path},
            )
        # A proxy has stripped it, or there is no proxy.
        return raw_path, (prefix + raw_path, raw_path)

    def _hosts(self, host: str, own: str, forwarded: Forwarded) -> Iterable[str]:
        """The host that counts, with the port in its various spellings, and that of the request."""
        found = [host]
        if forwarded.host is not None:
            name, port = _split_port(host)
            if port and port == _DEFAULT_PORTS.get(forwarded.scheme):
                found.append(name)
            elif not port and forwarded.port is not None:
                found.append(f"{name}:{forwarded.port}")
        elif forwarded.port is not None and host:
            found.append(f"{_split_port(host)[0]}:{forwarded.port}")
        if forwarded.by_proxy and own:
            found.append(own)
        return dict.fromkeys(found)


def is_reserved(path: str) -> bool:
    """Whether a path is ``/_`` or below."""
    return path == "/_" or path.startswith("/_/")


@lru_cache(maxsize=1024)  # clients have few hosts, and it is asked several times per request
def host_name(authority: str) -> str:
    """The host of an authority, lower case, without port and final dot.

    Raises:
        BadRequest: It is no authority.
    """
    match = _AUTHORITY.fullmatch(authority)
    name = match["host"].lower().removesuffix(".") if match else ""
    valid = match is not None and int(match["port"] or 0) <= 65535
    if name.startswith("["):
        valid = valid and parse_address(name) is not None
    if not valid or not name or ".." in name or name.startswith("."):
        raise BadRequest(
            f"The host {authority[:300]!r} is not valid. It must be a name or an address, with a "
            "port if need be."
        )
    return name


def location_of(request: S3Request, *, safe: str = "/-_.~") -> str:
    """The URL of the object of a request, in the style of the request.

    Args:
        safe: Characters of the key that are not escaped.
    """
    bucket = request.bucket
    base = f"/{bucket}" if request.target is None else request.target.url_of(bucket)
    return f"{base}/{quote(request.key, safe=safe)}"


def _split_port(authority: str) -> tuple[str, str]:
    match = _AUTHORITY.fullmatch(authority)
    return (match["host"], match["port"] or "") if match else (authority, "")


def _host_of(scope: Mapping[str, Any]) -> str:
    """The authority that counts: of the target in absolute form, else the ``Host`` header."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) > 1:
        raise BadRequest(
            "The request has more than one Host header. Send it once; a proxy may have added one."
        )
    absolute: bytes | None = scope.get(AUTHORITY)
    if not hosts:
        if scope.get("http_version") != "1.0":
            raise BadRequest("The request has no Host header, which HTTP/1.1 requires.")
        if absolute is None:
            return ""
    authority = hosts[0].strip() if absolute is None else absolute
    # Checked even where another one counts: what is malformed is refused, not skipped.
    for value in {authority, *hosts}:
        host_name(value.strip().decode("latin-1"))
    return authority.decode("latin-1")


__all__ = ["AUTHORITY", "TARGET", "Addressing", "Target", "host_name", "is_reserved", "location_of"]
