"""Build the source archive and the wheel of every distribution into ``dist``.

The same commit gives the same bytes: times come from the commit, modes are normalised, and
the isolated builds use the pins. Each wheel is built from its source archive, which proves
that the archive is complete.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from lock import projects

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
# The first moment that a ZIP archive can express; for a checkout without history.
EARLIEST = 315_532_800


def commit_time() -> int:
    """Seconds since 1970 of ``SOURCE_DATE_EPOCH`` or of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return max(int(given), EARLIEST)
    command = ["git", "log", "-1", "--format=%ct"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = answer.stdout.strip() if answer.returncode == 0 else ""
    return max(int(found or 0), EARLIEST)


def normalise(archive: Path, epoch: int) -> None:
    """Rewrite a source archive so that it depends on its content only."""
    temporary = archive.with_suffix(".new")
    with (
        tarfile.open(archive, "r:gz") as source,
        temporary.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=epoch) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as target,
    ):
        for member in sorted(source.getmembers(), key=lambda member: member.name):
            member.mtime = epoch
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            target.addfile(member, source.extractfile(member) if member.isfile() else None)
    temporary.replace(archive)


def run_build(environment: dict[str, str], output: Path, *words: str) -> None:
    """Call ``python -m build``; its output appears only when it fails."""
    command = [sys.executable, "-m", "build", "--outdir", os.fspath(output), *words]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{result.stdout}{result.stderr}\nThe build of {words[-1]} failed.")


def build(project: Path, epoch: int, output: Path) -> None:
    """Build one distribution: the archive from the tree, the wheel from the archive."""
    environment = os.environ | {
        "SOURCE_DATE_EPOCH": str(epoch),
        "PIP_CONSTRAINT": os.fspath(ROOT / "constraints.txt"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        # Debugging information would contain the name of a temporary directory.
        "CFLAGS": f"{os.environ.get('CFLAGS', '')} -g0".strip(),
    }
    with tempfile.TemporaryDirectory(prefix="deltaglider-dist-") as directory:
        made = Path(directory) / "made"
        run_build(environment, made, "--sdist", os.fspath(project))
        (archive,) = made.glob("*.tar.gz")
        normalise(archive, epoch)
        unpacked = Path(directory) / "source"
        shutil.unpack_archive(archive, unpacked, filter="data")
        (source,) = unpacked.iterdir()
        run_build(environment, made, "--wheel", os.fspath(source))
        for path in made.iterdir():
            shutil.move(path, output / path.name)


def main() -> None:
    """Replace the content of ``dist`` and print the digest of each file."""
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    epoch = commit_time()
    for project in projects():
        print(f"Building {project.name if project != ROOT else 'core'} ...", flush=True)
        build(project, epoch, DIST)
    for path in sorted(DIST.iterdir()):
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")


if __name__ == "__main__":
    main()
