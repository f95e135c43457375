"""What the model of the write protocol consists of: a state of the world, its guards, its cases.

Everything is a small number: keys, references and operations are numbered from 0. The write id of
an operation is its number; what was there in the beginning has write ids from 100 on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

T = TypeVar("T")

#: Write id of the object that a key has in the beginning: this plus the key.
FIRST = 100

#: Content of an object that was rewritten in place: this plus the write id.
REWRITTEN = 200


class Version(NamedTuple):
    """An object on the backend. ``content`` stands for its bytes, and so for its ETag."""

    write: int
    reference: int | None
    content: int


class Request(NamedTuple):
    """What was sent to the backend and is neither carried out nor lost yet.

    ``action``: ``put``, ``copy``, ``delete``, ``rewrite`` of a key; ``unlink`` of a reference file;
    ``drop`` of the bucket. ``expects``: the content that has to be there, else it is refused.
    """

    action: str
    sender: int
    place: int
    reference: int | None = None
    content: int = 0
    expects: int | None = None


class Intent(NamedTuple):
    """A row of ``intents``.

    ``state``: ``open``, ``recheck``, ``doubt``, or ``due`` (a doubt whose time has come). ``stamp``
    stands for ``started`` and ``due``: it changes when a row comes back or is put in doubt anew.
    """

    write: int
    key: int
    state: str
    contended: bool
    disturbed: int
    reference: int | None
    exclusive: bool
    stamp: int = 0


class Reference(NamedTuple):
    """A row of ``refs``.

    ``stage``: ``live``, ``condemned`` or ``deleting``. ``age``, of a stage that waits: 0; 1 once
    the grace time has passed; 2 if it had when the present collection began. ``young``: used by
    a writer after that. ``seen``: the collection that found it named last. ``marked``: the one
    that decided to delete it.
    """

    stage: str
    age: int
    young: bool
    seen: int
    marked: int = 0


class Actor(NamedTuple):
    """Where somebody is in what he does, and what he remembers.

    ``held`` is a reference, ``found`` an object that was seen. The others are explained where
    they are used.
    """

    at: str
    held: int | None = None
    found: Version | None = None
    number: int = 0
    note: int = 0


class Look(NamedTuple):
    """What an examiner read: the row of an intent, then what is at its key."""

    intent: Intent
    found: Version | None


class World(NamedTuple):
    """Backend, database, network and everybody who does something."""

    # backend
    objects: tuple[Version | None, ...]
    files: frozenset[int]
    exists: bool
    # network
    flight: frozenset[Request]
    # database
    rows: tuple[Version | None, ...]
    intents: tuple[Intent, ...]
    refs: tuple[Reference | None, ...]
    bucket: str
    lease: int
    collections: int
    passes: tuple[int, ...]
    events: tuple[int, ...]
    # what clients were told
    acked: frozenset[int]
    # processes
    writers: tuple[Actor, ...]
    examiners: tuple[Look | None, ...]
    collectors: tuple[Actor, ...]
    deleter: Actor
    crashes: int
    # an invariant that a step, rather than a state, has broken
    fault: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """What a client asks for.

    Attributes:
        kind: ``put``, ``copy``, ``delete``; ``complete`` (a put that is followed by a rewrite of
            the object in place); ``touch`` (new metadata for the bytes that are there).
        choice: References that a put or rewrite may find in its, perhaps old, listing.
        creates: The reference that it creates if it takes none of these.
        size: Logical bytes.
        after: The operation whose answer the client waits for first.
    """

    kind: str
    key: int
    source: int | None = None
    choice: tuple[int, ...] = ()
    creates: int | None = None
    size: int = 1
    after: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Guards:
    """The rules of the protocol; a test takes one away and expects that something breaks."""

    # references
    hold: bool = True
    hold_before_confirm: bool = True
    hold_refuses_condemned: bool = True
    confirm: bool = True
    condemn_spares_held: bool = True
    condemn_before_delete: bool = True
    second_listing: bool = True
    grace: bool = True
    deleting_waits: bool = True
    deletion_in_time: bool = True
    fenced_marks: bool = True
    fenced_judgement: bool = True
    copy_names_its_source: bool = True
    # intents
    contention: bool = True
    disturbance: bool = True
    journal_once: bool = True
    doubt_waits: bool = True
    doubt_renewed: bool = True
    absence_proves_nothing: bool = True
    stale_looks: bool = True
    lapsed_rechecks: bool = True
    lapsed_confirms: bool = True
    quota_reserves: bool = True
    alone: bool = True
    rewrite_waits: bool = True
    doubt_keeps_key: bool = True
    # buckets
    deletion_refuses_intents: bool = True
    begin_refuses_deleting: bool = True
    deletion_waits: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What goes on at the same time.

    Attributes:
        objects: Per key None, or the reference of the object that is there (-1: none).
        files: References that exist in the beginning.
        condemned: Whether these have been condemned for the grace time already.
        crashes: How many processes may die, at any step.
        lapses: Whether a writer may be taken for dead although it is only slow.
        lapsing_leases: Whether a collector may lose its lease although it is only slow.
        losses: Whether requests may be lost, and answers.
        examiners: How many look at keys at the same time.
        collections: Passes of each collector.
        deletes_bucket: Whether somebody deletes the bucket.
        quota: Logical bytes; None without.
    """

    operations: tuple[Operation, ...]
    objects: tuple[int | None, ...] = (None,)
    files: frozenset[int] = frozenset()
    condemned: bool = False
    references: int = 0
    crashes: int = 0
    lapses: bool = False
    lapsing_leases: bool = False
    losses: bool = False
    examiners: int = 1
    collections: tuple[int, ...] = ()
    deletes_bucket: bool = False
    quota: int | None = None
    guards: Guards = field(default_factory=Guards)

    def size_of(self, write: int | None) -> int:
        """Logical bytes of what a write id stands for."""
        if write is None:
            return 0
        return 1 if write >= FIRST else self.operations[write].size


def begin_world(case: Case) -> World:
    """The world before anybody has done anything."""
    objects = tuple(
        None
        if reference is None
        else Version(FIRST + key, None if reference < 0 else reference, FIRST + key)
        for key, reference in enumerate(case.objects)
    )
    known = (
        Reference("condemned", 1, False, 0) if case.condemned else Reference("live", 0, False, 0)
    )
    idle = Actor("idle")
    return World(
        objects=objects,
        files=case.files,
        exists=True,
        flight=frozenset(),
        rows=objects,
        intents=(),
        refs=tuple(known if r in case.files else None for r in range(case.references)),
        bucket="active",
        lease=-1,
        collections=0,
        passes=case.collections,
        events=(0,) * len(case.operations),
        acked=frozenset(),
        writers=(idle,) * len(case.operations),
        examiners=(None,) * case.examiners,
        collectors=(idle,) * len(case.collections),
        deleter=idle if case.deletes_bucket else Actor("done"),
        crashes=case.crashes,
    )


def put(values: tuple[T, ...], index: int, value: T) -> tuple[T, ...]:
    """A tuple with one item replaced."""
    return (*values[:index], value, *values[index + 1 :])
