"""The tables of the state database.

Keys of objects are bytes (UTF-8): both databases order them as S3 does, whatever their
collation. All times are seconds of Unix time by the clock of the database.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData()

# SQLite numbers rows by itself only in a column of the type INTEGER.
_Number = BigInteger().with_variant(Integer, "sqlite")

#: Single values: ``deployment`` (random id of this installation), ``events`` (the last event id
#: given), ``snapshot`` (version of what the snapshot shows).
facts = Table(
    "facts",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

#: Buckets by the random id in their ``.deltaglider/id``. ``objects``, ``size`` and ``stored`` are
#: the sums over ``objects``, ``reference_bytes`` the one over ``refs``. ``version`` counts the
#: settled changes. ``state`` is ``active``, ``deleting`` or ``deleted``. ``complete``: every object
#: of the bucket is known, since it was created by us or scanned.
buckets = Table(
    "buckets",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("name", String(255), nullable=False),
    Column("owner", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created", Float(53), nullable=False),
    Column("objects", BigInteger, nullable=False, server_default="0"),
    Column("size", BigInteger, nullable=False, server_default="0"),
    Column("stored", BigInteger, nullable=False, server_default="0"),
    Column("reference_bytes", BigInteger, nullable=False, server_default="0"),
    Column("version", BigInteger, nullable=False, server_default="0"),
    Column("complete", Boolean, nullable=False),
    Column("scanning", Boolean, nullable=False, server_default=text("false")),
    Column("scanned", Float(53)),
)

#: Documents that clients set on buckets, e.g. ``cors``. ``version`` is the format of ``document``.
bucket_configurations = Table(
    "bucket_configurations",
    metadata,
    Column("bucket", _Number, primary_key=True, autoincrement=False),
    Column("name", String(64), primary_key=True),
    Column("document", Text, nullable=False),
    Column("version", Integer, nullable=False),
    sqlite_with_rowid=False,
)

#: The objects that are known. ``version`` is the bucket's when the row was settled. A row whose
#: ``size`` is NULL says that the key was deleted while a scan was running.
objects = Table(
    "objects",
    metadata,
    Column("bucket", _Number, primary_key=True, autoincrement=False),
    Column("key", LargeBinary, primary_key=True),
    Column("size", BigInteger),
    Column("stored", BigInteger),
    Column("version", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

#: Mutations that have begun. ``state``: ``open``; ``recheck``: its outcome is known and journaled,
#: but what is at the key has to be asked; ``doubt``: the outcome has to be asked, not before
#: ``due``. ``contended``: another one concerned the same key at the same time. ``disturbed``
#: counts those that were settled meanwhile. ``exclusive``: no other may begin on the key.
#: ``had``, of a delete: there is an object for it to remove. ``told``: another delete has
#: journaled that it is gone. ``event`` is what is journaled if it turns out to have happened
#: (JSON, or NULL for nothing).
intents = Table(
    "intents",
    metadata,
    Column("write_id", String(32), primary_key=True),
    Column("bucket", _Number, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("process", String(32), nullable=False),
    Column("started", Float(53), nullable=False),
    Column("state", String(8), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("contended", Boolean, nullable=False),
    Column("exclusive", Boolean, nullable=False),
    Column("disturbed", Integer, nullable=False),
    Column("had", Boolean, nullable=False, server_default=text("false")),
    Column("told", Boolean, nullable=False, server_default=text("false")),
    Column("reference", LargeBinary),
    Column("upload", String(255)),
    Column("due", Float(53)),
    Column("event", Text),
    Index("intents_key", "bucket", "key"),
    sqlite_with_rowid=False,
)

#: The journal. ``id`` is given after the commit, in one order that all readers share.
events = Table(
    "events",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("id", BigInteger, unique=True),
    Column("write_id", String(32), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("bucket", String(255), nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("source", String(64), nullable=False),
    Column("occurred", Float(53), nullable=False),
    Column("payload", Text, nullable=False),
)
#: Readers of the journal, each with the last id that it has dealt with.
cursors = Table(
    "cursors",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("last_id", BigInteger, nullable=False),
    Column("updated", Float(53), nullable=False),
)

#: Events that a sink refused for good, kept with their content.
undelivered = Table(
    "undelivered",
    metadata,
    Column("sink", String(128), primary_key=True),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("event", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("failed", Float(53), nullable=False),
)

#: References on the backends. ``version`` is the bucket's when the row was made. ``condemned``:
#: since when no write may name it. ``deleting``: a complete listing proved that nothing names it.
#: ``seen``: the collection that last found it named.
refs = Table(
    "refs",
    metadata,
    Column("bucket", _Number, primary_key=True, autoincrement=False),
    Column("key", LargeBinary, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("registered", Float(53), nullable=False),
    Column("condemned", Float(53)),
    Column("deleting", Boolean, nullable=False, server_default=text("false")),
    Column("seen", String(32)),
    sqlite_with_rowid=False,
)

#: Multipart uploads. ``inner`` is the id that the backend gave. ``state``: ``open``,
#: ``completing``, ``done`` or ``aborted``; ``parts`` is the fingerprint of the list that is or was
#: completed, ``answer`` (JSON) what was answered: by Create (the checksum that the client chose, or
#: NULL), and once it is done by Complete.
uploads = Table(
    "uploads",
    metadata,
    Column("upload_id", String(64), primary_key=True),
    Column("bucket", _Number, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("inner", Text, nullable=False),
    Column("write_id", String(32), nullable=False),
    Column("initiated", Float(53), nullable=False),
    Column("state", String(16), nullable=False),
    Column("since", Float(53), nullable=False),
    Column("parts", String(64)),
    Column("answer", Text),
    Index("uploads_key", "bucket", "key", "upload_id"),
    Index("uploads_since", "state", "since"),
    sqlite_with_rowid=False,
)

#: What only one process does at a time.
leases = Table(
    "leases",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("owner", String(32), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("expires", Float(53), nullable=False),
)

#: Processes that are alive, or were.
processes = Table(
    "processes",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started", Float(53), nullable=False),
    Column("expires", Float(53), nullable=False),
)

#: Signatures of requests that changed something, until they cannot be verified any more.
signatures = Table(
    "signatures",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("request", String(64), nullable=False),
    Column("expires", Float(53), nullable=False),
    Index("signatures_expires", "expires"),
    sqlite_with_rowid=False,
)

__all__ = [
    "bucket_configurations",
    "buckets",
    "cursors",
    "events",
    "facts",
    "intents",
    "leases",
    "metadata",
    "objects",
    "processes",
    "refs",
    "signatures",
    "undelivered",
    "uploads",
]
