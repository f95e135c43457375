"""What makes a signed request that changes something unique.

A signature names a second, so a client that asks for the same thing twice within one sends the
same signature twice. The SDKs of AWS tell such calls, and their own repetitions of one call,
apart by ``amz-sdk-invocation-id`` and ``amz-sdk-request``, which are not always signed.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from ..context import S3Request
from ..interfaces.auth import Principal
from ..origin import Signature

_CALL_HEADERS = ("amz-sdk-invocation-id", "amz-sdk-request")


def signature_of(
    request: S3Request, principal: Principal, window: int, max_skew: int
) -> Signature | None:
    """The signature of a request, if it may change something only once.

    Presigned URLs and forms are made to be used again, and a request without a verified signature
    has none.

    Args:
        window: Seconds for which it is remembered at the least; 0 for not at all.
        max_skew: Seconds from its date in which a signature is accepted: it is remembered until
            then in any case.
    """
    if not window or principal.payload is None or not principal.payload.seed:
        return None
    if request.form is not None:
        return None
    if request.method in ("GET", "HEAD", "OPTIONS") or request.param("X-Amz-Signature") is not None:
        return None
    signed = datetime.strptime(principal.payload.timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    valid = (signed - request.received).total_seconds() + max_skew
    call = "\n".join(request.headers.get(name, "") for name in _CALL_HEADERS).strip()
    return Signature(
        digest=hashlib.sha256(principal.payload.seed.encode()).digest()[:16],
        call=hashlib.sha256(call.encode()).hexdigest()[:16] if call else "",
        request_id=request.request_id,
        window=max(float(window), valid),
    )


__all__ = ["signature_of"]
