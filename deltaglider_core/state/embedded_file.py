"""The file of the embedded database: made, unlocked, backed up, migrated."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool
from sqlcipher3 import dbapi2 as driver

from ..errors import ConfigurationError
from . import migrate
from .keyfile import create_key, read_key, sync_directory

#: Seconds that SQLite waits for a lock of another program. Our own processes queue elsewhere.
BUSY_SECONDS = 5.0

#: Pages of the log after which a commit writes them back into the file (4 KiB each). A page that
#: changed many times is written back once, so a longer log is less work; and a shorter pause
#: comes with a shorter log.
CHECKPOINT_PAGES = 1000

#: The log is cut to this size after it was written back, bytes.
LOG_BYTES = 64 * 1024 * 1024

#: Default page size of SQLCipher 4; no database is smaller.
PAGE_BYTES = 4096

Identity = tuple[int, int]

# Databases that this process has open. POSIX drops all locks that a process has on a file when it
# closes any descriptor of it, so only SQLite, which knows, may open one of these again.
_open_files: Counter[Identity] = Counter()
_open_files_lock = threading.Lock()


def identity(path: Path) -> Identity:
    """Device and inode. Raises ``OSError``."""
    facts = os.stat(path)
    return facts.st_dev, facts.st_ino


@contextlib.contextmanager
def in_use(file: Identity) -> Iterator[None]:
    """Count a file as open in this process."""
    with _open_files_lock:
        _open_files[file] += 1
    try:
        yield
    finally:
        with _open_files_lock:
            _open_files[file] -= 1
            if not _open_files[file]:
                del _open_files[file]


def connect(path: Path, key: bytes, options: str = "mode=rw") -> Any:
    """A connection in autocommit mode, usable by any one thread at a time.

    Args:
        path: An existing database, unless the options say otherwise.
        key: 32 bytes, used as they are: deriving a key from a passphrase takes 170 ms.
        options: SQLite's URI parameters.
    """
    connection = driver.connect(
        f"file:{quote(os.fspath(path))}?{options}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_SECONDS,
    )
    try:
        # What goes wrong is raised; SQLCipher would also print it.
        connection.execute("PRAGMA cipher_log_level = NONE")
        connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def check_writable(path: Path) -> None:
    """Refuse early what SQLite would open for reading only.

    Raises:
        ConfigurationError: The file or its directory cannot be written by this user.
    """
    for place in (path, path.parent):
        exists = os.path.lexists(place)
        if exists and not os.access(place, os.R_OK | os.W_OK, effective_ids=True):
            raise ConfigurationError(
                f"the state database {path} cannot be written, since {place} cannot; check its "
                "owner and mode, and that its file system is not mounted read-only"
            )


def unlock(path: Path, key_path: Path, *, log: Any) -> bytes:
    """Make the database if there is none, and return the key that opens it.

    The caller holds the turnstile. A key that is wrong touches nothing.

    Raises:
        ConfigurationError: There is something else than a database with its key.
        OSError, driver.Error: See ``embedded_errors.describe``.
    """
    exists = os.path.lexists(path)
    key = read_key(key_path)
    if exists and key is None:
        raise ConfigurationError(
            f"the state database {path} is there but its key {key_path} is missing; restore the "
            "key. Nothing was changed"
        )
    if not exists:
        _refuse_orphaned_log(path)
        if key is None:
            key = create_key(key_path)
        else:
            log.warning("the state database is missing and is created anew", path=str(path))
        _create(path, key)
    assert key is not None
    _try_key(path, key)
    return key


def _refuse_orphaned_log(path: Path) -> None:
    # SQLite would replay the log into whatever file takes the name.
    log = _beside(path, "-wal")
    if os.path.lexists(log):
        raise ConfigurationError(
            f"the state database {path} is missing but its log {log} is there; restore the "
            "database, or remove the log too"
        )


def _try_key(path: Path, key: bytes) -> None:
    """Read the first page without locks, logs and recovery, which would leave traces."""
    facts = os.stat(path)
    with _open_files_lock:
        if (facts.st_dev, facts.st_ino) in _open_files:
            return
        if facts.st_size < PAGE_BYTES:
            raise ConfigurationError(
                f"the state database {path} is truncated ({facts.st_size} bytes); restore it "
                "from a backup"
            )
        try:
            _read_first_page(path, key)
        except driver.DatabaseError:
            # A process that closes may have been writing to the page at that moment.
            time.sleep(0.05)
            _read_first_page(path, key)


def _read_first_page(path: Path, key: bytes) -> None:
    with contextlib.closing(connect(path, key, "mode=ro&immutable=1")) as connection:
        connection.execute("PRAGMA schema_version").fetchone()


def _create(path: Path, key: bytes) -> None:
    """Make a complete database under another name, then give it its own.

    So a file under the name of the database is never half made, and an empty one is damage.
    """
    draft = _beside(path, ".new")
    with _fresh(draft, key) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        _migrate(connection)
    os.rename(draft, path)
    sync_directory(path.parent)


@contextlib.contextmanager
def _fresh(path: Path, key: bytes) -> Iterator[Any]:
    """A connection to a new file with mode 0600, which is durable after the block or gone."""
    _remove(path)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        os.chmod(path, 0o600)
        with contextlib.closing(connect(path, key)) as connection:
            yield connection
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            _remove(path)
        raise


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        _beside(path, suffix).unlink(missing_ok=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def upgrade(connection: Any, path: Path, key: bytes, *, log: Any) -> None:
    """Bring the schema up to date, after a backup. The caller holds the turnstile.

    Raises:
        ConfigurationError: It is newer than this program, or none of ours.
    """
    revision = migrate.read_revision_of(connection, path)
    if revision == migrate.HEAD:
        return
    migrate.check_known(revision, os.fspath(path))
    backup = _beside(path, f".{revision}.bak")
    draft = _beside(backup, ".new")
    with _fresh(draft, key) as copy:
        connection.backup(copy)
    os.rename(draft, backup)
    sync_directory(path.parent)
    log.info("migrating the state database", revision=revision, backup=str(backup))
    _migrate(connection)


def _migrate(connection: Any) -> None:
    """Migrate in one transaction, so that a failure leaves the old schema."""
    engine = create_engine(
        "sqlite://", module=driver, creator=lambda: connection, poolclass=StaticPool
    )
    with engine.connect() as wrapped, wrapped.begin():
        # Only now: SQLAlchemy rolls back once when it gets to know a connection.
        connection.execute("BEGIN IMMEDIATE")
        migrate.upgrade(wrapped)
        if not connection.in_transaction:
            raise RuntimeError("a migration has ended its transaction")


__all__ = [
    "BUSY_SECONDS",
    "CHECKPOINT_PAGES",
    "Identity",
    "check_writable",
    "connect",
    "driver",
    "identity",
    "in_use",
    "unlock",
    "upgrade",
]
