"""What the metadata of a stored object says about its form, and the object it stands for.

Internal metadata of this layer (ASCII; see ``docs/reference/stored-format.md``)::

    form      verbatim, assembled, delta, wrapped or reference
    size      of the object, bytes                      delta, wrapped where known
    etag      of the object, where the stored bytes have another one
    sha256    of the object, hex, where known
    head      length of the head, bytes                 delta, wrapped
    codec     id of the codec                           delta
    ref       SHA-256 of the reference, hex             delta
    modified  Last-Modified of the upload, RFC 3339, where a rewrite kept it

Other names belong to the caller and are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..errors import IntegrityError
from ..interfaces.storage import ObjectInfo, ObjectMetadata
from .container import MAX_HEAD_BYTES, Head
from .record import Record, format_time, is_codec_id, is_etag, is_sha256, parse_time

FORMS = frozenset({"verbatim", "assembled", "delta", "wrapped", "reference"})

#: Names that describe the stored bytes: never taken from a caller, never handed to one.
_OF_THE_BYTES = frozenset({"form", "size", "sha256", "head", "codec", "ref"})

#: Names that belong to one stored version; a caller may set them, a reader does not see them.
_OF_THE_VERSION = frozenset({"etag", "modified"})

VERBATIM: Mapping[str, str] = {"form": "verbatim"}
#: The result of a multipart upload: the object's bytes, at whose beginning nobody has looked
#: when their metadata is written. They may begin with our magic and mean nothing by it.
ASSEMBLED: Mapping[str, str] = {"form": "assembled"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """One stored version: what the backend has, and the object that it stands for.

    Attributes:
        physical: As the backend reports it; its ETag pins this version.
        logical: As a client sees it.
        form: One of ``FORMS``.
        head: Length of the head; 0 where there is none.
        sha256: Of the object, hex, where the metadata knows it.
        reference: SHA-256 of the reference, hex; None where there is none or where only the head
            of a delta tells.
    """

    physical: ObjectInfo
    logical: ObjectInfo
    form: str
    head: int = 0
    sha256: str | None = None
    reference: str | None = None


def form_of(info: ObjectInfo) -> str | None:
    """The form that the metadata states, None if it states none."""
    return None if info.metadata is None else info.metadata.internal.get("form")


def describe(info: ObjectInfo) -> Stored:
    """Read the metadata of an object that states its form.

    Raises:
        IntegrityError: The metadata makes no sense.
    """
    internal = {} if info.metadata is None else info.metadata.internal
    form = internal.get("form", "")
    if form not in FORMS:
        raise IntegrityError(f"object has the unknown form {form!r}")
    etag = internal.get("etag", info.etag)
    if "etag" in internal and not is_etag(etag):
        raise IntegrityError("stored ETag is malformed")
    size, head = info.size, 0
    if form in ("delta", "wrapped"):
        head = _number(internal, "head")
        if not 0 < head <= MAX_HEAD_BYTES or head > info.size:
            raise IntegrityError("stored length of the head is impossible")
        size = _number(internal, "size") if form == "delta" else info.size - head
        if form == "delta" and "etag" not in internal:
            raise IntegrityError("metadata of a delta has no ETag")
    sha256 = internal.get("sha256")
    if sha256 is not None and not is_sha256(sha256):
        raise IntegrityError("stored SHA-256 is malformed")
    reference = internal.get("ref") if form == "delta" else None
    if reference is not None and not is_sha256(reference):
        raise IntegrityError("stored SHA-256 of the reference is malformed")
    modified = internal.get("modified")
    logical = ObjectInfo(
        key=info.key,
        size=size,
        etag=etag,
        last_modified=info.last_modified if modified is None else parse_time(modified),
        metadata=visible_metadata(info.metadata),
        stored_size=stored_size(info),
        stored_as=_stored_as(form),
    )
    return Stored(
        physical=info, logical=logical, form=form, head=head, sha256=sha256, reference=reference
    )


def describe_verbatim(info: ObjectInfo) -> Stored:
    """An object without our metadata and without our magic: stored by somebody else."""
    return Stored(physical=info, logical=as_listed(info), form="verbatim")


def as_listed(info: ObjectInfo) -> ObjectInfo:
    """An entry whose size and ETag are those of the object, as far as is known."""
    return replace(
        info,
        metadata=visible_metadata(info.metadata),
        stored_size=stored_size(info),
        stored_as=_stored_as(form_of(info)),
    )


def stored_size(info: ObjectInfo) -> int:
    """Bytes on the backend for what the layer below reports."""
    return info.size if info.stored_size is None else info.stored_size


def _stored_as(form: str | None) -> str:
    return "delta" if form == "delta" else "passthrough"


def describe_head(info: ObjectInfo, head: Head) -> Stored:
    """An object that lost its metadata, from its head alone.

    Raises:
        IntegrityError: The head and the length of the object contradict each other.
    """
    record = head.record
    behind = info.size - head.length
    expected = record.size if record.delta is None else record.delta.stored
    if behind < 0 or (expected is not None and behind != expected):
        raise IntegrityError("object has another length than its head says")
    logical = ObjectInfo(
        key=info.key,
        size=behind if record.size is None else record.size,
        etag=record.etag or info.etag,
        last_modified=record.modified or info.last_modified,
        metadata=visible_metadata(info.metadata),
        stored_size=stored_size(info),
        stored_as=_stored_as(record.form),
    )
    return Stored(
        physical=info,
        logical=logical,
        form=record.form,
        head=head.length,
        sha256=record.sha256,
        reference=None if record.delta is None else record.delta.reference.sha256,
    )


def check_head(stored: Stored, head: Head) -> None:
    """Compare what the metadata says with what the head says. Raises ``IntegrityError``.

    The ETag is left out: a copy on the backend keeps the head and may have its own.
    """
    record, described = head.record, describe_head(stored.physical, head)
    if record.form != stored.form or head.length != stored.head:
        raise IntegrityError("metadata and head name different forms")
    if described.logical.size != stored.logical.size:
        raise IntegrityError("metadata and head name different sizes")
    if stored.sha256 is not None and record.sha256 not in (None, stored.sha256):
        raise IntegrityError("metadata and head name different SHA-256")


def visible_metadata(metadata: ObjectMetadata | None) -> ObjectMetadata | None:
    """Metadata for the caller: without what describes this stored version."""
    if metadata is None:
        return None
    hidden = _OF_THE_BYTES | _OF_THE_VERSION
    kept = {name: value for name, value in metadata.internal.items() if name not in hidden}
    return replace(metadata, internal=kept)


def with_form(metadata: ObjectMetadata, form: Mapping[str, str]) -> ObjectMetadata:
    """Metadata to store: the caller's, with ``form`` in place of what describes the bytes."""
    kept = {name: value for name, value in metadata.internal.items() if name not in _OF_THE_BYTES}
    return replace(metadata, internal={**kept, **form})


def fields_of(record: Record, head: int) -> dict[str, str]:
    """Internal metadata of stored bytes that begin with this record."""
    fields = {"form": record.form, "head": str(head)}
    if record.size is not None:
        fields["size"] = str(record.size)
    if record.etag is not None:
        fields["etag"] = record.etag
    if record.sha256 is not None:
        fields["sha256"] = record.sha256
    if record.modified is not None:
        fields["modified"] = format_time(record.modified)
    if record.delta is not None:
        fields |= {"codec": record.delta.codec, "ref": record.delta.reference.sha256}
    return fields


def missing_codec(codec_id: str) -> IntegrityError:
    """The error for a delta whose codec is not installed; the log tells the operator."""
    package = f"deltaglider-codec-{codec_id}" if is_codec_id(codec_id) else "its package"
    return IntegrityError(f"the delta needs the codec {codec_id!r}: install {package}")


def _number(internal: Mapping[str, str], name: str) -> int:
    value = internal.get(name, "")
    if not (value.isascii() and value.isdigit() and len(value) <= 19):
        raise IntegrityError(f"metadata field {name} is not a size")
    return int(value)
