"""What a request claims about its signature: parsing and the checks that need no secret.

Source: AWS, "Authenticating requests: using the Authorization header" and "Authenticating
requests: using query parameters (AWS Signature Version 4)".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from ..context import S3Request
from ..errors import (
    AccessDenied,
    AuthorizationHeaderMalformed,
    AuthorizationQueryParametersError,
    ClientError,
    InvalidArgument,
    InvalidRequest,
    NotImplementedS3,
    RequestTimeTooSkewed,
)
from .response import is_sendable

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
MAX_EXPIRES_SECONDS = 604_800
MAX_SKEW_SECONDS = 900

_AUTH_PARAMS = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Date",
    "X-Amz-SignedHeaders",
    "X-Amz-Expires",
)
#: Unlike its siblings these tell nothing about the body.
_CHECKSUM_CHOICES = frozenset(
    {"x-amz-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-type"}
)
_HEADER_FIELDS = frozenset({"Credential", "SignedHeaders", "Signature"})

_TIMESTAMP = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_HEADER_NAMES = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+(?:;[a-z0-9!#$%&'*+.^_`|~-]+)*")
# An access key may contain a slash; the four fields behind it may not.
_CREDENTIAL = re.compile(r"([!-~]{1,256})/([0-9]{8})/([!-.0-~]{1,64})/([!-.0-~]+)/([!-.0-~]+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """A SigV4 signature as a request presents it; nothing in it has been verified.

    Attributes:
        access_key_id: Whose signature it claims to be.
        date: Day of the credential scope, ``yyyymmdd``.
        region: Any; the region of the scope.
        signed_headers: Lower-case, sorted, distinct.
        signature: 64 lower-case hex digits.
        timestamp: ``X-Amz-Date`` as sent.
        time: The same, aware, UTC.
        payload_hash: Last line of the canonical request.
        expires: Seconds of validity of a presigned URL; None for header authentication.
    """

    access_key_id: str
    date: str
    region: str
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: str
    time: datetime
    payload_hash: str
    expires: int | None = None

    @property
    def scope(self) -> str:
        """The credential scope, ``yyyymmdd/region/s3/aws4_request``."""
        return f"{self.date}/{self.region}/s3/aws4_request"


def find_evidence(request: S3Request) -> Evidence | None:
    """Read the SigV4 evidence of a request; None if it brings none of this kind.

    An ``Authorization`` header of a foreign scheme (Basic, Bearer) is not of this kind.

    Raises:
        InvalidArgument: Credentials in the header and in the query.
        AuthorizationHeaderMalformed, AuthorizationQueryParametersError: Malformed.
        InvalidRequest: Signature Version 2, a session token, or a required header is absent.
        NotImplementedS3: SigV4A, or chunk signatures on a presigned request.
    """
    authorization = request.headers.get("authorization")
    names = {name for name, _ in request.query}
    presigned = not names.isdisjoint(("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature"))
    legacy = "AWSAccessKeyId" in names
    if authorization is not None and (presigned or legacy):
        raise InvalidArgument(
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, "
            "Signature query string parameter or the Authorization header should be specified",
            fields={"ArgumentName": "Authorization"},
        )
    if presigned:
        evidence = _from_query(request)
    elif legacy:
        raise InvalidRequest(
            "This URL is signed with Signature Version 2, which is not supported. Sign with "
            "AWS4-HMAC-SHA256; in boto3: Config(signature_version='s3v4')."
        )
    elif authorization is not None:
        found = _from_header(request, authorization)
        if found is None:
            return None
        evidence = found
    else:
        return None
    if "x-amz-security-token" in request.headers or "X-Amz-Security-Token" in names:
        raise InvalidRequest(
            "Session tokens (X-Amz-Security-Token) are not supported. Use a permanent access key."
        )
    return evidence


def with_hoisted_headers(
    headers: Mapping[str, str], query: Sequence[tuple[str, str]]
) -> Mapping[str, str]:
    """The headers with those that the signer of a presigned URL moved into its query.

    Signers may send ``x-amz-*`` headers as query parameters instead, which are always signed;
    they mean the same. A request that is not presigned keeps its headers as they are.

    Checksums of the body are signed there and otherwise ignored, as AWS does ("presigned URLs
    don't support" them: S3 User Guide, "Using presigned URLs"). Whoever makes the URL does not
    have the body: the SDK for JavaScript puts the checksum of no bytes into every URL.

    Args:
        headers: Lower-case names.
        query: Decoded pairs.

    Raises:
        InvalidArgument: A header contradicts the parameter of its name: headers may come
            unsigned there, and must not change what was signed. Or the parameter could be no
            header (RFC 9110 section 5), such as one with a line break.
    """
    if all(name != "X-Amz-Signature" for name, _ in query):
        return headers
    merged = dict(headers)
    for name, value in query:
        header = name.lower()
        if not header.startswith("x-amz-") or name in _AUTH_PARAMS:
            continue
        if _is_body_checksum(header):
            continue
        if not is_sendable(header, value):
            raise InvalidArgument(
                "A query parameter stands for a header that no request can have.",
                fields={"ArgumentName": name, "ArgumentValue": value},
            )
        if merged.setdefault(header, value) != value:
            raise InvalidArgument(
                f"The header {header} contradicts the query parameter of that name.",
                fields={"ArgumentName": header, "ArgumentValue": value},
            )
    return merged


def _is_body_checksum(header: str) -> bool:
    """Whether a header tells a checksum of the body, or by which algorithm it was made."""
    if header == "x-amz-sdk-checksum-algorithm":
        return True
    return header.startswith("x-amz-checksum-") and header not in _CHECKSUM_CHOICES


def check_time(evidence: Evidence, now: datetime, *, max_skew: int = MAX_SKEW_SECONDS) -> None:
    """Hold the time of a signature against the clock.

    Args:
        now: Aware.
        max_skew: Seconds that clocks may differ, both ways.

    Raises:
        RequestTimeTooSkewed: Too old (header), or too far in the future.
        AccessDenied: A presigned URL has expired.
    """
    skew = timedelta(seconds=max_skew)
    old = evidence.expires is None and now - evidence.time > skew
    if old or evidence.time - now > skew:
        raise RequestTimeTooSkewed(
            fields={
                "RequestTime": evidence.timestamp,
                "ServerTime": _iso(now),
                "MaxAllowedSkewMilliseconds": str(max_skew * 1000),
            }
        )
    if evidence.expires is not None:
        end = evidence.time + timedelta(seconds=evidence.expires)
        if now > end:
            raise AccessDenied(
                "Request has expired",
                fields={
                    "X-Amz-Expires": str(evidence.expires),
                    "Expires": _iso(end),
                    "ServerTime": _iso(now),
                },
            )


def check_signed_headers(request: S3Request, evidence: Evidence) -> None:
    """Require that ``host`` and every ``x-amz-*`` header present are signed.

    On a presigned request ``x-amz-content-sha256`` may come unsigned: it only narrows what
    the URL allows, since the body must then have that hash.

    Raises:
        AccessDenied: Names them in ``HeadersNotSigned``.
    """
    present = {name for name, _ in request.header_list}
    needed = {"host"} | {name for name in present if name.startswith("x-amz-")}
    if evidence.expires is not None:
        needed.discard("x-amz-content-sha256")
    missing = needed.difference(evidence.signed_headers)
    if missing:
        raise AccessDenied(
            "There were headers present in the request which were not signed",
            fields={"HeadersNotSigned": ", ".join(sorted(missing))},
        )


def _from_header(request: S3Request, authorization: str) -> Evidence | None:
    scheme, _, rest = authorization.strip().partition(" ")
    if scheme == "AWS":
        raise InvalidRequest(
            "The authorization mechanism you have provided is not supported. "
            "Please use AWS4-HMAC-SHA256."
        )
    if scheme.startswith("AWS4-ECDSA-P256-SHA256"):
        raise NotImplementedS3("SigV4A is not supported. Please use AWS4-HMAC-SHA256.")
    if scheme != ALGORITHM:
        if scheme.startswith("AWS4-"):
            raise AuthorizationHeaderMalformed
        return None
    fields: dict[str, str] = {}
    for part in rest.split(","):
        name, equals, value = part.strip(" \t").partition("=")
        if not equals or name not in _HEADER_FIELDS or name in fields:
            raise AuthorizationHeaderMalformed(
                "The authorization header is malformed; it must name Credential, SignedHeaders "
                "and Signature once each."
            )
        fields[name] = value
    if fields.keys() != _HEADER_FIELDS:
        missing = ", ".join(sorted(_HEADER_FIELDS - fields.keys()))
        raise AuthorizationHeaderMalformed(
            f"The authorization header is malformed; it lacks {missing}."
        )
    payload_hash = request.headers.get("x-amz-content-sha256")
    if payload_hash is None:
        raise InvalidRequest("Missing required header for this request: x-amz-content-sha256")
    timestamp = request.headers.get("x-amz-date")
    if timestamp is None:
        raise InvalidRequest("Missing required header for this request: x-amz-date")
    return new_evidence(
        AuthorizationHeaderMalformed,
        credential=fields["Credential"],
        signed_headers=fields["SignedHeaders"],
        signature=fields["Signature"],
        timestamp=timestamp,
        payload_hash=payload_hash.strip(" \t"),
        expires=None,
    )


def _from_query(request: S3Request) -> Evidence:
    params = {name: _values(request.query, name) for name in _AUTH_PARAMS}
    if any(len(values) != 1 for values in params.values()):
        raise AuthorizationQueryParametersError(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, "
            "X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and "
            "X-Amz-Expires parameters, once each."
        )
    algorithm = params["X-Amz-Algorithm"][0]
    if algorithm.startswith("AWS4-ECDSA-P256-SHA256"):
        raise NotImplementedS3("SigV4A is not supported. Please use AWS4-HMAC-SHA256.")
    if algorithm != ALGORITHM:
        raise AuthorizationQueryParametersError('X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"')
    evidence = new_evidence(
        AuthorizationQueryParametersError,
        credential=params["X-Amz-Credential"][0],
        signed_headers=params["X-Amz-SignedHeaders"][0],
        signature=params["X-Amz-Signature"][0],
        timestamp=params["X-Amz-Date"][0],
        payload_hash=UNSIGNED_PAYLOAD,
        expires=_expires(params["X-Amz-Expires"][0]),
    )
    sent = request.headers.get("x-amz-content-sha256")
    hoisted = _values(request.query, "X-Amz-Content-Sha256")
    if any(value.startswith("STREAMING-") for value in (sent or "", *hoisted)):
        raise NotImplementedS3("Chunk signatures are not supported on presigned requests.")
    if sent is not None and "x-amz-content-sha256" in evidence.signed_headers:
        return replace(evidence, payload_hash=sent.strip(" \t"))
    return replace(evidence, payload_hash=hoisted[0]) if hoisted else evidence


def new_evidence(
    error: type[ClientError],
    *,
    credential: str,
    signed_headers: str | None,
    signature: str,
    timestamp: str,
    payload_hash: str,
    expires: int | None,
) -> Evidence:
    """Check each piece of a signature, and that they fit each other.

    Args:
        error: Raised with a text that says what is malformed.
        signed_headers: None where none are signed, as in a form.
    """
    match = _CREDENTIAL.fullmatch(credential)
    if match is None or match[5] != "aws4_request":
        raise error(
            "The credential is malformed; expecting "
            '"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".'
        )
    access_key_id, date, region, service, _ = match.groups()
    if service != "s3":
        raise error(f'Incorrect service "{service}". This endpoint belongs to "s3".')
    if not _SIGNATURE.fullmatch(signature):
        raise error("The signature must be 64 lower-case hexadecimal digits.")
    listed: list[str] = []
    if signed_headers is not None:
        names = signed_headers.lower()
        if not _HEADER_NAMES.fullmatch(names):
            raise error("The list of signed headers is malformed.")
        listed = names.split(";")
        if len(set(listed)) != len(listed):
            raise error("The list of signed headers names a header twice.")
    time = _parse_timestamp(timestamp)
    if time is None:
        raise error("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    if timestamp[:8] != date:
        raise error(
            f'Invalid credential date "{date}". This date is not the same as X-Amz-Date: '
            f'"{timestamp[:8]}".'
        )
    return Evidence(
        access_key_id=access_key_id,
        date=date,
        region=region,
        signed_headers=tuple(sorted(listed)),
        signature=signature,
        timestamp=timestamp,
        time=time,
        payload_hash=payload_hash,
        expires=expires,
    )


def _expires(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise AuthorizationQueryParametersError("X-Amz-Expires should be a number")
    seconds = int(text)
    if not 1 <= seconds <= MAX_EXPIRES_SECONDS:
        raise AuthorizationQueryParametersError(
            "X-Amz-Expires must be at least 1 and less than a week (in seconds); that is, the "
            f"given X-Amz-Expires must not exceed {MAX_EXPIRES_SECONDS} seconds"
        )
    return seconds


def _parse_timestamp(text: str) -> datetime | None:
    if not _TIMESTAMP.fullmatch(text):
        return None
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _values(query: Iterable[tuple[str, str]], wanted: str) -> list[str]:
    return [value for name, value in query if name == wanted]


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
