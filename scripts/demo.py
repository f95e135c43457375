"""Store six consecutive releases of a real package and show what each of them costs.

A real server runs on a free port with a temporary data directory. The stock aws command
line uploads every release and reads it back; the SHA-256 of what comes back is compared.
The wheels are fetched once with pip and kept in ``.cache/demo``.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, os.fspath(ROOT / "tests"))

from support.clients import AwsCli  # noqa: E402  # needs the path above
from support.server import ServerProcess  # noqa: E402

PACKAGE = "botocore"
VERSIONS = ("1.40.0", "1.40.1", "1.40.2", "1.40.3", "1.40.4", "1.40.5")
CACHE = ROOT / ".cache" / "demo"
BUCKET = "releases"
MIB = 1024 * 1024
BAR_WIDTH = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What one release costs.

    Attributes:
        name: Shown in the table.
        size: Bytes of the release.
        stored: Bytes by which the data directory grew.
        intact: Whether the same bytes came back.
    """

    name: str
    size: int
    stored: int
    intact: bool


def say(text: str) -> None:
    """Progress goes to standard error, so that the table can be piped."""
    print(text, file=sys.stderr, flush=True)


def fetch(version: str) -> Path:
    """Return the wheel of one release, fetched with pip unless it is there already."""
    wheel = CACHE / f"{PACKAGE}-{version}-py3-none-any.whl"
    if not wheel.exists():
        say(f"Fetching {PACKAGE} {version} ...")
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as partial:
            command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
            command += ["download", "--no-deps", "--only-binary", ":all:", "--dest", partial]
            subprocess.run([*command, f"{PACKAGE}=={version}"], check=True)
            (Path(partial) / wheel.name).replace(wheel)
    return wheel


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored_bytes(directory: Path) -> int:
    """Bytes of all files below a directory."""
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file())


def upload(server: ServerProcess, aws: AwsCli, wheels: Sequence[Path]) -> Iterator[Row]:
    """Upload each release, read it back, and measure."""
    aws("s3", "mb", f"s3://{BUCKET}")
    copy = server.directory / "copy"
    for version, wheel in zip(VERSIONS, wheels, strict=True):
        address = f"s3://{BUCKET}/{PACKAGE}/{wheel.name}"
        say(f"aws s3 cp {wheel.name} {address}, and back ...")
        before = stored_bytes(server.data)
        aws("s3", "cp", "--no-progress", wheel, address)
        after = stored_bytes(server.data)
        aws("s3", "cp", "--no-progress", address, copy)
        yield Row(
            name=f"{PACKAGE} {version}",
            size=wheel.stat().st_size,
            stored=after - before,
            intact=sha256(copy) == sha256(wheel),
        )
        copy.unlink()


def table(rows: Sequence[Row]) -> str:
    """The rows and their sum: release, size, stored, saved."""
    total = Row(
        name="total",
        size=sum(row.size for row in rows),
        stored=sum(row.stored for row in rows),
        intact=all(row.intact for row in rows),
    )
    line = f"{'-' * 18}  {'-' * 10}  {'-' * 10}  {'-' * 7}  {'-' * 9}"
    lines = [f"{'release':<18}  {'size':>10}  {'stored':>10}  {'saved':>7}  read back", line]
    for row in (*rows, total):
        if row is total:
            lines.append(line)
        saved = round(100 * (1 - row.stored / row.size), 1) + 0.0  # never "-0.0"
        lines.append(
            f"{row.name:<18}  {row.size / MIB:>6.2f} MiB  {row.stored / MIB:>6.2f} MiB  "
            f"{saved:>5.1f} %  {'identical' if row.intact else 'DIFFERENT'}"
        )
    return "\n".join(lines)


def bars(rows: Sequence[Row]) -> str:
    """Stored bytes of each release as horizontal bars of one scale."""
    unit = max(row.stored for row in rows) or 1
    block = "█" if (sys.stdout.encoding or "").lower().startswith("utf") else "#"
    lines = ["stored bytes by release"]
    for row in rows:
        # At least a sliver, so that a small delta differs from nothing.
        width = max(round(BAR_WIDTH * row.stored / unit), 1 if row.stored > 0 else 0)
        lines.append(f"{row.name:<18}  {block * width} {row.stored:,}")
    return "\n".join(lines)


def main() -> int:
    """Run the demonstration; 1 if a release did not come back as it was."""
    try:
        wheels = [fetch(version) for version in VERSIONS]
    except subprocess.CalledProcessError as error:
        say(f"The releases of {PACKAGE} cannot be fetched: pip ended with {error.returncode}.")
        return 1
    with (
        tempfile.TemporaryDirectory(prefix="deltaglider-demo-") as directory,
        ServerProcess(Path(directory) / "server") as server,
    ):
        say(f"The server listens on {server.url}, process {server.pid}.")
        home = Path(directory) / "home"
        home.mkdir()
        rows = list(upload(server, AwsCli(server, home), wheels))
    print(f"\n{table(rows)}\n\n{bars(rows)}")
    if not all(row.intact for row in rows):
        say("What was read back differs from what was uploaded.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
