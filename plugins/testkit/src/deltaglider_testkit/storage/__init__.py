"""Conformance of storage backends, one module per idea."""

from __future__ import annotations

from .buckets import BucketTests
from .conditions import ConditionTests
from .copying import CopyTests
from .keys import KeyTests
from .listing import ListingTests
from .memory import MemoryTests
from .metadata import MetadataTests
from .multipart import MultipartTests
from .objects import ObjectTests
from .ranges import RangeTests
from .tags import TagTests
from .uploads import UploadTests
from .writes import WriteTests


class StorageConformance(
    BucketTests,
    ObjectTests,
    RangeTests,
    MetadataTests,
    TagTests,
    KeyTests,
    ListingTests,
    WriteTests,
    ConditionTests,
    CopyTests,
    MultipartTests,
    UploadTests,
    MemoryTests,
):
    """What every ``StorageBackend`` must do.

    Inherit, and override the fixture ``backend``::

        class TestMyBackend(StorageConformance):
            @pytest.fixture
            async def backend(self, tmp_path):
                async with open_backend(MySettings(...), services_for_tests(tmp_path)) as opened:
                    yield opened

    The backend should be empty, or at least free of buckets whose names begin with
    ``testkit-``. The class attributes in ``_base`` declare what is special about it.
    """


__all__ = ["StorageConformance"]
