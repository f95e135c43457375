"""``events`` shows the journal, follows it, and manages the cursors of its readers."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from .opened import open_only_state, run_command

if TYPE_CHECKING:
    from ..interfaces.events import ObjectEvent
    from ..loading import Loaded
    from ..state.cursors import Cursor
    from ..state.event_journal import EventJournal
    from ..state.state import State

EXIT_NOT_FOUND = 8

#: Events that are read, printed and flushed at once.
_PAGE = 500
#: Seconds between two looks for new events, and while the database is away.
_POLL_SECONDS = 0.5
_AWAY_SECONDS = 2.0

_CURSOR_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADING = ("CURSOR", "LAST", "BEHIND", "OLDEST", "MOVED")


def configure_events(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``events``."""
    parser.add_argument(
        "view",
        nargs="?",
        choices=["cursors"],
        help="show the cursors instead: how far each reader has come",
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what comes next")
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--cursor",
        type=_cursor_name,
        metavar="NAME",
        help="resume where this cursor is, and move it past what was printed; a new one begins "
        "with the oldest event that is kept. No event is removed that a cursor has not passed.",
    )
    start.add_argument(
        "--after", type=_event_id, metavar="ID", help="begin behind this id (the oldest event)"
    )
    parser.add_argument("--limit", type=_count, metavar="N", help="end after so many events")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per line; cursors as one object"
    )
    parser.add_argument(
        "--forget",
        metavar="NAME",
        help="with cursors: remove this one. A sink whose cursor is removed begins anew, with the "
        "events that follow.",
    )
    parser.set_defaults(usage_error=parser.error)


def _cursor_name(text: str) -> str:
    if not _CURSOR_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("must be 1 to 64 letters, digits, dots, _ and -")
    return text


def _event_id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise argparse.ArgumentTypeError("must be the id of an event, or 0")
    return int(text)


def _count(text: str) -> int:
    number = _event_id(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be a number from 1")
    return number


def run_events(arguments: argparse.Namespace) -> int:
    """Print events, or cursors, or remove a cursor."""
    reading = arguments.follow or any(
        value is not None for value in (arguments.cursor, arguments.after, arguments.limit)
    )
    if arguments.view and reading:
        arguments.usage_error("cursors takes none of --follow, --cursor, --after and --limit")
    if arguments.forget is not None and not arguments.view:
        arguments.usage_error("--forget needs the word cursors")

    async def work(loaded: Loaded) -> None:
        async with open_only_state(loaded) as state:
            if arguments.forget is not None:
                await _forget(state.events, arguments.forget)
            elif arguments.view:
                _print_cursors(await state.events.cursors(), as_json=arguments.json)
            else:
                await _Printer(state, arguments).run()

    run_command(arguments.config, arguments.verbose, work)
    return 0


class _Printer:
    """Prints events from a place on, and moves a cursor behind them."""

    def __init__(self, state: State, arguments: argparse.Namespace) -> None:
        self._state = state
        self._journal: EventJournal = state.events
        self._cursor: str | None = arguments.cursor
        self._follow: bool = arguments.follow
        self._left: int | None = arguments.limit
        self._as_json: bool = arguments.json
        self._position: int = arguments.after or 0
        self._moved = self._position

    async def run(self) -> None:
        """To the limit; or to the event that is the last now, unless more is waited for."""
        from ..state import events

        if self._cursor is not None:
            self._moved = await self._journal.create_cursor(self._cursor, at="beginning")
            self._position = self._moved
        await self._journal.number()
        end = await self._state.database.read(events.last_id)
        while self._left != 0 and (self._follow or self._position < end):
            await self._step(end)

    async def _step(self, end: int) -> None:
        from ..state.errors import StateUnavailable

        most = _PAGE if self._left is None else min(_PAGE, self._left)
        if not self._follow:
            most = min(most, end - self._position)
        try:
            if self._moved < self._position:
                await self._move()
            batch = await self._journal.read(self._position, most)
            if batch:
                self._print(batch)
                await self._move()
            elif self._follow:
                await asyncio.sleep(_POLL_SECONDS)
            else:
                self._position = end  # all that was left has been removed meanwhile
        except StateUnavailable:
            if not self._follow:
                raise
            await asyncio.sleep(_AWAY_SECONDS)  # the log says that it is away

    def _print(self, batch: Sequence[ObjectEvent]) -> None:
        first = batch[0].id
        if self._position and first > self._position + 1:
            print(
                f"events {self._position + 1} to {first - 1} are not kept any more", file=sys.stderr
            )
        lines = [event.as_json() if self._as_json else _line(event) for event in batch]
        # What is counted as printed must have left this process.
        print("\n".join(lines), flush=True)
        self._position = batch[-1].id
        if self._left is not None:
            self._left -= len(batch)

    async def _move(self) -> None:
        """Raises ``ConfigurationError`` if somebody has removed the cursor."""
        name = self._cursor
        if name is not None and not await self._journal.advance(name, self._position):
            found = await self._journal.cursor(name)
            if found is None:
                raise ConfigurationError(
                    f"somebody has removed the cursor {name}", exit_code=EXIT_NOT_FOUND
                )
            # Another one reads with the same cursor, and is ahead.
            self._position = max(found, self._position)
        self._moved = self._position


def _line(event: ObjectEvent) -> str:
    moment = event.occurred.strftime("%Y-%m-%dT%H:%M:%S.") + f"{event.occurred.microsecond:06}"[:3]
    place = _shown(f"{event.bucket}/{event.key}")
    return f"{event.id:>8}  {moment}Z  {event.kind:<23}  {event.source:<11}  {place}"


def _shown(text: str) -> str:
    """Without what would move the cursor of a terminal, or that it cannot show."""
    safe = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )
    encoding = sys.stdout.encoding or "ascii"
    return safe.encode(encoding, "backslashreplace").decode(encoding)


async def _forget(journal: EventJournal, name: str) -> None:
    place = await journal.cursor(name)
    if place is None or not await journal.forget_cursor(name):
        raise ConfigurationError(f"there is no cursor {name!r}", exit_code=EXIT_NOT_FOUND)
    print(f"removed the cursor {name}, which was at {place}")


def _print_cursors(cursors: Sequence[Cursor], *, as_json: bool) -> None:
    if as_json:
        found = [
            {
                "name": cursor.name,
                "last_id": cursor.last_id,
                "lag": cursor.lag,
                "oldest_seconds": round(cursor.waiting, 3),
                "updated": _moment(cursor.updated),
            }
            for cursor in cursors
        ]
        print(json.dumps({"cursors": found}, indent=2))
        return
    rows = [
        _HEADING,
        *(
            (
                _shown(cursor.name),
                str(cursor.last_id),
                str(cursor.lag),
                f"{cursor.waiting:.0f} s" if cursor.lag else "-",
                _moment(cursor.updated),
            )
            for cursor in cursors
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADING))]
    for row in rows:
        numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        print("  ".join([row[0].ljust(widths[0]), *numbers]))


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


__all__ = ["configure_events", "run_events"]
