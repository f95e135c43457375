"""``usage`` shows what buckets hold; ``reconcile`` counts anew."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from .opened import EXIT_FAILED, Service, open_only_state, open_service, run_command
from .progress import ProgressLine

if TYPE_CHECKING:
    from ..loading import Loaded
    from ..state.reconcile import Progress
    from ..state.usage import Usage

_HEADING = ("BUCKET", "OBJECTS", "BYTES", "STORED", "SAVED", "PENDING", "")
#: Exit code if some buckets could be scanned and others could not.
EXIT_PARTIAL = 10
EXIT_NOT_FOUND = 8


def configure_usage(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``usage``."""
    parser.add_argument("buckets", nargs="*", metavar="BUCKET", help="only these")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def configure_reconcile(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``reconcile``."""
    parser.add_argument("buckets", nargs="*", metavar="BUCKET", help="only these")
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="show no progress, only the result"
    )


def run_usage(arguments: argparse.Namespace) -> int:
    """Print usage as it is counted."""
    from ..state.usage import as_json, total, usage

    async def work(loaded: Loaded) -> Sequence[Usage]:
        async with open_only_state(loaded) as state:
            names = arguments.buckets or None
            return await state.database.read(lambda c: usage(c, names))

    found = run_command(arguments.config, arguments.verbose, work)
    missing = sorted(set(arguments.buckets) - {part.bucket for part in found})
    if missing:
        raise ConfigurationError(
            f"nothing is known of the bucket {missing[0]!r}: it does not exist, or nothing was "
            "written to it yet; run `deltaglider_proxy reconcile` to count what is there",
            exit_code=EXIT_NOT_FOUND,
        )
    if arguments.json:
        document = {
            **as_json(total(found)),
            "buckets": {part.bucket: as_json(part) for part in found},
        }
        print(json.dumps(document, indent=2))
        return 0
    print(_table([*found, total(found)] if len(found) != 1 else found))
    return 0


def _table(parts: Sequence[Usage]) -> str:
    rows = [_HEADING]
    for part in parts:
        saved = part.saved_percent
        rows.append(
            (
                part.bucket or "(all)",
                str(part.objects),
                str(part.size),
                str(part.stored),
                "-" if saved is None else f"{saved:.2f} %",
                str(part.pending),
                "" if part.complete else "not all objects are counted: run reconcile",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADING))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)


def run_reconcile(arguments: argparse.Namespace) -> int:
    """Scan buckets and correct what is counted."""

    async def work(loaded: Loaded) -> int:
        async with open_service(loaded) as service:
            return await _reconcile(service, arguments.buckets, quiet=arguments.quiet)

    return run_command(arguments.config, arguments.verbose, work)


async def _reconcile(service: Service, names: Sequence[str], *, quiet: bool) -> int:
    from ..errors import NoSuchBucket, S3Error
    from ..state.reconcile import reconcile

    chosen = list(names) or [found.name for found in await service.state.layer.list_buckets()]
    failed = 0
    for name in chosen:
        line = ProgressLine(name, quiet=quiet)
        try:
            done = await reconcile(service.state.layer, service.state, name, partial(_show, line))
        except S3Error as error:
            line.end()
            if isinstance(error, NoSuchBucket) and not names:
                continue  # deleted since it was listed
            print(f"{name}: {error.code}: {error.text}", file=sys.stderr)
            failed += 1
            continue
        line.end()
        print(
            f"{name}: {done.objects} objects, {done.corrected} corrected, "
            f"{done.dropped} that are not there dropped"
        )
    if not failed:
        return 0
    return EXIT_FAILED if failed == len(chosen) else EXIT_PARTIAL


def _show(line: ProgressLine, at: Progress) -> None:
    line.show(f"{at.objects} objects, at {at.key[:60]!r}")


__all__ = ["configure_reconcile", "configure_usage", "run_reconcile", "run_usage"]
