"""The first schema, and the random id of the installation."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    facts = op.create_table(
        "facts",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    _buckets_and_objects()
    _intents()
    _events()
    _uploads()
    _processes()
    op.bulk_insert(facts, [{"name": "deployment", "value": secrets.token_hex(16)}])


def _buckets_and_objects() -> None:
    op.create_table(
        "buckets",
        sa.Column("number", _Number, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("owner", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("objects", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("size", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("stored", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("reference_bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("version", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("complete", sa.Boolean, nullable=False),
        sa.Column("scanning", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("scanned", sa.Float(53)),
    )
    op.create_table(
        "objects",
        sa.Column("bucket", _Number, primary_key=True, autoincrement=False),
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("size", sa.BigInteger),
        sa.Column("stored", sa.BigInteger),
        sa.Column("version", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "refs",
        sa.Column("bucket", _Number, primary_key=True, autoincrement=False),
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("registered", sa.Float(53), nullable=False),
        sa.Column("condemned", sa.Float(53)),
        sa.Column("deleting", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("seen", sa.String(32)),
        sqlite_with_rowid=False,
    )


def _intents() -> None:
    op.create_table(
        "intents",
        sa.Column("write_id", sa.String(32), primary_key=True),
        sa.Column("bucket", _Number, nullable=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("process", sa.String(32), nullable=False),
        sa.Column("started", sa.Float(53), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("contended", sa.Boolean, nullable=False),
        sa.Column("exclusive", sa.Boolean, nullable=False),
        sa.Column("disturbed", sa.Integer, nullable=False),
        sa.Column("had", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("told", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("reference", sa.LargeBinary),
        sa.Column("upload", sa.String(255)),
        sa.Column("due", sa.Float(53)),
        sa.Column("event", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_index("intents_key", "intents", ["bucket", "key"])
    op.create_table(
        "signatures",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("expires", sa.Float(53), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("signatures_expires", "signatures", ["expires"])


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("number", _Number, primary_key=True, autoincrement=True),
        sa.Column("id", sa.BigInteger, unique=True),
        sa.Column("write_id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("bucket", sa.String(255), nullable=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("occurred", sa.Float(53), nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
    )
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("last_id", sa.BigInteger, nullable=False),
        sa.Column("updated", sa.Float(53), nullable=False),
    )
    op.create_table(
        "undelivered",
        sa.Column("sink", sa.String(128), primary_key=True),
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("failed", sa.Float(53), nullable=False),
    )


def _uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("upload_id", sa.String(64), primary_key=True),
        sa.Column("bucket", _Number, nullable=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("inner", sa.Text, nullable=False),
        sa.Column("write_id", sa.String(32), nullable=False),
        sa.Column("initiated", sa.Float(53), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("since", sa.Float(53), nullable=False),
        sa.Column("parts", sa.String(64)),
        sa.Column("answer", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_index("uploads_key", "uploads", ["bucket", "key", "upload_id"])
    op.create_index("uploads_since", "uploads", ["state", "since"])


def _processes() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("owner", sa.String(32), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.Float(53), nullable=False),
    )
    op.create_table(
        "processes",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started", sa.Float(53), nullable=False),
        sa.Column("expires", sa.Float(53), nullable=False),
    )
