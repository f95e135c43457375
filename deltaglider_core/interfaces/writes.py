"""What a storage layer may know about the write that it takes part in.

The outermost layer commits an intent before it lets a mutation through, and settles it after.
Layers below it find the intent of the task they run in here. Without a state database (a layer
under test, a backend used as a library) there is none, and nothing is recorded.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import Protocol


class WriteIntent(Protocol):
    """The intent of one mutation of one object.

    Every method raises ``ServiceUnavailable`` if the state database cannot be asked.
    """

    @property
    def write_id(self) -> str:
        """32 hex digits; also ``metadata.internal["write-id"]`` of what is written."""

    @property
    def bucket_id(self) -> str:
        """Random id of the bucket, 32 hex digits; a bucket created anew has another one."""

    async def hold(self, reference: str, size: int) -> bool:
        """Keep a reference from being collected until the intent is settled.

        One at a time: holding another one gives the first back. Hold a reference before you
        create it, too.

        Args:
            reference: Its key on the backend.
            size: Its length in bytes; counted as stored if the reference was unknown.

        Returns:
            False if it is condemned: nothing may be written that names it, nor may it be created.
        """

    def alone(self) -> AbstractAsyncContextManager[bool]:
        """Keep all other mutations of the key from beginning inside the block.

        Yields:
            False if another mutation of the key has begun already or was settled since this one
            began; then nothing is kept, and a rewrite of what was read before must not happen.
        """


#: The intent of the mutation that the present task carries out.
current_write: ContextVar[WriteIntent | None] = ContextVar("current_write", default=None)

__all__ = ["WriteIntent", "current_write"]
