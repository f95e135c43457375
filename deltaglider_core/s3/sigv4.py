"""AWS Signature Version 4: canonical request, string to sign, verification.

Pure functions over ``S3Request``; the secret comes in as an argument. The order of use is
``find_evidence``, ``check_time``, ``check_signed_headers``, ``verify``.

Source: AWS, "Signature calculations for the Authorization header: transferring payload in a
single chunk" and "Authenticating requests: using query parameters".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote, unquote_to_bytes

from ..context import S3Request
from ..errors import SignatureDoesNotMatch
from ..interfaces.auth import PayloadSignature
from .sigv4_evidence import (
    ALGORITHM,
    MAX_EXPIRES_SECONDS,
    MAX_SKEW_SECONDS,
    UNSIGNED_PAYLOAD,
    Evidence,
    check_signed_headers,
    check_time,
    find_evidence,
)

_SPACES = re.compile(r"[ \t]+")
_UNRESERVED = "-_.~"


def signing_key(secret_access_key: str, date: str, region: str, service: str = "s3") -> bytes:
    """Derive the key of one day, region and service, 32 bytes."""
    key = _hmac(b"AWS4" + secret_access_key.encode(), date)
    for part in (region, service, "aws4_request"):
        key = _hmac(key, part)
    return key


def canonical_uri(raw_path: str) -> str:
    """The path, decoded and encoded again exactly once; dot segments and ``//`` stay."""
    return quote(unquote_to_bytes(raw_path.encode("latin-1")), safe="/" + _UNRESERVED) or "/"


def canonical_query(request: S3Request) -> str:
    """The query, sorted by encoded name, then value, without ``X-Amz-Signature``."""
    pairs = sorted(
        (quote(name, safe=_UNRESERVED), quote(value, safe=_UNRESERVED))
        for name, value in request.query
        if name != "X-Amz-Signature"
    )
    return "&".join(f"{name}={value}" for name, value in pairs)


def canonical_headers(
    request: S3Request, signed_headers: tuple[str, ...], *, host: str | None = None
) -> str:
    """``name:value`` lines; values trimmed, inner spaces collapsed, repeats joined.

    Args:
        host: Replaces the value of ``host``.
    """
    values: dict[str, list[str]] = {name: [] for name in signed_headers}
    for name, value in request.header_list:
        if name in values:
            value = host if name == "host" and host is not None else value
            values[name].append(_SPACES.sub(" ", value.strip(" \t")))
    return "".join(f"{name}:{','.join(values[name])}\n" for name in signed_headers)


def canonical_request(
    request: S3Request, evidence: Evidence, *, uri: str | None = None, host: str | None = None
) -> str:
    """The canonical request; ``uri`` replaces its second line, ``host`` the header."""
    return "\n".join(
        (
            request.method,
            canonical_uri(request.raw_path) if uri is None else uri,
            canonical_query(request),
            canonical_headers(request, evidence.signed_headers, host=host),
            ";".join(evidence.signed_headers),
            evidence.payload_hash,
        )
    )


def string_to_sign(evidence: Evidence, canonical: bytes) -> str:
    """The string that the signature signs."""
    digest = hashlib.sha256(canonical).hexdigest()
    return f"{ALGORITHM}\n{evidence.timestamp}\n{evidence.scope}\n{digest}"


def verify(request: S3Request, evidence: Evidence, secret_access_key: str) -> PayloadSignature:
    """Verify the signature, in constant time.

    Returns:
        What the decoder of the body needs to verify chunk signatures.

    Raises:
        SignatureDoesNotMatch: With what this service signed, as AWS reports it. All of that
            comes from the request; none of it depends on the secret. Or a signed header is absent.
    """
    key = signing_key(secret_access_key, evidence.date, evidence.region)
    candidates = list(_candidates(request, evidence))
    matches = False
    for canonical in candidates:
        expected = _hmac(key, string_to_sign(evidence, canonical)).hex()
        matches |= hmac.compare_digest(expected, evidence.signature)
    present = {name for name, _ in request.header_list}
    absent = [name for name in evidence.signed_headers if name not in present]
    if not matches or absent:
        raise _mismatch(request, evidence, candidates[0], absent)
    return PayloadSignature(
        signing_key=key,
        seed=evidence.signature,
        timestamp=evidence.timestamp,
        scope=evidence.scope,
    )


def _candidates(request: S3Request, evidence: Evidence) -> Iterator[bytes]:
    """The spellings that clients sign, each of the same request; the standard one first.

    Some sign the path as they sent it, with characters that AWS escapes. Header bytes that
    are not ASCII are UTF-8 or Latin-1; the text does not tell which. Behind a proxy the client
    may have seen another host or path.
    """
    for host, path in _spellings(request):
        for uri in dict.fromkeys((canonical_uri(path), path or "/")):
            text = canonical_request(request, evidence, uri=uri, host=host)
            yield text.encode()
            if not text.isascii():
                try:
                    yield text.encode("latin-1")
                except UnicodeEncodeError:
                    continue


def _spellings(request: S3Request) -> Sequence[tuple[str | None, str]]:
    if request.target is None:
        return [(None, request.raw_path)]
    return request.target.spellings


def _mismatch(
    request: S3Request, evidence: Evidence, canonical: bytes, absent: Sequence[str]
) -> SignatureDoesNotMatch:
    to_sign = string_to_sign(evidence, canonical)
    fields = {
        "AWSAccessKeyId": evidence.access_key_id,
        "StringToSign": to_sign,
        "SignatureProvided": evidence.signature,
        "StringToSignBytes": to_sign.encode().hex(" "),
        "CanonicalRequest": canonical.decode("utf-8", "replace"),
        "CanonicalRequestBytes": canonical.hex(" "),
    }
    spellings = _spellings(request)
    if len(spellings) > 1:
        # The canonical request shows the first of them only.
        fields["Compared"] = "; ".join(f"host {host}, path {path}" for host, path in spellings)
    message = None
    if absent:
        message = (
            f"{SignatureDoesNotMatch.message} These signed headers did not arrive, perhaps because "
            f"a proxy removed them: {', '.join(absent)}."
        )
    return SignatureDoesNotMatch(message, fields=fields)


def _hmac(key: bytes, message: str) -> bytes:
    return hmac.digest(key, message.encode(), "sha256")


__all__ = [
    "ALGORITHM",
    "MAX_EXPIRES_SECONDS",
    "MAX_SKEW_SECONDS",
    "UNSIGNED_PAYLOAD",
    "Evidence",
    "canonical_headers",
    "canonical_query",
    "canonical_request",
    "canonical_uri",
    "check_signed_headers",
    "check_time",
    "find_evidence",
    "signing_key",
    "string_to_sign",
    "verify",
]
