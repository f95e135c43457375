"""What S3 clients may expect: a model of everything that they were told.

Each key is a register with a history of writes since it was last read with nobody writing. A
write was acknowledged, refused (it had no effect) or stayed unanswered (it may have had one). The
register can hold the value of each write that no acknowledged write began after, and what it
held before only if nothing was acknowledged: this is linearizability of a register, so it holds
for one writer as well as for many that race.

Beside the values the model counts the events that must, and that may, be in the journal.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from dataclasses import dataclass, field

CREATED, COPIED, DELETED = "ObjectCreated", "ObjectCopied", "ObjectDeleted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """The content of an object.

    Attributes:
        digest: SHA-256 in hex.
        size: Bytes.
        etag: Without quotes.
    """

    digest: str
    size: int
    etag: str

    @classmethod
    def of(cls, data: bytes, *, etag: str | None = None) -> Version:
        """The version that ``data`` makes; the ETag is its MD5 unless given."""
        return cls(
            digest=hashlib.sha256(data).hexdigest(),
            size=len(data),
            etag=hashlib.md5(data).hexdigest() if etag is None else etag,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A key in a bucket. ``shared``: several clients write it at the same time."""

    bucket: str
    key: str
    shared: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """An event as far as a client can foretell it; ``etag`` is empty for a deletion."""

    kind: str
    bucket: str
    key: str
    etag: str = ""


@dataclass(eq=False, kw_only=True, slots=True)
class Write:
    """A write on its way, or done. ``version`` is None for a deletion; times are ticks."""

    place: Place
    version: Version | None
    event: Event
    started: int
    ended: int | None = None
    acknowledged: bool = False
    #: Whether it has an event if it happens; None: a deletion that may find nothing.
    effective: bool | None = True
    #: Its event is among those that happened for certain.
    counted: bool = False


@dataclass(kw_only=True, slots=True)
class History:
    """What a key held when it was last read in peace, and the writes since."""

    base: Version | None = None
    writes: list[Write] = field(default_factory=list)

    def possible(self) -> set[Version | None]:
        """Every value that the key can hold now."""
        sure = [write for write in self.writes if write.acknowledged]
        last_start = max((write.started for write in sure), default=0)
        found = {
            write.version
            for write in self.writes
            if write.ended is None or write.ended >= last_start
        }
        return found if sure else found | {self.base}


class Mismatch(AssertionError):
    """The server holds, shows or journals something else than its clients were told."""


class Model:
    """Everything that clients have sent and were told. All methods are safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tick = 0
        self._histories: dict[Place, History] = {}
        #: Events that happened for certain, and those that nobody knows of.
        self._sure: Counter[Event] = Counter()
        self._open: Counter[Event] = Counter()
        #: SHA-256 of everything that was ever sent for a key.
        self._sent: dict[Place, set[str]] = {}
        self.acknowledged = self.refused = self.unanswered = 0

    def begin(self, place: Place, version: Version | None, kind: str) -> Write:
        """A client is about to send a write; an empty ``kind`` is for what has no event."""
        with self._lock:
            self._tick += 1
            history = self._histories.setdefault(place, History())
            before = history.possible()
            write = Write(
                place=place,
                version=version,
                started=self._tick,
                event=Event(
                    kind=kind,
                    bucket=place.bucket,
                    key=place.key,
                    etag=version.etag if version is not None else "",
                ),
            )
            if version is not None:
                self._sent.setdefault(place, set()).add(version.digest)
            elif place.shared or (None in before and len(before) > 1):
                write.effective = None
            else:
                write.effective = before != {None}
            if not kind:
                write.effective = False
            history.writes.append(write)
            return write

    def acknowledge(self, write: Write) -> None:
        """It was answered with success."""
        with self._lock:
            self._tick += 1
            write.ended, write.acknowledged = self._tick, True
            self.acknowledged += 1
            if write.effective is None:
                self._open[write.event] += 1
            elif write.effective:
                self._sure[write.event] += 1
                write.counted = True

    def refuse(self, write: Write) -> None:
        """It was answered with an error that says that nothing was done, or was never sent."""
        with self._lock:
            self._histories[write.place].writes.remove(write)
            self.refused += 1

    def lose(self, write: Write) -> None:
        """It was not answered, or with an error that says nothing; it may happen any time."""
        with self._lock:
            self.unanswered += 1
            if write.effective is not False:
                self._open[write.event] += 1

    def confirm(self, write: Write) -> None:
        """Asked again, the server says that a lost write has happened; nobody has written since."""
        with self._lock:
            self._tick += 1
            self._count(write)
            write.started = write.ended = self._tick
            write.acknowledged = True
            self.acknowledged += 1
            self._histories[write.place].writes = [write]

    def possible(self, place: Place) -> set[Version | None]:
        """Every value that the key can hold now; for its only writer, or with nobody writing."""
        with self._lock:
            history = self._histories.get(place)
            return {None} if history is None else history.possible()

    def was_sent(self, place: Place, digest: str) -> bool:
        """Whether a client has ever sent this content for the key."""
        with self._lock:
            return digest in self._sent.get(place, ())

    def unchanged(self, place: Place) -> Version | None:
        """What a key held when it was last verified, unless it was written since."""
        with self._lock:
            history = self._histories[place]
            return None if history.writes else history.base

    def places(self, bucket: str) -> list[Place]:
        """Every key of a bucket that a client has written to, in the order of listings."""
        with self._lock:
            found = [place for place in self._histories if place.bucket == bucket]
        return sorted(found, key=lambda place: place.key.encode())

    def verify(self, place: Place, found: Version | None) -> None:
        """Hold what a key was found to hold, with nobody writing, against its history.

        Raises:
            Mismatch: No order of the writes explains it.
        """
        with self._lock:
            history = self._histories.setdefault(place, History())
            possible = history.possible()
            if found not in possible:
                raise Mismatch(
                    f"{place.bucket}/{place.key} holds {found}, but was told to hold "
                    f"{' or '.join(map(str, possible))}; writes: {history.writes}"
                )
            self._explain(history, found)
            history.base, history.writes = found, []

    def verify_events(self, journaled: Counter[Event]) -> str:
        """Hold the journal against the writes; with nobody writing.

        Returns:
            What is missing still, or an empty text.

        Raises:
            Mismatch: An event is there too often, or was never sent.
        """
        with self._lock:
            for event, count in journaled.items():
                most = self._sure[event] + self._open[event]
                if count > most:
                    raise Mismatch(f"{count} times in the journal instead of {most}: {event}")
            missing = self._sure - journaled
            return "; ".join(f"{count} times {event}" for event, count in missing.items())

    def _explain(self, history: History, found: Version | None) -> None:
        """An unanswered write is certain to have happened if only it explains what was found."""
        if found == history.base and not any(write.acknowledged for write in history.writes):
            return
        causes = [write for write in history.writes if write.version == found]
        if len(causes) == 1 and not causes[0].acknowledged and causes[0].effective is not False:
            self._count(causes[0])

    def _count(self, write: Write) -> None:
        """Move the event of a lost write to those that happened for certain."""
        if not write.counted:
            self._open[write.event] -= 1
            self._sure[write.event] += 1
            write.counted = True
