"""From a key to a path below its bucket, and back.

The path is the key. A segment (what stands between two ``/``) is a name as it is, unless
no file can have that name or another meaning is taken:

* empty, ``.`` and ``..``;
* longer than the file system's limit (255 bytes);
* beginning with ``%dg-``, which marks names of ours;
* on a root that confuses case or Unicode forms: whatever is not lower-case ASCII.

Such a segment is quoted (``%xx`` for all but ``a-z 0-9 . _ -``) behind ``%dg-q``. Where that is too
long, it is cut into folders ``%dg-p...`` that end in a ``%dg-q...``. The encoding is a
bijection: a name that is not what its decoding encodes to is no object.

``a`` beside ``a/b`` is the file ``%dg-self`` in the folder ``a``.
"""

from __future__ import annotations

import string
import urllib.parse

from deltaglider_core.errors import InvalidArgument, KeyTooLongError

#: Names that begin so are never plain segments.
MARK = b"%dg-"
QUOTED = b"%dg-q"
PART = b"%dg-p"
SELF = b"%dg-self"

#: Private folders at the top of every bucket.
TMP = b"%dg-tmp"
LOCKS = b"%dg-locks"
META = b"%dg-meta"
PRIVATE = (TMP, LOCKS, META)

#: AWS, "Naming Amazon S3 objects": at most 1,024 bytes of UTF-8.
MAX_KEY_BYTES = 1024

Names = tuple[bytes, ...]

_UNQUOTED = (string.ascii_lowercase + string.digits + "._-").encode()
_QUOTES = [bytes([byte]) if byte in _UNQUOTED else b"%%%02x" % byte for byte in range(256)]
_UPPER = frozenset(string.ascii_uppercase.encode())


def key_bytes(key: str) -> bytes:
    """UTF-8 of a key that may be written.

    Raises:
        KeyTooLongError: More than 1,024 bytes.
        InvalidArgument: Empty, with a NUL, or not representable in UTF-8.
    """
    raw = text_bytes(key)
    if not raw:
        raise InvalidArgument("An object key must not be empty.")
    if b"\0" in raw:
        raise InvalidArgument("An object key must not contain a NUL character.")
    if len(raw) > MAX_KEY_BYTES:
        raise KeyTooLongError(fields={"Size": str(len(raw)), "MaxSizeAllowed": str(MAX_KEY_BYTES)})
    return raw


def text_bytes(text: str) -> bytes:
    """UTF-8 of any text from a request; ``InvalidArgument`` for a lone surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument("Text is not valid Unicode.") from None


class KeyCodec:
    """Encodes keys for one root.

    Args:
        folding: The root takes names for equal that differ in case or in Unicode form.
        name_max: Longest name of the file system in bytes.
    """

    def __init__(self, *, folding: bool = False, name_max: int = 255) -> None:
        self.folding = folding
        self._name_max = name_max

    def key_names(self, key: bytes) -> Names:
        """Folder names and file name of a key, below its bucket."""
        return tuple(name for segment in key.split(b"/") for name in self.segment_names(segment))

    def segment_names(self, segment: bytes) -> Names:
        """The name of a segment; several for a long one, each inside the one before."""
        if not self._must_quote(segment):
            return (segment,)
        text = b"".join([_QUOTES[byte] for byte in segment])
        step = self._name_max - len(QUOTED)
        pieces = [text[at : at + step] for at in range(0, len(text), step)] or [b""]
        return (*(PART + piece for piece in pieces[:-1]), QUOTED + pieces[-1])

    def segment(self, names: Names) -> bytes | None:
        """The segment that ``names`` stand for, or None if they stand for none."""
        if len(names) == 1 and not names[0].startswith(MARK):
            segment = names[0]
        elif names[-1].startswith(QUOTED):
            segment = urllib.parse.unquote_to_bytes(b"".join(n[len(QUOTED) :] for n in names))
        else:
            return None
        try:
            segment.decode()
        except UnicodeDecodeError:
            return None
        if b"/" in segment or b"\0" in segment or self.segment_names(segment) != names:
            return None
        return segment

    def _must_quote(self, segment: bytes) -> bool:
        if segment in (b"", b".", b"..") or segment.startswith(MARK):
            return True
        if len(segment) > self._name_max:
            return True
        return self.folding and (not segment.isascii() or not _UPPER.isdisjoint(segment))
