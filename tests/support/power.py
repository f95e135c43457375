"""A power cut, simulated: what was not synced to disk is lost, or partly lost.

A small library (``power_shim.c``, compiled when it is needed and preloaded into the server)
follows each fsync and fdatasync and notes what the disk holds for certain from then on. After
the processes have been killed, ``Disk.cut`` builds the tree that the machine would find at its
next start, out of the notes and of what lies in the page cache, and puts it in place.

The disk is harsher than that of a journaling file system: each name in each folder, each page of
4 KiB of each file and its length are lost or kept on their own, unless a call asked for them to
be on disk. No root, no device and no file system of our own are needed. What it does not cover:
files opened with O_SYNC, sync_file_range, and devices that lie about a flush.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import stat
import subprocess
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from support.no_sync import VARIABLE, preloaded

SOURCE = Path(__file__).with_name("power_shim.c")
PAGE = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A name in a folder: whether it is a folder itself, and the identity of what it means."""

    folder: bool
    identity: str


@dataclass(kw_only=True, slots=True)
class Loss:
    """What a cut took: names that were not there or meant something else, files that changed."""

    names: int = 0
    files: int = 0

    def __str__(self) -> str:
        return f"{self.names} names and the content of {self.files} files lost"


@dataclass(frozen=True, kw_only=True)
class Disk:
    """The disk below a directory.

    Args:
        root: What lies here is on the disk; it must exist, and be complete, before ``adopt``.
        work: A directory of the test's own on the same file system, outside of ``root``.
        volatile: Names in ``root`` that a cut empties, such as a folder for temporary files.
        spared: Names in ``root`` that a cut does not touch, such as the log of the test.
    """

    root: Path
    work: Path
    volatile: Collection[str] = ()
    spared: Collection[str] = ()
    _paths: dict[str, Path] = field(default_factory=dict, repr=False)

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs for its syncs to be followed."""
        return {
            VARIABLE: preloaded(self._library_path),
            "POWER_ROOT": os.fspath(self.root.resolve()),
            "POWER_SHADOW": os.fspath(self._shadow),
        }

    def adopt(self) -> None:
        """Take everything as it is for synced; to be called before the first start."""
        shutil.rmtree(self._shadow, ignore_errors=True)
        self._shadow.mkdir(parents=True)
        for path in self._everything(self.root):
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                self._library.power_note(fd, os.fsencode(self._shadow))
            finally:
                os.close(fd)

    def cut(self, chance: random.Random, *, keep: float = 0.5) -> Loss:
        """Cut the power; no process may be running on the tree.

        Args:
            keep: Probability that a change which was not synced survives; 0 loses them all.
        """
        self._paths.clear()
        for path in self._everything(self.root):
            self._paths[self._identity(path)] = path
        built = self.work / "built"
        loss = Loss()
        self._build(self._identity(self.root), built, chance, keep, loss)
        for name in (*self.volatile, *self.spared):
            _remove(built / name)
        for name in self.volatile:
            (built / name).mkdir()
        for name in self.spared:
            if (self.root / name).exists():
                (self.root / name).rename(built / name)
        shutil.rmtree(self.root)
        built.rename(self.root)
        self.adopt()
        return loss

    # --- building the tree ----------------------------------------------------------------

    def _build(
        self, identity: str, target: Path, chance: random.Random, keep: float, loss: Loss
    ) -> None:
        target.mkdir()
        cached = self._cached_names(identity)
        synced = self._synced_names(identity)
        for name in sorted({*cached, *synced}):
            entry = synced.get(name)
            if entry != cached.get(name):
                if chance.random() < keep:
                    entry = cached.get(name)
                loss.names += entry != cached.get(name)
            if entry is None:
                continue
            place = target / os.fsdecode(name)
            if entry.folder:
                self._build(entry.identity, place, chance, keep, loss)
            else:
                self._write(entry.identity, place, chance, keep, loss)
        self._finish(identity, target, chance.random() < keep)

    def _write(
        self, identity: str, target: Path, chance: random.Random, keep: float, loss: Loss
    ) -> None:
        note, path = self._note(identity), self._paths.get(identity)
        synced = note.read_bytes() if note.exists() else b""
        cached = path.read_bytes() if path is not None else synced
        data = synced
        if cached != synced:
            data = _torn(synced, cached, chance, keep)
            loss.files += data != cached
        target.write_bytes(data)
        self._finish(identity, target, chance.random() < keep)

    def _finish(self, identity: str, target: Path, cached: bool) -> None:
        """Mode, attributes and time, as they are in the cache or as they were synced."""
        note, path = self._note(identity), self._paths.get(identity)
        source = path if path is not None and (cached or not note.exists()) else note
        if source == note and not note.exists():
            return
        for name in os.listxattr(source):
            if name.startswith("user."):
                os.setxattr(target, name, os.getxattr(source, name))
        facts = source.stat()
        target.chmod(stat.S_IMODE(facts.st_mode))
        os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    def _cached_names(self, identity: str) -> dict[bytes, Entry]:
        path = self._paths.get(identity)
        if path is None:
            return {}
        return {
            os.fsencode(entry.name): Entry(
                folder=entry.is_dir(follow_symlinks=False),
                identity=self._identity(Path(entry.path)),
            )
            for entry in os.scandir(path)
            if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)
        }

    def _synced_names(self, identity: str) -> dict[bytes, Entry]:
        note = self._note(identity)
        if not note.exists():
            return {}
        found = {}
        for line in note.read_text(encoding="ascii").splitlines():
            kind, child, name = line.split(" ")
            found[bytes.fromhex(name)] = Entry(folder=kind == "d", identity=child)
        return found

    # --- the library ----------------------------------------------------------------------

    @property
    def _shadow(self) -> Path:
        return self.work.resolve() / "shadow"

    @cached_property
    def _library_path(self) -> Path:
        self.work.mkdir(parents=True, exist_ok=True)
        target = self.work.resolve() / "power_shim.so"
        command = ["cc", "-Wall", "-Werror", "-O2", "-shared", "-fPIC"]
        subprocess.run(
            [*command, "-o", os.fspath(target), os.fspath(SOURCE), "-ldl"],
            check=True,
            timeout=60,
        )
        return target

    @cached_property
    def _library(self) -> ctypes.CDLL:
        return ctypes.CDLL(os.fspath(self._library_path), use_errno=True)

    def _note(self, identity: str) -> Path:
        return self._shadow / f"{identity}.note"

    def _identity(self, path: Path) -> str:
        text = ctypes.create_string_buffer(64)
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        try:
            if self._library.power_identity(fd, text) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), path)
        finally:
            os.close(fd)
        return text.value.decode()

    def _everything(self, path: Path) -> Iterator[Path]:
        yield path
        for entry in os.scandir(path):
            if path == self.root and entry.name in self.volatile:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._everything(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def _torn(synced: bytes, cached: bytes, chance: random.Random, keep: float) -> bytes:
    """Some pages as they were synced, some as they are in the cache, one length or the other."""
    size = len(cached) if chance.random() < keep else len(synced)
    data = bytearray(size)
    for at in range(0, size, PAGE):
        page = cached if chance.random() < keep else synced
        piece = page[at : min(at + PAGE, size)]
        data[at : at + len(piece)] = piece
    return bytes(data)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
