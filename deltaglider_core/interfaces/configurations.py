"""Documents that clients set on buckets, such as CORS rules."""

from __future__ import annotations

from typing import Protocol


class BucketConfigurations(Protocol):
    """Keeps one document of each name per bucket; buckets by the name that the backend knows."""

    async def get(self, bucket: str, name: str) -> str | None:
        """The document, or None if there is none. Never an older one than was put last.

        Raises:
            NoSuchBucket
            ServiceUnavailable: It cannot be asked.
        """

    async def put(self, bucket: str, name: str, document: str | None) -> None:
        """Replace the document, or remove it with None.

        Raises:
            NoSuchBucket, ReplayedRequest
            ServiceUnavailable: It cannot be changed, or the bucket is being deleted.
        """

    def current(self, bucket: str, name: str) -> str | None:
        """The same as ``get``, without any I/O; at most a second old.

        Raises:
            ServiceUnavailable: What this process knows is too old.
        """


__all__ = ["BucketConfigurations"]
