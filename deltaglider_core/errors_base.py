"""What errors have in common: a text for a person, and how an S3 client must see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class DeltaGliderError(Exception):
    """Base of every error raised on purpose."""


class ConfigurationError(DeltaGliderError):
    """The configuration, a plugin or the environment prevents the start.

    ``exit_code`` is what the command line returns.
    """

    exit_code: int = 1

    def __init__(self, message: str, *, exit_code: int | None = None) -> None:
        super().__init__(message)
        if exit_code is not None:
            self.exit_code = exit_code


class S3Error(DeltaGliderError):
    """An answer other than success, as the S3 protocol spells it.

    Args:
        message: A sentence for a person; never contains a secret.
        fields: Extra XML elements of the error document, e.g. ``{"Key": "a/b"}``.
        headers: Extra response headers, e.g. ``{"Content-Range": "bytes */10"}``.
    """

    code: ClassVar[str] = "InternalError"
    status: ClassVar[int] = 500
    message: ClassVar[str] = "We encountered an internal error. Please try again."

    def __init__(
        self,
        message: str | None = None,
        *,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.text = message or type(self).message
        self.fields = dict(fields or {})
        self.headers = dict(headers or {})
        super().__init__(self.text)


class ClientError(S3Error):
    """Base of the 4xx answers."""

    code = "InvalidRequest"
    status = 400
    message = "The request is not valid."


class ServerError(S3Error):
    """Base of the 5xx answers."""
