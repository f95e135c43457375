"""Everything about storage in one place: the interfaces, their values, their records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .backend import StorageBackend
from .checksums import CHECKSUM_SIZES, Checksum
from .contribution import Contribution
from .layer import StorageLayer
from .objects import (
    MAX_LISTED_VALUE,
    RESERVED_PREFIX,
    STORED_HEADERS,
    Body,
    BucketInfo,
    ByteRange,
    Capabilities,
    CompletedPart,
    Condition,
    ObjectInfo,
    ObjectMetadata,
    ObjectPage,
    ObjectReader,
    PartInfo,
    PartPage,
    UploadInfo,
    UploadPage,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageBackendType(Contribution[StorageBackend]):
    """A kind of backend, selected by ``storage.backend.type``.

    Attributes:
        settings: Subclass of ``deltaglider_core.BackendSettings`` whose ``type`` field is
            ``Literal[<name>]`` without a default.
    """

    settings: type[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageLayerType(Contribution[Callable[[StorageBackend], StorageLayer]]):
    """A layer around every backend, outermost first: quota, delta, encryption, backend.

    ``open`` yields a function that wraps one backend; it is called once per backend.
    """


__all__ = [
    "CHECKSUM_SIZES",
    "MAX_LISTED_VALUE",
    "RESERVED_PREFIX",
    "STORED_HEADERS",
    "Body",
    "BucketInfo",
    "ByteRange",
    "Capabilities",
    "Checksum",
    "CompletedPart",
    "Condition",
    "ObjectInfo",
    "ObjectMetadata",
    "ObjectPage",
    "ObjectReader",
    "PartInfo",
    "PartPage",
    "StorageBackend",
    "StorageBackendType",
    "StorageLayer",
    "StorageLayerType",
    "UploadInfo",
    "UploadPage",
]
