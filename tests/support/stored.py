"""What lies in the directory of a bucket, read without the server."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from support.samples import files_below

REFERENCES = ".deltaglider/refs/"
#: The first bytes of a head: ``docs/reference/stored-format.md``.
_FRAME = bytes.fromhex("5d2a4d18")
_MAGIC = bytes.fromhex("8944476f620d0a1a")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The files of a bucket.

    Attributes:
        objects: Length in bytes of the file of each object, by key.
        references: The same for references.
        named: Keys of the references that objects name.
    """

    objects: dict[str, int] = field(default_factory=dict)
    references: dict[str, int] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)

    @property
    def bytes(self) -> int:
        """Of objects and references together."""
        return sum(self.objects.values()) + sum(self.references.values())


def scan_files(bucket: Path) -> Stored:
    """Look at every file of a bucket; with nobody writing."""
    found = Stored()
    for name in files_below(bucket):
        if "%dg-" in name:
            continue  # locks and parts; no test has keys with names that must be escaped
        size = (bucket / name).stat().st_size
        if name.startswith(REFERENCES):
            found.references[name] = size
        elif not name.startswith(".deltaglider/"):
            found.objects[name] = size
            if reference := _reference_of(bucket / name):
                found.named.add(reference)
    return found


def _reference_of(path: Path) -> str | None:
    """Key of the reference that the head of a delta names."""
    with path.open("rb") as file:
        head = file.read(24)
        if head[:4] != _FRAME or head[8:16] != _MAGIC:
            return None
        record = json.loads(file.read(int.from_bytes(head[20:24], "little")))
    found: str | None = record.get("ref")
    return found


__all__ = ["REFERENCES", "Stored", "scan_files"]
