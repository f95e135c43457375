"""Refuses bodies that are too large, by what their headers declare."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..errors import EntityTooLarge
from ..interfaces.admission import Gate

if TYPE_CHECKING:
    from ..context import S3Request
    from ..interfaces.auth import Principal
    from ..services import Services
    from ..settings import AdvancedSettings

#: Operations whose body is an object or a part of one.
UPLOADS = frozenset({"put_object", "upload_part"})


class MaxObjectSize:
    """Answers ``EntityTooLarge`` before anything of the body is read.

    A body that declares no size, or lies about it, is the business of those who count it.

    Args:
        max_bytes: Largest object.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes

    async def check(self, request: S3Request, principal: Principal | None) -> None:
        """Raise ``EntityTooLarge`` for an upload above the limit."""
        if request.operation not in UPLOADS:
            return
        # In aws-chunked encoding Content-Length includes the framing; only the decoded length
        # is the object's.
        declared = request.headers.get("x-amz-decoded-content-length")
        if declared is None:
            declared = request.headers.get("content-length", "")
        if not (declared.isascii() and declared.isdigit()):
            return
        # int() refuses texts of thousands of digits; 20 of them are too many bytes anyway.
        digits = declared.lstrip("0")
        if len(digits) > 20 or int(digits or "0") > self._max_bytes:
            raise EntityTooLarge(
                fields={"ProposedSize": declared[:24], "MaxSizeAllowed": str(self._max_bytes)}
            )


@asynccontextmanager
async def open_max_object_size(
    settings: AdvancedSettings, services: Services
) -> AsyncIterator[Gate]:
    """Open the gate with ``advanced.max_object_size``."""
    yield MaxObjectSize(settings.max_object_size)
