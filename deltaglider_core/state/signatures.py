"""Signatures that have changed something: each may do so once, in all processes together."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select

from ..errors import ReplayedRequest
from ..origin import Signature
from .prepared import Prepared
from .tables import signatures

#: A signature names a second; for so long after its first use another call of the same SDK may
#: bring it again. An attacker could pass for one, and repeat what happened a moment ago.
SAME_SECONDS = 2.0

#: Forgotten in one transaction.
_BATCH = 5000

_FIND = Prepared(
    select(signatures.c.request, signatures.c.expires).where(signatures.c.digest == bindparam("d"))
)
_INSERT = Prepared(
    insert(signatures).values({name: bindparam(name) for name in ("digest", "request", "expires")})
)
_FORGET = delete(signatures).where(signatures.c.digest == bindparam("d"))


def check(connection: Connection, now: float, signature: Signature) -> bool:
    """Whether the signature may still be claimed by this request; False if it has done so.

    Raises:
        ReplayedRequest: Another request has brought it.
    """
    found: Any = _FIND.run(connection, {"d": signature.digest}).first()
    if found is None:
        return True
    request, call, seen = found.request.split(":")
    if request == signature.request_id:
        return False
    if found.expires <= now:
        connection.execute(_FORGET, {"d": signature.digest})
        return True
    another_call = bool(call and signature.call) and call != signature.call
    if not (another_call and now - float(seen) < SAME_SECONDS):
        raise ReplayedRequest
    return False


def claim(connection: Connection, now: float, signature: Signature) -> None:
    """Remember a signature for which ``check`` said yes in the same transaction."""
    values = {
        "digest": signature.digest,
        "request": f"{signature.request_id}:{signature.call}:{now:.3f}",
        "expires": now + signature.window,
    }
    _INSERT.run(connection, values)


def give_back(connection: Connection, signature: Signature) -> None:
    """Forget the signature of a request that changed nothing; its client may repeat it."""
    if not signature.returnable:
        return
    connection.execute(
        delete(signatures).where(
            signatures.c.digest == signature.digest,
            signatures.c.request.like(f"{signature.request_id}:%"),
        )
    )


def forget(connection: Connection, now: float) -> int:
    """Drop signatures whose time is over; returns how many, at most 5,000."""
    old = select(signatures.c.digest).where(signatures.c.expires < now).limit(_BATCH)
    return connection.execute(delete(signatures).where(signatures.c.digest.in_(old))).rowcount


__all__ = ["SAME_SECONDS", "check", "claim", "forget", "give_back"]
