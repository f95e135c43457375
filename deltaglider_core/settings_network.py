"""Settings of connections: how requests are addressed, and what a client may take."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, model_validator

from .settings_base import Section, setting

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")


def _list(value: object) -> object:
    """A variable of the environment holds a list with commas."""
    if isinstance(value, str):
        return [part for part in (part.strip() for part in value.split(",")) if part]
    return value


def _domains(values: tuple[str, ...]) -> tuple[str, ...]:
    domains = []
    for value in values:
        domain = value.strip().lower().removesuffix(".")
        labels = domain.split(".")
        if (
            len(domain) > 253
            or not all(_LABEL.fullmatch(label) for label in labels)
            or labels[-1].isdigit()
        ):
            raise ValueError(
                f"{value!r} is not a domain; write it without scheme, port and bucket, such as "
                "s3.example.com"
            )
        domains.append(domain)
    return tuple(dict.fromkeys(domains))


def _prefix(value: str) -> str:
    prefix = value.strip().removesuffix("/")
    segments = prefix.split("/")
    if prefix and (not _PREFIX.fullmatch(prefix) or {".", "..", "_"}.intersection(segments)):
        raise ValueError(
            "the path prefix must be empty or look like /s3: a slash, then letters, digits, "
            "'.', '_', '~' or '-'"
        )
    return prefix


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    networks = []
    for value in values:
        try:
            networks.append(str(ipaddress.ip_network(value.strip())))
        except ValueError:
            raise ValueError(
                f"{value!r} is not a network; write 10.0.0.0/8, 2001:db8::/32 or a single address"
            ) from None
    return tuple(dict.fromkeys(networks))


class NetworkSettings(Section):
    """The part of ``advanced`` that is about connections."""

    virtual_host_domains: Annotated[
        tuple[str, ...], BeforeValidator(_list), AfterValidator(_domains)
    ] = setting(
        (),
        description="Base domains of virtual-hosted requests: with `s3.example.com`, the host "
        "`photos.s3.example.com` stands for the bucket `photos`. Other hosts are path style.",
        apply="hot",
        env="DGP_VIRTUAL_HOST_DOMAINS",
    )
    path_prefix: Annotated[str, AfterValidator(_prefix)] = setting(
        "",
        description="Path below which clients reach the service behind a reverse proxy, such as "
        "`/s3`; the proxy may pass it on or strip it.",
        apply="hot",
        env="DGP_PATH_PREFIX",
    )
    trust_proxy_headers: bool = setting(
        False,
        description="Whether `X-Forwarded-For`, `-Host`, `-Port` and `-Proto` and `X-Real-IP` "
        "count when they come from `trusted_proxy_cidrs`.",
        apply="hot",
        env="DGP_TRUST_PROXY_HEADERS",
    )
    trusted_proxy_cidrs: Annotated[
        tuple[str, ...], BeforeValidator(_list), AfterValidator(_networks)
    ] = setting(
        (),
        description="Networks of the reverse proxies in front, such as `10.0.0.0/8`.",
        apply="hot",
        env="DGP_TRUSTED_PROXY_CIDRS",
    )
    cors_permissive: bool = setting(
        False,
        description="Whether web pages of any site may use buckets that have no CORS rules of "
        "their own; never with credentials of the browser.",
        env="DGP_CORS_PERMISSIVE",
    )
    max_connections: int = setting(
        8192,
        description="Most connections of clients per process, and never more than half of the "
        "file descriptors it may open. At the limit an idle connection is closed for a new one.",
        apply="hot",
        env="DGP_MAX_CONNECTIONS",
        ge=1,
    )
    keep_alive_seconds: int = setting(
        75,
        description="How long a connection without a request stays open, in seconds. Longer than "
        "a load balancer in front keeps it, so that it is not closed under a request.",
        apply="hot",
        env="DGP_KEEP_ALIVE_SECS",
        ge=1,
        le=86_400,
    )
    max_concurrent_requests: int = setting(
        1024,
        description="Most requests that a process works on at a time; others wait.",
        apply="hot",
        env="DGP_MAX_CONCURRENT_REQUESTS",
        ge=1,
    )
    request_queue_seconds: float = setting(
        10.0,
        description="How long a request waits for its turn before it is answered with 503 "
        "`SlowDown`, in seconds.",
        apply="hot",
        env="DGP_REQUEST_QUEUE_SECS",
        ge=0,
        le=3600,
        allow_inf_nan=False,
    )
    request_timeout_seconds: float = setting(
        300.0,
        description="How long the first byte of an answer may take, in seconds; time in which the "
        "client sends the body does not count, and a large body adds some. Then 504.",
        apply="hot",
        env="DGP_REQUEST_TIMEOUT_SECS",
        gt=0,
        le=86_400,
        allow_inf_nan=False,
    )
    transfer_stall_seconds: float = setting(
        60.0,
        description="Seconds in which a client must send, or take, `transfer_stall_bytes` while "
        "a body is under way.",
        apply="hot",
        env="DGP_TRANSFER_STALL_SECS",
        gt=0,
        le=3600,
        allow_inf_nan=False,
    )
    transfer_stall_bytes: int = setting(
        16 * 1024,
        description="Bytes of a body in `transfer_stall_seconds`; who is slower is cut off.",
        apply="hot",
        env="DGP_TRANSFER_STALL_BYTES",
        ge=1,
        le=1024**2,
    )

    @model_validator(mode="after")
    def _proxies_are_named(self) -> NetworkSettings:
        if self.trust_proxy_headers and not self.trusted_proxy_cidrs:
            raise ValueError(
                "trust_proxy_headers needs trusted_proxy_cidrs: without them any client could "
                "claim any address"
            )
        return self


__all__ = ["NetworkSettings"]
