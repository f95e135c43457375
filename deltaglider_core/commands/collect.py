"""``collect`` deletes references that nothing names any more."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from .opened import EXIT_FAILED, Service, open_service, run_command
from .progress import ProgressLine
from .usage import EXIT_PARTIAL

if TYPE_CHECKING:
    from ..loading import Loaded
    from ..state.collect import CollectReport


def configure_collect(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``collect``."""
    parser.add_argument("buckets", nargs="*", metavar="BUCKET", help="only these")
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="condemn and delete nothing, only say what"
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="show no progress, only the result"
    )


def run_collect(arguments: argparse.Namespace) -> int:
    """Collect in the named buckets, or in all that this deployment owns."""

    async def work(loaded: Loaded) -> int:
        grace = float(loaded.settings.advanced.reference_grace_seconds)
        async with open_service(loaded) as service:
            return await collect_buckets(
                service,
                arguments.buckets,
                grace=grace,
                dry_run=arguments.dry_run,
                quiet=arguments.quiet,
            )

    return run_command(arguments.config, arguments.verbose, work)


async def collect_buckets(
    service: Service, names: Sequence[str], *, grace: float, dry_run: bool, quiet: bool
) -> int:
    """Collect in one bucket after the other; what fails in one does not keep the others.

    Args:
        names: Of buckets; all if empty, and then those of other deployments are left out.
        grace: Waiting time in seconds.

    Returns:
        The exit code.
    """
    from ..errors import NoSuchBucket, S3Error
    from ..state.collect import collect_bucket
    from ..state.references import NotOwnerError

    chosen = list(names) or [found.name for found in await service.state.layer.list_buckets()]
    failed = 0
    for name in chosen:
        line = ProgressLine(name, quiet=quiet)
        try:
            report = await collect_bucket(
                service.state.layer,
                service.state,
                name,
                grace=grace,
                dry_run=dry_run,
                progress=partial(_show, line),
            )
        except NotOwnerError as error:
            line.end()
            print(f"{name}: left out: {error.text}", file=sys.stderr)
            failed += bool(names)
        except S3Error as error:
            line.end()
            if isinstance(error, NoSuchBucket) and not names:
                continue  # deleted since it was listed
            print(f"{name}: {error.code}: {error.text}", file=sys.stderr)
            failed += 1
        else:
            line.end()
            print(_line(name, report))
    if not failed:
        return 0
    return EXIT_FAILED if failed == len(chosen) else EXIT_PARTIAL


def _line(name: str, report: CollectReport) -> str:
    would = "would be " if report.dry_run else ""
    parts = [
        f"{report.references} references ({report.reference_bytes} bytes) "
        f"for {report.objects} objects"
    ]
    if report.condemned:
        parts.append(f"{report.condemned} {would}condemned")
    if report.waiting:
        parts.append(f"{report.waiting} condemned before and waiting")
    if report.reprieved:
        parts.append(f"{report.reprieved} {would}reprieved")
    parts.append(f"{report.deleted} {would}deleted ({report.deleted_bytes} bytes)")
    return f"{name}: {', '.join(parts)}"


def _show(line: ProgressLine, objects: int, references: int) -> None:
    line.show(f"{objects} objects, {references} references")


__all__ = ["collect_buckets", "configure_collect", "run_collect"]
