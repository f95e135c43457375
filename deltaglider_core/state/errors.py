"""The errors of the state database."""

from __future__ import annotations

from ..errors import ServiceUnavailable

#: Seconds that a client should wait before it asks again (``Retry-After``, RFC 9110, 10.2.3).
RETRY_AFTER = 5


class StateUnavailable(ServiceUnavailable):
    """The state database cannot answer now, or it is unknown whether it carried out a write.

    The text reaches clients: it names neither paths, hosts nor secrets. What the database itself
    said is in ``__cause__`` and in the log.
    """

    message = "The state database is not available. Please retry."

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, headers={"Retry-After": str(RETRY_AFTER)})


class Unreachable(StateUnavailable):
    """There is no connection to the server of the database.

    Args:
        detail: For the log and the operator: which server, what it said and what to do.
    """

    def __init__(self, detail: str) -> None:
        super().__init__()
        self.detail = detail


__all__ = ["RETRY_AFTER", "StateUnavailable", "Unreachable"]
