"""The record in front of stored bytes: what they are and how to get the object back.

It suffices to decode the object when every attribute beside the bytes is lost. Stored bytes
are untrusted: each field is checked when it is parsed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from ..errors import IntegrityError
from ..interfaces.storage import RESERVED_PREFIX

Form = Literal["delta", "wrapped"]

#: Most bytes of the JSON text; a key has at most 1,024 bytes, six times that when escaped.
MAX_RECORD_BYTES = 64 * 1024

REFERENCES_PREFIX = f"{RESERVED_PREFIX}refs/"

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CODEC_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_ETAG = re.compile(r"[\x21\x23-\x7e]{1,128}")
_MAX_SIZE = 1 << 62


def is_sha256(value: str) -> bool:
    """Whether ``value`` is a SHA-256 in lower-case hex."""
    return _SHA256.fullmatch(value) is not None


def is_codec_id(value: str) -> bool:
    """Whether ``value`` can name a codec."""
    return _CODEC_ID.fullmatch(value) is not None


def is_etag(value: str) -> bool:
    """Whether ``value`` can be an ETag without its quotes (RFC 9110, section 8.8.3)."""
    return _ETAG.fullmatch(value) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """What a delta was made against: its key in the same bucket, its SHA-256, its size."""

    key: str
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Delta:
    """What only a delta has.

    Attributes:
        codec: Id of the codec that decodes it.
        reference: What it was made against.
        stored: Bytes behind the head: stream header, group indexes and windows.
        root: SHA-256 of the root table.
    """

    codec: str
    reference: Reference
    stored: int
    root: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """See the module.

    Attributes:
        form: ``delta``, or ``wrapped`` for verbatim bytes behind a head.
        size: Length of the object in bytes; None if it was unknown when a wrapped one began.
        etag: Logical ETag without quotes; None if it was unknown when a wrapped one began.
        sha256: Of the whole object; None where the upload was not sequential.
        modified: Last-Modified of the upload where a later rewrite kept it.
        delta: Set exactly for the form ``delta``.
    """

    form: Form
    size: int | None = None
    etag: str | None = None
    sha256: str | None = None
    modified: datetime | None = None
    delta: Delta | None = None

    def to_json(self) -> bytes:
        """Compact ASCII JSON; what is None is left out."""
        fields: dict[str, Any] = {"form": self.form, "size": self.size, "etag": self.etag}
        fields["sha256"] = self.sha256
        if self.modified is not None:
            fields["modified"] = format_time(self.modified)
        if self.delta is not None:
            reference = self.delta.reference
            fields |= {"codec": self.delta.codec, "ref": reference.key}
            fields |= {"ref_sha256": reference.sha256, "ref_size": reference.size}
            fields |= {"stored": self.delta.stored, "root": self.delta.root}
        present = {name: value for name, value in fields.items() if value is not None}
        return json.dumps(present, separators=(",", ":")).encode("ascii")

    @classmethod
    def from_json(cls, text: bytes) -> Record:
        """Parse and check. Raises ``IntegrityError``."""
        if len(text) > MAX_RECORD_BYTES:
            raise IntegrityError(f"record of {len(text)} bytes")
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise IntegrityError("record is not JSON") from error
        if not isinstance(fields, dict):
            raise IntegrityError("record is not a JSON object")
        form = fields.get("form")
        if form not in ("delta", "wrapped"):
            raise IntegrityError(f"record has the unknown form {form!r}")
        modified = _text(fields, "modified")
        record = cls(
            form=form,
            size=_number(fields, "size"),
            etag=_matching(fields, "etag", _ETAG),
            sha256=_matching(fields, "sha256", _SHA256),
            modified=None if modified is None else parse_time(modified),
            delta=_parse_delta(fields) if form == "delta" else None,
        )
        if record.delta is not None and (not record.size or record.etag is None):
            raise IntegrityError("record of a delta lacks its size or its ETag")
        return record


def format_time(value: datetime) -> str:
    """RFC 3339 in UTC with microseconds."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(value: str) -> datetime:
    """Inverse of ``format_time``; takes any RFC 3339 time. Raises ``IntegrityError``."""
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError as error:
        raise IntegrityError("stored time is not RFC 3339") from error
    if parsed.tzinfo is None:
        raise IntegrityError("stored time has no zone")
    return parsed.astimezone(UTC)


def _parse_delta(fields: dict[str, Any]) -> Delta:
    codec = _matching(fields, "codec", _CODEC_ID)
    key, sha256 = _text(fields, "ref"), _matching(fields, "ref_sha256", _SHA256)
    size, stored = _number(fields, "ref_size"), _number(fields, "stored")
    root = _matching(fields, "root", _SHA256)
    if codec is None or key is None or sha256 is None or root is None:
        raise IntegrityError("record of a delta is incomplete")
    if not size or not stored:
        raise IntegrityError("record of a delta has a size of zero")
    # A record that points at another object of the bucket would let one client read it.
    if not key.startswith(REFERENCES_PREFIX) or key.rpartition("/")[2] != sha256:
        raise IntegrityError("record names something else than a reference")
    reference = Reference(key=key, sha256=sha256, size=size)
    return Delta(codec=codec, reference=reference, stored=stored, root=root)


def _text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value
    raise IntegrityError(f"record field {name} is not text")


def _matching(fields: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str | None:
    value = _text(fields, name)
    if value is not None and pattern.fullmatch(value) is None:
        raise IntegrityError(f"record field {name} is malformed")
    return value


def _number(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < _MAX_SIZE:
        raise IntegrityError(f"record field {name} is not a size")
    return value
