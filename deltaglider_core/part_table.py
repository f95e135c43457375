"""The parts of a multipart object, as its metadata keep them.

Text, so that it fits wherever metadata do::

    1;5242880*3,17                  sizes in bytes, runs of equal ones counted
    1;5242880*3,17;crc32:<base64>   and the digests of all parts, one after the other

The first field is the version of this format. Parts are counted from 1 in their order: the numbers
that they were uploaded with are not kept.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from .interfaces.checksums import CHECKSUM_SIZES, Checksum

VERSION = "1"
MAX_PARTS = 10_000
#: Sizes of 10,000 parts with twenty characters, and digests of the longest algorithm.
MAX_TEXT = MAX_PARTS * (20 + 88)

_RUN = re.compile(r"(0|[1-9][0-9]{0,18})(?:\*([1-9][0-9]{0,4}))?")


@dataclass(frozen=True, kw_only=True)
class PartTable:
    """The parts of an object, in order.

    Attributes:
        sizes: In bytes; never empty.
        algorithm: Of the checksums that are kept; empty without any.
        digests: Of all parts, one after the other.
    """

    sizes: Sequence[int]
    algorithm: str = ""
    digests: bytes = b""

    @cached_property
    def starts(self) -> Sequence[int]:
        """Offset of each part, and at the end the size of the object."""
        return (0, *itertools.accumulate(self.sizes))

    def checksum(self, number: int) -> Checksum | None:
        """The checksum of the part ``number``, counted from 1, where it is kept."""
        if not self.algorithm:
            return None
        size = CHECKSUM_SIZES[self.algorithm]
        digest = self.digests[(number - 1) * size : number * size]
        return Checksum(algorithm=self.algorithm, value=base64.b64encode(digest).decode("ascii"))

    def agreeing(self, checksum: Checksum) -> PartTable:
        """Without digests of another algorithm than that of the object's checksum."""
        if self.algorithm in ("", checksum.algorithm):
            return self
        return PartTable(sizes=self.sizes)

    def to_text(self) -> str:
        """See the module."""
        counted = ((size, len(list(run))) for size, run in itertools.groupby(self.sizes))
        runs = ",".join(f"{size}*{count}" if count > 1 else f"{size}" for size, count in counted)
        if not self.algorithm:
            return f"{VERSION};{runs}"
        return f"{VERSION};{runs};{self.algorithm}:{base64.b64encode(self.digests).decode('ascii')}"

    @classmethod
    def from_text(cls, text: str) -> PartTable | None:
        """Inverse of ``to_text``; None for anything else."""
        version, _, rest = text.partition(";")
        if version != VERSION or len(text) > MAX_TEXT:
            return None
        runs, separator, kept = rest.partition(";")
        sizes: list[int] = []
        for run in runs.split(","):
            match = _RUN.fullmatch(run)
            if match is None:
                return None
            count = int(match[2] or 1)
            if len(sizes) + count > MAX_PARTS:
                return None
            sizes += [int(match[1])] * count
        if not separator:
            return cls(sizes=tuple(sizes))
        algorithm, _, encoded = kept.partition(":")
        try:
            digests = base64.b64decode(encoded.encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError):
            return None
        size = CHECKSUM_SIZES.get(algorithm)
        if size is None or len(digests) != size * len(sizes):
            return None
        return cls(sizes=tuple(sizes), algorithm=algorithm, digests=digests)
